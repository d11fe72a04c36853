"""Measurements of a decoded clip: a record of numbers, for millions of clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.audio.level import FULL_SCALE
from edge.audio.sources import FileSource, import_soundfile
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array

HEARD, MISSING, EMPTY, UNDECODABLE = range(4)  # what came of the attempt

RECORD = np.dtype(
    [
        ("outcome", np.uint8),
        ("rate_hz", np.uint32),
        ("seconds", np.float64),  # decoded
        ("peak", np.float32),  # without the offset; full scale is 1
        ("rms", np.float32),  # without the offset
        ("offset", np.float32),
        ("clipped", np.float32),  # share of the samples at full scale
        ("above_db", np.float32),  # power above the telephone's band to that at its upper end
        ("digest", np.uint64),  # of the samples
    ]
)

PIECE_SAMPLES = 10 * SAMPLE_RATE_HZ  # taken at once: a clip of hours needs no more memory
FRAME_SAMPLES = 512
# What a telephone carries ends below 4 kHz. With room for the slope of filters on both sides.
UPPER_END_HZ = (2500.0, 3600.0)
ABOVE_HZ = (4300.0, 7500.0)


def hear(path: Path) -> tuple[np.ndarray, str]:
    """Decode a clip to its end.

    Returns
    -------
    ndarray, shape ()
        A `RECORD`; all zero but its outcome if it could not be decoded.
    str
        Why it could not.
    """
    record = np.zeros((), RECORD)
    try:
        with FileSource(path) as source:
            record["rate_hz"] = source.rate_hz
            listener = _Listener()
            for piece in _pieces(source.blocks()):
                listener.update(piece)
    except EdgelidError as error:
        failed = np.zeros((), RECORD)
        failed["outcome"] = _outcome(path)
        return failed, str(error)
    listener.fill(record)
    return record, ""


def _outcome(path: Path) -> int:
    """What is wrong with a file that cannot be decoded."""
    try:
        if path.stat().st_size == 0 or import_soundfile().info(path).frames == 0:
            return EMPTY
    except FileNotFoundError:
        return MISSING
    except (OSError, RuntimeError):  # soundfile's errors are of the second kind
        pass
    return UNDECODABLE


def _pieces(blocks: Iterator[Float32Array]) -> Iterator[Float32Array]:
    """Join blocks to pieces of ten seconds; calls on short arrays would cost more than the sums."""
    held: list[Float32Array] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length >= PIECE_SAMPLES:
            yield np.concatenate(held)
            held, length = [], 0
    if held:
        yield np.concatenate(held)


class _Listener:
    """Sums over the samples of a clip."""

    _WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
    _HZ = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)

    def __init__(self) -> None:
        self._samples = self._clipped = 0
        self._least, self._most = np.inf, -np.inf
        self._sum = self._power = 0.0
        self._spectrum = np.zeros(len(self._HZ))
        self._digest = hashlib.blake2b(digest_size=8)

    def update(self, samples: Float32Array) -> None:
        """Take note of samples, shape (n,), n at least 1."""
        self._samples += len(samples)
        self._least = min(self._least, float(samples.min()))
        self._most = max(self._most, float(samples.max()))
        self._sum += float(samples.sum(dtype=np.float64))
        self._power += float(np.vdot(samples, samples))
        self._clipped += int(np.count_nonzero(np.abs(samples) >= FULL_SCALE))
        self._digest.update(samples.tobytes())
        frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
        spectra = np.fft.rfft(frames.reshape(-1, FRAME_SAMPLES) * self._WINDOW)
        self._spectrum += (spectra.real**2 + spectra.imag**2).sum(axis=0)

    def fill(self, record: np.ndarray) -> None:
        """Write what it comes to into a `RECORD`."""
        offset = self._sum / self._samples
        record["outcome"] = HEARD
        record["seconds"] = self._samples / SAMPLE_RATE_HZ
        record["peak"] = max(self._most - offset, offset - self._least)
        record["rms"] = np.sqrt(max(0.0, self._power / self._samples - offset**2))
        record["offset"] = offset
        record["clipped"] = self._clipped / self._samples
        record["above_db"] = self._above_db()
        record["digest"] = int.from_bytes(self._digest.digest(), "little")

    def _above_db(self) -> float:
        below, above = (
            self._spectrum[(low <= self._HZ) & (high >= self._HZ)].mean()
            for low, high in (UPPER_END_HZ, ABOVE_HZ)
        )
        return float(10 * np.log10(above / below)) if above and below else 0.0
