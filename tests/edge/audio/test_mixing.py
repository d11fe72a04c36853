"""Channels of recordings: what is heard of them, how loud, and what is said of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from edge.audio.level import Level
from edge.audio.mixing import Ear, Mixer, finite
from edge.errors import EdgelidError
from edge.frontend import Float32Array

RATE_HZ = 16_000


def noise(seconds: float, seed: int = 0, peak: float = 0.3) -> Float32Array:
    """Shape (n,)."""
    count = round(seconds * RATE_HZ)
    return np.random.default_rng(seed).uniform(-peak, peak, count).astype(np.float32)


def heard(frames: Float32Array, ear: Ear, block: int = 1_600) -> tuple[Float32Array, list[Level]]:
    mixer = Mixer("here", RATE_HZ, frames.shape[1], ear)
    sounds: list[Any] = []
    for start in range(0, len(frames), block):
        sounds += mixer.process(frames[start : start + block])
    sounds += mixer.flush()
    blocks = [sound for sound in sounds if not isinstance(sound, Level)]
    return np.concatenate(blocks), [sound for sound in sounds if isinstance(sound, Level)]


@pytest.mark.parametrize("other", [-1.0, -0.8])
def test_an_inverted_channel(other: float, caplog: pytest.LogCaptureFixture) -> None:
    sound = noise(3)
    mono, _ = heard(np.stack([other * sound, sound], 1), Ear())
    chosen = sound if abs(other) < 1 else other * sound  # the louder one
    np.testing.assert_array_equal(mono[800:], chosen[800:])
    (message,) = caplog.messages
    number = 2 if abs(other) < 1 else 1
    assert f"cancel each other out: channel {number} is heard" in message


def test_an_inverted_channel_behind_silence_and_noise() -> None:
    """In silence nothing tells, and noise of the last bits may do anything."""
    hiss = noise(2, 1, 1e-4)
    sound = noise(2)
    before = np.stack([hiss, -hiss], 1)
    mono, _ = heard(np.concatenate([before, np.stack([sound, -sound], 1)]), Ear())
    np.testing.assert_array_equal(mono[2 * RATE_HZ + 8_000 :], sound[8_000:])


def test_what_is_no_number_cancels_nothing_out(caplog: pytest.LogCaptureFixture) -> None:
    frames = np.stack([noise(2)] * 2, 1)
    frames[800, 0] = np.nan
    heard(frames, Ear())
    assert caplog.messages == []


def test_silence_in_place_of_what_is_no_number() -> None:
    frames = np.stack([noise(0.1), noise(0.1, 1)], 1)
    assert finite(frames) is frames
    bad = frames.copy()
    frames[3, 0] = frames[7, 1] = frames[9, 0] = 0
    bad[3, 0], bad[7, 1], bad[9, 0] = np.nan, np.inf, -np.inf
    checked = finite(bad)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, frames)


@pytest.mark.parametrize("channels", [2, 3, 8, 40])
def test_channels_that_are_only_different(channels: int, caplog: pytest.LogCaptureFixture) -> None:
    frames = np.stack([noise(3, seed) for seed in range(channels)], 1)
    mono, _ = heard(frames, Ear())
    np.testing.assert_allclose(mono, frames.mean(axis=1), atol=1e-7)
    assert caplog.messages == []


def test_one_channel_that_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    sound = noise(3)
    mono, _ = heard(np.stack([sound, 0 * sound], 1), Ear())
    np.testing.assert_array_equal(mono, sound / 2)
    assert caplog.messages == []


def test_cuts_change_nothing() -> None:
    frames = np.stack([noise(2), -noise(2)], 1)
    whole, _ = heard(frames, Ear())
    for block in (1, 7, 799, 100_000):
        np.testing.assert_array_equal(heard(frames[:4_000], Ear(), block)[0], whole[:4_000])


def test_a_channel_of_ones_choice() -> None:
    frames = np.stack([noise(1), noise(1, 1), noise(1, 2)], 1)
    for channel in (1, 2, 3):
        mono, _ = heard(frames, Ear(channel))
        np.testing.assert_array_equal(mono, frames[:, channel - 1])


@pytest.mark.parametrize(("channels", "channel"), [(2, 3), (2, 0), (1, 2)])
def test_a_channel_that_is_not_there(channels: int, channel: int) -> None:
    with pytest.raises(EdgelidError, match=rf"'here' has no channel {channel}: choose .*\.$"):
        Mixer("here", RATE_HZ, channels, Ear(channel))


@pytest.mark.parametrize(("gain_db", "factor"), [(20, 10.0), (-20, 0.1), (6, 10**0.3)])
def test_a_gain(gain_db: float, factor: float) -> None:
    sound = noise(1, peak=0.05)[:, np.newaxis]
    mono, _ = heard(sound, Ear(gain_db=gain_db))
    np.testing.assert_allclose(mono, factor * sound[:, 0], rtol=1e-6)


def test_a_gain_that_is_too_much_clips_and_says_so() -> None:
    mono, levels = heard(noise(12)[:, np.newaxis], Ear(gain_db=20, level_span_s=10.0))
    assert np.abs(mono).max() == 1.0
    assert [level.state for level in levels] == ["clipped"]


@pytest.mark.parametrize("gain_db", [60.1, -61, float("nan"), float("inf")])
def test_an_impossible_gain(gain_db: float) -> None:
    with pytest.raises(EdgelidError, match="is not possible: choose -60 to 60"):
        Ear(gain_db=gain_db)


def test_a_gain_mends_what_is_too_quiet() -> None:
    quiet = noise(5, peak=0.002)[:, np.newaxis]
    states = [
        [level.state for level in heard(quiet, Ear(None, gain_db, 10.0))[1]] for gain_db in (0, 30)
    ]
    assert states == [["low"], []]


def test_the_level_is_that_of_what_is_heard() -> None:
    frames = np.stack([noise(5), noise(5, 1, 0.001)], 1)
    for channel, states in itertools.zip_longest((1, 2), ([], ["low"])):
        _, levels = heard(frames, Ear(channel, 0, 10.0))
        assert [level.state for level in levels] == states
