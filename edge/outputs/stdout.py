"""Standard output: newline-delimited JSON for programs, lines for people."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TextIO

from edge.errors import EdgelidError
from edge.languages import language_name

if TYPE_CHECKING:  # `edgelid --help` needs none of these, nor numpy behind them
    from edge.audio.level import Level
    from edge.classifier import Window
    from edge.decoder import Change, Segment
    from edge.listener import Heard, Lost

BAR_CELLS = 10
# What a terminal may obey, or show in another order than it stands; of a name that is not UTF-8,
# Python has its bytes as halves of surrogate pairs.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# The same of JSON, where those below 32 are written so anyway.
_UNSEEN_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Output:
    """Standard output that reports its faults as one sentence.

    Parameters
    ----------
    stream : text file

    Attributes
    ----------
    stream : text file
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking."""
        return self.stream.isatty()

    def line(self, text: str) -> None:
        """Write a line at once: whoever reads is told as things happen."""
        self.write(printable(text) + "\n")

    def record(self, record: dict[str, Any]) -> None:
        """Write an object of newline-delimited JSON."""
        self.write(json_text(record) + "\n")

    def write(self, text: str) -> None:
        """Write and flush.

        Raises
        ------
        BrokenPipeError
            If the reader has gone.
        EdgelidError
            If the output cannot be written otherwise, as on a full disk.
        """
        try:
            # Nothing at all finds out about a full disk, and waits for a terminal that is stopped.
            if text or not self.is_terminal:
                self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self._discard()
            if isinstance(error, BrokenPipeError):
                raise
            raise EdgelidError(
                f"standard output cannot be written ({error.strerror}): make room, or choose "
                "another place."
            ) from error

    def _discard(self) -> None:
        """Let what could not be written go where Python's own attempts at its end succeed."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)


def printable(text: str) -> str:
    """The text with whatever a terminal would obey as an escape that can be read."""
    return _UNSEEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def json_text(value: Any, separators: tuple[str, str] | None = None) -> str:
    r"""JSON on one line, in UTF-8 whatever is in it.

    A byte of a file's name that is not UTF-8 is written as Python has it, ``"\udcff"`` for
    0xFF: `os.fsencode` of the string that is read is the name again.
    """
    text = json.dumps(value, ensure_ascii=False, separators=separators)
    return _UNSEEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def change_record(change: Change) -> dict[str, Any]:
    """``change`` event."""
    return {
        "type": "change",
        "language": change.language,
        "previous": change.previous,
        "start_s": round(change.start_s, 3),
        "decided_s": round(change.decided_s, 3),
        "confidence": round(change.confidence, 4),
        **({} if change.by is None else {"by": change.by}),
        **({} if change.took_s is None else {"took_s": round(change.took_s, 3)}),
        "time": now(),
    }


def segment_record(segment: Segment) -> dict[str, Any]:
    """``segment`` event."""
    return {
        "type": "segment",
        "language": segment.language,
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "confidence": round(segment.confidence, 4),
        **({} if segment.by is None else {"by": segment.by}),
        "time": now(),
    }


def window_record(window: Window, labels: tuple[str, ...]) -> dict[str, Any]:
    """``window`` event."""
    return {
        "type": "window",
        "start_s": round(window.start_s, 3),
        "end_s": round(window.end_s, 3),
        "window_s": window.length_s,
        "probabilities": probabilities_record(labels, window.probabilities.tolist()),
        "time": now(),
    }


def gap_record(lost: Lost) -> dict[str, Any]:
    """``gap`` event."""
    return {
        "type": "gap",
        "start_s": round(lost.start_s, 3),
        "end_s": round(lost.end_s, 3),
        "reason": lost.reason,
        "bridged": lost.bridged,
        "time": now(),
    }


def level_record(level: Level, heard_s: float) -> dict[str, Any]:
    """``level`` event."""
    return {
        "type": "level",
        "state": level.state,
        "heard_s": round(heard_s, 3),
        "peak_db": round(level.peak_db, 1),
        "rms_db": round(level.rms_db, 1),
        "offset": round(level.offset, 4),
        "time": now(),
    }


def probabilities_record(labels: tuple[str, ...], values: list[float]) -> dict[str, float]:
    """Probabilities by label, to four decimals."""
    return {label: round(p, 4) for label, p in zip(labels, values, strict=True)}


def heard_records(heard: Heard, labels: tuple[str, ...], windows: bool) -> Iterator[dict[str, Any]]:
    """Events of one hop, in the order in which they became known."""
    if windows:
        yield from (window_record(window, labels) for window in heard.windows)
    if heard.change is not None:
        yield change_record(heard.change)
    yield from map(segment_record, heard.finished)
    if heard.lost is not None:
        yield gap_record(heard.lost)
    if heard.level is not None:
        yield level_record(heard.level, heard.current.end_s)


def now() -> str:
    """Wall-clock time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def clock(seconds: float) -> str:
    """Stream time, as ``1:02:03.4``."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{tenths / 10:04.1f}"


def bar(share: float) -> str:
    """A bar of ten cells for a share between 0 and 1."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_CELLS * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(BAR_CELLS)


def segment_line(segment: Segment) -> str:
    """A finished segment, for people."""
    name = f"{segment.language:<9} {language_name(segment.language):<15}"
    from edge.belief import SECOND_OPINION

    by = f"  by {SECOND_OPINION}" if segment.by == SECOND_OPINION else ""
    return f"{_span(segment)}  {name} {bar(segment.confidence)} {segment.confidence:4.0%}{by}"


def gap_line(lost: Lost) -> str:
    """A gap, for people."""
    lost_s = lost.end_s - lost.start_s
    return f"{_span(lost)}  --        not heard: {lost.reason}, {lost_s:.2f} s"


def _span(part: Segment | Lost) -> str:
    return f"{clock(part.start_s):>9} – {clock(part.end_s):>9}"


class People:
    """Finished segments and gaps, a line each.

    Parameters
    ----------
    output : Output
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave everything as it is."""

    def show(self, heard: Heard) -> None:
        """Show what a hop brought."""
        for segment in heard.finished:
            self._output.line(segment_line(segment))
        if heard.lost is not None:
            self._output.line(gap_line(heard.lost))


@contextmanager
def standard_output() -> Iterator[Output]:
    """Standard output in UTF-8, whatever the locale of the machine.

    Raises
    ------
    EdgelidError, BrokenPipeError
        If it is closed, or what is left in it at the end cannot be written.
    """
    # None: closed before the start.
    if sys.stdout is None:
        raise EdgelidError("standard output is closed: open it, or redirect it to a file.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    output = Output(sys.stdout)
    try:
        yield output
    finally:
        output.write("")  # others have printed too, such as argparse
