"""The large model: Whisper's first layers, pooled statistics, a narrow decoder, linear layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import FrontEndConfig
from edge.model.modelfile import NONSPEECH, OTHER
from train.waveforms.adapters import adapters_of, merged
from train.waveforms.checkpoint import is_large, load_parts
from train.waveforms.decoder import Decoder, DecoderShape
from train.waveforms.linear import VARIANCE_FLOOR, Linear
from train.waveforms.whisper import DIM, FLOOR, HEADS, MELS, Encoder, normalised
from train.waveforms.whisper_languages import ROWS

HEAD_WIDTH = 64  # channels of a head of attention, in every size of Whisper


def large_front_end() -> FrontEndConfig:
    """Whisper's spectrum, as the parameters of `edge.frontend`."""
    return FrontEndConfig(fft_samples=400, mels=MELS, low_hz=0.0, high_hz=8_000.0, floor=FLOOR)


class Large(keras.Model):  # type: ignore[misc]
    """Windows of log-mel frames to scores.

    Parameters
    ----------
    layers : int
        Of Whisper's encoder.
    classes : int
    dropout : float
        Of the pooled statistics, in training.
    precision : str
        Keras' policy, of the encoder.
    decoder : DecoderShape, optional
        Of a narrow decoder, whose last state adds to the scores.
    """

    def __init__(
        self,
        layers: int,
        classes: int,
        dropout: float = 0.1,
        precision: str = "float32",
        dim: int = DIM,
        heads: int = HEADS,
        decoder: DecoderShape | None = None,
    ) -> None:
        super().__init__(name="large")
        self.dim, self.dropout, self.pooled = dim, dropout, 2 * dim
        self.encoder = Encoder(layers, dim, heads, precision)
        self.gate = keras.layers.Dense(1, name="head_gate", kernel_initializer="zeros")
        self.centre = keras.layers.BatchNormalization(
            name="head_centre", center=False, scale=False, epsilon=VARIANCE_FLOOR
        )
        self.scores = keras.layers.Dense(classes, name="head_scores")
        self.gate.build((None, None, dim))
        self.centre.build((None, self.pooled))
        self.scores.build((None, self.pooled))
        self.decoder = None
        if decoder is not None:
            self.decoder = Decoder(decoder, dim, name="decoder")
            self.said = keras.layers.Dense(classes, use_bias=False, name="decoder_said")
            # What a student learns; no part of the scores, and so not of the model file.
            self.rows = keras.layers.Dense(ROWS, trainable=False, name="decoder_rows")
            for layer in (self.said, self.rows):
                layer.build((None, decoder.width))
        self.built = True

    def tokens(self, log_mel: Any) -> Any:
        """Outputs of the last layer, shape (batch, tokens, dim), float32."""
        return ops.cast(self.encoder(normalised(log_mel)), "float32")

    def pool(self, tokens: Any, mask: Any | None = None) -> Any:
        """Attentive mean and deviation (Okabe et al. 2018), shape (..., 2 * dim).

        Parameters
        ----------
        tokens : tensor, shape (..., tokens, dim)
        mask : tensor, shape (..., tokens), optional
            One for a token of the window, zero for another.
        """
        return self._statistics(self._weights(tokens, mask), tokens)

    def _weights(self, tokens: Any, mask: Any | None = None) -> Any:
        """How much each token counts, shape (..., tokens, 1)."""
        weights = ops.exp(ops.clip(self.gate(tokens), -8.0, 8.0))
        if mask is not None:
            weights = weights * mask[..., None]
        return weights / (ops.sum(weights, axis=-2, keepdims=True) + 1e-6)

    def _statistics(self, weights: Any, tokens: Any) -> Any:
        mean = ops.sum(weights * tokens, axis=-2)
        square = ops.sum(weights * ops.square(tokens), axis=-2)
        deviation = ops.sqrt(ops.maximum(square - ops.square(mean), 1e-5))
        return ops.concatenate([mean, deviation], axis=-1)

    def _evenly(self, tokens: Any) -> Any:
        """The same as :meth:`pool`, shape (2 * dim,), on a way that stands 8 bits.

        Some of Whisper small's channels are a thousand times as loud as others, and the linear
        layer behind takes all in one scale of 8 bits. So each has the spread that the head knows
        of it while it is pooled: what is scaled behind the pooling, the converter scales in the
        weights.
        """
        mean = ops.convert_to_tensor(self.centre.moving_mean)[: self.dim]
        variance = ops.convert_to_tensor(self.centre.moving_variance)[: self.dim]
        spread = ops.sqrt(variance + VARIANCE_FLOOR)
        pooled = self._statistics(self._weights(tokens), (tokens - mean) / spread)
        return pooled * ops.tile(spread, 2) + ops.concatenate([mean, ops.zeros_like(mean)])

    def classify(self, pooled: Any, drop: Any | None = None) -> Any:
        """Scores of pooled statistics, shape (batch, classes)."""
        # Mean and deviation are those of the speech that the head was fitted to, once for all.
        x = self.centre(pooled, training=False)
        return self.scores(x if drop is None else x * drop)

    def told(self, tokens: Any, mask: Any | None = None) -> Any:
        """Last state of the decoder, shape (batch, width); None where there is no decoder.

        Parameters
        ----------
        tokens : tensor, shape (batch, tokens, dim)
        mask : tensor, shape (batch, tokens), optional
            As of :meth:`pool`.
        """
        return None if self.decoder is None else self.decoder(tokens, mask)

    def judged(self, pooled: Any, told: Any, drop: Any | None = None) -> Any:
        """Scores of windows, shape (batch, classes): of pooled statistics, and of the decoder.

        Parameters
        ----------
        pooled : tensor, shape (batch, 2 * dim)
        told : tensor, shape (batch, width), or None
            Of :meth:`told`.
        drop : tensor, shape (batch, 2 * dim), optional
            Factors of the dropout.
        """
        scores = self.classify(pooled, drop)
        return scores if told is None else scores + self.said(told)

    def languages(self, told: Any) -> Any:
        """What the decoder says of each language that Whisper knows, shape (batch, ROWS).

        Ours come first, in their order; the last row is that nothing is spoken.

        Parameters
        ----------
        told : tensor, shape (batch, width)
            Of :meth:`told`.
        """
        return self.rows(told)

    def evidence(self) -> np.ndarray:
        """What a token says for each class by itself, shape (dim, classes): the linear layer on
        the mean.
        """
        deviation = np.sqrt(np.asarray(self.centre.moving_variance)[: self.dim] + VARIANCE_FLOOR)
        kernel: np.ndarray = np.asarray(self.scores.kernel)[: self.dim] / deviation[:, None]
        return kernel

    def call(
        self, log_mel: Any, training: bool = False, drop: Any | None = None, parts: bool = False
    ) -> Any:
        """Scores of windows, or with `parts` the outputs of the last layer, what the decoder says
        of each language, and the scores.

        Parameters
        ----------
        log_mel : tensor, shape (batch, frames, MELS)
            Of :func:`large_front_end`.
        drop : tensor, shape (batch, 2 * dim), optional
            Factors of the dropout.
        """
        tokens = self.tokens(log_mel)
        told = self.told(tokens)
        scores = self.judged(self.pool(tokens), told, drop)
        return (tokens, self.languages(told), scores) if parts else scores

    def one(self, log_mel: Any) -> Any:
        """Scores of one window of any length, shape (1, classes).

        Parameters
        ----------
        log_mel : tensor, shape (1, frames, MELS)
            Of :func:`large_front_end`; the number of frames may be open.
        """
        tokens = self.encoder.one(normalised(log_mel))
        # Pooled without the dimension of the batch, behind which a linear layer computes shapes.
        pooled = ops.reshape(self._evenly(tokens), (1, -1))
        return self.judged(pooled, self.told(ops.expand_dims(tokens, 0)))

    def take_head(self, head: Linear) -> None:
        """Have a head that was fitted to pooled statistics."""
        self.centre.set_weights([head.mean, head.variance])
        self.scores.set_weights([head.kernel, head.bias])

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights by name; what the encoder learnt beside its matrices is in them and by itself."""
        whole = {f"large/{i}": w for i, w in enumerate(merged(self, self.encoder))}
        return whole | adapters_of(self.encoder)

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over weights of :meth:`arrays`, or of Whisper's encoder alone."""
        if "large/0" in arrays:
            values = [arrays[f"large/{i}"] for i in range(len(self.get_weights()))]
            self.set_weights([np.asarray(v, np.float32) for v in values])
        else:
            self.encoder.load(arrays)
            if "head/kernel" in arrays:
                self.centre.set_weights([arrays["head/mean"], arrays["head/variance"]])
                self.scores.set_weights([arrays["head/kernel"], arrays["head/bias"]])


def load_large(file: Path, precision: str = "float32") -> tuple[Large, list[str]]:
    """A large model that was trained, without dropout.

    Parameters
    ----------
    file : Path
        Its checkpoint, see `train.waveforms.checkpoint.load_parts`.
    precision : str
        Keras' policy, of the encoder.

    Returns
    -------
    model : Large
    labels : list of str

    Raises
    ------
    EdgelidError
        If there is none, or it is damaged or another kind of file.
    """
    arrays, told = load_parts(file)
    if not is_large(file):
        raise EdgelidError(f"{file} is no checkpoint of the large model")
    return large_of(arrays, told, precision)


def large_of(
    arrays: dict[str, np.ndarray], told: dict[str, Any], precision: str = "float32"
) -> tuple[Large, list[str]]:
    """The same of a checkpoint that was read.

    Parameters
    ----------
    arrays : dict of str to ndarray
    told : dict
        Both as `train.waveforms.checkpoint.load_parts` gives them.
    precision : str
        Keras' policy, of the encoder.

    Returns
    -------
    model : Large
    labels : list of str

    Raises
    ------
    EdgelidError
        If it has no encoder, or is damaged.
    """
    if "large/0" not in arrays:
        raise EdgelidError(
            "the checkpoint lacks its encoder, which is Whisper's: put it back with "
            "`python -m train.waveforms attach`"
        )
    config = told["config"]
    model = empty_large(config, width_of(arrays), decoder_shape(config), precision)
    try:
        model.load_arrays(arrays)
    except (KeyError, ValueError) as error:
        raise EdgelidError(
            "the weights of the large model do not fit its configuration: the checkpoint is damaged"
        ) from error
    return model, labels_of(config)


def width_of(arrays: dict[str, np.ndarray]) -> int:
    """Channels of the tokens, of a large model's weights or of Whisper's encoder alone."""
    if "large/0" in arrays:
        return int(arrays["large/0"].shape[-1])  # of the first convolution
    return len(arrays["encoder/conv1/weight"])


def labels_of(config: dict[str, Any]) -> list[str]:
    """The classes of a configuration."""
    return [*config["data"]["languages"], OTHER, NONSPEECH]


def empty_large(
    config: dict[str, Any],
    dim: int,
    decoder: DecoderShape | None,
    precision: str = "float32",
    dropout: float = 0.0,
) -> Large:
    """A large model of a configuration, whose weights nobody has set.

    Parameters
    ----------
    config : dict
        Its ``data`` and ``large``.
    dim : int
        Of the tokens, by which Whisper's sizes differ.
    decoder : DecoderShape or None
    precision : str
        Keras' policy, of the encoder.
    dropout : float
        See `Large`.
    """
    layers, classes = config["large"]["layers"], len(labels_of(config))
    return Large(layers, classes, dropout, precision, dim, dim // HEAD_WIDTH, decoder)


def decoder_shape(config: dict[str, Any]) -> DecoderShape | None:
    """That of ``[large.decoder]``, if there is one.

    Raises
    ------
    EdgelidError
        If it lacks something, or has something else.
    """
    told = config["large"].get("decoder")
    if told is None:
        return None
    try:
        return DecoderShape(**told | {"steps": tuple(told["steps"])})
    except (KeyError, TypeError) as error:
        raise EdgelidError(
            "[large.decoder] must have steps, width, heads, channels and feed"
        ) from error
