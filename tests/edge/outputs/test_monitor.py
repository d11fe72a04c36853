"""What those who look on from other threads get to see."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.classifier import Window
from edge.decoder import Segment
from edge.frontend import SAMPLE_RATE_HZ
from edge.listener import Heard
from edge.opinion.second import Told
from edge.outputs.monitor import BANDS, FLOOR_DB, LATENCIES_S, SPANS, Counts, Monitor
from edge.outputs.timeline import Span, time_of

LABELS = ("de", "en")


def heard(start_s: float, end_s: float, share: float = 0.9) -> Heard:
    window = Window(end_s - 3, end_s, 3.0, np.array([share, 1 - share]))
    return Heard([window], None, (), Segment("de", start_s, end_s, 0.8))


def event(kind: str, **values: Any) -> dict[str, Any]:
    return {"type": kind, "time": time_of(1_000.0), **values}


def tone(hz: float, peak: float) -> np.ndarray:
    time_s = np.arange(1_600) / SAMPLE_RATE_HZ
    return (peak * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def test_level_and_spectrum_of_a_tone() -> None:
    monitor = Monitor()
    monitor.audio(tone(1_000, 0.5))
    now = monitor.now()
    assert now.peak_db == pytest.approx(-6.02, abs=0.1)
    assert now.rms_db == pytest.approx(-9.03, abs=0.1)
    assert len(now.spectrum_db) == BANDS
    # 1 kHz is at this part of the way from 100 Hz to 8 kHz, in octaves.
    assert np.argmax(now.spectrum_db) == int(BANDS * np.log(10) / np.log(80))
    assert max(now.spectrum_db) == -9  # all its power


def test_silence_and_a_block_of_one_sample_are_on_the_floor() -> None:
    monitor = Monitor()
    for samples in (1, 1_600):
        monitor.audio(np.zeros(samples, np.float32))
        now = monitor.now()
        assert (now.peak_db, now.rms_db) == (FLOOR_DB, FLOOR_DB)
        assert set(now.spectrum_db) == {round(FLOOR_DB)}


def test_a_hop_is_the_answer_of_now() -> None:
    monitor = Monitor()
    monitor.heard(heard(2.0, 6.5), LABELS)
    now = monitor.now()
    assert (now.language, now.confidence, now.stream_s, now.window_s) == ("de", 0.8, 6.5, 3.0)
    assert now.since == pytest.approx(now.time - 4.5)
    assert now.probabilities == pytest.approx({"de": 0.9, "en": 0.1})


def test_before_the_first_answer_it_is_unknown_since_the_start() -> None:
    now = Monitor().now()
    assert now.since == now.time


def test_nothing_is_probable_while_nothing_is_heard() -> None:
    monitor = Monitor()
    monitor.audio(tone(1_000, 0.5))
    monitor.heard(heard(2.0, 6.5), LABELS)
    monitor.gap()
    assert (monitor.now().lost, monitor.now().probabilities) == (True, {})
    assert set(monitor.now().spectrum_db) == {round(FLOOR_DB)}


def test_second_opinions_are_told_of_until_none_are_asked_for_any_longer() -> None:
    monitor = Monitor()
    told = Told(3, 1.5, 0, {}, None, None)
    monitor.heard(replace(heard(2.0, 6.5), second=told), LABELS)
    monitor.gap()
    monitor.heard(Heard([], None, (), Segment("unknown", 6.5, 6.5, 0.0)), LABELS)
    assert monitor.now().second is told
    monitor.heard(heard(7.0, 7.5), LABELS)  # after a reload
    assert monitor.now().second is None


def test_a_clock_that_is_set_back_leaves_nothing_ahead_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([1_000.0, *range(1_000, 1_010), *range(500, 510)])
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    monitor = Monitor([Span("segment", "en", 900.0, 950.0, 0.5)], live=True)
    for hop in range(20):
        monitor.heard(heard(0.0, hop + 1.0), LABELS)
    assert [time for time, _ in monitor.trends()[1]] == [float(time) for time in range(500, 510)]

    def over(end_s: float, at: float) -> None:
        change = {"language": "en", "previous": "de", "start_s": end_s, "confidence": 0.8}
        monitor.record(
            {"type": "change", **change, "decided_s": end_s + 2, "time": time_of(at + 2)}
        )
        segment = {"language": "de", "start_s": end_s - 100, "end_s": end_s, "confidence": 0.8}
        monitor.record({"type": "segment", **segment, "time": time_of(at + 2)})

    over(100.0, 1_000.0)
    assert [span.end for span in monitor.spans()] == [950.0, 1_000.0]
    over(200.0, 1_040.0)  # set back by a minute
    assert [span.end for span in monitor.spans()] == [950.0, 1_000.0, 1_040.0]
    over(300.0, 840.0)  # by five
    assert [(span.start, span.end) for span in monitor.spans()] == [(740.0, 840.0)]


def test_probabilities_are_kept_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(100.0, 110.0, 0.16))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    monitor = Monitor()
    for hop in range(50):
        monitor.heard(heard(0.0, hop * 0.16), LABELS)
    labels, trends = monitor.trends()
    assert labels == LABELS
    assert trends[0][1] == (900, 100)
    steps_s = np.diff([moment for moment, _ in trends])
    assert len(trends) > 5
    assert np.all((steps_s >= 1.0) & (steps_s < 1.2))
    assert [t[0] for t in monitor.trends(trends[3][0])[1]] == [t[0] for t in trends[4:]]


def test_events_are_counted_and_kept_as_spans() -> None:
    monitor = Monitor([Span("segment", "fr", 1.0, 2.0, 0.5)])
    monitor.record(event("change", language="de", decided_s=10.0))
    monitor.record(event("segment", language="de", start_s=2.0, end_s=9.0, confidence=0.7))
    monitor.record(event("gap", reason="overrun", start_s=9.0, end_s=10.0, bridged=False))
    monitor.record(event("level", state="low", heard_s=10.0))
    monitor.record(event("window"))
    counts = monitor.counts()
    assert (counts.changes, counts.language_s["de"], counts.gaps["overrun"]) == (1, 7.0, 1)
    assert counts.lost_s["overrun"] == 1.0
    assert [span.name for span in monitor.spans()] == ["fr", "de", "overrun"]
    assert [span.name for span in monitor.spans(since=999.0)] == ["overrun"]
    assert monitor.now().level == "low"


def test_what_quiet_sound_is_amplified_by() -> None:
    monitor = Monitor()
    monitor.heard(heard(0.0, 1.0), LABELS)
    assert monitor.now().gain_db == 0
    monitor.heard(replace(heard(0.0, 1.2), gain=16.0), LABELS)
    assert monitor.now().gain_db == 24
    monitor.heard(replace(heard(0.0, 1.3), windows=[]), LABELS)  # at an event, which has none
    assert monitor.now().gain_db == 24


def test_counts_are_a_copy() -> None:
    monitor = Monitor()
    monitor.counts().gaps["overrun"] += 1
    assert not monitor.counts().gaps


def test_a_gap_shows_until_audio_comes() -> None:
    monitor = Monitor()
    monitor.audio(tone(500, 0.5))
    monitor.gap()
    assert monitor.now().lost
    assert monitor.now().rms_db == FLOOR_DB
    monitor.audio(tone(500, 0.5))
    assert not monitor.now().lost


def test_time_of_blocks() -> None:
    monitor = Monitor()
    for busy_s in (0.0005, 0.001, 0.03, 60.0):
        monitor.took(busy_s, 1.0)
    counts = monitor.counts()
    assert sum(counts.latencies) == counts.blocks == 4
    assert counts.latencies[0] == 2
    assert counts.latencies[LATENCIES_S.index(0.05)] == 1
    assert counts.latencies[-1] == 1
    assert counts.load(Counts()) == pytest.approx(60.0315 / 64.0315)
    assert counts.load(counts) is None


def test_memory_is_bounded() -> None:
    monitor = Monitor()
    segment = event("segment", language="de", start_s=2.0, end_s=9.0, confidence=0.7)
    for _ in range(SPANS + 10):
        monitor.record(segment)
    assert len(monitor.spans()) == SPANS


def test_readers_and_the_writer_do_not_disturb_each_other() -> None:
    monitor, done = Monitor(), threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                monitor.counts(), monitor.spans(), monitor.trends(), monitor.now()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        monitor.heard(heard(0.0, number), LABELS)
        reason = f"reason {number}"
        monitor.record(event("gap", reason=reason, start_s=0.0, end_s=1.0, bridged=True))
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(monitor.counts().gaps) == 500
