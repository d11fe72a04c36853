"""Other voices for the same words: formants and pitch moved apart from each other.

A language that few people speak in the training data is soon known by their voices. Here a clip is
given another voice, at the cost of one small matrix product: its log-mel bands are parted into a
smooth envelope (the vocal tract) and what is left (the harmonics of the voice), as cepstral
liftering does (Bogert, Healy and Tukey 1963; Oppenheim and Schafer 1968), each is shifted along
frequency by its own factor (vocal tract length perturbation: Jaitly and Hinton 2013), and both are
added again. All of that is linear, so each pair of factors is one matrix. With the speed at which
a clip is played, tempo, pitch and formants are independent of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from edge.frontend import Float32Array, FrontEndConfig
from train.waveforms.draws import FASTEST
from train.waveforms.sound import mel_edges_hz

FORMANTS, PITCH = 0.17, 0.35  # most by which a voice differs, as natural logarithms of factors
STEP = 0.04  # between factors of the grid, as a logarithm
ENVELOPE_ORDERS = 20  # of the cosine transform over the bands: slower than any voice's harmonics


def _grid(most: float) -> np.ndarray:
    """Logarithms of factors with none in the middle; what a speed moved can be moved back."""
    count = int(np.ceil((most + np.log(FASTEST)) / STEP))
    return np.arange(-count, count + 1) * STEP


def _shift(centres_hz: np.ndarray, factor: float) -> np.ndarray:
    """Matrix that moves what is at a frequency to `factor` times that, shape (mels, mels)."""
    at = centres_hz / factor
    return np.stack([np.interp(at, centres_hz, row) for row in np.eye(len(centres_hz))], axis=1)


def voice_maps(config: FrontEndConfig) -> Float32Array:
    """A matrix for each voice, applied to log-mel frames from the right.

    Returns
    -------
    ndarray, shape (formants * pitches, mels, mels), float32
        The one in the middle changes nothing.
    """
    n = config.mels
    centres = mel_edges_hz(config)[1:-1]
    order, band = np.arange(ENVELOPE_ORDERS)[:, None], np.arange(n)[None]
    basis = np.cos(np.pi * order * (band + 0.5) / n) * np.sqrt(np.where(order, 2, 1) / n)
    envelope = basis.T @ basis  # a projection
    rest = np.eye(n) - envelope
    tracts = [_shift(centres, np.exp(x)) @ envelope for x in _grid(FORMANTS)]
    folds = [_shift(centres, np.exp(x)) @ rest for x in _grid(PITCH)]
    maps = [(tract + fold).T for tract in tracts for fold in folds]
    return np.stack(maps).astype(np.float32)


def places(formants: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Where the voices are in :func:`voice_maps` that come nearest to these.

    Parameters
    ----------
    formants, pitch : ndarray, shape (n,)
        Natural logarithms of the factors by which they are to move.

    Returns
    -------
    ndarray, shape (n,), int32
    """
    moves = ((formants, _grid(FORMANTS)), (pitch, _grid(PITCH)))
    rows, columns = (
        np.clip(np.round((move - grid[0]) / STEP), 0, len(grid) - 1) for move, grid in moves
    )
    return np.asarray(rows * len(_grid(PITCH)) + columns, np.int32)


def draw_voices(rng: np.random.Generator, rate: np.ndarray, share: float) -> np.ndarray:
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
    ndarray, shape (clips,), int32
        Places in :func:`voice_maps`.
    """
    count = len(rate)
    formants = rng.uniform(-FORMANTS, FORMANTS, count) - np.log(rate)
    pitch = rng.uniform(-PITCH, PITCH, count) - np.log(rate)
    other = rng.random(count) < share
    return places(np.where(other, formants, 0.0), np.where(other, pitch, 0.0))


def voiced(features: Any, voices: Any, maps: Any) -> Any:
    """Log-mel frames as other voices have them.

    Parameters
    ----------
    features : tensor, shape (batch, frames, mels)
    voices : tensor, shape (batch,), int32
        From :func:`draw_voices`.
    maps : tensor, shape (voices, mels, mels)
        From :func:`voice_maps`.
    """
    # Nothing is below the floor of the features.
    return ops.relu(ops.matmul(features, ops.take(maps, voices, axis=0)))
