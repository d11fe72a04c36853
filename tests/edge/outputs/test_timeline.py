"""Events on the clock on the wall."""

from __future__ import annotations

from typing import Any

import pytest

from edge.outputs.timeline import Span, Timeline, seconds_of, spans, time_of

T0 = seconds_of("2026-11-24T12:00:00.000+00:00")


def change(decided_s: float, at_s: float) -> dict[str, Any]:
    return {"type": "change", "language": "de", "decided_s": decided_s, "time": time_of(T0 + at_s)}


def segment(start_s: float, end_s: float, at_s: float) -> dict[str, Any]:
    return {
        "type": "segment",
        "language": "de",
        "start_s": start_s,
        "end_s": end_s,
        "confidence": 0.75,
        "time": time_of(T0 + at_s),
    }


def test_a_segment_lies_where_the_change_that_ends_it_says() -> None:
    # Heard up to 20 s at 120 s past the hour: stream time began 100 s past it.
    (span,) = spans([change(20.0, 120.0), segment(5.0, 17.5, 120.0)])
    assert span == Span("segment", "de", T0 + 105, T0 + 117.5, 0.75)


def test_a_start_begins_stream_time_anew() -> None:
    start = {"type": "start", "start_s": 0.0, "version": "1", "time": time_of(T0 + 500)}
    (span,) = spans([change(20.0, 120.0), start, segment(1.0, 2.0, 503.0)])
    assert span.start == pytest.approx(T0 + 501)


def test_a_recording_that_is_heard_faster_than_it_plays_keeps_its_pace() -> None:
    records = []
    for number in range(1, 200):
        at_s = 60 + number / 100
        records += [change(10.0 * number, at_s), segment(10.0 * (number - 1), 10.0 * number, at_s)]
    found = list(spans(records))
    starts = [span.start - found[0].start for span in found]
    assert starts == pytest.approx([10.0 * number for number in range(199)])


@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_counts_from_then_on(set_s: float) -> None:
    (span,) = spans([change(20.0, 120.0), change(50.0, 150.0 + set_s), segment(5.0, 45.0, 151.0)])
    assert span.start == pytest.approx(T0 + 105 + set_s)


def test_a_clock_that_is_set_back_by_less_than_was_heard() -> None:
    """Of a stream that is known to be live, from the moment on that tells of it."""
    back_s = 1_800.0
    late = [change(3_600.0, 3_600.0 - back_s), segment(100.0, 3_598.0, 3_600.0 - back_s)]
    start = {"type": "start", "start_s": 0.0, "version": "1", "live": True, "time": time_of(T0)}
    before = [change(50.0, 50.0), change(100.0, 100.0)]  # as much time passed as was heard
    for records in ([start, *late], [*before, *late]):
        (span,) = spans(records)
        assert span.end == pytest.approx(T0 + 3_598 - back_s)
    timeline = Timeline(live=True)
    (span,) = [found for record in late if (found := timeline.add(record))]
    assert span.end == pytest.approx(T0 + 3_598 - back_s)


def test_a_file_that_is_read_in_fits_and_starts_keeps_its_pace() -> None:
    """Two moments close together in the stream do not make it a live one."""
    records = [change(10.0, 60.0), change(11.5, 61.0), change(3_600.0, 90.0)]
    (span,) = spans([*records, segment(100.0, 3_598.0, 90.0)])
    assert span.end == pytest.approx(T0 + 50 + 3_598)


def test_a_clock_that_drifts_is_followed() -> None:
    day = [change(3600.0 * hour, 3599.5 * hour) for hour in range(1, 25)]
    (span,) = spans([*day, segment(86_000.0, 86_400.0, 86_388.0)])
    assert span.end == pytest.approx(T0 + 3599.5 * 24)


def test_another_stream_without_a_start() -> None:
    first = [change(100.0, 100.0), segment(90.0, 95.0, 100.0)]
    found = list(spans([*first, segment(0.0, 5.0, 500.0)]))
    assert (found[1].start, found[1].end) == (T0 + 495, T0 + 500)


def test_a_lone_segment_ends_when_it_is_told() -> None:
    (span,) = spans([segment(1.0, 4.0, 60.0)])
    assert (span.start, span.end) == (T0 + 57, T0 + 60)


def test_only_gaps_that_end_segments_are_spans() -> None:
    gap = {"type": "gap", "start_s": 3.0, "end_s": 4.0, "reason": "overrun", "bridged": False}
    gap["time"] = time_of(T0 + 4)
    found = list(spans([gap, gap | {"bridged": True}]))
    assert found == [Span("gap", "overrun", T0 + 3, T0 + 4, None)]


def test_what_is_neither_is_no_span() -> None:
    level = {"type": "level", "state": "low", "heard_s": 7.0, "time": time_of(T0)}
    assert Timeline().add(level) is None
    assert Timeline().add({"type": "recording", "time": time_of(T0)}) is None


def test_as_json() -> None:
    span = Span("segment", "de", T0 + 0.12345, T0 + 1, 0.5)
    told = {"type": "segment", "name": "de", "start": T0 + 0.123, "end": T0 + 1, "confidence": 0.5}
    assert span.as_dict() == told
