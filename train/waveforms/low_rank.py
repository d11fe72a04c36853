"""Closed forms: regression, and the best factors of fewer channels."""

from __future__ import annotations

import numpy as np

from edge.frontend import Float32Array, Float64Array

RIDGE = 1e-3  # strength, in units of the mean variance of the inputs
LEAST_SHARE = 1e-6  # of the largest eigenvalue, that is kept of the smallest
ROWS = 8192  # that are computed with at once, in double precision


def ridge(inputs: Float32Array, outputs: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Kernel and bias of the linear layer that gives outputs best, by ridge regression.

    Hoerl and Kennard 1970. The bias is not penalised.

    Parameters
    ----------
    inputs : ndarray, shape (..., n)
    outputs : ndarray, shape (..., m)

    Returns
    -------
    kernel : ndarray, shape (n, m)
    bias : ndarray, shape (m,)
    """
    x, y = inputs.reshape(-1, inputs.shape[-1]), outputs.reshape(-1, outputs.shape[-1])
    x_mean, y_mean = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    gram, cross = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], y.shape[1]))
    for first in range(0, len(x), ROWS):
        some = x[first : first + ROWS] - x_mean
        gram += some.T @ some
        cross += some.T @ (y[first : first + ROWS] - y_mean)
    gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram)
    kernel = np.linalg.solve(gram, cross)
    return kernel.astype(np.float32), (y_mean - x_mean @ kernel).astype(np.float32)


def explained(found: Float32Array, wanted: Float32Array) -> float:
    """Share of the variance that was found, 1 if all of it (the coefficient of determination)."""
    error = np.square(wanted - found).sum(dtype=np.float64)
    middle = wanted.mean(axis=tuple(range(wanted.ndim - 1)), keepdims=True)
    return float(1 - error / np.square(wanted - middle).sum(dtype=np.float64))


def product_factors(
    queries: Float32Array, keys: Float32Array, rank: int
) -> tuple[Float32Array, Float32Array]:
    """Projections to fewer channels that keep the products of queries and keys best.

    What is least is the mean squared error of the products over all pairs of a query and a key.
    That is the truncated singular value decomposition of the product of the roots of their second
    moments (Eckart and Young 1936, as weighted in Yuan et al. 2023, "ASVD", and Wang et al. 2024,
    "SVD-LLM").

    Parameters
    ----------
    queries, keys : ndarray, shape (n, channels)
    rank : int

    Returns
    -------
    for_queries, for_keys : ndarray, shape (channels, rank)
    """
    query_root, query_inverse = _roots(queries)
    key_root, key_inverse = _roots(keys)
    left, strengths, right = np.linalg.svd(query_root @ key_root)
    each = np.sqrt(strengths[:rank])
    for_queries = query_inverse @ left[:, :rank] * each
    for_keys = key_inverse @ right[:rank].T * each
    return for_queries.astype(np.float32), for_keys.astype(np.float32)


def value_factor(values: Float32Array, kernel: Float32Array, rank: int) -> Float32Array:
    """Projection to fewer, uncorrelated channels of alike spread, from which what a linear layer
    makes of values is regained best.

    Parameters
    ----------
    values : ndarray, shape (n, channels)
        Of mean zero.
    kernel : ndarray, shape (channels, m)
        Of that layer.
    rank : int

    Returns
    -------
    ndarray, shape (channels, rank)
    """
    root, inverse = _roots(values)
    left, _, _ = np.linalg.svd(root @ kernel, full_matrices=False)
    return np.asarray(inverse @ left[:, :rank], np.float32)


def _roots(x: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Root of the second moments of x, (n, channels), and its inverse."""
    moments = x.T.astype(np.float64) @ x / len(x)
    powers, axes = np.linalg.eigh(moments)
    roots = np.sqrt(np.maximum(powers, LEAST_SHARE * powers[-1]))
    return (axes * roots) @ axes.T, (axes / roots) @ axes.T
