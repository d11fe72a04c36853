"""Waking up the thread that listens, and how seldom that is enough.

After every sleep caches are cold, and a hop takes the processor three times as long as right
behind another one. What is left on for weeks therefore sleeps for as long as it may, and hears
several hops at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time

# Audio that is heard at once: two hops of the small model. It adds up to a hop to the time until
# an answer, of which 3 s of speech have most.
WAKE_S = 0.32

# Whether a pipe is filled in real time, and no faster, is judged from so much time.
JUDGED_S = 2.0
AS_FAST = 1.5


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


class PipePace:
    """How long to leave a pipe alone, so that what comes in small parts is heard at once.

    Only one that is filled as fast as it is heard: of a program that decodes a file, nobody
    should have to wait for what is ready.

    Parameters
    ----------
    descriptor : int
        Of anything; what is no pipe is not left alone.
    bytes_per_s : float
        Of audio.
    """

    def __init__(self, descriptor: int, bytes_per_s: float) -> None:
        try:
            capacity_bytes = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
        except OSError:
            capacity_bytes = 0
        # Half of it stays free: who writes must not wait for us.
        self._alone_s = min(WAKE_S, capacity_bytes / 2 / bytes_per_s)
        self._bytes_per_s = bytes_per_s
        self._is_live = False
        self._bytes, self._since_s = 0, time.monotonic()
        self._next_s = self._since_s

    def took(self, count_bytes: int, was_all: bool) -> None:
        """Take note of what was read, and whether nothing was left."""
        now_s = time.monotonic()
        self._bytes += count_bytes
        elapsed_s = now_s - self._since_s
        if elapsed_s >= JUDGED_S:
            self._is_live = self._bytes < AS_FAST * elapsed_s * self._bytes_per_s
            self._bytes, self._since_s = 0, now_s
        self._next_s = now_s + self._alone_s if self._is_live and was_all else now_s

    def rest(self) -> None:
        """Sleep for what is left of that time."""
        if (wait_s := self._next_s - time.monotonic()) > 0:
            time.sleep(wait_s)
