"""Waking up the thread that listens."""

from __future__ import annotations

import signal
import threading
import time

from edge.audio.wakeup import WakeUp

LONG_S = 60.0


def test_once_set_it_wakes_up_once() -> None:
    wakeup = WakeUp()
    assert not wakeup.wait(0.0)
    wakeup.set()
    wakeup.set()
    assert wakeup.wait(LONG_S)
    assert not wakeup.wait(0.0)


def test_another_thread_wakes_it_up() -> None:
    wakeup = WakeUp()
    timer = threading.Timer(0.05, wakeup.set)
    timer.start()
    assert wakeup.wait(LONG_S)
    timer.join()


def test_a_signal_wakes_up_who_waits() -> None:
    """As the handler runs in the very thread that waits."""
    wakeup = WakeUp()
    before = signal.signal(signal.SIGALRM, lambda *_: wakeup.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start_s = time.monotonic()
        assert wakeup.wait(LONG_S)
        assert time.monotonic() - start_s < LONG_S
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
