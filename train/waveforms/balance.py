"""Biases of the languages, fitted to development speech: what is heard most is not all there is.

A model expects what its training drew, and is readier to say a language of which it knows many
people. Each language counts alike here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from keras import ops
from numpy.typing import NDArray

from train.model.checkpoint import Checkpoint, restore_model
from train.model.network import pool
from train.waveforms.bank import Segments
from train.waveforms.draws import development_windows
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.stepper import compiled

LENGTHS_S = (1.0, 3.0, 10.0)
MOST_PER_SPEAKER, MOST_PER_SOURCE = 12, 24  # windows
PENALTY = 0.03  # of a squared bias: chosen by fitting to half of the sources, judging the others
BATCH = 64

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
    arrays = dict(checkpoint.arrays)
    (name,) = (k for k, v in arrays.items() if k.startswith("head/") and v.shape == (len(labels),))
    arrays[name] = arrays[name] + np.pad(biases, (0, 2)).astype(np.float32)
    return replace(checkpoint, arrays=arrays, scores={}), biases


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
    stride = checkpoint.config.model.stride
    frames = round(length_s * 100) // stride * stride

    def call(wave: NDArray[np.float32]) -> object:
        embeddings, weights, _ = trunk(log_mel(wave, front_end, filters)[:, :, None, :])
        return head(pool(embeddings, weights))

    fast, samples = compiled(call), samples_of(frames)
    starts, wanted, _ = development_windows(
        segments, labels, samples, MOST_PER_SPEAKER, MOST_PER_SOURCE
    )
    known = wanted < len(labels) - 2
    starts, wanted = starts[known], wanted[known]
    found = []
    for i in range(0, len(starts), BATCH):
        waves = [segments.samples[at : at + samples] for at in starts[i : i + BATCH]]
        found.append(ops.convert_to_numpy(fast(np.stack(waves) / np.float32(32768))))
    scores = np.concatenate(found)[:, : len(labels) - 2].astype(np.float64)
    return scores, wanted.astype(np.int64)
