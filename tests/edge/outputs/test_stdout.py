"""What is printed: records for programs, lines for people, a sentence when it cannot be."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edge.audio.level import Level
from edge.classifier import Window
from edge.decoder import Change, Segment
from edge.errors import EdgelidError
from edge.listener import Heard, Lost
from edge.outputs import stdout as module
from edge.outputs.stdout import (
    Output,
    People,
    bar,
    clock,
    heard_records,
    probabilities_record,
    segment_record,
    standard_output,
    window_record,
)

LABELS = ("de", "en", "nonspeech")
ERASE = "\r\x1b[K"


class Stream(io.StringIO):
    """Text that is collected, on a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def window(end_s: float = 3.2) -> Window:
    return Window(max(0.0, end_s - 3.0), end_s, 3.0, np.array([0.123456, 0.8, 0.076544]))


def segment(language: str = "de", start_s: float = 0.0, end_s: float = 3.2) -> Segment:
    return Segment(language, start_s, end_s, 0.87654)


# --- numbers for people ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00.0"),
        (0.04, "0:00.0"),
        (9.96, "0:10.0"),
        (59.94, "0:59.9"),
        (59.96, "1:00.0"),
        (61.25, "1:01.2"),
        (3_599.99, "1:00:00.0"),
        (3_661.3, "1:01:01.3"),
        (2_000_000.0, "555:33:20.0"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("share", "cells"),
    [
        (0.0, "          "),
        (0.0125, "▏         "),
        (0.25, "██▌       "),
        (0.5, "█████     "),
        (0.99, "█████████▉"),
        (1.0, "██████████"),
        (-1.0, "          "),
        (2.0, "██████████"),
    ],
)
def test_bar(share: float, cells: str) -> None:
    assert bar(share) == cells


# --- records ---------------------------------------------------------------------------------


def assert_is_now(text: str) -> None:
    then = datetime.fromisoformat(text)
    assert then.utcoffset() == datetime.now(UTC).utcoffset()
    assert abs((datetime.now(UTC) - then).total_seconds()) < 3_600


def test_a_segment() -> None:
    record = segment_record(Segment("de", 1.23456, 2.0, 0.987654))
    assert list(record) == ["type", "language", "start_s", "end_s", "confidence", "time"]
    assert_is_now(record.pop("time"))
    assert record == {
        "type": "segment",
        "language": "de",
        "start_s": 1.235,
        "end_s": 2.0,
        "confidence": 0.9877,
    }


def test_a_window() -> None:
    record = window_record(window(), LABELS)
    assert list(record) == ["type", "start_s", "end_s", "window_s", "probabilities", "time"]
    assert_is_now(record.pop("time"))
    assert record == {
        "type": "window",
        "start_s": 0.2,
        "end_s": 3.2,
        "window_s": 3.0,
        "probabilities": {"de": 0.1235, "en": 0.8, "nonspeech": 0.0765},
    }


def heard(*finished: Segment) -> Heard:
    change = Change("en", "de", 2.4804, 3.2, 0.61239)
    return Heard([window()], change, finished, segment("en"))


def test_a_change() -> None:
    (record,) = heard_records(heard(), LABELS, windows=False)
    assert list(record) == [
        "type",
        "language",
        "previous",
        "start_s",
        "decided_s",
        "confidence",
        "time",
    ]
    assert_is_now(record.pop("time"))
    assert record == {
        "type": "change",
        "language": "en",
        "previous": "de",
        "start_s": 2.48,
        "decided_s": 3.2,
        "confidence": 0.6124,
    }


def test_the_order_of_records() -> None:
    records = heard_records(heard(segment()), LABELS, windows=True)
    assert [record["type"] for record in records] == ["window", "change", "segment"]


def test_a_gap() -> None:
    lost = Lost(1.23456, 2.5, "overrun", bridged=False)
    (record,) = heard_records(Heard([], None, (), segment(), lost), LABELS, windows=False)
    assert list(record) == ["type", "start_s", "end_s", "reason", "bridged", "time"]
    assert_is_now(record.pop("time"))
    assert record == {
        "type": "gap",
        "start_s": 1.235,
        "end_s": 2.5,
        "reason": "overrun",
        "bridged": False,
    }


def test_a_level() -> None:
    level = Level("low", -70.04, -80.06, 0.00004)
    (record,) = heard_records(Heard([], None, (), segment(), level=level), LABELS, windows=False)
    assert_is_now(record.pop("time"))
    assert record == {
        "type": "level",
        "state": "low",
        "heard_s": 3.2,
        "peak_db": -70.0,
        "rms_db": -80.1,
        "offset": 0.0,
    }


def test_nothing_to_tell_is_no_record() -> None:
    assert list(heard_records(Heard([window()], None, (), segment()), LABELS, False)) == []


def test_labels_and_values_have_to_fit() -> None:
    with pytest.raises(ValueError, match="zip"):
        probabilities_record(LABELS, [0.5, 0.5])


def test_a_record_is_a_line_of_json() -> None:
    stream = Stream(terminal=False)
    Output(stream).record({"path": "Größe\n.wav", "value": 0.5})
    assert stream.getvalue() == '{"path": "Größe\\n.wav", "value": 0.5}\n'
    assert json.loads(stream.getvalue())["path"] == "Größe\n.wav"


# --- people ----------------------------------------------------------------------------------


def shown(*events: Heard) -> str:
    stream = Stream(terminal=False)
    with People(Output(stream)) as people:
        for event in events:
            people.show(event)
    return stream.getvalue()


GOING_ON = Heard([window()], None, (), segment("unknown", 0.0, 3.2))
FINISHED = Heard([window(75.0)], None, (segment("de", 3.2, 75.0),), segment("en", 75.0, 75.0))
LAST = Heard([], None, (segment("en", 75.0, 80.0),), segment("en", 75.0, 80.0))
LINE = "   0:03.2 –    1:15.0  de        German          ████████▊   88%\n"


def test_only_finished_segments_are_lines() -> None:
    assert shown(GOING_ON, FINISHED).splitlines(keepends=True) == [LINE]


def test_a_gap_is_a_line_of_its_own() -> None:
    line = "   1:15.0 –    1:20.5  --        not heard: device lost, 5.50 s\n"
    gap = Heard([], None, (), segment(), Lost(75.0, 80.5, "device lost", bridged=False))
    assert shown(FINISHED, gap) == LINE + line


# --- what cannot be written ------------------------------------------------------------------


def test_a_full_disk_is_a_sentence() -> None:
    # What is left goes nowhere, and is no second error when the file is closed.
    with open("/dev/full", "w") as full, pytest.raises(EdgelidError) as caught:
        Output(full).line("words")
    assert str(caught.value).startswith(
        "standard output cannot be written (No space left on device): "
    )


def test_a_reader_that_has_gone_is_a_broken_pipe() -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    with open(writing_end, "w") as pipe:
        with pytest.raises(BrokenPipeError):
            Output(pipe).line("words")
        Output(pipe).line("more words")


def test_a_closed_output_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(EdgelidError, match="standard output is closed"), standard_output():
        pytest.fail("it was opened")


def test_what_others_have_printed_is_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(EdgelidError, match="No space left"), standard_output():
            print("help")


def test_the_encoding_is_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    ascii_text: Any = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr("sys.stdout", ascii_text)
    with standard_output() as output:
        output.line("█ Größe \udcff")  # a file name that is no UTF-8
    assert raw.getvalue().decode() == "█ Größe \\xff\n"


def test_every_line_is_flushed() -> None:
    raw = io.BytesIO()
    buffered = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    output = Output(buffered)
    output.line("at once")
    assert raw.getvalue() == b"at once\n"


def test_time_is_utc_in_milliseconds() -> None:
    text = module.now()
    assert text.endswith("+00:00")
    assert datetime.fromisoformat(text).microsecond % 1_000 == 0
