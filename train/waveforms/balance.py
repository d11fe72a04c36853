"""Biases of the languages, fitted to development speech: what is heard most is not all there is.

A model expects what its training drew, and is readier to say a language of which it knows many
people. Each language counts alike here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edge.model.modelfile import OTHER
from train.model.checkpoint import Checkpoint, restore_model
from train.waveforms.adapters import learnt_beside
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import load_parts, save_parts
from train.waveforms.judge import LENGTHS_S, streamed, whole
from train.waveforms.large import large_front_end, large_of
from train.waveforms.sound import filterbank, samples_of
from train.waveforms.windows import Forward, held_out_windows

MOST_PER_SOURCE = 24  # windows
PENALTY = 0.03  # of a squared bias: chosen by fitting to half of the sources, judging the others

Float64Array = NDArray[np.float64]
Scored = tuple[Float64Array, NDArray[np.int64]]  # (windows, languages), (windows,)


def balanced(
    checkpoint: Checkpoint, segments: Segments, other: float = 0.0
) -> tuple[Checkpoint, dict[str, float]]:
    """Add biases to the scores of a compact model.

    Parameters
    ----------
    checkpoint : Checkpoint
    segments : Segments
        The decoded bank.
    other : float
        Added to the score of ``other``. Training shows more of that class than is spoken to a
        listener, so that a model takes much of what it knows for it.

    Returns
    -------
    Checkpoint
    dict of str to float
        What was added to each language.
    """
    config = checkpoint.config
    trunk, head = restore_model(checkpoint)
    filters = ops.convert_to_tensor(filterbank(config.front_end))
    call = streamed(trunk, head, filters, config.front_end)
    biases = _of_languages(call, config.data.labels, segments)
    return checkpoint.biased(biases | {OTHER: other}), biases


def balance_large(file: Path, segments: Segments, other: float, output: Path) -> dict[str, float]:
    """The same for a checkpoint of the large model, which is written to a file.

    Parameters
    ----------
    file : Path
        As of `train.waveforms.checkpoint.load_parts`.
    segments, other
        As of :func:`balanced`.
    output : Path
        As of `train.waveforms.checkpoint.save_parts`.

    Returns
    -------
    dict of str to float
        What was added to each language.
    """
    arrays, told = load_parts(file)
    model, labels = large_of(arrays, told)
    front_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))
    biases = _of_languages(whole(model, filters, front_end), labels, segments)
    added = biases | {OTHER: other}
    model.scores.bias.assign_add(np.array([added.get(label, 0.0) for label in labels], np.float32))
    kept = model.arrays() | learnt_beside(arrays)
    save_parts(output, kept, told | {"scores": {}})  # nobody has measured it yet
    return biases


def _of_languages(
    call: Callable[[Any], Any], labels: Sequence[str], segments: Segments
) -> dict[str, float]:
    """What a function from waveforms to scores lacks, by language."""
    biases = fitted([_scored(call, labels, segments, s) for s in LENGTHS_S])
    return dict(zip(labels, biases.tolist(), strict=False))


def fitted(sets: Sequence[Scored], penalty: float = PENALTY) -> Float64Array:
    """What to add to the scores of each language, shape (languages,), without a common part.

    By cross-entropy in which languages count alike, and with a temperature for each set, as
    scores of a second of speech are not as sure as those of five.
    """
    from scipy.optimize import minimize

    languages = sets[0][0].shape[1]

    def loss(values: Float64Array) -> float:
        biases, temperatures = values[:languages], np.exp(values[languages:])
        total = penalty * float(np.sum(biases**2))
        for (scores, wanted), temperature in zip(sets, temperatures, strict=True):
            moved = (scores + biases) / temperature
            likely = moved - np.logaddexp.reduce(moved, axis=1, keepdims=True)
            weights = 1 / np.bincount(wanted, minlength=languages).clip(1)
            told = likely[np.arange(len(wanted)), wanted]
            total -= float(np.sum(weights[wanted] * told)) / languages
        return total

    found = minimize(loss, np.zeros(languages + len(sets)), method="L-BFGS-B").x
    return np.asarray(found[:languages] - found[:languages].mean(), np.float64)


def _scored(
    call: Callable[[Any], Any], labels: Sequence[str], segments: Segments, length_s: float
) -> Scored:
    samples = samples_of(round(length_s * 100))
    windows = held_out_windows(segments, labels, samples, MOST_PER_SOURCE)
    scores = Forward(segments, call).values(windows, samples, f"{length_s:g} s")
    return scores[:, : len(labels) - 2].astype(np.float64), windows.labels
