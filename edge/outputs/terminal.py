"""The live view on a terminal: finished segments scroll by, the present one stands below.

A thread of its own draws, a few times a second whatever happens: a terminal that is stopped, or
at the end of a slow line, holds up nobody who listens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Self, TextIO

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from edge.audio.level import HINTS, OK
from edge.belief import SECOND_OPINION
from edge.errors import EdgelidError
from edge.languages import language_name
from edge.lessons.telling import line_of
from edge.listener import Heard
from edge.outputs.colours import colour_of
from edge.outputs.monitor import Counts, Monitor, Now
from edge.outputs.stdout import Output, bar, clock, gap_line, segment_line

REFRESH_S = 0.25
LEAVE_S = 0.5  # how long the end waits for a terminal that takes nothing
LINES = 10_000  # that may wait to be drawn: only a terminal that is stopped for days loses any
LOAD_REFRESHES = 8  # the load is that of so many
QUIET_DB = -60.0  # at the left end of the level's bar
LOUD_DB, CLIPPED_DB = -12.0, -1.0
SHOWN = 3  # of the probabilities

# Set in terminals that cut lines off instead of wrapping them when they become narrower: xterm and
# GNU screen.
WRAPS_NOTHING = frozenset({"XTERM_VERSION", "STY"})
_PALE = "bright_black"


class TerminalView:
    """Draws while the ``with`` block runs.

    Parameters
    ----------
    output : Output
        A terminal.
    monitor : Monitor
    """

    def __init__(
        self,
        output: Output,
        monitor: Monitor,
    ) -> None:
        # A file of its own, as standard output's would be locked while the terminal is stopped.
        self._file = os.fdopen(os.dup(output.stream.fileno()), "w", encoding="utf-8")
        self._console = Console(file=self._file, highlight=False)
        self._monitor = monitor
        self._lines: deque[Text] = deque(maxlen=LINES)
        self._earlier: deque[Counts] = deque([Counts()], LOAD_REFRESHES)
        self._drawn_cells: list[int] = []  # widths of the lines that were drawn last
        self._failure: OSError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="terminal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join(LEAVE_S)
        if not self._thread.is_alive():
            self._file.close()

    def show(self, heard: Heard) -> None:
        """Have what a hop brought drawn.

        Raises
        ------
        EdgelidError
            If the terminal is gone.
        """
        if self._failure is not None:
            raise EdgelidError(f"the terminal is gone ({self._failure.strerror}): open another.")
        for segment in heard.finished:
            line = Text(segment_line(segment))
            line.highlight_words([segment.language], colour_of(segment.language))
            self._lines.append(line)
        if heard.lost is not None:
            self._lines.append(Text(gap_line(heard.lost), "dim"))

    def _draw(self) -> None:
        live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=_is_terminal(sys.stderr),
        )
        try:
            with live, _messages_above():
                while not self._ending.wait(REFRESH_S):
                    self._take_back_wrapped()
                    self._scroll()
                    live.update(self._present(), refresh=True)
                self._take_back_wrapped()
                self._scroll()
        except OSError as error:
            self._failure = error

    def _take_back_wrapped(self) -> None:
        """Erase what a terminal that became narrower has wrapped of the lines drawn last.

        `Live` goes up by as many lines as it drew, and would leave the rest standing.
        """
        with contextlib.suppress(OSError):
            # Itself: `Console` would rather believe a COLUMNS that someone has exported.
            size = os.get_terminal_size(self._file.fileno())
            if size.columns:
                self._console.size = ConsoleDimensions(size.columns, size.lines)
        width = self._console.width
        more = sum((max(drawn, 1) - 1) // width for drawn in self._drawn_cells)
        if more and not WRAPS_NOTHING.intersection(os.environ):
            up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *up * more))
        self._drawn_cells = []

    def _scroll(self) -> None:
        """Draw the finished lines, which push up what is above them."""
        while self._lines:
            self._console.print(self._lines.popleft(), soft_wrap=True)

    def _present(self) -> RenderableType:
        now, counts = self._monitor.now(), self._monitor.counts()
        lines = [self._answer(now), self._probabilities(now), self._state(now, counts)]
        for line in lines:
            # What wraps would stay; the two columns are for the ^C of whoever ends it.
            line.truncate(max(1, self._console.width - 2), overflow="ellipsis")
        self._drawn_cells = [line.cell_len for line in lines]
        return Group(*lines)

    def _answer(self, now: Now) -> Text:
        colour = colour_of(now.language)
        if now.lost:
            return Text("◌ nothing is heard just now", "bold red")
        return Text.assemble(
            ("● ", colour),
            (f"{language_name(now.language):<15}", f"bold {colour}"),
            f" {now.confidence:4.0%}  for {clock(max(0.0, now.time - now.since))}",
            ("  by second opinion" if now.by == SECOND_OPINION else "", _PALE),
        )

    def _probabilities(self, now: Now) -> Text:
        likeliest = sorted(now.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
        line = Text("  ")
        for label, share in likeliest:
            line.append(f"{label} ")
            line.append(bar(share), colour_of(label))
            line.append(f" {share:4.0%}   ")
        return line

    def _state(self, now: Now, counts: Counts) -> Text:
        colour = "red" if now.peak_db > CLIPPED_DB else "yellow" if now.peak_db > LOUD_DB else ""
        line = Text.assemble(
            "  ▕",
            (bar((now.rms_db - QUIET_DB) / -QUIET_DB), colour),
            f"▏{now.rms_db:4.0f} dB   ",
            f"amplified by {now.gain_db} dB   " if now.gain_db else "",
            (f"load {self._load(counts):.1%}", _PALE),
        )
        if counts.lost_s:
            gaps, lost_s = sum(counts.gaps.values()), sum(counts.lost_s.values())
            line.append(f"   {gaps} gaps, {lost_s:.1f} s lost", "yellow")
        if now.second is not None and now.second.newest is not None:
            opinion = now.second.newest
            line.append(
                f"   second opinion: {now.second.language} {opinion.probabilities.max():.0%} "
                f"in {opinion.took_s:.2f} s",
                _PALE,
            )
        if (facts := self._monitor.taught()) is not None:
            line.append(f"   {line_of(facts)}", _PALE)
        if now.level != OK:
            line.append(f"   {HINTS[now.level]}", "yellow")
        return line

    def _load(self, counts: Counts) -> float:
        """Share of the last seconds that audio took."""
        earlier = self._earlier[0]
        self._earlier.append(counts)
        return counts.load(earlier) or 0.0


@contextlib.contextmanager
def _messages_above() -> Iterator[None]:
    """Have messages for a terminal go where standard error is redirected to now."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and _is_terminal(handler.stream)
    ]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
