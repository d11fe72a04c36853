"""The shape of the network as plain data, so that it can be known without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """One run of equal residual blocks, entered through a (possibly strided) convolution.

    Attributes
    ----------
    channels : int
        Width of the stage.
    kernel : int
        Length of its depthwise filters in frames of the stage's rate (odd).
    stride : int
        Temporal stride of the convolution that enters the stage.
    entry_kernel : int
        Length of that convolution in frames of the rate before it; ``entry_kernel - stride``
        must be even and a multiple of `stride`, so that streams and whole windows agree in phase.
    blocks : int
        Number of residual blocks.
    delay : int
        Frames of the stage's rate that a block's output lags behind its newest input: so much of
        the future each filter sees. At most ``kernel - 1``.
    """

    channels: int
    kernel: int
    stride: int
    entry_kernel: int
    blocks: int
    delay: int

    def __post_init__(self) -> None:
        if min(self.channels, self.stride, self.entry_kernel - self.stride, self.kernel - 1) < 1:
            raise ValueError(
                "a stage needs channels, a kernel above 1 and an entry_kernel above stride"
            )
        if self.blocks < 0 or not 0 <= self.delay < self.kernel:
            raise ValueError("a stage's blocks must be at least 0, and its delay below its kernel")
        if self.stride > 1 and (self.entry_kernel - self.stride) % (2 * self.stride):
            raise ValueError("a stage's entry_kernel - stride must be a multiple of 2 strides")


@dataclass(frozen=True)
class Attention:
    """Layers of attention behind the last stage, at its rate.

    Attributes
    ----------
    layers : int
    width : int
        Channels of what passes through them.
    heads, head_width : int
        How many stretches a frame attends to, and the channels of each.
    feed : int
        Width of the feed-forward part's hidden layer.
    past, ahead : int
        Frames before and after itself that a frame attends to; a layer is `ahead` frames late.
    """

    layers: int
    width: int
    heads: int
    head_width: int
    feed: int
    past: int
    ahead: int

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.heads, self.head_width, self.feed, self.past) < 1:
            raise ValueError("attention needs layers, widths, heads and a past of at least 1")
        if self.ahead < 0:
            raise ValueError("attention cannot look a negative number of frames ahead")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of trunk and head.

    Attributes
    ----------
    mels : int
        Mel bands of the front end.
    stages : tuple of Stage
        The trunk from input to output.
    embedding : int
        Channels of an embedding.
    hidden : int
        Width of the head's hidden layer.
    dropout : float
        Dropout rate before the head's last layer, in training only.
    attention : Attention, optional
        What follows the stages.
    """

    mels: int
    stages: tuple[Stage, ...]
    embedding: int
    hidden: int
    dropout: float = 0.2
    attention: Attention | None = None

    def __post_init__(self) -> None:
        if min(self.mels, self.embedding, self.hidden) < 1:
            raise ValueError("mels, embedding and hidden must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")

    @property
    def stride(self) -> int:
        """Feature frames an embedding advances by."""
        return int(np.prod([stage.stride for stage in self.stages]))

    @property
    def receptive_field_frames(self) -> int:
        """Feature frames that one embedding depends on."""
        frames, step = 1, 1
        for stage in self.stages:
            frames += (stage.entry_kernel - 1) * step
            step *= stage.stride
            frames += stage.blocks * (stage.kernel - 1) * step
        if (layers := self.attention) is not None:
            frames += layers.layers * (layers.past + layers.ahead) * step
        return frames

    @property
    def delay_frames(self) -> int:
        """Feature frames that the middle of what an embedding is about lies behind its newest."""
        frames, step = 0.0, 1
        for stage in self.stages:
            frames += (stage.entry_kernel - 1) / 2 * step
            step *= stage.stride
            frames += stage.blocks * stage.delay * step
        if self.attention is not None:
            frames += self.attention.layers * self.attention.ahead * step
        return round(frames)

    def late_frames(self, hop_frames: int) -> int:
        """How late embeddings count as, in whole hops: what convolutions wait for is little."""
        return round(self.delay_frames / hop_frames) * hop_frames if self.attention else 0

    def macs_per_frame(self) -> float:
        """Multiply-accumulates of the trunk for one feature frame."""
        macs, rate, width = 0.0, 1.0, self.mels
        for index, stage in enumerate(self.stages):
            rate /= stage.stride
            entry = stage.entry_kernel * (width * stage.channels if index == 0 else width)
            entry += 0 if index == 0 else width * stage.channels
            block = stage.kernel * stage.channels + stage.channels**2
            macs += rate * (entry + stage.blocks * block)
            width = stage.channels
        if (layers := self.attention) is not None:
            inner = layers.heads * layers.head_width
            projections = 4 * layers.width * inner + 2 * layers.width * layers.feed
            attending = 2 * (layers.past + layers.ahead + 1) * inner
            macs += rate * width * layers.width  # into the first layer
            macs += rate * layers.layers * (projections + attending)
            width = layers.width
        return macs + rate * width * (self.embedding + 1)
