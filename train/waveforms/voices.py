"""Other voices for the same words: formants and pitch moved apart from each other.

A language that few people speak in the training data is soon known by their voices. Here a clip is
given another voice, at the cost of one small matrix product: its log-mel bands are parted into a
smooth envelope (the vocal tract) and what is left (the harmonics of the voice), as cepstral
liftering does (Bogert, Healy and Tukey 1963; Oppenheim and Schafer 1968), each is shifted along
frequency by its own factor (vocal tract length perturbation: Jaitly and Hinton 2013), and both are
added again, the harmonics with more or less of their strength, down to a whisper. The factor of
the envelope may grow or shrink with frequency: throat and mouth differ in length, too (Fant 1975,
"Non-uniform vowel normalization"). All of that is linear. With the speed at which a clip is
played, tempo, pitch and formants are independent of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edge.frontend import Float32Array, FrontEndConfig
from train.waveforms.draws import FASTEST, Draw
from train.waveforms.sound import mel_edges_hz

# Most by which a voice differs, as natural logarithms of factors; of formants the highest and the
# lowest may differ by as much again.
FORMANTS, SLOPE, PITCH = 0.17, 0.08, 0.4
STEP = 0.04  # between factors of the grid, as a logarithm
ENVELOPE_ORDERS = 20  # of the cosine transform over the bands: slower than any voice's harmonics
WHISPERED_SHARE = 0.2  # of drawn voices, whose harmonics lose up to all of their strength
STRENGTH = 0.75, 1.25  # of the harmonics of the others

Int32Array = NDArray[np.int32]


def _grid(most: float, moved_back: bool = True) -> Float32Array:
    """Logarithms of factors with none in the middle; what a speed moved can be moved back."""
    count = int(np.ceil((most + np.log(FASTEST) * moved_back) / STEP - 1e-9))
    return np.asarray(np.arange(-count, count + 1) * STEP, np.float32)


def _place(move: np.ndarray, grid: np.ndarray) -> Int32Array:
    """Where a grid comes nearest."""
    place = np.clip(np.round((move - grid[0]) / STEP), 0, len(grid) - 1)
    return np.asarray(place, np.int32)


def _shift(centres_hz: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """Matrix that moves what is at a frequency to `factor` times that, shape (mels, mels)."""
    at = centres_hz / factor
    return np.stack([np.interp(at, centres_hz, row) for row in np.eye(len(centres_hz))], axis=1)


def voice_maps(config: FrontEndConfig) -> tuple[Float32Array, Float32Array]:
    """Matrices that move envelopes and harmonics, applied to log-mel frames from the right.

    Returns
    -------
    tracts : ndarray, shape (formants * slopes, mels, mels), float32
    folds : ndarray, shape (pitches, mels, mels), float32
        The sum of the two in the middle changes nothing.
    """
    n = config.mels
    centres = mel_edges_hz(config)[1:-1]
    order, band = np.arange(ENVELOPE_ORDERS)[:, None], np.arange(n)[None]
    basis = np.cos(np.pi * order * (band + 0.5) / n) * np.sqrt(np.where(order, 2, 1) / n)
    envelope = basis.T @ basis  # a projection
    rest = np.eye(n) - envelope
    along = np.linspace(-1, 1, n)
    tracts = [
        (_shift(centres, np.exp(x + slope * along)) @ envelope).T
        for x in _grid(FORMANTS)
        for slope in _grid(SLOPE, moved_back=False)
    ]
    folds = [(_shift(centres, np.exp(x)) @ rest).T for x in _grid(PITCH)]
    return np.stack(tracts).astype(np.float32), np.stack(folds).astype(np.float32)


def voices_of(
    formants: np.ndarray, slope: np.ndarray, pitch: np.ndarray, strength: np.ndarray
) -> Draw:
    """Voices that come nearest to these, as :func:`voiced` takes them.

    Parameters
    ----------
    formants, slope, pitch : ndarray, shape (n,)
        Natural logarithms of the factors by which they are to move; the slope is that of the
        highest band beside that of the middle one.
    strength : ndarray, shape (n,)
        Factor of the harmonics.

    Returns
    -------
    dict of ndarray
        ``tract`` and ``fold``, int32, and ``strength``, float32, each of shape (n,).
    """
    slopes = _grid(SLOPE, moved_back=False)
    tract = _place(formants, _grid(FORMANTS)) * len(slopes) + _place(slope, slopes)
    return {
        "tract": tract.astype(np.int32),
        "fold": _place(pitch, _grid(PITCH)),
        "strength": strength.astype(np.float32),
    }


def draw_voices(rng: np.random.Generator, rate: np.ndarray, share: float) -> Draw:
    """Draw voices for clips.

    Parameters
    ----------
    rng : Generator
    rate : ndarray, shape (clips,)
        At which speed each is played. That alone moves its voice as a whole: a drawn voice is
        another than the speaker's by what is drawn, at whatever speed.
    share : float
        Of clips that get another voice; the others keep what their speed made of it.

    Returns
    -------
    dict of ndarray
        Of :func:`voices_of`.
    """
    count = len(rate)
    formants = rng.uniform(-FORMANTS, FORMANTS, count) - np.log(rate)
    slope = rng.uniform(-SLOPE, SLOPE, count)
    pitch = rng.uniform(-PITCH, PITCH, count) - np.log(rate)
    whispered = rng.random(count) < WHISPERED_SHARE
    strength = np.where(whispered, rng.uniform(0, 1, count), rng.uniform(*STRENGTH, count))
    other = rng.random(count) < share
    formants, slope, pitch = (np.where(other, move, 0.0) for move in (formants, slope, pitch))
    return voices_of(formants, slope, pitch, np.where(other, strength, 1.0))


def voiced(features: Any, draw: Draw, maps: tuple[Any, Any]) -> Any:
    """Log-mel frames as other voices have them.

    Parameters
    ----------
    features : tensor, shape (batch, frames, mels)
    draw : dict of tensor
        From :func:`draw_voices`.
    maps : tuple of tensor
        From :func:`voice_maps`.
    """
    tracts, folds = maps
    strength = draw["strength"][:, None, None]
    both = ops.take(tracts, draw["tract"], axis=0) + strength * ops.take(
        folds, draw["fold"], axis=0
    )
    # Nothing is below the floor of the features.
    return ops.relu(ops.matmul(features, both))
