"""What the clock tells of audio that is missing."""

from __future__ import annotations

import numpy as np
import pytest

from edge.audio.gaps import OVERRUN, SUSPENDED, UNDELIVERED, Arrivals, Missing

RATE_HZ = 48_000
BLOCK = 2_400  # 50 ms


class Stream:
    """Blocks of 50 ms that arrive up to 60 ms late."""

    def __init__(self, drift: float = 0.0) -> None:
        self.arrivals = Arrivals(RATE_HZ)
        self.now_s, self.slept_s, self.frames = 100.0, 7.0, 0
        self._drift = drift
        self._rng = np.random.default_rng(3)

    def go_on(self, duration_s: float, overrun: bool = False) -> None:
        for _ in range(round(duration_s * RATE_HZ / BLOCK)):
            self.now_s += BLOCK / RATE_HZ * (1 + self._drift)
            self.frames += BLOCK
            now_s = self.now_s + self._rng.uniform(0, 0.06)
            self.arrivals.update(self.frames, now_s, self.slept_s, overrun)
            overrun = False

    def missing(self) -> list[Missing]:
        return list(self.arrivals.take(self.frames))


def test_what_is_late_is_not_missing() -> None:
    stream = Stream()
    stream.go_on(60)
    stream.arrivals.update(stream.frames + BLOCK, stream.now_s + 4, stream.slept_s, False)
    assert stream.arrivals.sure_frames == stream.frames
    stream.go_on(20)
    assert stream.missing() == []
    assert stream.arrivals.sure_frames == stream.frames


@pytest.mark.parametrize("drift", [-0.005, -0.001, 0.001, 0.005])
def test_a_clock_of_its_own_is_no_loss(drift: float) -> None:
    stream = Stream(drift)
    stream.go_on(1_800)
    assert stream.missing() == []
    stream.now_s += 0.5
    stream.go_on(2)
    (missing,) = stream.missing()
    # Up to twenty seconds of that clock are not known.
    assert missing.duration_s == pytest.approx(0.5, abs=0.07 + 20 * abs(drift))


@pytest.mark.parametrize("overrun", [False, True])
@pytest.mark.parametrize("lost_s", [0.4, 1.0, 30.0])
def test_what_is_missing_is_found_in_its_place(lost_s: float, overrun: bool) -> None:
    stream = Stream()
    stream.go_on(30)
    position = stream.frames
    stream.now_s += lost_s
    stream.go_on(0.5, overrun)
    assert stream.missing() == []
    assert stream.arrivals.sure_frames == position
    stream.go_on(1)
    (missing,) = stream.missing()
    assert missing.position_frames == position
    assert missing.duration_s == pytest.approx(lost_s, abs=0.07)
    assert missing.reason == (OVERRUN if overrun else UNDELIVERED)
    assert stream.arrivals.sure_frames == stream.frames
    stream.go_on(60)
    assert stream.missing() == []


def test_losses_that_follow_one_another() -> None:
    stream = Stream()
    stream.go_on(30)
    positions = []
    for lost_s in (0.5, 0.7, 0.9):
        stream.now_s += lost_s
        positions.append(stream.frames)
        stream.go_on(0.3)
    stream.go_on(2)
    missing = stream.missing()
    assert [each.position_frames for each in missing] == positions
    lost_s = [each.duration_s for each in missing]
    np.testing.assert_allclose(lost_s, [0.5, 0.7, 0.9], atol=0.12)
    assert sum(lost_s) == pytest.approx(2.1, abs=0.07)


def test_a_suspended_machine() -> None:
    stream = Stream()
    stream.go_on(30)
    stream.now_s += 3_600
    stream.slept_s += 3_600
    stream.go_on(2)
    (missing,) = stream.missing()
    assert missing.reason == SUSPENDED
    assert missing.duration_s == pytest.approx(3_600, abs=0.07)


def test_an_overrun_that_the_clock_does_not_see_is_reported() -> None:
    stream = Stream()
    stream.go_on(30)
    stream.go_on(2, overrun=True)
    (missing,) = stream.missing()
    assert missing.reason == OVERRUN
    assert 0 < missing.duration_s < 0.07


def test_the_end_decides() -> None:
    stream = Stream()
    stream.go_on(30)
    stream.now_s += 2
    stream.go_on(0.5)
    stream.arrivals.settle()
    (missing,) = stream.missing()
    assert missing.duration_s == pytest.approx(2, abs=0.07)
    assert stream.arrivals.end_s == pytest.approx(stream.now_s, abs=0.07)
