"""What is new in a run can learn alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from train.waveforms.stepper import Stepper


def test_only_what_is_new_learns() -> None:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(3, name=name) for name in ("known", "added")]
    for layer in layers:
        layer.build((None, 3))

    def loss(outs: Any, draw: Any, constants: Any) -> Any:
        error = ops.mean(ops.square(outs(1, outs(0, draw["x"])) - 1.0))
        return error, {"error": error}

    new = layers[1].trainable_variables
    stepper = Stepper(layers, loss, lambda path: 0.01, 0.0, 0.9, new)
    before = [layer.get_weights() for layer in layers]
    draw = {"x": np.random.default_rng(2).normal(size=(8, 3)).astype(np.float32)}
    first = float(stepper.step(draw, {}, 0.0, 4.0)["error"])
    for _ in range(5):
        last = float(stepper.step(draw, {}, 0.0, 4.0)["error"])
    assert last < first
    stepper.settle(averaged=False)
    for mine, theirs in zip(layers[0].get_weights(), before[0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(layers[1].get_weights()[0], before[1][0])
    stepper.step(draw, {}, 1.0)  # after that, all learn alike
    stepper.settle(averaged=False)
    assert not np.array_equal(layers[0].get_weights()[0], before[0][0])
