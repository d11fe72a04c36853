"""Hints at the level: one for each occurrence, and one when it is over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge.audio.level import HINTS, Level, LevelMeter
from edge.frontend import Float32Array

RATE_HZ = 16_000


def tone(duration_s: float, peak: float, offset: float = 0.0) -> Float32Array:
    """Shape (n, 1)."""
    time = np.arange(round(duration_s * RATE_HZ), dtype=np.float32)
    return (offset + peak * np.sin(time / 5))[:, np.newaxis].astype(np.float32)


def told(*parts: Float32Array) -> list[Level]:
    meter = LevelMeter(RATE_HZ)
    blocks = [block for part in parts for block in np.array_split(part, len(part) // 800)]
    return [level for level in map(meter.update, blocks) if level is not None]


def opposite(duration_s: float) -> Float32Array:
    one = tone(duration_s, 0.3)
    return np.hstack([one, -0.9 * one])


BAD = {
    "silent": tone(120, 0.0),
    "clipped": np.clip(tone(120, 2.0), -1, 1),
    "offset": tone(120, 0.1, offset=0.3),
    "low": tone(120, 0.0005),
}


def test_a_good_level_is_not_told() -> None:
    assert told(tone(120, 0.3)) == []


@pytest.mark.parametrize("state", BAD)
def test_each_state_is_told_once_and_once_when_it_is_over(state: str) -> None:
    states = [level.state for level in told(BAD[state], tone(60, 0.3), BAD[state])]
    assert states == [state, "ok", state]
    assert set(states) <= set(HINTS)


def test_channels_that_cancel_each_other() -> None:
    fine = np.hstack([tone(60, 0.3)] * 2)
    assert [level.state for level in told(opposite(60), fine)] == ["cancelled", "ok"]


def test_a_pause_of_a_quiet_room_is_not_too_quiet() -> None:
    assert told(tone(20, 0.3), tone(40, 0.0005), tone(20, 0.3)) == []


@pytest.mark.parametrize(("state", "limit"), [("low", 0.008), ("offset", 0.07)])
def test_what_is_near_a_limit_is_told_once(state: str, limit: float) -> None:
    """Back and forth across the limit of entering, but not across that of leaving."""
    near = tone(10, limit) if state == "low" else tone(10, 0.1, offset=limit)
    assert [level.state for level in told(BAD[state], near, BAD[state], near)] == [state]


def test_a_short_recording_is_judged_at_its_end() -> None:
    for state, frames in BAD.items():
        meter = LevelMeter(RATE_HZ, math.inf)
        assert meter.update(frames[: 3 * RATE_HZ]) is None
        level = meter.finish()
        assert level is not None
        assert level.state == state
    meter = LevelMeter(RATE_HZ, math.inf)
    meter.update(tone(3, 0.3))
    assert meter.finish() is None


@pytest.mark.parametrize("seconds", [5, 25, 48])
def test_a_recording_of_less_than_a_minute_that_is_too_quiet(seconds: float) -> None:
    meter = LevelMeter(RATE_HZ)
    for block in np.array_split(tone(seconds, 0.0005), 100):
        assert meter.update(block) is None
    level = meter.finish()
    assert level is not None
    assert level.state == "low"


def test_a_quiet_end_is_no_quiet_recording() -> None:
    meter = LevelMeter(RATE_HZ)
    for part in (tone(12, 0.3), tone(10, 0.0005), tone(3, 0.0)):
        for block in np.array_split(part, 40):
            assert meter.update(block) is None
    assert meter.finish() is None


def test_nothing_can_be_said_of_a_click() -> None:
    meter = LevelMeter(RATE_HZ, math.inf)
    meter.update(np.zeros((100, 1), np.float32))
    assert meter.finish() is None


@pytest.mark.parametrize(("peak_db", "states"), [(-44, []), (-46, ["low"])])
def test_the_warning_begins_where_recognition_suffers(peak_db: float, states: list[str]) -> None:
    assert [level.state for level in told(tone(120, 10 ** (peak_db / 20)))] == states


def test_the_figures() -> None:
    (level,) = told(tone(10, 0.1, offset=0.25))
    assert level.offset == pytest.approx(0.25, abs=1e-3)
    assert level.peak_db == pytest.approx(-20, abs=0.1)
    assert level.rms_db == pytest.approx(-23, abs=0.1)
    (silent,) = told(tone(10, 0.0))
    assert (silent.peak_db, silent.rms_db, silent.offset) == (-120, -120, 0)
