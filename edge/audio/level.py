"""Level meter: whether a microphone hears, or a recording holds, what is worth listening to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge.frontend import Float32Array

OK = "ok"
SILENT = "silent"
CLIPPED = "clipped"
CANCELLED = "cancelled"
OFFSET = "offset"
LOW = "low"

HINTS = {
    OK: "the level is all right again",
    SILENT: "nothing but digital silence: is it muted, or switched off?",
    CLIPPED: "far too loud, it is clipped: turn its gain down",
    CANCELLED: "its channels cancel each other out: choose one with --channel",
    OFFSET: "a large DC offset: its input may be broken",
    LOW: "far too quiet, even at its loudest and amplified, to be sure of a language: turn it up",
}
# Nobody can turn anything at a microphone any longer.
FILE_HINTS = {
    OK: "the level is all right again",
    SILENT: "nothing but digital silence: was the microphone muted?",
    CLIPPED: "far too loud, it is clipped: record it, or hear it, with less gain",
    CANCELLED: HINTS[CANCELLED],
    OFFSET: "a large DC offset: what recorded it may be broken",
    LOW: "far too quiet, even at its loudest and amplified, to be sure of a language",
}

SPAN_S = 10.0  # of what is judged at once
LEAST_S = 0.1  # a recording shorter than that has no level
LOW_SPANS = 6  # a minute: people pause

# On the way in and on the way out: what is near a limit is told once.
FULL_SCALE = 0.999
CLIPPED_SHARES = (0.01, 0.001)
CANCELLED_SHARES = (0.05, 0.2)  # power of the mean to that of the channels
OFFSETS = (0.1, 0.05)
# -45 and -40 dB. Below, languages are taken for others: docs/experiments.md has the measurement.
LOW_PEAKS = (0.0056, 0.01)
# -57 and -52 dB: where automatic gain has come to its bound, and is not enough.
AMPLIFIED_LOW_PEAKS = (0.0014, 0.0025)
FLOOR_DB = -120.0


@dataclass(frozen=True)
class Level:
    """What the level of a microphone or a recording has become.

    Attributes
    ----------
    state : str
        ``ok`` or what is wrong, a key of `HINTS`.
    peak_db, rms_db : float
        Of the span that was judged, without the offset; full scale is 0 dB.
    offset : float
        Mean, full scale at 1.
    """

    state: str
    peak_db: float
    rms_db: float
    offset: float


class LevelMeter:
    """Follows the level of a stream, and tells when it changes for the worse or the better.

    Parameters
    ----------
    rate_hz : int
    span_s : float
        How much is judged at once; infinite for all that there is, by `finish`.
    automatic_gain : bool
        Whether what is too quiet will be amplified, and only what that cannot mend is told.
    """

    def __init__(self, rate_hz: int, span_s: float = SPAN_S, automatic_gain: bool = False) -> None:
        self._low_peaks = AMPLIFIED_LOW_PEAKS if automatic_gain else LOW_PEAKS
        self._span_frames = span_s * rate_hz
        self._least_frames = LEAST_S * rate_hz
        self._spans = self._low_spans = 0
        self.state = OK
        self._begin()

    def _begin(self) -> None:
        self._frames = self._clipped = 0
        self._least, self._most = math.inf, -math.inf
        self._sum, self._power, self._channels_power = 0.0, 0.0, 0.0

    def update(self, frames: Float32Array) -> Level | None:
        """Take note of frames, shape (n, channels), n at least 1; tells of a change."""
        mono = frames.mean(axis=1)
        self._frames += len(frames)
        self._least = min(self._least, float(frames.min()))
        self._most = max(self._most, float(frames.max()))
        self._sum += float(mono.sum(dtype=np.float64))
        self._power += float(np.vdot(mono, mono))
        self._channels_power += float(np.vdot(frames, frames)) / frames.shape[1]
        if max(self._most, -self._least) >= FULL_SCALE:
            self._clipped += int(np.count_nonzero(np.abs(frames).max(axis=1) >= FULL_SCALE))
        if self._frames < self._span_frames:
            return None
        level = self._judge(LOW_SPANS)
        self._spans += 1
        changed = level.state != self.state
        self.state = level.state
        self._begin()
        return level if changed else None

    def finish(self) -> Level | None:
        """Judge what is left at the end of a recording; tells of a change for the worse."""
        # A short rest, such as a fading out, says nothing against the spans before it.
        least_frames = self._span_frames / 2 if self._spans else self._least_frames
        if self._frames < least_frames:
            return None
        # A recording of less than a minute is too quiet if all of it is.
        level = self._judge(min(LOW_SPANS, self._spans + 1))
        return level if level.state not in (OK, self.state) else None

    def _judge(self, low_spans: int) -> Level:
        offset = self._sum / self._frames
        variance = max(0.0, self._power / self._frames - offset**2)
        peak = max(self._most - offset, offset - self._least)
        low = peak < self._limit(LOW, self._low_peaks)
        self._low_spans = self._low_spans + 1 if low else 0
        channels_power = self._channels_power / self._frames
        if self._most == self._least:
            state = SILENT
        elif self._clipped / self._frames > self._limit(CLIPPED, CLIPPED_SHARES):
            state = CLIPPED
        elif self._power / self._frames < self._limit(CANCELLED, CANCELLED_SHARES) * channels_power:
            state = CANCELLED
        elif abs(offset) > self._limit(OFFSET, OFFSETS):
            state = OFFSET
        elif self._low_spans >= low_spans or (low and self.state == LOW):
            state = LOW
        else:
            state = OK
        return Level(state, _db(peak), _db(math.sqrt(variance)), offset)

    def _limit(self, state: str, limits: tuple[float, float]) -> float:
        return limits[self.state == state]


def _db(amplitude: float) -> float:
    return max(FLOOR_DB, 20 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DB
