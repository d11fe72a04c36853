"""Automatic gain: speech that is too quiet for a model is amplified before its front end.

The gain is a power of two, so that amplified samples are those of a louder microphone to the last
bit, and one, which changes nothing, wherever the sound is loud enough. It follows the sound that
has been, hop by hop: it falls with the first loud hop, and rises only once nothing loud has been
heard for as long as it remembers. Only at its beginning a stream that turns out to be quiet is
heard once more, amplified.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ, Float32Array

MEMORY_S = 10.0  # people pause, and speak up again
# The level is the loudest peak of a hop, when the loudest sixteenth of the hops is left out: doors
# and keys are loud, and short.
OUTLIERS = 16
STRETCH_SAMPLES = 2_560  # 160 ms: about a hop, of what is not heard in hops
PROBE_SAMPLES = 512  # 32 ms, of a hop that is loud enough: a few periods of any voice
LEAST_HOPS = 8  # until there is a level
AGAIN_HOPS = 24  # of a beginning that is heard once more: some have no pause for so long

# Peaks; full scale is 1. Measured on development speech: docs/experiments.md.
QUIET = 2.0**-8  # -48 dB: below, recognition suffers
LOUD = 2.0**-7  # -42 dB: from here on nothing is amplified
AUDIBLE = 2.0**-11  # -66 dB: below, rounding to 16 bits has left too little
CONTRAST = 3.0  # 10 dB, of the level above the quietest hop: steady noise is nobody who speaks
TARGET_EXPONENT = -5  # what is amplified comes to -36 to -30 dB: more brings out more noise
WIDEST = 2.0**-7, 2.0**-5  # where an amplified level may wander before the gain follows
CEILING = 2.0**-2  # -12 dB: no hop comes out louder than that
MAX_GAIN = 2.0**5  # 30 dB


class AutomaticGain:
    """Gain of the hops of a stream, each from itself and those before it.

    Parameters
    ----------
    hop_s : float
        About how long a hop is.

    Attributes
    ----------
    gain : float
        What the level of late asks for; a hop that is louder has less.
    """

    gain: float

    def __init__(self, hop_s: float) -> None:
        self._hop_samples = round(hop_s * SAMPLE_RATE_HZ)
        self._hops = max(2 * LEAST_HOPS, round(MEMORY_S / hop_s))
        self._mask = (1 << self._hops) - 1
        self.reset()

    def reset(self) -> None:
        """Begin a stream."""
        self.gain = 1.0
        self._peaks: deque[float] = deque(maxlen=self._hops)
        self._loud = 0  # a bit for each hop that is remembered, the newest the lowest
        self._least_hops = LEAST_HOPS  # until the gain follows
        self._beginning: list[Float32Array] | None = []

    def foresee(self, samples: Float32Array) -> None:
        """Begin a recording with the gain that its first `MEMORY_S` ask for, shape (n,)."""
        self.reset()
        for start in range(0, len(samples), self._hop_samples)[: self._hops]:
            self._peaks.append(_peak(samples[start : start + self._hop_samples]))
        if self._peaks:
            self._follow()
        self._least_hops = max(LEAST_HOPS, len(self._peaks))
        self._peaks.clear()
        self._beginning = None

    def of(self, hop: Float32Array) -> float:
        """Take the next hop, shape (n,), n at least 1, and give its gain."""
        if self.gain == 1.0:
            some = hop[:PROBE_SAMPLES]
            if some.item(some.argmax()) >= LOUD:  # as most hops of most streams are
                self._peaks.append(LOUD)  # how much louder is never asked for
                self._loud = (self._loud << 1 | 1) & self._mask
                return 1.0
        peak = _peak(hop)
        self._peaks.append(peak)
        self._loud = (self._loud << 1 | (peak >= LOUD)) & self._mask
        if self._loud.bit_count() > (len(self._peaks) - 1) // OUTLIERS:
            if len(self._peaks) >= self._least_hops:
                self.gain = 1.0
        # A loud hop is no reason to begin to amplify.
        elif len(self._peaks) >= self._least_hops and (peak < LOUD or self.gain != 1.0):
            self._follow()
        return _below_ceiling(self.gain, peak)

    def applied(self, hop: Float32Array) -> tuple[list[Float32Array], Float32Array]:
        """The next hop, shape (n,), n at least 1, with its gain.

        Returns
        -------
        list of ndarray
            All hops before it, to be heard once more: at the beginning of a stream that turns out
            to be quiet. Otherwise there are none.
        ndarray
        """
        gain = self.of(hop)
        earlier: list[Float32Array] = []
        if self._beginning is not None:
            if self.gain != 1.0:
                earlier = [self._limited(each) for each in self._beginning]
            if self.gain != 1.0 or len(self._beginning) == AGAIN_HOPS:
                self._beginning = None
            else:
                self._beginning.append(hop.copy())
        return earlier, hop if gain == 1.0 else _amplified(hop, gain)

    def _limited(self, hop: Float32Array) -> Float32Array:
        return _amplified(hop, _below_ceiling(self.gain, _peak(hop)))

    def _follow(self) -> None:
        """Have the gain suit the level, if there is a level of anybody who speaks."""
        ordered = sorted(self._peaks)
        level = ordered[-1 - (len(ordered) - 1) // OUTLIERS]
        if level < max(AUDIBLE, CONTRAST * ordered[0]):
            return
        if self.gain == 1.0 and level >= QUIET:
            return
        least, most = WIDEST
        if not least <= level * self.gain < most:
            _, exponent = math.frexp(level)  # level < 2**exponent
            self.gain = min(MAX_GAIN, max(1.0, 2.0 ** (TARGET_EXPONENT - exponent)))


def amplified(samples: Float32Array, gain: float) -> Float32Array:
    """A stretch of a stream, shape (n,), with the gain that its level asks for, as a copy.

    What is loud in it, such as a door, has less, as in a hop of its own.
    """
    if gain == 1.0:
        return samples.copy()
    parts = np.split(samples, range(STRETCH_SAMPLES, len(samples), STRETCH_SAMPLES))
    return np.concatenate(
        [_amplified(part, _below_ceiling(gain, _peak(part))) for part in parts if len(part)]
        or [samples]
    )


def _peak(hop: Float32Array) -> float:
    # Not of `hop.max()`, which takes twice as long to begin as this takes in all.
    return max(hop.item(hop.argmax()), -hop.item(hop.argmin()))


def _below_ceiling(gain: float, peak: float) -> float:
    while gain > 1.0 and gain * peak > CEILING:
        gain /= 2
    return gain


def _amplified(hop: Float32Array, gain: float) -> Float32Array:
    return hop if gain == 1.0 else hop * np.float32(gain)


def decibels(gain: float) -> int:
    """The same in whole decibels: 6 for each doubling."""
    return round(20 * math.log10(gain))
