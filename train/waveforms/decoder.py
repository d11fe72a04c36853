"""A narrow decoder: a few questions to what the large model's encoder heard, one after another.

Whisper names the language with the first token that its decoder says. That first step hears nothing
but the encoder, and what passes from layer to layer is one vector a window. Here that vector has a
few dozen coordinates, and each layer of it, a *step*, is a question: weights over the tokens, the
mean of what these say, and a feed-forward part. `train.waveforms.grafting` makes it from Whisper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

FAR = -1e9  # added to the score of a token that nobody shall listen to


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a narrow decoder.

    Attributes
    ----------
    steps : tuple of int
        Layers of Whisper's decoder that it has, from 0 on.
    width : int
        Coordinates that pass from step to step.
    heads : int
        Of each step.
    channels : int
        Of the queries, keys and values of a head.
    feed : int
        Hidden channels of a step's feed-forward part.
    """

    steps: tuple[int, ...]
    width: int
    heads: int
    channels: int
    feed: int


class Step(keras.layers.Layer):  # type: ignore[misc]
    """One question.

    Keys and values are never computed: a head's query goes through the matrix of the keys once, and
    its mean of the tokens through that of the values, which is the same sum in another order.

    Parameters
    ----------
    shape : DecoderShape
    dim : int
        Of the tokens.
    first : bool
        Whether it asks the same of every window, as nothing was heard before.
    """

    def __init__(self, shape: DecoderShape, dim: int, first: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, width, channels = first, shape.width, shape.heads * shape.channels
        # Which channels are a head's, (heads, channels): one layer then serves all heads.
        self._own = np.repeat(np.eye(shape.heads, dtype=np.float32), shape.channels, axis=1)

        def dense(name: str, n: int, m: int, bias: bool = True) -> Any:
            layer = keras.layers.Dense(m, use_bias=bias, name=name)
            layer.build((None, n))
            return layer

        if first:
            self.asked = dense("asked", dim, shape.heads, bias=False)
        else:
            self.query = dense("query", width, channels)
            self.keys = dense("keys", channels, dim, bias=False)
            self.carry = dense("carry", width, width, bias=False)
        self.values = dense("values", dim, channels, bias=False)
        self.out = dense("out", channels, width)
        self.up = dense("up", width, shape.feed)
        self.down = dense("down", shape.feed, width)
        self.built = True

    def weights_of(self, x: Any, heard: Any, within: Any | None = None) -> Any:
        """How much each head listens to each token, shape (batch, heads, tokens)."""
        scores = self._scores(x, heard)
        return ops.softmax(scores if within is None else scores + (1 - within[:, None]) * FAR)

    def _scores(self, x: Any, heard: Any) -> Any:
        heard = ops.transpose(heard, (0, 2, 1))
        if self.first:
            return ops.matmul(ops.transpose(self.asked.kernel)[None], heard)
        asked = self.keys(self.query(x)[:, None] * self._own)  # (batch, heads, dim)
        return ops.matmul(asked, heard)

    def call(self, x: Any, heard: Any, within: Any | None = None) -> Any:
        """What it makes of what was known before, shape (batch, width).

        Parameters
        ----------
        x : tensor, shape (batch, width), or None
            None for the first step.
        heard : tensor, shape (batch, tokens, dim)
            Normalised.
        within : tensor, shape (batch, tokens), optional
            One for a token of the window, zero for another.
        """
        found = self.out(self.found(x, heard, within))
        known = found if self.first else found + self.carry(x)
        return known + self.down(ops.gelu(self.up(known), approximate=True))

    def found(self, x: Any, heard: Any, within: Any | None = None) -> Any:
        """What its heads find, side by side, shape (batch, heads * channels)."""
        means = ops.matmul(self.weights_of(x, heard, within), heard)  # (batch, heads, dim)
        return ops.sum(self.values(means) * self._own, axis=1)


class Decoder(keras.layers.Layer):  # type: ignore[misc]
    """All steps, from tokens to what the last one knows.

    Parameters
    ----------
    shape : DecoderShape
    dim : int
        Of the tokens.
    """

    def __init__(self, shape: DecoderShape, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = shape
        self.steps = [Step(shape, dim, i == 0, name=f"step_{i}") for i in range(len(shape.steps))]
        self.built = True

    def call(self, tokens: Any, within: Any | None = None) -> Any:
        """Shape (batch, tokens, dim) to (batch, width); `within` as of a step."""
        heard, x = normalised(tokens), None
        for step in self.steps:
            x = step(x, heard, within)
        return x


def normalised(tokens: Any) -> Any:
    """Each token less its mean and over its deviation (Ba et al. 2016), without gain and bias."""
    centred = tokens - ops.mean(tokens, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + 1e-5)
