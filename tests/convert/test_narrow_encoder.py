"""Matrices of an encoder in 4 bits: each is rounded by what those before it make since they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convert.narrow_encoder import check_width, narrow
from convert.rounding import BLOCK
from edge.errors import EdgelidError
from train.waveforms.whisper import MELS, Encoder


def encoder(dim: int) -> Encoder:
    keras.utils.set_random_seed(2)
    made = Encoder(2, dim, 2)
    made.outputs(np.zeros((1, 8, MELS), np.float32))  # Keras builds a layer when it is first called
    return made


def test_it_computes_nearly_the_same() -> None:
    made = encoder(BLOCK)
    rng = np.random.default_rng(0)
    windows = [rng.uniform(0, 20, (n, MELS)).astype(np.float32) for n in (100, 236, 400)]
    new = rng.uniform(0, 20, (300, MELS)).astype(np.float32)
    features = (new - 10)[None] / 10
    before = np.asarray(made.one(features))
    blocks = narrow(made, windows)
    assert [each.steps.shape for each in blocks] == [
        (BLOCK, 3 * BLOCK),
        (BLOCK, BLOCK),
        (BLOCK, 4 * BLOCK),
        (4 * BLOCK, BLOCK),
    ] * 2
    layer = made.stack[1]
    for linear, each in zip((layer.qkv, layer.out, layer.up, layer.down), blocks[4:], strict=True):
        np.testing.assert_array_equal(linear.get_weights()[0], each.matrix)
    after = np.asarray(made.one(features))
    lost = np.square(after - before).sum() / np.square(before - before.mean(0)).sum()
    assert 0 < lost < 0.02


def test_a_width_that_blocks_do_not_fit() -> None:
    with pytest.raises(EdgelidError, match=r"a multiple of 128, and this one has 64: .* int8$"):
        check_width(encoder(64))
