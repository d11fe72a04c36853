"""Attention over the recent past and a little of the future, that streams.

A layer of a transformer (Vaswani et al. 2017) whose frames attend to a fixed stretch around them.
It has no normalisation: its weights come from a layer that had one, whose factors hardly vary from
frame to frame and are part of the weights (`train.waveforms.inherit`), and 8-bit integers have no
good way to normalise.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from train.architecture import Attention

# At most so many frames are each given their own keys: more would take much memory in training, and
# what is converted to 8-bit integers, which have no room for a mask, has fewer.
FEW_FRAMES = 96
FAR = -1e30  # score of what is out of reach


class AttentionLayer(keras.layers.Layer):  # type: ignore[misc]
    """Attention and feed-forward, each added to what passes by.

    Parameters
    ----------
    shape : Attention
    """

    def __init__(self, shape: Attention, name: str) -> None:
        super().__init__(name=name)
        self.shape = shape
        self.reach = shape.past + shape.ahead  # frames besides itself that a frame attends to
        inner = shape.heads * shape.head_width
        self.query = keras.layers.Conv2D(inner, 1, name="query")
        self.key = keras.layers.Conv2D(inner, 1, name="key")
        self.value = keras.layers.Conv2D(inner, 1, name="value")
        self.out = keras.layers.Conv2D(shape.width, 1, name="out")
        self.up = keras.layers.Conv2D(shape.feed, 1, activation="relu", name="up")
        self.down = keras.layers.Conv2D(shape.width, 1, name="down")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        inner = self.shape.heads * self.shape.head_width
        for layer in (self.query, self.key, self.value, self.up):
            layer.build((None, None, 1, self.shape.width))
        self.out.build((None, None, 1, inner))
        self.down.build((None, None, 1, self.shape.feed))
        # What the distance from the oldest frame in reach to the newest adds to a score.
        self.distance = self.add_weight(
            shape=(self.shape.heads, self.reach + 1), initializer="zeros", name="distance"
        )
        self.built = True

    def state_shapes(self) -> list[tuple[int, int]]:
        """Frames and channels of keys, values, and of the input that still waits."""
        inner = self.shape.heads * self.shape.head_width
        return [(self.reach, inner), (self.reach, inner), (self.shape.ahead, self.shape.width)]

    def call(self, x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Attend; what comes out is `ahead` frames late.

        Parameters
        ----------
        x : tensor, shape (batch, n, 1, width)
        states : list of tensor
            Of :meth:`state_shapes`, each (batch, frames, 1, channels).

        Returns
        -------
        y : tensor, shape (batch, n, 1, width)
        states : list of tensor
            To be handed in next.
        """
        keys, values, waiting = states
        n, ahead = x.shape[1], self.shape.ahead
        keys = ops.concatenate([keys, self.key(x)], axis=1)  # (batch, reach + n, 1, inner)
        values = ops.concatenate([values, self.value(x)], axis=1)
        extended = ops.concatenate([waiting, x], axis=1) if ahead else x
        x = extended[:, :n]
        x = x + self.out(self._attended(self.query(x), keys, values))
        x = x + self.down(self.up(x))
        follows = extended[:, n:] if ahead else waiting
        return x, [keys[:, n:], values[:, n:], follows]

    def _attended(self, queries: Any, keys: Any, values: Any) -> Any:
        """What each frame attends to, shape (batch, n, 1, heads * head_width)."""
        n, heads, width = queries.shape[1], self.shape.heads, self.shape.head_width
        if n <= FEW_FRAMES:
            return self._each(queries, keys, values)
        queries = ops.transpose(ops.reshape(queries, (-1, n, heads, width)), (0, 2, 1, 3))
        keys = ops.transpose(ops.reshape(keys, (-1, keys.shape[1], heads, width)), (0, 2, 3, 1))
        values = ops.reshape(values, (-1, values.shape[1], heads, width))
        values = ops.transpose(values, (0, 2, 1, 3))
        place = np.arange(n + self.reach)[None] - np.arange(n)[:, None]  # (n, reach + n)
        near = (place >= 0) & (place <= self.reach)
        distance = ops.take(self.distance, np.clip(place, 0, self.reach), axis=1)
        scores = ops.matmul(queries, keys) + ops.cast(distance, queries.dtype)
        scores = ops.where(near, scores, ops.cast(FAR, scores.dtype))
        heard = ops.matmul(ops.softmax(scores), values)  # (batch, heads, n, head_width)
        return ops.reshape(ops.transpose(heard, (0, 2, 1, 3)), (-1, n, 1, heads * width))

    def _each(self, queries: Any, keys: Any, values: Any) -> Any:
        """The same without a mask, for a few frames."""
        n, heads, width = queries.shape[1], self.shape.heads, self.shape.head_width
        count = self.reach + 1
        keys, values = (
            ops.reshape(
                ops.concatenate([x[:, i : i + count] for i in range(n)], axis=1),
                (-1, n, count, heads, width),
            )
            for x in (keys, values)
        )
        queries = ops.reshape(queries, (-1, n, heads, 1, width))
        # (batch, n, heads, 1, count)
        scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 4, 2)))
        scores = scores + ops.cast(self.distance[:, None, :], scores.dtype)
        heard = ops.matmul(ops.softmax(scores), ops.transpose(values, (0, 1, 3, 2, 4)))
        return ops.reshape(heard, (-1, n, 1, heads * width))
