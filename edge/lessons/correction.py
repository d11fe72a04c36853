"""What lessons add to the scores of a window: a linear function of its pooled statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.frontend import Float64Array
from edge.model.interpreter import Int8Array


@dataclass(frozen=True)
class Correction:
    """Corrects the scores of a window, and knows the classes that lessons add.

    Attributes
    ----------
    labels : tuple of str
        Of the model, and behind them languages that it did not know.
    beginning : int
        Of the model's classes, the one whose score a new language begins with.
    weights : ndarray, shape (2 * embedding, classes), float64
        Of pooled statistics, in the int8 steps that the head takes.
    bias : ndarray, shape (classes,), float64
    """

    labels: tuple[str, ...]
    beginning: int
    weights: Float64Array
    bias: Float64Array

    @classmethod
    def nothing(cls, labels: tuple[str, ...], channels: int) -> Correction:
        """One that leaves all scores as they are, until something has been learnt."""
        return cls(labels, 0, np.zeros((channels, len(labels))), np.zeros(len(labels)))

    def corrected(self, pooled: Int8Array, scores: list[float]) -> list[float]:
        """Scores of all classes, from those that the model gives to its own.

        Parameters
        ----------
        pooled : ndarray, shape (2 * embedding,), int8
        scores : list of float
            Of the model's classes.
        """
        added = [scores[self.beginning]] * (len(self.labels) - len(scores))
        corrections = (pooled.astype(np.float64) @ self.weights + self.bias).tolist()
        return [a + b for a, b in zip([*scores, *added], corrections, strict=True)]
