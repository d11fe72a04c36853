"""Augmentation changes what must not matter, by as much as it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEnd, FrontEndConfig
from tests.synthetic import noise, room, speech
from train.features.augmentation import (
    SPEED_RANGE,
    SpectrogramAugmenter,
    augment_waveform,
    draw_speed,
    reverberate,
    transcode,
)
from train.features.filterbank import band_centres_hz, mel_filterbank

CONFIG = FrontEndConfig(mels=32)
SPOKEN = speech("de", "anna", 0, 1.0)


@pytest.fixture(scope="module")
def augmenter() -> SpectrogramAugmenter:
    return SpectrogramAugmenter(CONFIG, band_centres_hz(CONFIG))


def features(samples: Float32Array) -> Float32Array:
    return FrontEnd(CONFIG, mel_filterbank(CONFIG)).process(samples)


@pytest.fixture(scope="module")
def batch() -> tuple[Float32Array, Float32Array, np.ndarray]:
    """Frames, noise and which are speech, of 64 clips of 0.98 s."""
    frames = np.stack([features(speech("de", "anna", i, 1.0)) for i in range(8)] * 8)
    noises = np.stack([features(noise(name, 1.0)) for name in ("hum", "hiss")] * 32)
    return frames, noises, np.arange(64) < 48


def rms(samples: Float32Array) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def test_speeds() -> None:
    rng = np.random.default_rng(0)
    speeds = np.array([draw_speed(rng) for _ in range(2000)])
    assert (speeds == 1.0).mean() == pytest.approx(1 / 3, abs=0.04)
    changed = speeds[speeds != 1.0]
    assert SPEED_RANGE[0] <= changed.min() < 0.85
    assert 1.18 < changed.max() <= SPEED_RANGE[1]


@pytest.mark.parametrize("speed", [0.83, 0.95, 1.0, 1.2])
def test_waveforms(speed: float) -> None:
    rooms = [room("small"), room("hall")]
    for seed in range(12):  # enough for every branch
        out = augment_waveform(SPOKEN, speed, rooms, np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert len(out) == pytest.approx(len(SPOKEN) / speed, abs=2)
        assert np.isfinite(out).all()
        assert rms(out) == pytest.approx(rms(SPOKEN), rel=0.6)


def test_waveforms_depend_on_the_generator_alone() -> None:
    first, second = (
        augment_waveform(SPOKEN, 0.9, [room("hall")], np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_speed_moves_the_pitch() -> None:
    """Played faster, a tone is shorter and higher by the same factor."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
    rng = np.random.default_rng(4)  # draws none of the other changes
    fast = augment_waveform(tone.astype(np.float32), 1.2, [room("small")], rng)
    peak_hz = np.abs(np.fft.rfft(fast)).argmax() * SAMPLE_RATE_HZ / len(fast)
    assert peak_hz == pytest.approx(1200, abs=2)


def test_a_room_that_only_delays_changes_nothing() -> None:
    delay = np.zeros(500, np.float32)
    delay[100] = 0.5
    np.testing.assert_allclose(reverberate(SPOKEN, delay), SPOKEN, atol=1e-4)


@pytest.mark.parametrize("name", ["small", "hall", "cellar"])
def test_rooms_keep_level_and_alignment(name: str) -> None:
    wet = reverberate(SPOKEN, room(name))
    assert wet.dtype == np.float32
    assert len(wet) == len(SPOKEN)
    assert rms(wet) == pytest.approx(rms(SPOKEN), rel=1e-3)
    lags = np.correlate(wet[2000:6000], SPOKEN[1500:6500], "full")
    assert (
        abs(
            int(lags.argmax())
            - int(np.correlate(SPOKEN[2000:6000], SPOKEN[1500:6500], "full").argmax())
        )
        <= 1
    )


@pytest.mark.parametrize("seed", range(4))  # both codecs
def test_codecs(seed: int) -> None:
    out = transcode(SPOKEN, np.random.default_rng(seed))
    assert out.shape == SPOKEN.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert rms(out) == pytest.approx(rms(SPOKEN), rel=0.2)


@pytest.mark.parametrize("length", [1, 50, 401])
def test_tiny_clips(length: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        assert np.isfinite(augment_waveform(SPOKEN[:length], 0.9, [room("small")], rng)).all()


def test_spectrograms(
    augmenter: SpectrogramAugmenter, batch: tuple[Float32Array, Float32Array, np.ndarray]
) -> None:
    frames, noises, spoken = batch
    before = frames.copy(), noises.copy()
    out = augmenter(frames, noises, spoken, np.random.default_rng(1))
    assert out.shape == frames.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert (out >= 0).all()  # log(1 + power)
    np.testing.assert_array_equal(frames, before[0])
    np.testing.assert_array_equal(noises, before[1])
    again = augmenter(frames, noises, spoken, np.random.default_rng(1))
    np.testing.assert_array_equal(again, out)
    assert not np.array_equal(augmenter(frames, noises, spoken, np.random.default_rng(2)), out)


def test_noise_at_the_ratio_that_is_drawn(
    augmenter: SpectrogramAugmenter, batch: tuple[Float32Array, Float32Array, np.ndarray]
) -> None:
    """In the power domain, against the louder half of the clip."""
    frames, noises, spoken = batch
    power = np.expm1(frames)
    gains = [
        augmenter._noise_gain(power, noises, spoken, np.random.default_rng(seed))[:, 0, 0]
        for seed in range(20)
    ]
    gain = np.concatenate(gains)
    assert (gain.reshape(20, -1)[:, ~spoken] == 0).all()
    loud = np.sort(power.mean(axis=2), axis=1)[:, power.shape[1] // 2 :].mean(axis=1)
    ratio_db = 10 * np.log10(
        np.tile(loud / np.expm1(noises).mean(axis=(1, 2)), 20)[gain > 0] / gain[gain > 0]
    )
    assert ratio_db.min() == pytest.approx(0, abs=0.5)
    assert ratio_db.max() == pytest.approx(30, abs=0.5)
    assert (gain > 0).mean() == pytest.approx(0.75 * spoken.mean(), abs=0.05)


def test_powers_add(augmenter: SpectrogramAugmenter) -> None:
    """Mixing spectrograms is mixing recordings, but for the phases."""
    one, two = noise("hum", 4.0), noise("hiss", 4.0)
    mixed = np.expm1(features(one + 0.5 * two)).mean(axis=0)
    added = (np.expm1(features(one)) + 0.25 * np.expm1(features(two))).mean(axis=0)
    np.testing.assert_allclose(mixed, added, rtol=0.25)


def test_masks_are_bands_and_moments(augmenter: SpectrogramAugmenter) -> None:
    rng = np.random.default_rng(3)
    clips = rng.uniform(1, 2, (40, 100, 32)).astype(np.float32)
    masked = augmenter._mask(clips.copy(), rng) != clips
    assert masked.any()
    for clip in masked:
        moments, bands = clip.all(axis=1), clip.all(axis=0)
        # Nothing but whole moments and whole bands.
        np.testing.assert_array_equal(clip, moments[:, None] | bands[None, :])
        assert moments.sum() <= 2 * 24
        assert bands.sum() <= 2 * 9
