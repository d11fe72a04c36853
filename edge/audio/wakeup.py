"""Waking up the thread that listens, and how seldom that is enough.

After every sleep caches are cold, and a hop takes the processor three times as long as right
behind another one. What is left on for weeks therefore sleeps for as long as it may, and hears
several hops at once.
"""

from __future__ import annotations

import contextlib
import threading

# Audio that is heard at once: two hops of the small model. It adds up to a hop to the time until
# an answer, of which 3 s of speech have most.
WAKE_S = 0.32


class WakeUp:
    """An event that one thread waits for, and others and signal handlers set.

    :class:`threading.Event` takes a lock to be set, which could be held by the very code that a
    signal has interrupted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake up who waits, or will wait."""
        with contextlib.suppress(RuntimeError):  # it is set already
            self._lock.release()

    def wait(self, most_s: float) -> bool:
        """Wait until it is set, and clear it; whether it was within so long."""
        return self._lock.acquire(timeout=most_s)
