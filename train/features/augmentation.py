"""Augmentation: variation of what must not matter to the answer.

Two halves. Waveform augmentation (speed, rooms, codecs, telephone band) is costly and drawn
once per cached variant of a clip. Spectrogram augmentation (noise, equaliser, vocal tract, gain,
masks) is cheap enough to be drawn anew for every batch; noise adds in the power domain, where
mixing recordings is (but for their phases) exact.
"""

from __future__ import annotations

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEndConfig
from train.features.codecs import decode, encode

# Slower and faster by up to a fifth: pitch and formants move with it, as between speakers.
SPEED_RANGE = (0.83, 1.2)
TELEPHONE_RATE_HZ = 8_000


def draw_speed(rng: np.random.Generator) -> float:
    """Playing speed of a variant: one (unchanged) for a third of the draws."""
    return 1.0 if rng.random() < 0.33 else float(rng.uniform(*SPEED_RANGE))


def augment_waveform(
    samples: Float32Array,
    speed: float,
    rooms: list[Float32Array],
    rng: np.random.Generator,
) -> Float32Array:
    """Vary speed, room, band and codec of a recording.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
        16 kHz mono.
    speed : float
        Playing speed; the result is ``n / speed`` long.
    rooms : list of ndarray
        Room impulse responses, 16 kHz.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (about n / speed,), float32
    """
    import soxr

    if speed != 1.0:
        samples = soxr.resample(samples, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ, quality="MQ")
    if rng.random() < 0.5:
        samples = reverberate(samples, rooms[rng.integers(len(rooms))])
    if rng.random() < 0.15:
        narrow = soxr.resample(samples, SAMPLE_RATE_HZ, TELEPHONE_RATE_HZ, quality="MQ")
        samples = soxr.resample(narrow, TELEPHONE_RATE_HZ, SAMPLE_RATE_HZ, quality="MQ")
    if rng.random() < 0.3:
        samples = transcode(samples, rng)
    if rng.random() < 0.1:
        peak = float(np.abs(samples).max(initial=1e-9))
        samples = np.clip(samples, -peak * 0.3, peak * 0.3)
    return samples.astype(np.float32)


def reverberate(samples: Float32Array, room: Float32Array) -> Float32Array:
    """Play a recording in a room.

    Parameters
    ----------
    samples : ndarray, shape (n,)
    room : ndarray, shape (m,)
        Impulse response.

    Returns
    -------
    ndarray, shape (n,), float32
        Aligned with the input (the direct sound comes at once) and as loud.
    """
    from scipy.signal import fftconvolve

    direct = int(np.argmax(np.abs(room)))
    wet: Float32Array = fftconvolve(samples, room)[direct : direct + len(samples)]
    level = np.sqrt(np.mean(np.square(samples)) / (np.mean(np.square(wet)) + 1e-12))
    return np.asarray(wet * level, np.float32)


def transcode(samples: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Encode and decode with MP3 or Opus at a random, mostly low, rate.

    Parameters
    ----------
    samples : ndarray, shape (n,)

    Returns
    -------
    ndarray, shape (n,), float32
        The codec's delay may shift it by some milliseconds.
    """
    container, codec = (("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"))[rng.integers(2)]
    decoded = decode(encode(samples, container, codec, float(rng.uniform(0.5, 0.99))))
    return (
        np.resize(decoded, len(samples)) if len(decoded) < len(samples) else decoded[: len(samples)]
    )


class SpectrogramAugmenter:
    """Random changes of a batch of log-mel spectrograms.

    Parameters
    ----------
    config : FrontEndConfig
    band_centres_hz : ndarray, shape (mels,)
        Centre frequencies of the mel bands.
    """

    def __init__(self, config: FrontEndConfig, band_centres_hz: Float32Array) -> None:
        self._floor = config.floor
        self._centres_hz = band_centres_hz

    def __call__(
        self,
        frames: Float32Array,
        noise: Float32Array,
        speech: np.ndarray,
        rng: np.random.Generator,
    ) -> Float32Array:
        """Augment.

        Parameters
        ----------
        frames, noise : ndarray, shape (batch, frames, mels)
            Log-mel of the clips, and of noise to mix in.
        speech : ndarray of bool, shape (batch,)
            Which clips hold speech; the others get no further noise.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, shape (batch, frames, mels), float32
        """
        frames = self._warp(frames, rng)
        power = np.expm1(frames)  # in units of the floor
        power *= self._channel(len(frames), rng)
        power += np.expm1(noise) * (
            self._channel(len(frames), rng) * self._noise_gain(power, noise, speech, rng)
        )
        # What a cheap microphone adds of its own: a steady hiss somewhere below speech.
        power += np.exp(rng.uniform(-3.0, 5.0, (len(frames), 1, 1))).astype(np.float32)
        power *= np.exp(rng.normal(0.0, 1.5, (len(frames), 1, 1))).astype(np.float32)
        return self._mask(np.log1p(power), rng)

    def _noise_gain(
        self, power: Float32Array, noise: Float32Array, speech: np.ndarray, rng: np.random.Generator
    ) -> Float32Array:
        """Gain of the noise for a random signal-to-noise ratio, (batch, 1, 1)."""
        # Half the frames of a clip are pauses or weak: the upper half's mean is the speech.
        level = np.sort(power.mean(axis=2), axis=1)
        signal = level[:, level.shape[1] // 2 :].mean(axis=1)
        ratio_db = rng.uniform(0.0, 30.0, len(power))
        gain = signal / (np.expm1(noise).mean(axis=(1, 2)) + 1e-3) * 10 ** (-ratio_db / 10)
        gain *= (rng.random(len(power)) < 0.75) & speech
        return np.asarray(gain[:, None, None], np.float32)

    def _channel(self, batch: int, rng: np.random.Generator) -> Float32Array:
        """Random smooth equaliser with random band limits, power gains (batch, 1, mels)."""
        mels = len(self._centres_hz)
        position = np.arange(mels) / mels
        gain_db = np.zeros((batch, mels))
        for order in range(1, 7):
            amplitude_db = rng.normal(0.0, 5.0 / np.sqrt(order), (batch, 1))
            phase = rng.uniform(0, 2 * np.pi, (batch, 1))
            gain_db += amplitude_db * np.cos(np.pi * order * position + phase)
        low_hz = np.where(rng.random(batch) < 0.3, rng.uniform(80, 450, batch), 1.0)
        high_hz = np.where(rng.random(batch) < 0.35, rng.uniform(3000, 7600, batch), 1e5)
        slope = rng.uniform(12, 60, (batch, 1))  # dB an octave
        gain_db -= slope * np.maximum(np.log2(low_hz[:, None] / self._centres_hz), 0)
        gain_db -= slope * 3 * np.maximum(np.log2(self._centres_hz / high_hz[:, None]), 0)
        return (10 ** (np.maximum(gain_db, -80) / 10)).astype(np.float32)[:, None, :]

    def _warp(self, frames: Float32Array, rng: np.random.Generator) -> Float32Array:
        """Longer and shorter vocal tracts: the frequency axis stretched by up to a seventh."""
        batch, _, mels = frames.shape
        scale = np.where(rng.random(batch) < 0.6, rng.uniform(0.87, 1.15, batch), 1.0)
        wanted_hz = self._centres_hz[None] * scale[:, None]
        position = np.stack([np.interp(w, self._centres_hz, np.arange(mels)) for w in wanted_hz])
        below = np.minimum(position.astype(np.int64), mels - 2)
        part = (position - below).astype(np.float32)[:, None, :]
        low = np.take_along_axis(frames, below[:, None, :], axis=2)
        high = np.take_along_axis(frames, below[:, None, :] + 1, axis=2)
        return np.asarray(low + (high - low) * part, np.float32)

    def _mask(self, frames: Float32Array, rng: np.random.Generator) -> Float32Array:
        """SpecAugment (Park et al. 2019): bands and moments replaced by the clip's mean."""
        _, length, mels = frames.shape
        for clip in frames:
            mean = clip.mean()
            for _ in range(rng.integers(0, 3)):
                width = int(rng.integers(1, 10))
                start = int(rng.integers(0, mels - width))
                clip[:, start : start + width] = mean
            for _ in range(rng.integers(0, 3)):
                width = int(rng.integers(1, 25))
                start = int(rng.integers(0, length - width))
                clip[start : start + width] = mean
        return frames
