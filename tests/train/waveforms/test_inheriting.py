"""A layer of attention that was inherited does what the teacher's does, as far as it can."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from train.architecture import Attention
from train.model.attention import AttentionLayer
from train.waveforms.inheriting import Clips, inherit_layer
from train.waveforms.stream_basis import StreamBasis
from train.waveforms.whisper import Layer

CLIPS, FRAMES, DIM, HEADS = 48, 20, 32, 2
WHOLE = Attention(1, DIM, HEADS, DIM // HEADS, 4 * DIM, past=6, ahead=3)
PLAIN = StreamBasis(
    np.zeros((FRAMES, DIM), np.float32),
    np.ones(DIM, np.float32),
    np.eye(DIM, dtype=np.float32),
    np.ones(1, np.float32),
)


@pytest.fixture(scope="module")
def layer() -> Layer:
    keras.utils.set_random_seed(2)
    layer = Layer(DIM, HEADS)
    layer.build((None, None, DIM))
    for weight in layer.trainable_variables:
        noise = np.random.default_rng(len(weight.path)).normal(0, 0.1, weight.shape)
        weight.assign(weight + noise.astype(np.float32))
    layer.qkv.kernel.assign(2 * layer.qkv.kernel)  # so that it attends to some more than others
    return layer


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    """As a normalisation leaves them, which then is linear."""
    rng = np.random.default_rng(3)
    found = rng.normal(size=(CLIPS, FRAMES, DIM))
    found -= found.mean(axis=-1, keepdims=True)
    return (found / found.std(axis=-1, keepdims=True)).astype(np.float32)


def test_without_reduction_it_attends_like_the_teacher(layer: Layer, tokens: np.ndarray) -> None:
    found, _, _ = inherit_layer(layer, Clips(tokens, tokens), WHOLE, PLAIN)
    queries, keys = (
        (tokens @ kernel + bias).reshape(CLIPS, FRAMES, HEADS, -1).transpose(0, 2, 1, 3)
        for kernel, bias in (found.query, found.key)
    )
    reach = slice(2, 2 + WHOLE.past + WHOLE.ahead + 1)  # of the frame at 2 + past
    query = queries[:, :, reach.start + WHOLE.past]
    scores = np.einsum("nhd,nhkd->nhk", query, keys[:, :, reach]) + found.distance
    theirs = np.asarray(layer.parts(tokens).scores)[:, :, reach.start + WHOLE.past, reach]
    assert theirs.std() > 0.5
    ours, wanted = (np.asarray(ops.softmax(x)) for x in (scores, theirs))
    np.testing.assert_allclose(ours, wanted, atol=0.01)


def test_the_streaming_layer_computes_what_was_fitted(layer: Layer, tokens: np.ndarray) -> None:
    """Where all in reach is there, and as late as it says."""
    rng = np.random.default_rng(4)
    directions, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    basis = StreamBasis(
        PLAIN.places, PLAIN.deviations, directions[:, :24].astype(np.float32), PLAIN.kept
    )
    shape = Attention(1, 24, HEADS, 8, 40, past=6, ahead=3)
    smooth = np.cumsum(tokens, axis=1) / np.sqrt(1 + np.arange(FRAMES))[:, None]
    smooth = smooth.astype(np.float32)
    clips = Clips(smooth, basis.coordinates(smooth))
    found, after, (behind_attention, behind_layer) = inherit_layer(layer, clips, shape, basis)
    assert 0.5 < behind_attention <= 1 and 0.5 < behind_layer <= 1
    assert after.tokens.shape == smooth.shape and after.stream.shape == clips.stream.shape
    streaming = AttentionLayer(shape, "a0")
    streaming.build((None, None, 1, shape.width))
    found.put_into(streaming)
    states = [np.zeros((CLIPS, n, 1, width), np.float32) for n, width in streaming.state_shapes()]
    said = np.asarray(streaming(clips.stream[:, :, None], states)[0])[:, :, 0]
    whole = np.arange(shape.past, FRAMES - shape.ahead)
    np.testing.assert_allclose(said[:, whole + shape.ahead], after.stream[:, whole], atol=1e-3)
