"""Resampling of any audio to 16 kHz mono, block by block."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.install import how_to_resample

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 384_000  # the fastest rate sound cards offer


class Resampler:
    """A stream of any rate and number of channels to 16 kHz mono.

    The output depends on the input alone: however the input is cut into blocks, the outputs
    joined together, `flush` included, are the same bits.

    Parameters
    ----------
    rate_hz : int
        Sampling rate of the input, from `MIN_RATE_HZ` to `MAX_RATE_HZ`.
    channels : int
        Channels of the input; they are mixed down to their mean.

    Raises
    ------
    EdgelidError
        If the rate needs the package soxr and that is not installed.
    """

    def __init__(self, rate_hz: int, channels: int = 1) -> None:
        self._channels = channels
        self._stream = None if rate_hz == SAMPLE_RATE_HZ else _soxr_stream(rate_hz)

    def process(self, frames: Float32Array) -> Float32Array:
        """Resample one block.

        Parameters
        ----------
        frames : ndarray of float32, shape (n, channels)
            Samples in [-1, 1].

        Returns
        -------
        ndarray of float32, shape (m,)
            The samples that are ready, in [-1, 1]; `m` can be zero, as the filter looks ahead.
        """
        mono = frames[:, 0] if self._channels == 1 else frames.mean(axis=1)  # (n,)
        return self._convert(mono, last=False)

    def flush(self) -> Float32Array:
        """Return what the filter still holds, shape (m,); the stream ends with it."""
        return self._convert(np.zeros(0, np.float32), last=True)

    def _convert(self, mono: Float32Array, last: bool) -> Float32Array:
        if self._stream is not None:
            # soxr takes contiguous arrays only.
            mono = self._stream.resample_chunk(np.ascontiguousarray(mono), last=last)
        # Filters, and decoders of lossy formats, overshoot a signal at full scale.
        return np.clip(mono, -1.0, 1.0)


def resampled(
    blocks: Iterable[Float32Array], rate_hz: int, channels: int
) -> Iterator[Float32Array]:
    """Resample a stream to its end.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (n, channels)
        Samples in [-1, 1].
    rate_hz, channels : int
        As for `Resampler`.

    Yields
    ------
    ndarray of float32, shape (m,)
        16 kHz mono in [-1, 1]; never empty.
    """
    resampler = Resampler(rate_hz, channels)
    for frames in blocks:
        if len(mono := resampler.process(frames)):
            yield mono
    if len(mono := resampler.flush()):
        yield mono


def _soxr_stream(rate_hz: int) -> Any:
    try:
        soxr = importlib.import_module("soxr")
    except ImportError as error:
        raise EdgelidError(
            f"audio at {rate_hz} Hz has to be resampled to {SAMPLE_RATE_HZ} Hz, and "
            + how_to_resample(SAMPLE_RATE_HZ)
        ) from error
    return soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
