"""Waking up the thread that listens."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from edge.audio import wakeup as wakeup_module
from edge.audio.wakeup import JUDGED_S, WAKE_S, PipePace, WakeUp

LONG_S = 60.0
BYTES_PER_S = 32_000.0
PART_S = 0.02


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


# --- a pipe that is filled in real time ------------------------------------------------------


class FakeTime:
    """A clock that moves when someone sleeps, or waits for a part."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        assert duration_s > 0
        self.slept_s.append(duration_s)
        self.now_s += duration_s


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    module = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr(wakeup_module, "time", module)
    return clock


@pytest.fixture
def pipe() -> Iterator[int]:
    reading_end, writing_end = os.pipe()
    yield reading_end
    os.close(reading_end)
    os.close(writing_end)


def follow(pace: PipePace, clock: FakeTime, times: float, duration_s: float) -> int:
    """Read all that comes in parts of `PART_S`, so many times as fast as it is heard."""
    start_s, taken, reads = clock.now_s, 0, 0
    while clock.now_s < start_s + duration_s:
        pace.rest()
        ready = int((clock.now_s - start_s) / PART_S * times)
        if ready == taken:
            clock.now_s += PART_S / times
            continue
        pace.took(round((ready - taken) * PART_S * BYTES_PER_S), was_all=True)
        taken, reads = ready, reads + 1
    return reads


def test_a_pipe_that_is_filled_in_real_time_is_left_alone(fake_time: FakeTime, pipe: int) -> None:
    pace = PipePace(pipe, BYTES_PER_S)
    assert follow(pace, fake_time, 1.0, JUDGED_S) == pytest.approx(JUDGED_S / PART_S, abs=2)
    assert follow(pace, fake_time, 1.0, 10.0) <= 10.0 / WAKE_S + 2
    assert max(fake_time.slept_s) <= WAKE_S + 1e-9


def test_nobody_waits_for_what_is_ready(fake_time: FakeTime, pipe: int) -> None:
    pace = PipePace(pipe, BYTES_PER_S)
    follow(pace, fake_time, 20.0, 10.0)
    assert fake_time.slept_s == []
    follow(pace, fake_time, 1.0, 10.0)
    fake_time.slept_s.clear()
    for _ in range(100):  # more is there at once than is read
        pace.took(20_000, was_all=False)
        pace.rest()
    assert fake_time.slept_s == []
    follow(pace, fake_time, 20.0, 10.0)  # and from now on it comes faster than it is heard
    assert sum(fake_time.slept_s) < JUDGED_S + WAKE_S


def test_half_of_a_pipe_stays_free(fake_time: FakeTime, pipe: int) -> None:
    capacity_bytes = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4_096)
    pace = PipePace(pipe, BYTES_PER_S)
    follow(pace, fake_time, 1.0, 10.0)
    assert max(fake_time.slept_s) <= capacity_bytes / 2 / BYTES_PER_S + 1e-9


def test_what_is_no_pipe_is_not_left_alone(fake_time: FakeTime) -> None:
    with open(os.devnull) as null:
        follow(PipePace(null.fileno(), BYTES_PER_S), fake_time, 1.0, 10.0)
    assert fake_time.slept_s == []
