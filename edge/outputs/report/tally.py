"""Spans added up: by language, by hour, and where on a sheet of days they lie.

However many there are, what is kept of them is a strip of fixed length for each day.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.outputs.report.read import Skipped, events, in_order
from edge.outputs.timeline import Span, spans

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
GAP, GAP_COLOUR = "not heard", "#e8b4ae"
NO_LANGUAGE = ("nonspeech", "unknown")
# Of the rows of the timeline: the shortest with which there are not too many of them, or days.
ROWS_S = (MINUTE_S, 10 * MINUTE_S, HOUR_S)
FEW_ROWS = 12
CELLS = 720  # of a row: two minutes of a day
MAX_ROWS = 62  # drawn, the newest
MAX_KEPT_ROWS = 3_700  # ten years; a clock gone wild must not take all memory
# Bars of changes: as short as gives no more than so many.
BARS_S = (10, MINUTE_S, 10 * MINUTE_S, HOUR_S, DAY_S)
MAX_BARS = 200


@dataclass
class Total:
    """Of one language.

    Attributes
    ----------
    seconds : float
    segments : int
    certain_s : float
        Seconds times confidence.
    """

    seconds: float = 0.0
    segments: int = 0
    certain_s: float = 0.0

    @property
    def confidence(self) -> float:
        """Mean over time."""
        return self.certain_s / self.seconds if self.seconds else 0.0


@dataclass
class Tally:
    """What spans add up to.

    Parameters
    ----------
    row_s, bar_s : int
        Length of a row of the timeline, and of a bar of changes.

    Attributes
    ----------
    totals : dict of str to Total
        By language.
    gaps, lost_s : Counter and dict
        Number and seconds, by reason.
    changes : Counter
        By number of the bar, in local time.
    first, last : float
        Beginning and end of all of it, in seconds since 1970.
    starts, unlogged : int
        Starts of the program, and events that could not be logged.
    zones : dict of str to None
        Time zones, as they came.
    skipped : int
        Lines of the files that were no events.
    """

    row_s: int
    bar_s: int
    totals: dict[str, Total] = field(default_factory=dict)
    gaps: Counter[str] = field(default_factory=Counter)
    lost_s: dict[str, float] = field(default_factory=dict)
    changes: Counter[int] = field(default_factory=Counter)
    first: float = math.inf
    last: float = -math.inf
    starts: int = 0
    unlogged: int = 0
    zones: dict[str, None] = field(default_factory=dict)
    skipped: int = 0
    _rows: dict[int, dict[str, npt.NDArray[np.float32]]] = field(default_factory=dict)
    _spoken: str = ""
    # Of the clock on the wall, and not of the first and last span: in autumn an hour comes twice.
    _first_bar: float = math.inf
    _last_bar: float = -math.inf

    def add(self, span: Span) -> None:
        """Add a span.

        Raises
        ------
        EdgelidError
            If they lie on too many days.
        """
        self.first, self.last = min(self.first, span.start), max(self.last, span.end)
        seconds = span.end - span.start
        name = span.name
        local_s = self._local(span.start)
        self._first_bar = min(self._first_bar, int(local_s // self.bar_s))
        last_s = max(local_s, local_s + seconds - 1e-3)
        self._last_bar = max(self._last_bar, int(last_s // self.bar_s))
        if span.type == "gap":
            self.gaps[name] += 1
            self.lost_s[name] = self.lost_s.get(name, 0.0) + seconds
            name = GAP
        else:
            total = self.totals.setdefault(name, Total())
            total.seconds += seconds
            total.segments += 1
            total.certain_s += seconds * (span.confidence or 0.0)
            if name not in NO_LANGUAGE:
                if self._spoken not in ("", name):
                    self.changes[int(local_s // self.bar_s)] += 1
                self._spoken = name
        self._fill(name, local_s, local_s + seconds)

    @property
    def heard_s(self) -> float:
        return sum(total.seconds for total in self.totals.values())

    def languages(self) -> list[str]:
        """Those that were spoken, the longest first."""
        spoken = [name for name in self.totals if name not in NO_LANGUAGE]
        return sorted(spoken, key=lambda name: (-self.totals[name].seconds, name))

    def names(self) -> list[str]:
        """All that a timeline shows: languages, what is none, and gaps."""
        others = [name for name in NO_LANGUAGE if name in self.totals]
        return [*self.languages(), *others, *([GAP] if self.gaps else [])]

    def rows(self) -> list[int]:
        """Numbers of the rows that are drawn, the earliest first."""
        return sorted(self._rows)[-MAX_ROWS:]

    def hidden_rows(self) -> int:
        """How many are not drawn."""
        return len(self._rows) - len(self.rows())

    def strips(self) -> npt.NDArray[np.int16]:
        """Shape (rows, `CELLS`): which of `names` fills most of each cell, or -1."""
        rows, names = self.rows(), self.names()
        found = np.full((len(rows), CELLS), -1, np.int16)
        for index, row in enumerate(rows):
            most = np.zeros(CELLS, np.float32)
            for name, seconds in self._rows[row].items():
                more = seconds > most
                found[index, more] = names.index(name)
                most = np.maximum(most, seconds)
        return found

    def row_label(self, row: int) -> str:
        """Its beginning on the clock."""
        start = _datetime(row * self.row_s)
        return f"{start:%a %d %b}" if self.row_s == DAY_S else f"{start:%H:%M}"

    def ticks(self) -> list[tuple[float, str]]:
        """Marks along a row: their place between 0 and 1, and what they say."""
        parts = {DAY_S: 8, HOUR_S: 6, 10 * MINUTE_S: 10, MINUTE_S: 6}[self.row_s]
        step_s = self.row_s // parts
        return [(part / parts, self._tick(part * step_s)) for part in range(parts + 1)]

    def bars(self) -> list[tuple[str, int]]:
        """Changes in every bar from the lowest to the highest: when it begins, and how many."""
        if not self._rows:
            return []
        # A clock that was wrong for a while may have made this very long.
        first = max(int(self._first_bar), int(self._last_bar) - 2 * MAX_BARS)
        form = "%d %b" if self.bar_s == DAY_S else "%a %H:%M" if self.bar_s == HOUR_S else "%H:%M"
        form = "%H:%M:%S" if self.bar_s < MINUTE_S else form
        return [
            (_datetime(bar * self.bar_s).strftime(form), self.changes[bar])
            for bar in range(first, int(self._last_bar) + 1)
        ]

    def bar_name(self) -> str:
        """What a bar stands for."""
        names = {10: "10 seconds", MINUTE_S: "minute", 10 * MINUTE_S: "10 minutes", HOUR_S: "hour"}
        return names.get(self.bar_s, "day")

    def zone(self) -> str:
        """Of all the times."""
        return " and ".join(self.zones)

    def _tick(self, seconds: int) -> str:
        if self.row_s == DAY_S:
            return f"{seconds // HOUR_S:02d}:00"
        unit_s, unit = (1, " s") if self.row_s == MINUTE_S else (MINUTE_S, " min")
        return f"{seconds // unit_s}{unit}"

    def _local(self, time: float) -> float:
        """The clock on the wall of this machine, as seconds."""
        here = moment(time)
        offset = here.utcoffset() or timedelta()
        self.zones[
            "UTC" if here.tzname() == "UTC" else f"{here:%Z} (UTC{here.isoformat()[-6:]})"
        ] = None
        return time + offset.total_seconds()

    def _fill(self, name: str, start_s: float, end_s: float) -> None:
        """Add a span to the cells that it touches, to each the part that lies in it."""
        cell_s = self.row_s / CELLS
        for row in range(math.floor(start_s / self.row_s), math.ceil(end_s / self.row_s)):
            cells = self._row(row, name)
            start = max(0.0, start_s / cell_s - row * CELLS)
            end = min(float(CELLS), end_s / cell_s - row * CELLS)
            first, last = int(start), min(int(end), CELLS - 1)
            cells[first : last + 1] += 1.0
            cells[first] -= start - first
            cells[last] -= last + 1 - end

    def _row(self, row: int, name: str) -> npt.NDArray[np.float32]:
        if row not in self._rows and len(self._rows) == MAX_KEPT_ROWS:
            raise EdgelidError(
                f"the events lie on more than {MAX_KEPT_ROWS} days: leave out the files of a "
                "clock that was wrong."
            )
        cells = self._rows.setdefault(row, {})
        if name not in cells:
            cells[name] = np.zeros(CELLS, np.float32)
        return cells[name]


def tally(paths: Sequence[Path], skip_bad: bool = False) -> Tally:
    """Add up what files of events hold.

    They are read twice: how long it all takes decides how finely it is drawn.

    Parameters
    ----------
    paths : sequence of Path
    skip_bad : bool
        Whether lines that are no events are left out and counted, instead of being an error.

    Raises
    ------
    EdgelidError
        If there is something else in them, or nothing to add up.
    """
    files, skipped = in_order(paths, skip_bad), Skipped(skip_bad)
    first, last = math.inf, -math.inf
    for span in spans(events(files, Skipped(skip_bad))):
        first, last = min(first, span.start), max(last, span.end)
    if last < first:
        raise EdgelidError(f"{files[0]}: no segment is over in it, nor a gap.")
    row_s = next((s for s in ROWS_S if (last - first) / s <= FEW_ROWS), DAY_S)
    bar_s = next((s for s in BARS_S if (last - first) / s <= MAX_BARS), DAY_S)
    found = Tally(row_s, bar_s)
    for span in spans(_noted(events(files, skipped), found)):
        found.add(span)
    found.skipped = skipped.lines
    return found


def _noted(records: Iterable[dict[str, Any]], found: Tally) -> Iterator[dict[str, Any]]:
    """The same, once counted what is no span."""
    for record in records:
        if record["type"] == "start":
            found.starts += 1
        elif record["type"] == "lost":
            found.unlogged += record["events"]
        yield record


def moment(time: float) -> datetime:
    """On the clock on the wall of this machine."""
    return datetime.fromtimestamp(time).astimezone()


def _datetime(local_s: float) -> datetime:
    return datetime.fromtimestamp(local_s, UTC)
