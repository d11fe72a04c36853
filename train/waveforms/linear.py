"""A linear head on pooled statistics, by penalised regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ITERATIONS = 150
VARIANCE_FLOOR = 1e-5


@dataclass(frozen=True)
class Linear:
    """Standardisation and a linear layer.

    Attributes
    ----------
    mean, variance : ndarray, shape (n,)
        Of what it was fitted to.
    kernel : ndarray, shape (n, classes)
    bias : ndarray, shape (classes,)
    """

    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray, penalty: float) -> Linear:
        """Fit by logistic regression.

        Parameters
        ----------
        x : ndarray, shape (examples, n)
        labels : ndarray, shape (examples,)
            From 0 on, each at least once.
        penalty : float
            Of the squared weights, for each example: it is what counts, however many there are.
        """
        from sklearn.linear_model import LogisticRegression

        mean, variance = x.mean(axis=0), x.var(axis=0)
        strength = 1.0 / (penalty * len(x))
        head = LogisticRegression(C=strength, max_iter=ITERATIONS)
        head.fit((x - mean) / np.sqrt(variance + VARIANCE_FLOOR), labels)
        if len(head.coef_) == 1:  # of two classes it gives the second one's alone
            kernel = np.concatenate([-head.coef_, head.coef_]).T / 2
            bias = np.concatenate([-head.intercept_, head.intercept_]) / 2
        else:
            kernel, bias = head.coef_.T, head.intercept_
        return cls(mean, variance, kernel, bias)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Shape (examples, classes)."""
        z = (x - self.mean) / np.sqrt(self.variance + VARIANCE_FLOOR)
        return np.asarray(z @ self.kernel + self.bias)
