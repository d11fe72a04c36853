"""The clock of the microphone: time that passes, whatever the time of day is set to."""

from __future__ import annotations

import time

from edge.audio.wakeup import WakeUp


class Clock:
    """Clocks that only go forward; tests have another."""

    def now_s(self) -> float:
        """Time since some beginning, also while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def slept_s(self) -> float:
        """Time of it that the machine was suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Wait."""
        time.sleep(duration_s)

    def wait(self, news: WakeUp, most_s: float) -> bool:
        """Wait for news, as `WakeUp.wait` does."""
        return news.wait(most_s)
