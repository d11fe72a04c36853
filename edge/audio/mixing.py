"""Mixing of channels to the one that is listened to, with its gain and its level."""

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

MAX_GAIN_DB = 60  # one thousand times
BAD_SAMPLES = "%r sends samples that are no numbers (NaN or infinite): silence is heard instead"

# Channels cancel out where their mean has less than this share of the power that it has in
# channels that are independent of one another, one n-th for n of them.
CANCELLED_SHARE = 0.1
LOOK_S = 0.05  # how often that is looked at
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
    gain_db : float or None
        What to amplify by; None for nothing here, as whoever listens amplifies what is too quiet.
    level_span_s : float or None
        Of how much audio at a time the level is judged: infinite for all of a recording, once;
        None for not at all.

    Raises
    ------
    EdgelidError
        If the gain is out of all reason.
    """

    channel: int | None = None
    gain_db: float | None = None
    level_span_s: float | None = None

    def __post_init__(self) -> None:
        if self.gain_db is not None and not -MAX_GAIN_DB <= self.gain_db <= MAX_GAIN_DB:
            raise EdgelidError(
                f"a gain of {self.gain_db:g} dB is not possible: choose {-MAX_GAIN_DB} to "
                f"{MAX_GAIN_DB}."
            )


def amplified(frames: Float32Array, gain_db: float | None) -> Float32Array:
    """Frames with a gain; they may leave [-1, 1], and are clipped behind the resampler."""
    return frames if not gain_db else frames * np.float32(10 ** (gain_db / 20))


def finite(frames: Float32Array) -> Float32Array:
    """Frames with silence in place of samples that are no numbers; the same ones if all are."""
    fine = np.isfinite(frames)
    return frames if fine.all() else np.where(fine, frames, np.float32(0))


class Checked:
    """Frames of a source in which every sample is a number; one that sends others is told once."""

    def __init__(self) -> None:
        self._has_told = False

    def of(self, frames: Float32Array, name: str) -> Float32Array:
        """The next frames, shape (n, channels), of a source of that name."""
        checked = finite(frames)
        if checked is not frames and not self._has_told:
            self._has_told = True
            logger.warning(BAD_SAMPLES, name)
        return checked


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
        self._powers = np.zeros(channels)  # as of late
        self._mean_power = 0.0
        self._look_frames = max(1, round(LOOK_S * rate_hz))
        self._looked_frames = 0
        self._sums, self._mean_sum = np.zeros(channels), 0.0  # since the last look
        self._resampler = Resampler(rate_hz)
        self._meter = None
        if ear.level_span_s is not None:
            self._meter = LevelMeter(rate_hz, ear.level_span_s, ear.gain_db is None)

    def takes(self, rate_hz: int, channels: int) -> bool:
        """Whether it goes on with a recording of these."""
        return (rate_hz, channels) == (self._rate_hz, self._channels)

    def process(self, frames: Float32Array) -> Iterator[Float32Array | Level]:
        """Take frames, shape (n, channels), n at least 1.

        Yields
        ------
        ndarray of float32, shape (m,), or Level
            16 kHz mono, never empty; and what has become of the level. However the frames are cut,
            the samples joined together are the same.
        """
        frames = amplified(frames, self._gain_db)
        for piece in self._pieces(frames):
            heard = piece if self._chosen is None else self._of_chosen(piece)
            if self._meter is not None:
                yield from self._told(self._meter.update(heard))
            mono: Float32Array = heard.mean(axis=1, keepdims=True)  # (n, 1)
            if len(block := self._resampler.process(mono)):
                yield block
            if self._chosen is None:
                self._watch(piece, mono)

    def flush(self, is_end: bool = True) -> Iterator[Float32Array | Level]:
        """What remains at the end, of the recording or of listening to it.

        The level of a recording that nobody wants to hear to its end is not judged.
        """
        if len(block := self._resampler.flush()):
            yield block
        if self._meter is not None and is_end:
            yield from self._told(self._meter.finish())

    def _told(self, level: Level | None) -> Iterator[Level]:
        if level is not None:
            words = (self._name, FILE_HINTS[level.state], level.peak_db, level.offset)
            logger.warning("%r: %s (peak %.0f dB, offset %.3f)", *words)
            yield level

    def _pieces(self, frames: Float32Array) -> Iterator[Float32Array]:
        """Frames, cut where the next look at the channels is due."""
        if self._channels == 1 or self._chosen is not None:
            yield frames
            return
        while len(frames):
            due = self._look_frames - self._looked_frames
            yield frames[:due]
            frames = frames[due:]

    def _of_chosen(self, frames: Float32Array) -> Float32Array:
        assert self._chosen is not None
        return frames[:, self._chosen : self._chosen + 1]

    def _watch(self, frames: Float32Array, mono: Float32Array) -> None:
        """Find out whether the channels cancel each other out; then choose the strongest."""
        if self._channels == 1:
            return
        self._sums += np.einsum("nc,nc->c", frames, frames, dtype=np.float64)
        self._mean_sum += float(np.vdot(mono, mono))
        self._looked_frames += len(frames)
        if self._looked_frames < self._look_frames:
            return
        kept = math.exp(-LOOK_S / FORGET_S)
        powers = self._sums / self._look_frames
        self._powers = kept * self._powers + (1 - kept) * powers
        self._mean_power *= kept
        self._mean_power += (1 - kept) * self._mean_sum / self._look_frames
        self._looked_frames, self._sums, self._mean_sum = 0, np.zeros(self._channels), 0.0
        limit = CANCELLED_SHARE / self._channels * float(self._powers.mean())
        # Said so that what is no number cancels out nothing.
        if not (float(powers.mean()) >= AUDIBLE_POWER and self._mean_power < limit):
            return
        self._chosen = int(self._powers.argmax())
        logger.warning(
            "%r: its channels cancel each other out: channel %d is heard instead of their mean",
            self._name,
            self._chosen + 1,
        )
