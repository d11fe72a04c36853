"""Detection of lost audio, by the times at which its parts arrive.

A device that loses audio does not always say so, and never how much. The clock tells: audio that
was delivered late is made up for by what follows, audio that was lost is not. How far a stream
is behind is therefore measured by its earliest arrivals, and only what it does not make up for
within a second counts as lost. Devices' clocks run at their own rate: being behind by a little
more every minute is no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

# Why audio is lost: all that a gap may say. The schema of the events lists them too.
Reason = Literal[
    "device lost",
    "device stalled",
    "devices changed",
    "overrun",
    "not delivered",
    "suspended",
    "too slow",
    "connection lost",
    "connection stalled",
]
OVERRUN: Final = "overrun"
UNDELIVERED: Final = "not delivered"
SUSPENDED: Final = "suspended"

# Buffers of sound systems grow and shrink by PortAudio's latency, and schedulers are late.
LATE_S = 0.25
SETTLE_S = 1.0
MIN_OVERRUN_S = 0.001  # of one that the clock sees nothing of
# The earliest arrival of the last one to two spans: a clock that is wrong by 0.5 % moves it by
# 0.1 s, less than what counts as late.
SPAN_S = 10.0


@dataclass(frozen=True)
class Missing:
    """Audio that was lost.

    Attributes
    ----------
    position_frames : int
        Where in what was delivered.
    duration_s : float
    reason : Reason
    """

    position_frames: int
    duration_s: float
    reason: Reason


@dataclass
class _Suspicion:
    position_frames: int
    since_s: float
    least_s: float  # how far behind the stream has been since, at its best
    reason: Reason


class Arrivals:
    """Follows one stream.

    Parameters
    ----------
    rate_hz : int
        Nominal rate of the stream.

    Attributes
    ----------
    missing : list of Missing
        What is known to be lost, until someone takes it.
    start_s, end_s : float
        When the first sample was recorded and the last one, as far as is known; on the clock of
        `update`. NaN before the first.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._frames = 0
        self._base_s = 0.0  # how far behind the stream is at its best, losses apart
        self._least_s = [math.inf, math.inf]  # in this span and in the one before
        self._span_end_s = 0.0
        self._slept_s = 0.0
        self._suspicions: list[_Suspicion] = []
        self.missing: list[Missing] = []
        self.start_s = math.nan

    @property
    def end_s(self) -> float:
        """See the class."""
        return self.start_s + self._base_s + self._frames / self._rate_hz

    @property
    def sure_frames(self) -> int:
        """Position up to which nothing more can turn out to be missing."""
        return self._suspicions[0].position_frames if self._suspicions else self._frames

    def update(self, frames: int, now_s: float, slept_s: float, overrun: bool) -> None:
        """Take note of an arrival.

        Parameters
        ----------
        frames : int
            Delivered by the stream so far.
        now_s, slept_s : float
            As :class:`edge.audio.clock.Clock` has them.
        overrun : bool
            The audio system has said that something is missing before it.
        """
        if frames == self._frames and not overrun:
            return  # a call without audio says nothing of when it comes
        if math.isnan(self.start_s):
            self.start_s = now_s - (frames - self._frames) / self._rate_hz
            self._slept_s = slept_s
            self._span_end_s = now_s + SPAN_S
        behind_s = now_s - self.start_s - frames / self._rate_hz
        suspicions = self._suspicions
        for suspicion in suspicions:
            suspicion.least_s = min(suspicion.least_s, behind_s)
        for index in reversed(range(len(suspicions))):
            if self._made_up_for(index):
                del suspicions[index]
        if overrun:
            # What says when it loses something has not lost it before, it was late.
            suspicions[:] = [s for s in suspicions if s.reason != UNDELIVERED]
        level_s = suspicions[-1].least_s if suspicions else self._base_s
        if overrun or behind_s - level_s > LATE_S:
            asleep_s = slept_s - self._slept_s
            reason: Reason = SUSPENDED if asleep_s > (behind_s - level_s) / 2 else UNDELIVERED
            if overrun and reason != SUSPENDED:
                reason = OVERRUN
            suspicions.append(_Suspicion(self._frames, now_s, behind_s, reason))
        elif not suspicions:
            self._follow(behind_s, now_s)
        self._frames, self._slept_s = frames, slept_s
        while suspicions and now_s - suspicions[0].since_s >= SETTLE_S:
            self._confirm()

    def settle(self) -> None:
        """Decide everything now, as nothing more will come."""
        while self._suspicions:
            self._confirm()

    def take(self, until: int) -> Iterator[Missing]:
        """Take what is missing up to a position."""
        while self.missing and self.missing[0].position_frames <= until:
            yield self.missing.pop(0)

    def _made_up_for(self, index: int) -> bool:
        suspicion = self._suspicions[index]
        below_s = self._suspicions[index - 1].least_s if index else self._base_s
        return suspicion.reason != OVERRUN and suspicion.least_s - below_s <= LATE_S

    def _confirm(self) -> None:
        first = self._suspicions.pop(0)
        duration_s = max(MIN_OVERRUN_S, first.least_s - self._base_s)
        self.missing.append(Missing(first.position_frames, duration_s, first.reason))
        self._base_s = first.least_s
        self._least_s = [first.least_s, first.least_s]

    def _follow(self, behind_s: float, now_s: float) -> None:
        self._least_s[0] = min(self._least_s[0], behind_s)
        self._base_s = min(self._least_s)
        if now_s >= self._span_end_s:
            self._least_s = [math.inf, self._least_s[0]]
            self._span_end_s = now_s + SPAN_S
