"""From the channels of a recording to the one that is listened to, with its gain and its level."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge.audio.level import FILE_HINTS, Level, LevelMeter
from edge.audio.resample import Resampler
from edge.errors import EdgelidError
from edge.frontend import Float32Array

logger = logging.getLogger(__name__)

# Channels cancel out where their mean has less than this share of the power that it has in
# channels that are independent of one another, one n-th for n of them.
CANCELLED_SHARE = 0.1
FORGET_S = 1.0  # what is older counts little
AUDIBLE_POWER = 1e-7  # -70 dB: in noise of the last bits, anything may cancel out


@dataclass(frozen=True)
class Ear:
    """How to listen to a recording or a stream.

    Attributes
    ----------
    channel : int or None
        The one to listen to, from 1 on; None for the mean of all, or the strongest where they
        cancel each other out.
    gain_db : float
        What to amplify by.
    level_span_s : float or None
        Of how much audio at a time the level is judged: infinite for all of a recording, once;
        None for not at all.
    """

    channel: int | None = None
    gain_db: float = 0.0
    level_span_s: float | None = None


def amplified(frames: Float32Array, gain_db: float) -> Float32Array:
    """Frames with a gain; they may leave [-1, 1], and are clipped behind the resampler."""
    return frames if gain_db == 0 else frames * np.float32(10 ** (gain_db / 20))


class Mixer:
    """Frames of a recording to 16 kHz mono.

    Parameters
    ----------
    name : str
        What to call the recording in messages.
    rate_hz, channels : int
        Of the frames.
    ear : Ear

    Raises
    ------
    EdgelidError
        If there is no such channel.
    """

    def __init__(self, name: str, rate_hz: int, channels: int, ear: Ear) -> None:
        if ear.channel is not None and not 1 <= ear.channel <= channels:
            has = f"1 to {channels}" if channels > 1 else "1, or leave it out"
            raise EdgelidError(f"{name!r} has no channel {ear.channel}: choose {has}.")
        self._name = name
        self._rate_hz = rate_hz
        self._channels = channels
        self._gain_db = ear.gain_db
        self._chosen = None if ear.channel is None else ear.channel - 1
        self._powers = np.zeros(channels)
        self._mean_power = 0.0
        self._resampler = Resampler(rate_hz)
        self._meter = None if ear.level_span_s is None else LevelMeter(rate_hz, ear.level_span_s)

    def takes(self, rate_hz: int, channels: int) -> bool:
        """Whether it goes on with a recording of these."""
        return (rate_hz, channels) == (self._rate_hz, self._channels)

    def process(self, frames: Float32Array) -> Iterator[Float32Array | Level]:
        """Take frames, shape (n, channels), n at least 1.

        Yields
        ------
        ndarray of float32, shape (m,), or Level
            16 kHz mono, never empty; and what has become of the level.
        """
        frames = amplified(frames, self._gain_db)
        mono = self._mono(frames)  # (n, 1)
        if self._meter is not None:
            heard = frames if self._chosen is None else mono
            yield from self._told(self._meter.update(heard))
        if len(block := self._resampler.process(mono)):
            yield block

    def flush(self) -> Iterator[Float32Array | Level]:
        """What remains at the end of the recording."""
        if len(block := self._resampler.flush()):
            yield block
        if self._meter is not None:
            yield from self._told(self._meter.finish())

    def _told(self, level: Level | None) -> Iterator[Level]:
        if level is not None:
            words = (self._name, FILE_HINTS[level.state], level.peak_db, level.offset)
            logger.warning("%r: %s (peak %.0f dB, offset %.3f)", *words)
            yield level

    def _mono(self, frames: Float32Array) -> Float32Array:
        if self._channels == 1:
            return frames
        if self._chosen is None:
            mean: Float32Array = frames.mean(axis=1, keepdims=True)
            if not self._cancel(frames, mean):
                return mean
            self._chosen = int(self._powers.argmax())
            logger.warning(
                "%r: its channels cancel each other out: channel %d is heard instead of their mean",
                self._name,
                self._chosen + 1,
            )
        return frames[:, self._chosen : self._chosen + 1]

    def _cancel(self, frames: Float32Array, mean: Float32Array) -> bool:
        """Whether the channels, as of late, cancel each other out."""
        kept = math.exp(-len(frames) / (FORGET_S * self._rate_hz))
        powers = np.einsum("nc,nc->c", frames, frames, dtype=np.float64) / len(frames)
        self._powers = kept * self._powers + (1 - kept) * powers
        self._mean_power = kept * self._mean_power + (1 - kept) * float(np.mean(mean**2))
        power = float(self._powers.mean())
        if float(powers.mean()) < AUDIBLE_POWER:
            return False
        return bool(self._mean_power < CANCELLED_SHARE / self._channels * power)
