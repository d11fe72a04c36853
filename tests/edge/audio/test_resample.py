"""Resampling: exact over any blocks, and the same sound at 16 kHz."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge.audio.resample import Resampler, resampled
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array

RATES_HZ = [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000, 384_000]


def noise(frames: int, channels: int = 1) -> Float32Array:
    """White noise within [-1, 1], shape (frames, channels)."""
    rng = np.random.default_rng(frames + channels)
    return rng.uniform(-1, 1, (frames, channels)).astype(np.float32)


def convert(frames: Float32Array, rate_hz: int, cuts: list[int] | None = None) -> Float32Array:
    """Resample an array that is cut before the given frames."""
    blocks = np.split(frames, cuts or [])
    return np.concatenate([*resampled(blocks, rate_hz, frames.shape[1])])


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2, 8, 9])
def test_any_partition_gives_the_same_bits(rate_hz: int, channels: int) -> None:
    frames = noise(rate_hz // 2 + 7, channels)
    whole = convert(frames, rate_hz)
    rng = np.random.default_rng(rate_hz)
    random_cuts = np.sort(rng.integers(0, len(frames), 40)).tolist()  # some blocks are empty
    single_frames = list(range(1, 200))
    regular = list(range(480, len(frames), 480))
    for cuts in (random_cuts, single_frames, regular):
        np.testing.assert_array_equal(convert(frames, rate_hz, cuts), whole)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_length_is_kept(rate_hz: int) -> None:
    frames = noise(rate_hz + 13)
    expected = len(frames) * SAMPLE_RATE_HZ / rate_hz
    assert abs(len(convert(frames, rate_hz)) - expected) <= 1


def test_16_khz_mono_passes_unchanged_and_without_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    frames = noise(1_000)
    np.testing.assert_array_equal(convert(frames, SAMPLE_RATE_HZ, [333]), frames[:, 0])


def test_a_missing_soxr_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(EdgelidError, match=r'44100 Hz.*pip install "edgelid\[edge\]"'):
        Resampler(44_100)


def test_channels_are_mixed_to_their_mean() -> None:
    frames = np.tile(np.linspace(-0.2, 0.9, 8, dtype=np.float32), (50, 1))  # (50, 8)
    np.testing.assert_allclose(convert(frames, SAMPLE_RATE_HZ), 0.35, rtol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_nothing_is_delayed(rate_hz: int) -> None:
    impulse = np.zeros((2 * rate_hz, 1), np.float32)
    impulse[rate_hz] = 1.0  # at 1 s
    assert np.argmax(convert(impulse, rate_hz)) == SAMPLE_RATE_HZ


def test_what_16_khz_cannot_hold_is_filtered_out() -> None:
    time_s = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 12_000 * time_s).astype(np.float32)[:, np.newaxis]
    middle = convert(tone, 48_000)[2_000:-2_000]
    assert np.abs(middle).max() < 1e-4  # without a filter it would be a 4 kHz tone at full scale


def test_overshoot_is_clipped() -> None:
    square = np.where(np.arange(48_000) // 24 % 2, 1.0, -1.0).astype(np.float32)[:, np.newaxis]
    output = convert(square, 48_000)
    assert output.max() == 1.0
    assert output.min() == -1.0


def test_the_input_is_left_alone() -> None:
    frames = 3 * noise(500)
    before = frames.copy()
    output = Resampler(SAMPLE_RATE_HZ).process(frames)
    output[:] = 0
    np.testing.assert_array_equal(frames, before)


def test_no_audio_gives_no_blocks() -> None:
    assert list(resampled([], 44_100, 2)) == []
    assert list(resampled([np.zeros((0, 2), np.float32)], 44_100, 2)) == []
