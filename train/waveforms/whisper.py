"""The first layers of Whisper's encoder, in Keras, from weights that were published for it.

A plain pre-norm transformer over log-mel frames (Radford et al. 2023): two convolutions, the
second of stride 2, sinusoidal positions, then layers of attention and feed-forward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

MELS = 80
DIM = 512  # of Whisper base
HEADS = 8
STRIDE = 2  # feature frames a token advances by
FLOOR = 1e-10  # of the mel power, below which Whisper's logarithm is cut
RANGE_DECADES = 8.0  # what is farther below the loudest point of the window is cut
LN_10 = float(np.log(10.0))

Arrays = dict[str, np.ndarray]


def normalised(log_mel: Any) -> Any:
    """Whisper's features of windows of our front end's, whose floor is ``FLOOR``.

    Parameters
    ----------
    log_mel : tensor, shape (batch, frames, MELS)
        ``log(1 + power / FLOOR)``.

    Returns
    -------
    tensor, shape (batch, frames, MELS)
    """
    decades = log_mel / LN_10 + float(np.log10(FLOOR))
    loudest = ops.max(decades, axis=(1, 2), keepdims=True)
    return (ops.maximum(decades, loudest - RANGE_DECADES) + 4.0) / 4.0


class Parts(NamedTuple):
    """What is computed on the way through a layer, all of it (batch, tokens, ...).

    Attributes
    ----------
    queries, keys, values : tensor, shape (batch, heads, tokens, dim / heads)
        Queries are scaled.
    scores : tensor, shape (batch, heads, tokens, tokens)
        How much a token attends to each, before the softmax.
    attended : tensor, shape (batch, tokens, dim)
        Behind the attention.
    hidden : tensor, shape (batch, tokens, 4 * dim)
        Of the feed-forward part, before its activation.
    output : tensor, shape (batch, tokens, dim)
    """

    queries: Any
    keys: Any
    values: Any
    scores: Any
    attended: Any
    hidden: Any
    output: Any


class AdaptableDense(keras.layers.Dense):  # type: ignore[misc]
    """A linear layer that can learn through few channels beside it (Hu et al. 2022, "LoRA").

    Keras adds their product to the matrix, and so asks for the gradient of the whole matrix. Here
    they are computed beside it, which takes a third less.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Shape (..., n) to (..., m)."""
        if not self.lora_enabled:
            return super().call(inputs, training)
        few = ops.matmul(inputs, ops.cast(self.lora_kernel_a, self.compute_dtype))
        beside = ops.matmul(few, ops.cast(self.lora_kernel_b, self.compute_dtype))
        return ops.matmul(inputs, self._kernel) + self.bias + beside


class Layer(keras.layers.Layer):  # type: ignore[misc]
    """One layer of the encoder: attention and feed-forward, each behind its normalisation."""

    def __init__(self, dim: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        kind = self.dtype_policy
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=kind, name="an")
        self.qkv = AdaptableDense(3 * dim, dtype=kind, name="qkv")
        self.out = AdaptableDense(dim, dtype=kind, name="out")
        self.feed_norm = keras.layers.LayerNormalization(epsilon=1e-5, dtype=kind, name="fn")
        self.up = AdaptableDense(4 * dim, dtype=kind, name="up")
        self.down = AdaptableDense(dim, dtype=kind, name="down")

    @property
    def linear(self) -> tuple[AdaptableDense, ...]:
        """Its linear layers."""
        return self.qkv, self.out, self.up, self.down

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        dim = int(input_shape[-1] or 0)
        for part in (self.attention_norm, self.qkv, self.out, self.feed_norm, self.up):
            part.build((None, None, dim))
        self.down.build((None, None, 4 * dim))
        self.built = True

    def call(self, x: Any) -> Any:
        """Shape (batch, tokens, dim), both ways."""
        return self.parts(x).output

    def parts(self, x: Any) -> Parts:
        """The same, with all that is computed on the way."""
        tokens, dim = x.shape[1], x.shape[2]
        qkv = ops.reshape(
            self.qkv(self.attention_norm(x)), (-1, tokens, 3, self.heads, dim // self.heads)
        )
        q, k, v = (ops.transpose(qkv[:, :, i], (0, 2, 1, 3)) for i in range(3))
        q = q * (dim // self.heads) ** -0.5
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
        heard = ops.matmul(ops.softmax(scores), v)
        x = x + self.out(ops.reshape(ops.transpose(heard, (0, 2, 1, 3)), (-1, tokens, dim)))
        hidden = self.up(self.feed_norm(x))
        output = x + self.down(ops.gelu(hidden, approximate=True))
        return Parts(q, k, v, scores, x, hidden, output)

    def one(self, x: Any) -> Any:
        """The same of one window of any length, shape (tokens, dim), both ways.

        No shape is computed from another: a graph of it has one size that is open, and constants.
        """
        x = x + self.out(self.heard(x))
        return x + self.down(self.raised(x))

    def heard(self, x: Any) -> Any:
        """What each token of one window hears of the others, shape (tokens, dim), both ways."""
        dim = x.shape[1]
        qkv = ops.reshape(self.qkv(self.attention_norm(x)), (-1, 3 * self.heads, dim // self.heads))
        q, k, v = ops.split(ops.transpose(qkv, (1, 0, 2)), 3)  # each (heads, tokens, ...)
        scale = (dim // self.heads) ** -0.5
        scores = ops.matmul(q * scale, ops.transpose(k, (0, 2, 1)))  # (heads, tokens, tokens)
        heard = ops.matmul(ops.softmax(scores), v)
        return ops.reshape(ops.transpose(heard, (1, 0, 2)), (-1, dim))

    def raised(self, x: Any) -> Any:
        """Hidden channels of the feed-forward part, (tokens, dim) to (tokens, 4 * dim)."""
        return ops.gelu(self.up(self.feed_norm(x)), approximate=True)


def position_rates(dim: int) -> np.ndarray:
    """Radians that each sine and cosine of the codes of places advances by a token, (dim / 2,)."""
    rates: np.ndarray = np.exp(-np.log(10_000.0) / (dim // 2 - 1) * np.arange(dim // 2))
    return rates


def positions(tokens: int, dim: int) -> np.ndarray:
    """Sinusoidal codes of places, shape (tokens, dim), float32."""
    angles = np.arange(tokens)[:, None] * position_rates(dim)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Encoder(keras.Model):  # type: ignore[misc]
    """The first layers of the encoder.

    Parameters
    ----------
    layers : int
    dim, heads : int
    dtype : str
        Keras' policy of precision.
    mels : int
        Bands of the features.
    """

    def __init__(
        self,
        layers: int,
        dim: int = DIM,
        heads: int = HEADS,
        dtype: str = "float32",
        mels: int = MELS,
    ) -> None:
        super().__init__(name="encoder", dtype=dtype)
        self.dim = dim
        self.conv1 = keras.layers.Conv1D(dim, 3, padding="same", dtype=dtype, name="conv1")
        self.conv2 = keras.layers.Conv1D(dim, 3, STRIDE, padding="valid", dtype=dtype, name="conv2")
        self.stack = [Layer(dim, heads, dtype=dtype, name=f"layer_{i}") for i in range(layers)]
        self.conv1.build((None, None, mels))
        self.conv2.build((None, None, dim))
        for layer in self.stack:
            layer.build((None, None, dim))
        self.built = True

    def outputs(self, features: Any) -> list[Any]:
        """Tokens after each of the layers.

        Parameters
        ----------
        features : tensor, shape (batch, frames, MELS)
            As :func:`normalised` gives them; an even number of frames.

        Returns
        -------
        list of tensor, shape (batch, frames / 2, dim)
        """
        x = self._convolved(features)
        x = x + ops.cast(ops.convert_to_tensor(positions(x.shape[1], self.dim)), x.dtype)
        found = []
        for layer in self.stack:
            x = layer(x)
            found.append(x)
        return found

    def one(self, features: Any) -> Any:
        """Tokens of one window of any length after the last layer, shape (tokens, dim).

        Parameters
        ----------
        features : tensor, shape (1, frames, MELS)
            As for :meth:`outputs`; the number of frames may be open.
        """
        x = self.placed(features)
        for layer in self.stack:
            x = layer.one(x)
        return x

    def placed(self, features: Any) -> Any:
        """What enters the first layer of such a window, shape (tokens, dim)."""
        x = ops.reshape(self._convolved(features), (-1, self.dim))
        places = ops.cumsum(x[:, :1] * 0.0 + 1.0, axis=0) - 1.0  # (tokens, 1)
        angles = places * ops.convert_to_tensor(position_rates(self.dim).astype(np.float32))
        return x + ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=1)

    def _convolved(self, features: Any) -> Any:
        x = ops.gelu(self.conv1(features), approximate=True)
        return ops.gelu(self.conv2(ops.pad(x, ((0, 0), (1, 1), (0, 0)))), approximate=True)

    def call(self, features: Any) -> Any:
        """Tokens after the last layer, see :meth:`outputs`."""
        return self.outputs(features)[-1]

    def load(self, arrays: Arrays) -> None:
        """Take over weights named as in :func:`train.waveforms.published.read_encoder`."""
        for conv, name in ((self.conv1, "conv1"), (self.conv2, "conv2")):
            kernel = arrays[f"encoder/{name}/weight"].astype(np.float32)  # (out, in, 3)
            conv.set_weights([kernel.transpose(2, 1, 0), arrays[f"encoder/{name}/bias"]])
        for i, layer in enumerate(self.stack):
            attention, feed = (f"encoder/layer_{i}/{part}" for part in ("self_attention", "ffn"))
            for norm, name in ((layer.attention_norm, attention), (layer.feed_norm, feed)):
                norm.set_weights([arrays[f"{name}/layer_norm/{x}"] for x in ("gamma", "beta")])
            for dense, name in (
                (layer.qkv, f"{attention}/linear_0"),
                (layer.out, f"{attention}/linear_1"),
                (layer.up, f"{feed}/linear_0"),
                (layer.down, f"{feed}/linear_1"),
            ):
                weight = arrays[f"{name}/weight"].astype(np.float32).T
                dense.set_weights([weight, arrays[f"{name}/bias"].astype(np.float32)])
