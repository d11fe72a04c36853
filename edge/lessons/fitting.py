"""Regularised multinomial logistic regression that starts from scores which are there already.

Minimised is the mean negative log-likelihood of the classes plus a penalty on the square of the
weights (a Gaussian prior around the scores as they are), by L-BFGS (Nocedal and Wright, Numerical
Optimization, 2nd edition, algorithms 7.4 and 7.5; Armijo's condition, 3.4). It is convex, and in
numpy alone takes a fraction of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.frontend import Float64Array

MOST_STEPS = 200
REMEMBERED = 10  # pairs of differences
FLAT = 1e-6  # gradient, largest entry, at which it is done
_SUFFICIENT, _SHORTEST = 1e-4, 1e-8

Objective = Callable[[Float64Array], tuple[float, Float64Array]]


def fit(
    features: Float64Array,
    scores: Float64Array,
    classes: npt.NDArray[np.int64],
    weights: Float64Array,
    penalty: float,
    free: npt.NDArray[np.bool_],
) -> Float64Array:
    """Weights to add ``features @ weights`` to the scores with.

    Parameters
    ----------
    features : ndarray, shape (windows, features)
    scores : ndarray, shape (windows, classes)
        Whose softmax are the probabilities so far.
    classes : ndarray, shape (windows,)
        The true ones.
    weights : ndarray, shape (windows,)
        How much each counts; their sum is 1.
    penalty : float
    free : ndarray of bool, shape (features, classes)
        Which weights may differ from zero.

    Returns
    -------
    ndarray, shape (features, classes)
    """
    truth = np.zeros_like(scores)
    truth[np.arange(len(classes)), classes] = 1.0

    def objective(flat: Float64Array) -> tuple[float, Float64Array]:
        current = flat.reshape(free.shape)
        logits = scores + features @ current
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        totals = exponentials.sum(axis=1, keepdims=True)
        likelihoods = (logits * truth).sum(axis=1) - np.log(totals[:, 0])
        error = (exponentials / totals - truth) * weights[:, None]
        gradient = (features.T @ error + penalty * current) * free
        value = -float(weights @ likelihoods) + penalty / 2 * float((current**2).sum())
        return value, gradient.ravel()

    return minimise(objective, np.zeros(free.size)).reshape(free.shape)


def minimise(objective: Objective, start: Float64Array) -> Float64Array:
    """The minimum of a convex function, by L-BFGS.

    Parameters
    ----------
    objective : callable
        Value and gradient at a point, shape (n,).
    start : ndarray, shape (n,)
    """
    point = start
    value, gradient = objective(point)
    pairs: deque[tuple[Float64Array, Float64Array]] = deque(maxlen=REMEMBERED)
    for _ in range(MOST_STEPS):
        if np.abs(gradient).max() < FLAT:
            break
        direction = -_times_inverse_hessian(gradient, pairs)
        slope = float(direction @ gradient)
        length = 1.0 if pairs else 1.0 / max(1.0, float(np.abs(gradient).sum()))
        while True:
            following = point + length * direction
            next_value, next_gradient = objective(following)
            if next_value <= value + _SUFFICIENT * length * slope:
                break
            length /= 2
            if length < _SHORTEST:  # numerically flat
                return point
        step, change = following - point, next_gradient - gradient
        if float(step @ change) > 0:
            pairs.append((step, change))
        point, value, gradient = following, next_value, next_gradient
    return point


def _times_inverse_hessian(
    gradient: Float64Array, pairs: deque[tuple[Float64Array, Float64Array]]
) -> Float64Array:
    """What the pairs remembered say of the curvature, by two loops over them."""
    result = gradient.copy()
    shares = []
    for step, change in reversed(pairs):
        share = float(step @ result) / float(step @ change)
        result -= share * change
        shares.append(share)
    if pairs:
        step, change = pairs[-1]
        result *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        result += step * (share - float(change @ result) / float(step @ change))
    return result
