"""The network: a causal temporal trunk and a small head, in Keras.

The whole idea is in :meth:`Trunk.call`. Every temporal convolution is *valid* and takes the
last ``kernel - stride`` frames of its input from before, its *state*. Training hands in states
of zeros, which is what a stream has when it starts; the converted model hands in whatever the
call before returned. So a clip in training and a stream on the device are the same computation.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from train.architecture import ModelConfig
from train.model.attention import AttentionLayer

TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf

# Statistics pooling divides by the sum of the speech weights plus this many frames, so that a
# window without any speech has a mean of nearly nothing instead of a division by zero.
POOL_EPSILON = 1e-2


class Normalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation whose training step is one fused kernel, of any precision.

    Keras composes it of a dozen passes over memory, a quarter of the time of a training step.
    Training leaves the moving statistics to the trainer, which moves them once a step, however
    many parts the batch had.

    Attributes
    ----------
    seen : tuple of tensor, shape (channels,)
        Mean and variance of what the latest training call saw.
    """

    seen: tuple[Any, ...] = ()

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not (training and TENSORFLOW):
            return super().call(inputs, training=training)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs if len(inputs.shape) == 4 else inputs[:, None, None, :],
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        self.seen = (mean, variance)
        return outputs if len(inputs.shape) == 4 else outputs[:, 0, 0]


class TemporalConv(keras.layers.Layer):  # type: ignore[misc]
    """Convolution over time, with batch normalisation, that carries its state from call to call.

    Parameters
    ----------
    channels : int or None
        Output channels of a full convolution; None for a depthwise one.
    kernel, stride : int
        In frames of this layer's input.
    """

    def __init__(self, channels: int | None, kernel: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.state_frames = kernel - stride
        # A depthwise kernel has no use for a bias before batch normalisation, nor has a full one.
        # Its strides are equal, which changes nothing at a width of one: GPUs know no others.
        self.conv = (
            keras.layers.DepthwiseConv2D((kernel, 1), stride, use_bias=False, name="conv")
            if channels is None
            else keras.layers.Conv2D(
                channels, (kernel, 1), (stride, 1), use_bias=False, name="conv"
            )
        )
        self.norm = Normalization(momentum=0.97, epsilon=1e-3, name="norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape((None, 1000, 1, input_shape[-1])))
        self.built = True

    def call(self, x: Any, state: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Convolve.

        Parameters
        ----------
        x : tensor, shape (batch, n * stride, 1, channels)
        state : tensor, shape (batch, kernel - stride, 1, channels)

        Returns
        -------
        y : tensor, shape (batch, n, 1, channels_out)
        extended : tensor, shape (batch, kernel - stride + n * stride, 1, channels)
            State and input, for whoever wants the input delayed.
        state : tensor
            To be handed in next.
        """
        extended = ops.concatenate([state, x], axis=1)
        y = self.norm(self._convolve(extended), training=training)
        # Of an input as long as the state, nothing older remains: no slice for the device to take.
        follows = x if x.shape[1] == self.state_frames else extended[:, -self.state_frames :]
        return y, extended, follows

    def _convolve(self, extended: Any) -> Any:
        if TENSORFLOW or not isinstance(self.conv, keras.layers.DepthwiseConv2D):
            return self.conv(extended)
        # XLA fuses shifted products; its depthwise convolutions on GPUs are many times slower.
        kernel = ops.cast(self.conv.kernel, extended.dtype)  # (kernel, 1, channels, 1)
        size, stride = kernel.shape[0], self.conv.strides[0]
        count = (extended.shape[1] - size) // stride + 1
        return sum(
            extended[:, i : i + (count - 1) * stride + 1 : stride] * kernel[i, :, :, 0]
            for i in range(size)
        )


class Trunk(keras.Model):  # type: ignore[misc]
    """Feature frames to embeddings and their speech weights.

    Parameters
    ----------
    config : ModelConfig
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="trunk")
        self.config = config
        self.temporal: list[TemporalConv] = []
        self.pointwise: list[tuple[keras.layers.Layer, keras.layers.Layer] | None] = []
        self.delays: list[int | None] = []  # of the residual path; None where there is none
        for s, stage in enumerate(config.stages):
            # The stem is a full convolution: 64 bands are few, and a depthwise filter for each
            # would have to see formants move before it has seen any formant.
            self._add(f"s{s}_entry", stage.channels, stage.entry_kernel, stage.stride, s == 0, None)
            for b in range(stage.blocks):
                self._add(f"s{s}_b{b}", stage.channels, stage.kernel, 1, False, stage.delay)
        self.enter: keras.layers.Layer | None = None
        self.attention: list[AttentionLayer] = []
        if (shape := config.attention) is not None:
            self.enter = keras.layers.Conv2D(shape.width, 1, name="enter")
            self.attention = [AttentionLayer(shape, f"a{i}") for i in range(shape.layers)]
        self.embedding = keras.layers.Conv2D(config.embedding, 1, activation="relu", name="embed")
        self.weight = keras.layers.Conv2D(
            1,
            1,
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(1.0),
            name="gate",
        )

    def _add(
        self, name: str, channels: int, kernel: int, stride: int, full: bool, delay: int | None
    ) -> None:
        self.temporal.append(TemporalConv(channels if full else None, kernel, stride, f"{name}_t"))
        self.pointwise.append(
            None
            if full
            else (
                keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_p"),
                Normalization(momentum=0.97, epsilon=1e-3, name=f"{name}_n"),
            )
        )
        self.delays.append(delay)

    @property
    def norms(self) -> list[Normalization]:
        """Its normalisations."""
        pointwise = [pair[1] for pair in self.pointwise if pair is not None]
        return [*(layer.norm for layer in self.temporal), *pointwise]

    def zero_states(self, batch: Any) -> list[Any]:
        """States of a stream that starts: what was before is silence, which is zero."""
        return [ops.zeros((batch, frames, 1, channels)) for frames, channels in self.state_shapes()]

    def state_shapes(self) -> list[tuple[int, int]]:
        """Frames and channels of every state, in the order of the layers."""
        widths, width = [], self.config.mels
        for stage in self.config.stages:
            widths.append(width)
            width = stage.channels
            widths.extend([width] * stage.blocks)
        shapes = [(layer.state_frames, n) for layer, n in zip(self.temporal, widths, strict=True)]
        for layer in self.attention:
            shapes.extend(layer.state_shapes())
        return shapes

    def call(
        self, frames: Any, states: list[Any] | None = None, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """Run over frames that follow those behind `states`.

        Parameters
        ----------
        frames : tensor, shape (batch, n * stride, 1, mels)
        states : list of tensor, optional
            What the call before returned; none at the start of a stream.

        Returns
        -------
        embeddings : tensor, shape (batch, n, 1, embedding)
        weights : tensor, shape (batch, n, 1, 1)
            Between 0 and 1: how much an embedding counts in the pooling.
        states : list of tensor
        """
        if states is None:
            states = self.zero_states(ops.shape(frames)[0])
        x, new_states = self.convolve(frames, states, training)
        for i, layer in enumerate(self.attention):
            first = len(self.temporal) + 3 * i
            x, follows = layer(x, states[first : first + 3])
            new_states.extend(follows)
        return self.embedding(x), self.weight(x), new_states

    def of_recording(
        self, frames: Any, late_frames: int, training: bool = False
    ) -> tuple[Any, Any]:
        """Embeddings of whole recordings and their weights, behind which silence is heard until
        what is late has come out.

        Parameters
        ----------
        frames : tensor, shape (batch, n * stride, mels)
        late_frames : int
            See `ModelConfig.late_frames`.

        Returns
        -------
        embeddings : tensor, shape (batch, n, 1, embedding)
        weights : tensor, shape (batch, n, 1, 1)
        """
        if late_frames:
            frames = ops.pad(frames, ((0, 0), (0, late_frames), (0, 0)))
        embeddings, weights, _ = self(frames[:, :, None, :], training=training)
        late = late_frames // self.config.stride
        return embeddings[:, late:], weights[:, late:]

    def convolve(self, frames: Any, states: list[Any], training: bool) -> tuple[Any, list[Any]]:
        """The convolutions alone: what enters the first layer of attention, if there is one.

        Returns
        -------
        x : tensor, shape (batch, n, 1, channels)
        states : list of tensor
            Of the convolutions.
        """
        x, new_states = frames, []
        layers = zip(self.temporal, self.pointwise, self.delays, states, strict=False)
        for temporal, pointwise, delay, state in layers:
            y, extended, new_state = temporal(x, state, training=training)
            new_states.append(new_state)
            if pointwise is not None:
                conv, norm = pointwise
                y = norm(conv(y), training=training)
            if delay is not None:
                # The state doubles as the delay line of the residual path.
                first = temporal.state_frames - delay
                y = y + (extended[:, first : extended.shape[1] - delay] if delay else x)
            x = ops.relu(y)  # (batch, frames at this stage's rate, 1, channels)
        return (x if self.enter is None else self.enter(x)), new_states


def pool(embeddings: Any, weights: Any, mask: Any | None = None) -> Any:
    """Weighted mean and standard deviation over time.

    The same in numpy, over exact integers, is :func:`edge.classifier.pool`.

    Parameters
    ----------
    embeddings : tensor, shape (batch, n, 1, channels)
    weights : tensor, shape (batch, n, 1, 1)
    mask : tensor, shape (batch, n), optional
        One for an embedding that belongs to the window, zero for padding.

    Returns
    -------
    tensor, shape (batch, 2 * channels)
    """
    if mask is not None:
        weights = weights * mask[:, :, None, None]
    total = ops.sum(weights, axis=(1, 2)) + POOL_EPSILON  # (batch, 1)
    mean = ops.sum(weights * embeddings, axis=(1, 2)) / total  # (batch, channels)
    square = ops.sum(weights * ops.square(embeddings), axis=(1, 2)) / total
    # The square root's slope at zero is infinite: a channel that never fires must not see it.
    deviation = ops.sqrt(ops.maximum(square - ops.square(mean), 1e-6))
    return ops.concatenate([mean, deviation], axis=-1)


class Head(keras.Model):  # type: ignore[misc]
    """Pooled statistics to one score a class.

    Parameters
    ----------
    config : ModelConfig
    classes : int
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__(name="head")
        self.hidden = keras.layers.Dense(config.hidden, use_bias=False, name="hidden")
        self.norm = Normalization(momentum=0.97, epsilon=1e-3, name="norm")
        self.dropout = config.dropout
        self.scores = keras.layers.Dense(classes, name="scores")

    @property
    def norms(self) -> list[Normalization]:
        """Its normalisation."""
        return [self.norm]

    def call(
        self,
        pooled: Any,
        training: bool = False,
        seed: Any | None = None,
        drop: Any | None = None,
    ) -> Any:
        """Score.

        Parameters
        ----------
        pooled : tensor, shape (batch, 2 * embedding)
        seed : tensor, shape (2,), optional
            Of the dropout; there is none without it.
        drop : tensor, shape (batch, hidden), optional
            Factors of the dropout, in place of a seed.

        Returns
        -------
        tensor, shape (batch, classes)
            Logits.
        """
        x = ops.relu(self.norm(self.hidden(pooled), training=training))
        if seed is not None and self.dropout:
            x = tf.nn.experimental.stateless_dropout(x, self.dropout, seed)
        if drop is not None:
            x = x * drop
        return self.scores(x)
