"""Biases bring the languages to the same footing."""

from __future__ import annotations

import numpy as np

from train.waveforms.balance import fitted


def test_a_language_that_is_said_too_often() -> None:
    rng = np.random.default_rng(0)
    wanted = np.repeat([0, 1, 2], [400, 40, 40])
    scores = rng.normal(size=(480, 3))
    scores[np.arange(480), wanted] += 2.0
    ready = scores + np.array([1.5, 0.0, 0.0])
    biases = fitted([(ready, wanted)])
    assert biases[0] < biases[1] - 0.8 and biases[0] < biases[2] - 0.8

    def right(values: np.ndarray) -> float:
        hit = values.argmax(1) == wanted
        return float(np.mean([hit[wanted == k].mean() for k in range(3)]))

    assert right(ready + biases) > right(ready) + 0.03


def test_of_what_is_balanced_nothing_changes() -> None:
    rng = np.random.default_rng(1)
    wanted = np.repeat([0, 1], 500)
    scores = rng.normal(size=(1000, 2))
    scores[np.arange(1000), wanted] += 2.0
    assert np.abs(fitted([(scores, wanted)])).max() < 0.2


def test_what_is_fitted_is_what_is_added() -> None:
    """Whatever the temperature: a model that is half as sure needs half as much."""
    rng = np.random.default_rng(2)
    wanted = np.repeat([0, 1], 4000)
    scores = rng.normal(size=(8000, 2))
    scores[np.arange(8000), wanted] += 2.0
    scores += np.array([1.0, -1.0])
    sure, unsure = (fitted([(scale * scores, wanted)], penalty=0.0) for scale in (1.0, 0.5))
    assert np.allclose(sure, [-1.0, 1.0], atol=0.1)
    assert np.allclose(unsure, sure / 2, atol=0.01)
