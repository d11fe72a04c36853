"""Rounding to 4 bits: what is computed changes less than with each weight's nearest step."""

from __future__ import annotations

import numpy as np
import pytest

from convert.rounding import BLOCK, LARGEST, Blocks, rounded


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """Inputs that go together, shape (n, 2 blocks), as those of a layer do."""
    rng = np.random.default_rng(3)
    few = rng.normal(size=(4_000, 40)) @ rng.normal(size=(40, 2 * BLOCK))
    return few + 0.3 * rng.normal(size=(4_000, 2 * BLOCK))


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return np.random.default_rng(4).standard_t(4, (2 * BLOCK, 24)).astype(np.float32)


def nearest(matrix: np.ndarray) -> np.ndarray:
    blocks = matrix.reshape(-1, BLOCK, matrix.shape[1])
    scales = np.abs(blocks).max(1, keepdims=True) / LARGEST
    return (np.round(blocks / scales) * scales).reshape(matrix.shape)


def lost(inputs: np.ndarray, matrix: np.ndarray, instead: np.ndarray) -> float:
    """Part of the power of what is computed."""
    return float(np.square(inputs @ (instead - matrix)).sum() / np.square(inputs @ matrix).sum())


def test_less_is_lost_than_with_the_nearest_steps(inputs: np.ndarray, matrix: np.ndarray) -> None:
    found = rounded(matrix, inputs.T @ inputs / len(inputs))
    plain = lost(inputs, matrix, nearest(matrix))
    assert lost(inputs, matrix, found.matrix) < plain / 3
    # Of inputs that do not go together there is nothing to take back, and steps are well chosen.
    alone = rounded(matrix, np.eye(2 * BLOCK))
    white = np.eye(2 * BLOCK)
    assert lost(white, matrix, alone.matrix) < lost(white, matrix, nearest(matrix))


def test_steps_and_scales_are_what_a_file_holds(inputs: np.ndarray, matrix: np.ndarray) -> None:
    found = rounded(matrix, inputs.T @ inputs / len(inputs))
    assert found.steps.dtype == np.int8 and found.steps.shape == matrix.shape
    assert np.abs(found.steps).max() <= LARGEST
    assert found.scales.shape == (2, matrix.shape[1])
    assert (found.scales > 0).all()
    np.testing.assert_array_equal(found.scales, found.scales.astype(np.float16))
    # bfloat16 is the upper half of float32.
    assert not np.any(found.scales.view(np.uint32) & 0xFFFF)
    np.testing.assert_array_equal(
        found.matrix[BLOCK:], found.steps[BLOCK:] * found.scales[1].astype(np.float32)
    )


def test_inputs_that_never_vary(inputs: np.ndarray, matrix: np.ndarray) -> None:
    """Such channels there are; and outputs of zeros, which no scale fits."""
    silent = inputs.copy()
    silent[:, 5:9] = 0
    dead = matrix.copy()
    dead[:, 3] = 0
    found = rounded(dead, silent.T @ silent / len(silent))
    assert np.isfinite(found.scales).all()
    assert lost(silent, dead, found.matrix) < 0.05
    np.testing.assert_array_equal(found.matrix[:, 3], 0)


def test_the_matrix_that_is_given_stays(inputs: np.ndarray, matrix: np.ndarray) -> None:
    before = matrix.copy()
    assert isinstance(rounded(matrix, inputs.T @ inputs / len(inputs)), Blocks)
    np.testing.assert_array_equal(matrix, before)
