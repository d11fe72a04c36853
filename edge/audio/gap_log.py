"""Log messages about lost audio, few enough for weeks of listening."""

from __future__ import annotations

import logging

from edge.audio.capture import TOO_SLOW
from edge.audio.clock import Clock
from edge.audio.gaps import Missing

logger = logging.getLogger(__name__)

WARNING_INTERVAL_S = 60.0  # a Pi that loses audio must not fill its card with warnings


class Losses:
    """Counts what is lost of a recording, and says so, rarely.

    Parameters
    ----------
    name : str
        What to call the device.
    clock : Clock
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._lost_s: dict[str, float] = {}
        self._warned_s: dict[str, float] = {}
        self._last_warning_s = -WARNING_INTERVAL_S
        self._last_read_s = clock.now_s()
        self._last_taken_s = 0.0
        self._slow_since_s: float | None = None

    @property
    def too_slow_s(self) -> float:
        """What came while the ring was full."""
        return self._lost_s.get(TOO_SLOW, 0.0)

    def add(self, missing: Missing) -> None:
        """Take note of a loss."""
        so_far_s = self._lost_s.get(missing.reason, 0.0)
        self._lost_s[missing.reason] = so_far_s + missing.duration_s
        if missing.reason != TOO_SLOW:
            return
        now_s = self._clock.now_s()
        if self._slow_since_s is None:
            logger.warning(
                "this program is too slow: the last %.2f s of audio took it %.2f s; the oldest "
                "audio is left out",
                self._last_taken_s,
                now_s - self._last_read_s,
            )
        self._slow_since_s = now_s

    def take(self, duration_s: float) -> None:
        """Take note of audio that is not lost."""
        self._last_taken_s = duration_s
        self._last_read_s = self._clock.now_s()

    def warn(self, at_once: bool = False) -> None:
        """Say what has been lost since the last time, unless that is too recent."""
        now_s = self._clock.now_s()
        if self._slow_since_s is not None and now_s - self._slow_since_s >= WARNING_INTERVAL_S:
            self._slow_since_s = None
            logger.warning(
                "this program is fast enough again: %.2f s of audio was left out", self.too_slow_s
            )
        if now_s - self._last_warning_s < WARNING_INTERVAL_S and not at_once:
            return
        if self._lost_s == self._warned_s:
            return
        reasons = {*self._lost_s} - (set() if at_once else {TOO_SLOW})
        if any(self._lost_s[reason] != self._warned_s.get(reason) for reason in reasons):
            logger.warning("audio of %r was lost, up to now %s", self._name, self._told(reasons))
            self._warned_s, self._last_warning_s = dict(self._lost_s), now_s

    def _told(self, reasons: set[str]) -> str:
        return ", ".join(f"{self._lost_s[reason]:.2f} s ({reason})" for reason in sorted(reasons))
