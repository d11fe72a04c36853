"""Closed forms give what the theorems say."""

from __future__ import annotations

import numpy as np
import pytest

from train.waveforms.low_rank import RIDGE, explained, product_factors, ridge, value_factor


def correlated(count: int, channels: int, seed: int) -> np.ndarray:
    """Vectors whose channels hang together, some of them much larger than others."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels)) * 2.0 ** -np.arange(channels)[:, None]
    return (rng.normal(size=(count, channels)) @ mixing).astype(np.float32)


def test_ridge_finds_a_linear_layer() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, (20, 500, 6)).astype(np.float32)  # more rows than are computed at once
    kernel, bias = rng.normal(size=(6, 4)), rng.normal(size=4)
    y = (x @ kernel + bias).astype(np.float32)
    found = ridge(x, y)
    np.testing.assert_allclose(found[0], kernel / (1 + RIDGE), atol=2e-4)
    assert explained(x @ found[0] + found[1], y) > 0.9999
    assert explained(np.broadcast_to(y.mean((0, 1)), y.shape), y) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_products_lose_what_the_singular_values_say(rank: int) -> None:
    queries, keys = correlated(300, 8, 1), correlated(200, 8, 2)
    for_queries, for_keys = product_factors(queries, keys, rank)
    assert for_queries.shape == for_keys.shape == (8, rank)
    wanted = queries @ keys.T
    error = np.mean(np.square((queries @ for_queries) @ (keys @ for_keys).T - wanted))
    # The best of this rank there is, of all matrices: Eckart and Young.
    best = np.square(np.linalg.svd(wanted, compute_uv=False)[rank:]).sum() / wanted.size
    assert error == pytest.approx(best, rel=0.01, abs=1e-6 * float(np.mean(wanted**2)))


def test_values_are_regained() -> None:
    values = correlated(4000, 8, 3)
    values -= values.mean(axis=0)
    kernel = np.random.default_rng(4).normal(size=(8, 12)).astype(np.float32)
    wanted = values @ kernel
    strengths = np.linalg.svd(wanted, compute_uv=False) ** 2
    for rank in (3, 5):
        fewer = values @ value_factor(values, kernel, rank)
        np.testing.assert_allclose(fewer.T @ fewer / len(fewer), np.eye(rank), atol=2e-2)
        again, bias = ridge(fewer, wanted)
        best = strengths[:rank].sum() / strengths.sum()
        assert explained(fewer @ again + bias, wanted) == pytest.approx(best, abs=1e-4)
