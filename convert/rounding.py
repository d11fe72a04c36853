"""Weights of 4 bits, rounded so that what is computed with them changes least.

To the nearest of 15 steps is not the best that a matrix can be rounded to: what one weight is
rounded off by, those that are not rounded yet can take back, as far as their inputs go together.
That is GPTQ (Frantar et al. 2023, "GPTQ: Accurate post-training quantization for generative
pre-trained transformers"), with a scale for each block of inputs of each output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.frontend import Float32Array, Float64Array

# Inputs of an output that share a scale: fewer are more exact, and slower to compute with.
BLOCK = 128
AT_ONCE = 128  # inputs, between which errors are handed on one by one; the number changes nothing
LARGEST = 7  # of the steps, both ways: one more would be there below zero alone
# Part of the mean of the moments that is added to each, so that inputs which never vary do no harm.
DAMPING = 0.01
CLIPPED = np.linspace(0.5, 1.15, 27)  # of the largest weight of a block, where its steps may end


@dataclass(frozen=True)
class Blocks:
    """A matrix in 4 bits.

    Attributes
    ----------
    steps : ndarray, shape (inputs, outputs), int8
        From -7 to 7.
    scales : ndarray, shape (inputs / BLOCK, outputs), float32
        Of each block; exact in float16 and in bfloat16, which runtimes compute with.
    """

    steps: NDArray[np.int8]
    scales: Float32Array

    @property
    def matrix(self) -> Float32Array:
        """The weights that these are, shape (inputs, outputs)."""
        return self.steps.astype(np.float32) * np.repeat(self.scales, BLOCK, axis=0)


def rounded(matrix: Float32Array, moments: Float64Array) -> Blocks:
    """Round a matrix to 4 bits.

    Parameters
    ----------
    matrix : ndarray, shape (inputs, outputs)
        `BLOCK` divides the inputs.
    moments : ndarray, shape (inputs, inputs)
        Mean products of the inputs by each other, of what is typical.
    """
    inputs = len(matrix)
    damped = moments + np.eye(inputs) * (np.mean(np.diag(moments)) * DAMPING + 1e-12)
    power = np.diag(damped)
    scales = np.concatenate(
        [
            _scales(matrix[i : i + BLOCK], power[i : i + BLOCK, None])
            for i in range(0, inputs, BLOCK)
        ]
    )
    # Loud inputs come first, while there are many left to take over their errors.
    order = np.argsort(-power, kind="stable")
    left = matrix[order].astype(np.float64)  # weights that are not rounded yet take over errors
    their_scales = np.repeat(scales, BLOCK, axis=0)[order]
    # Of the inverse of what is left after each row, this has the rows that are needed.
    root = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    steps = np.empty(matrix.shape, np.int8)
    for first in range(0, inputs, AT_ONCE):
        some, behind = left[first : first + AT_ONCE], slice(first + AT_ONCE, None)
        errors = np.empty_like(some)
        for i, (row, scale) in enumerate(zip(some, their_scales[first:], strict=False)):
            step = np.clip(np.round(row / scale), -LARGEST, LARGEST)
            steps[order[first + i]] = step
            errors[i] = (row - step * scale) / root[first + i, first + i]
            ahead = root[first + i, first + i + 1 : first + AT_ONCE]
            some[i + 1 :] -= np.outer(ahead, errors[i])
        left[behind] -= root[first : first + AT_ONCE, behind].T @ errors
    return Blocks(steps, scales)


def _scales(block: Float32Array, power: Float64Array) -> Float32Array:
    """Of each output, that with the least error of what is computed, shape (1, outputs).

    Parameters
    ----------
    block : ndarray, shape (inputs, outputs)
    power : ndarray, shape (inputs, 1)
        Of the inputs, each taken by itself.
    """
    top = np.abs(block).max(0).astype(np.float64) / LARGEST + 1e-6
    best, least = _short(top), np.full(len(top), np.inf)
    for share in CLIPPED:
        scale = _short(share * top)
        errors = np.clip(np.round(block / scale), -LARGEST, LARGEST) * scale - block
        squared = np.sum(np.square(errors) * power, axis=0)
        better = squared < least
        best[better], least[better] = scale[better], squared[better]
    return best[None]


def _short(values: Float64Array) -> Float32Array:
    """To the 8 digits of bfloat16, of 1 digit before the point, to the nearest."""
    digits, exponents = np.frexp(values)
    short: Float32Array = np.ldexp(np.round(digits * 256) / 256, exponents).astype(np.float32)
    return short
