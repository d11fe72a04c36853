"""Biases of the languages, fitted to development speech: what is heard most is not all there is.

A model expects what its training drew, and is readier to say a language of which it knows many
people. Each language counts alike here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops
from numpy.typing import NDArray

from train.model.checkpoint import Checkpoint, restore_model
from train.waveforms.bank import Segments
from train.waveforms.judge import LENGTHS_S, streamed
from train.waveforms.sound import filterbank, samples_of
from train.waveforms.windows import Forward, held_out_windows

MOST_PER_SOURCE = 24  # windows
PENALTY = 0.03  # of a squared bias: chosen by fitting to half of the sources, judging the others

Float64Array = NDArray[np.float64]
Scored = tuple[Float64Array, NDArray[np.int64]]  # (windows, languages), (windows,)


def balanced(checkpoint: Checkpoint, segments: Segments) -> tuple[Checkpoint, Float64Array]:
    """Add biases to the scores of the languages.

    Parameters
    ----------
    checkpoint : Checkpoint
    segments : Segments
        The decoded bank.

    Returns
    -------
    Checkpoint
    ndarray, shape (languages,)
        What was added.
    """
    labels = checkpoint.config.data.labels
    biases = fitted([_scored(checkpoint, segments, s) for s in LENGTHS_S])
    return checkpoint.biased(dict(zip(labels, biases.tolist(), strict=False))), biases


def fitted(sets: Sequence[Scored], penalty: float = PENALTY) -> Float64Array:
    """Biases and a temperature for each set, by cross-entropy in which languages count alike."""
    from scipy.optimize import minimize

    languages = sets[0][0].shape[1]

    def loss(values: Float64Array) -> float:
        biases, temperatures = values[:languages], np.exp(values[languages:])
        total = penalty * float(np.sum(biases**2))
        for (scores, wanted), temperature in zip(sets, temperatures, strict=True):
            moved = scores / temperature + biases
            likely = moved - np.logaddexp.reduce(moved, axis=1, keepdims=True)
            weights = 1 / np.bincount(wanted, minlength=languages).clip(1)
            told = likely[np.arange(len(wanted)), wanted]
            total -= float(np.sum(weights[wanted] * told)) / languages
        return total

    found = minimize(loss, np.zeros(languages + len(sets)), method="L-BFGS-B").x
    return np.asarray(found[:languages] - found[:languages].mean(), np.float64)


def _scored(checkpoint: Checkpoint, segments: Segments, length_s: float) -> Scored:
    labels, front_end = checkpoint.config.data.labels, checkpoint.config.front_end
    trunk, head = restore_model(checkpoint)
    filters = ops.convert_to_tensor(filterbank(front_end))
    samples = samples_of(round(length_s * 100))
    windows = held_out_windows(segments, labels, samples, MOST_PER_SOURCE)
    forward = Forward(segments, streamed(trunk, head, filters, front_end))
    scores = forward.values(windows, samples, f"{length_s:g} s")
    return scores[:, : len(labels) - 2].astype(np.float64), windows.labels
