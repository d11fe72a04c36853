"""Streaming log-mel features: the one definition that training and the device share.

A frame is the log-mel spectrum of 25 ms of audio, one every 10 ms. Nothing in it depends on
anything but those 25 ms, so any partition of the audio into blocks gives the same frames.

The arithmetic is double precision up to the last rounding. Transforms of different numpy
releases and processors differ in the last bits; rounding to single precision at the end, and to
int8 after that, hides those bits, so that a model answers alike everywhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400  # 25 ms at 16 kHz
HOP_SAMPLES = 160  # 10 ms at 16 kHz
FFT_SAMPLES = 512  # the next power of two above the window
MELS = 64
LOW_HZ = 60.0  # mains hum and handling noise stay below
HIGH_HZ = 7_600.0  # where the anti-alias filters of cheap sound cards begin

# Mel power that counts as silence, 50 dB below speech at -26 dBFS. Noise below it says which
# recorder was used, not which language was spoken.
FLOOR = 1e-8

FRAMES_PER_SECOND = SAMPLE_RATE_HZ / HOP_SAMPLES  # 100

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrontEndConfig:
    """Parameters of the features.

    Attributes
    ----------
    sample_rate_hz, window_samples, hop_samples, fft_samples : int
        Short-time Fourier transform: a periodic Hann window, zero-padded to the transform.
    mels : int
        Number of bands.
    low_hz, high_hz : float
        Edges of the lowest and the highest band.
    floor : float
        Mel power that becomes ``log(2)``; anything far below it becomes zero.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    window_samples: int = WINDOW_SAMPLES
    hop_samples: int = HOP_SAMPLES
    fft_samples: int = FFT_SAMPLES
    mels: int = MELS
    low_hz: float = LOW_HZ
    high_hz: float = HIGH_HZ
    floor: float = FLOOR

    @property
    def bins(self) -> int:
        """Number of frequency bins of the transform."""
        return self.fft_samples // 2 + 1

    @property
    def features(self) -> int:
        """Of a frame: one a band."""
        return self.mels


class Pace(Protocol):
    """How much audio a hop takes.

    Attributes
    ----------
    samples : int
        At 16 kHz, that the next hop of frames needs.
    """

    @property
    def samples(self) -> int: ...


@dataclass(frozen=True)
class SteadyPace:
    """Of a front end whose hops are all alike."""

    samples: int


def front_end_hash(config: FrontEndConfig, filterbank: Float32Array) -> str:
    """Identify a front end: two with equal hashes give equal features.

    Parameters
    ----------
    config : FrontEndConfig
    filterbank : ndarray, shape (mels, bins)

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    parameters = json.dumps(asdict(config), sort_keys=True).encode()
    return hashlib.sha256(parameters + np.asarray(filterbank, "<f4").tobytes()).hexdigest()


def frame_count(samples: int, config: FrontEndConfig) -> int:
    """Number of whole frames in so many samples."""
    return max(0, 1 + (samples - config.window_samples) // config.hop_samples)


class FrontEnd:
    """Turns blocks of samples into log-mel frames.

    Parameters
    ----------
    config : FrontEndConfig
    filterbank : ndarray, shape (mels, bins), float32
        Triangular mel filters; each must have at least one non-zero weight.

    Raises
    ------
    ValueError
        If the filterbank does not fit the configuration or has an empty filter.
    """

    def __init__(self, config: FrontEndConfig, filterbank: Float32Array) -> None:
        if filterbank.shape != (config.mels, config.bins):
            raise ValueError(
                f"mel filterbank has shape {filterbank.shape}, not {(config.mels, config.bins)}"
            )
        if not (filterbank > 0).any(axis=1).all():
            raise ValueError("mel filterbank has an empty filter")
        self.config = config
        n = config.window_samples
        # Periodic, as in every short-time transform of the field (Harris 1978, eq. 27).
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
        # A triangle covers few of the bins, and a matrix product would multiply mostly zeros:
        # filters that share no bin are one weight a bin, (groups, 1 + bins).
        group, first, last = _disjoint_groups(filterbank)
        self._weights = np.zeros((group.max() + 1, 1 + config.bins))
        for weights, g, start, stop in zip(filterbank, group, first, last + 1, strict=True):
            self._weights[g, 1 + start : 1 + stop] = weights[start:stop]
        self._weights /= config.floor
        self._starts = group * (1 + config.bins) + first
        self._stops = group * (1 + config.bins) + last + 1
        self._tail: Float32Array = np.empty(0, np.float32)

    def reset(self) -> None:
        """Forget all audio, as if a new stream began."""
        self._tail = np.empty(0, np.float32)

    @property
    def silence(self) -> Float32Array:
        """A frame of digital silence, shape (mels,)."""
        return np.zeros(self.config.mels, np.float32)

    def missing_samples(self, frames: int) -> int:
        """Samples at 16 kHz still to come until so many more frames are complete."""
        config = self.config
        return config.window_samples + (frames - 1) * config.hop_samples - len(self._tail)

    def pace(self, frames: int) -> Pace:
        """How much audio every further hop of so many frames takes."""
        return SteadyPace(frames * self.config.hop_samples)

    def mel_power(self, frames: Float64Array) -> Float64Array:
        """Mel power spectrum of windows of samples, as multiples of the floor.

        Parameters
        ----------
        frames : ndarray, shape (n, window_samples)

        Returns
        -------
        ndarray, shape (n, mels)
        """
        config, count = self.config, len(frames)
        padded = np.zeros((count, config.fft_samples))
        np.multiply(frames, self._window, out=padded[:, : config.window_samples])
        # Real and imaginary parts side by side, (n, 2 * bins).
        parts = np.square(np.fft.rfft(padded).view(np.float64))
        power = np.zeros((count, 1, 1 + config.bins))
        np.add(parts[:, ::2], parts[:, 1::2], out=power[:, 0, 1:])
        # A filter's sum is the difference of two running sums, which are those of its own window
        # whatever the number of windows; a matrix product's order depends on its shape. What is
        # lost in the difference is lost in the transform before.
        sums = power * self._weights  # (n, groups, 1 + bins)
        np.add.accumulate(sums, axis=2, out=sums)
        sums = sums.reshape(count, -1)
        mels: Float64Array = sums.take(self._stops, axis=1)
        mels -= sums.take(self._starts, axis=1)
        return mels

    def log_mel(self, samples: Float32Array) -> Float32Array:
        """Frames of a stretch of audio, without regard to what came before.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            Mono, full scale at 1.

        Returns
        -------
        ndarray, shape (frames, mels), float32
            ``log(1 + power / floor)``: zero for digital silence, about 14 for loud speech.
        """
        config = self.config
        count = frame_count(len(samples), config)
        if count == 0:
            return np.empty((0, config.mels), np.float32)
        audio = samples.astype(np.float64)
        # Overlapping views; numpy checks that they stay within the audio.
        strides = (config.hop_samples * audio.itemsize, audio.itemsize)
        windows = np.ndarray((count, config.window_samples), audio.dtype, audio, strides=strides)
        power = self.mel_power(windows)
        # A third cheaper than `log1p`, whose further digits would be below 1e-16.
        power += 1
        return np.log(power, out=power).astype(np.float32)

    def process(self, samples: Float32Array) -> Float32Array:
        """Take the next samples of the stream and give the frames they complete.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            Mono, full scale at 1.

        Returns
        -------
        ndarray, shape (frames, mels), float32
            As :meth:`log_mel`.
        """
        audio = np.concatenate([self._tail, samples])
        frames = self.log_mel(audio)
        self._tail = audio[len(frames) * self.config.hop_samples :].copy()
        return frames


def _disjoint_groups(
    filterbank: Float32Array,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Group, first bin and last bin of every filter; those of a group share no bin.

    Of triangles, every other one is in the same group.
    """
    covered = [np.flatnonzero(weights) for weights in filterbank]
    first = np.array([bins[0] for bins in covered])
    last = np.array([bins[-1] for bins in covered])
    groups = 1
    while not all((first[g::groups][1:] > last[g::groups][:-1]).all() for g in range(groups)):
        groups += 1
    return np.arange(len(filterbank)) % groups, first, last
