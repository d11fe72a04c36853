"""Reading of events from logs, with those that were full before them, and `--json` streams."""

from __future__ import annotations

import codecs
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge.errors import EdgelidError
from edge.outputs.timeline import seconds_of
from edge.system.regular import check_regular

MAX_LINE_BYTES = 1 << 20
MAX_SPAN_S = 366 * 86_400.0  # longer than any segment; a damaged number may be anything
# What any of them may be, so that sums of them still are dates. Damaged numbers hardly are.
MAX_STREAM_S = 1e9  # thirty years of one stream
LATEST_S = 32_503_680_000.0  # the year 3000, in seconds since 1970
MAX_NAME = 100  # letters
NAMES = {"change": ("language", "previous"), "segment": ("language",), "gap": ("reason",)}
SECONDS = {
    "change": ("start_s", "decided_s"),
    "segment": ("start_s", "end_s"),
    "gap": ("start_s", "end_s"),
    "level": ("heard_s",),
    "window": (),
    "recording": (),
    "start": ("start_s",),
    "lost": (),
}


@dataclass
class Skipped:
    """Lines to leave out that are no events.

    Attributes
    ----------
    wanted : bool
        Whether they are left out, instead of being an error.
    lines : int
        How many were.
    """

    wanted: bool = False
    lines: int = 0


def in_order(paths: Sequence[Path], skip_bad: bool = False) -> list[Path]:
    """The files in the order of their events, each once.

    Raises
    ------
    EdgelidError
        If one cannot be read, or holds no events.
    """
    unique = {real_path(path): path for path in paths}.values()
    return sorted(unique, key=lambda path: _first(path, skip_bad)["time"])


def real_path(path: Path) -> str:
    """Where a path leads to, to tell whether two are the same; a loop of links leads nowhere.

    Raises
    ------
    EdgelidError
        If that cannot be found out, as where the folder that one is in is gone.
    """
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def events(files: Sequence[Path], skipped: Skipped | None = None) -> Iterator[dict[str, Any]]:
    """Events of all the files; a last line that was torn by a loss of power is left out.

    Raises
    ------
    EdgelidError
        If any other line is no event, unless those are to be skipped.
    """
    for path in files:
        try:
            check_regular(path)
            with path.open("rb") as opened:
                yield from _lines(opened, path, skipped or Skipped())
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EdgelidError:
    return EdgelidError(f"{path} cannot be read ({error.strerror}): check the path.")


def _first(path: Path, skip_bad: bool) -> dict[str, Any]:
    for record in events([path], Skipped(skip_bad)):
        return record
    raise EdgelidError(f"{path}: there are no events in it.")


def _lines(file: BinaryIO, path: Path, skipped: Skipped) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        record = _event(line)
        if record is not None:
            yield record
            continue
        while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        if not skipped.wanted:
            if number > 1 and not file.read(1):
                return  # torn by a loss of power
            raise EdgelidError(
                f"{path}:{number}: this is no event of edgelid: check the file, or leave such "
                "lines out with --skip-bad."
            )
        skipped.lines += 1


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line, if it is one as far as the report relies on it."""
    try:
        record = json.loads(line)
        kind = record["type"]
        times = [record[key] for key in SECONDS[kind]]
        names = [record[key] for key in NAMES.get(kind, ())]
        confidence = record["confidence"] if kind in ("change", "segment") else 0.0
        fits = (
            all(_is_number(value) and 0 <= value <= MAX_STREAM_S for value in times)
            and times == sorted(times)
            and (not times or times[-1] - times[0] <= MAX_SPAN_S)
            and all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names)
            and (_is_number(confidence) and 0 <= confidence <= 1)
            and (kind != "gap" or isinstance(record["bridged"], bool))
            and (kind != "lost" or type(record["events"]) is int)
            and 0 <= seconds_of(record["time"]) <= LATEST_S
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return record if fits else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
