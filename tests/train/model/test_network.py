"""The trunk is the same computation in one piece and in many, and costs and sees what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import edge.classifier
import train.model.network
from edge.model.modelfile import Quantisation
from train.architecture import Attention, ModelConfig, Stage
from train.model.attention import FEW_FRAMES
from train.model.network import Head, Trunk, pool

PHASED = ModelConfig(
    mels=12,
    stages=(
        Stage(channels=10, kernel=5, stride=2, entry_kernel=6, blocks=2, delay=2),
        Stage(channels=14, kernel=3, stride=2, entry_kernel=6, blocks=1, delay=0),
    ),
    embedding=6,
    hidden=8,
)
SHAPES = {
    "two strides": PHASED,
    "no stride": ModelConfig(8, (Stage(7, 3, 1, 4, 2, 1),), 5, 4),
    "all the future": replace(PHASED, stages=(Stage(9, 4, 2, 6, 3, 3),)),
    "attention": replace(PHASED, attention=Attention(2, 8, 2, 3, 9, past=3, ahead=2)),
    "attention to the past": replace(PHASED, attention=Attention(1, 8, 2, 3, 9, past=2, ahead=0)),
    "no blocks": replace(PHASED, stages=(Stage(9, 3, 4, 12, 0, 0), Stage(6, 3, 1, 2, 1, 2))),
}


def trunk_of(config: ModelConfig, positive: bool = False) -> Trunk:
    """A trunk with random weights, statistics of normalisation included.

    With positive ones, every activation grows with every input: nothing hides behind a rectifier.
    """
    trunk = Trunk(config)
    trunk(np.zeros((1, 4 * config.stride, 1, config.mels), np.float32))
    rng = np.random.default_rng(1)
    for weight in trunk.weights:
        values = rng.normal(0, 0.3, weight.shape)
        if positive or "variance" in weight.path or "gamma" in weight.path:
            values = 0.2 + np.abs(values)
        if positive and ("query" in weight.path or "distance" in weight.path):
            values = 0 * values  # it attends to all in reach alike
        weight.assign(values.astype(np.float32))
    return trunk


def frames_of(config: ModelConfig, frames: int, batch: int = 1) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.uniform(0, 3, (batch, frames, 1, config.mels)).astype(np.float32)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    found: ModelConfig = request.param
    return found


def test_in_pieces_as_in_one(config: ModelConfig) -> None:
    trunk, frames = trunk_of(config), frames_of(config, 24 * config.stride)
    whole = [np.asarray(part) for part in trunk(frames)[:2]]
    assert whole[0].shape == (1, 24, 1, config.embedding)
    assert whole[1].shape == (1, 24, 1, 1)
    rng = np.random.default_rng(3)
    for _ in range(2):
        ends = np.sort(rng.choice(np.arange(1, 24), 5, replace=False)) * config.stride
        states, pieces = None, []
        for piece in np.split(frames, ends, axis=1):
            embeddings, weights, states = trunk(piece, states)
            pieces.append((np.asarray(embeddings), np.asarray(weights)))
        for part in (0, 1):
            joined = np.concatenate([piece[part] for piece in pieces], axis=1)
            np.testing.assert_allclose(joined, whole[part], rtol=1e-5, atol=1e-5)


def test_a_stream_starts_from_zeros(config: ModelConfig) -> None:
    trunk, frames = trunk_of(config), frames_of(config, 8 * config.stride, batch=2)
    states = [np.asarray(state) for state in trunk.zero_states(2)]
    assert not any(state.any() for state in states)
    assert [s.shape for s in states] == [(2, n, 1, w) for n, w in trunk.state_shapes()]
    for given, default in zip(trunk(frames, states)[:2], trunk(frames)[:2], strict=True):
        np.testing.assert_array_equal(np.asarray(given), np.asarray(default))


def test_state_keeps_its_shape(config: ModelConfig) -> None:
    trunk = trunk_of(config)
    _, _, states = trunk(frames_of(config, config.stride))  # the shortest step there is
    for new, zero in zip(states, trunk.zero_states(1), strict=True):
        assert new.shape == zero.shape


def test_receptive_field(config: ModelConfig) -> None:
    """Perturb one frame at a time and see which embeddings change."""
    trunk = trunk_of(config, positive=True)
    embeddings = -(-config.receptive_field_frames // config.stride) + 3
    frames = frames_of(config, embeddings * config.stride)
    length = frames.shape[1]
    frames = np.repeat(frames, length, axis=0)  # of as many clips as below, for the same rounding
    perturbed = frames.copy()
    perturbed[np.arange(length), np.arange(length)] += 10.0
    before, after = np.asarray(trunk(frames)[0]), np.asarray(trunk(perturbed)[0])
    # (frames, embeddings): whether a frame is heard in an embedding.
    heard = (np.abs(after - before) > 1e-6 * np.abs(before)).any(axis=(2, 3))
    newest = (np.arange(embeddings) + 1) * config.stride - 1
    age = newest[None, :] - np.arange(length)[:, None]
    np.testing.assert_array_equal(heard, (age >= 0) & (age < config.receptive_field_frames))


def test_a_shift_by_the_stride_shifts_the_embeddings(config: ModelConfig) -> None:
    trunk = trunk_of(config)
    filled = -(-config.receptive_field_frames // config.stride)
    frames = frames_of(config, (filled + 6) * config.stride)
    whole = np.asarray(trunk(frames)[0])
    for shift in (1, 2, 3):
        shifted = np.asarray(trunk(frames[:, shift * config.stride :])[0])
        np.testing.assert_allclose(
            shifted[:, filled:], whole[:, filled + shift :], rtol=1e-5, atol=1e-5
        )


def test_delay(config: ModelConfig) -> None:
    """With blocks that add nothing, a pulse comes out when the residual paths let it."""
    trunk = trunk_of(config, positive=True)
    for layer, pointwise, delay in zip(trunk.temporal, trunk.pointwise, trunk.delays, strict=True):
        if delay is not None:
            layer.conv.set_weights([0 * w for w in layer.conv.get_weights()])
            layer.norm.beta.assign(0 * layer.norm.beta)
            layer.norm.moving_mean.assign(0 * layer.norm.moving_mean)
            pointwise[1].beta.assign(0 * pointwise[1].beta)
            pointwise[1].moving_mean.assign(0 * pointwise[1].moving_mean)
    for attention in trunk.attention:
        for part in (attention.out, attention.down):
            part.set_weights([0 * w for w in part.get_weights()])
    length, at = 60 * config.stride, 20 * config.stride
    silence = np.zeros((1, length, 1, config.mels), np.float32)
    pulse = silence.copy()
    pulse[:, at] = 10.0
    change = np.abs(np.asarray(trunk(pulse)[0]) - np.asarray(trunk(silence)[0])).sum(axis=(0, 2, 3))
    heard = np.flatnonzero(change)
    newest = (heard + 1) * config.stride - 1
    assert np.mean([newest[0], newest[-1]]) - at == pytest.approx(
        config.delay_frames, abs=config.stride
    )


def test_many_frames_at_once_are_masked_and_few_have_their_own_keys() -> None:
    config = SHAPES["attention"]
    trunk = trunk_of(config)
    frames = frames_of(config, (FEW_FRAMES + 20) * config.stride)
    many = np.asarray(trunk(frames)[0])
    few = np.asarray(trunk(frames[:, : 50 * config.stride])[0])
    np.testing.assert_allclose(few, many[:, :50], rtol=1e-4, atol=1e-4)


def test_what_is_late_comes_out_of_a_recording() -> None:
    config = SHAPES["attention"]
    trunk, frames = trunk_of(config), frames_of(config, 20 * config.stride)
    late_frames = config.late_frames(config.stride)
    assert late_frames == round(config.delay_frames / config.stride) * config.stride > 0
    silence = np.zeros((1, late_frames, 1, config.mels), np.float32)
    longer = np.asarray(trunk(np.concatenate([frames, silence], axis=1))[0])
    found = np.asarray(trunk.of_recording(frames[:, :, 0], late_frames)[0])
    np.testing.assert_allclose(found, longer[:, late_frames // config.stride :], rtol=1e-5)
    assert found.shape[1] == 20
    assert PHASED.late_frames(PHASED.stride) == 0


def test_cost(config: ModelConfig) -> None:
    """Count the products of every convolution from its kernel and its stride."""
    trunk = trunk_of(config)
    macs, rate = 0.0, 1.0
    for temporal, pointwise in zip(trunk.temporal, trunk.pointwise, strict=True):
        rate /= temporal.conv.strides[0]
        macs += rate * np.prod(temporal.conv.get_weights()[0].shape)
        if pointwise is not None:
            macs += rate * np.prod(pointwise[0].get_weights()[0].shape)
    for layer in trunk.attention:
        for part in (layer.query, layer.key, layer.value, layer.out, layer.up, layer.down):
            macs += rate * np.prod(part.get_weights()[0].shape)
        inner = layer.shape.heads * layer.shape.head_width
        macs += 2 * rate * inner * layer.distance.shape[1]  # scores, and what they weigh
    entering = () if trunk.enter is None else (trunk.enter,)
    for layer in (*entering, trunk.embedding, trunk.weight):
        macs += rate * np.prod(layer.get_weights()[0].shape)
    assert config.macs_per_frame() == pytest.approx(macs)
    assert rate == 1 / config.stride


@pytest.mark.parametrize(
    "stage",
    [
        Stage(8, 3, 1, 2, 1, 2),
        Stage(8, 2, 3, 9, 0, 0),
    ],
)
def test_stages_that_are_possible(stage: Stage) -> None:
    trunk_of(replace(PHASED, stages=(stage,)))


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": 0},
        {"stride": 0},
        {"kernel": 1},
        {"entry_kernel": 2},  # no state to carry
        {"entry_kernel": 4},  # a stream and a window would be out of phase
        {"blocks": -1},
        {"delay": -1},
        {"delay": 5},
    ],
)
def test_stages_that_are_not(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a stage"):
        replace(PHASED.stages[0], **settings)


def test_pooling_by_hand() -> None:
    embeddings = np.array([1.0, 3.0, 100.0], np.float32).reshape(1, 3, 1, 1)
    weights = np.array([0.5, 1.0, 1.0], np.float32).reshape(1, 3, 1, 1)
    mask = np.array([[1.0, 1.0, 0.0]], np.float32)
    total = 1.5 + train.model.network.POOL_EPSILON
    mean, square = (0.5 + 3.0) / total, (0.5 + 9.0) / total
    pooled = np.asarray(pool(embeddings, weights, mask))
    np.testing.assert_allclose(pooled, [[mean, (square - mean**2) ** 0.5]], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(pool(embeddings[:, :2], weights[:, :2])), pooled)


def test_pooling_nothing_is_nearly_nothing() -> None:
    pooled = np.asarray(pool(np.ones((1, 4, 1, 3)), np.zeros((1, 4, 1, 1))))
    np.testing.assert_allclose(pooled, [[0, 0, 0, 1e-3, 1e-3, 1e-3]], atol=1e-7)


def test_pools_as_the_device_does() -> None:
    """The device adds integers; dequantised, they are what training pools."""
    rng = np.random.default_rng(4)
    x, w = rng.integers(0, 256, (40, 5)), rng.integers(0, 256, (40, 1))
    scale_x, scale_w = Quantisation(0.031, -128), Quantisation(1 / 256, -128)
    sums = np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
    device = edge.classifier.pool(sums, scale_x, scale_w)
    embeddings = (x * scale_x.scale).astype(np.float32)[None, :, None, :]
    weights = (w * scale_w.scale).astype(np.float32)[None, :, None, :]
    np.testing.assert_allclose(np.asarray(pool(embeddings, weights))[0], device, rtol=1e-5)
    assert edge.classifier.POOL_EPSILON == train.model.network.POOL_EPSILON


def test_head() -> None:
    head = Head(PHASED, classes=4)
    pooled = np.random.default_rng(5).normal(size=(9, 2 * PHASED.embedding)).astype(np.float32)
    assert head(pooled).shape == (9, 4)
    np.testing.assert_array_equal(np.asarray(head(pooled)), np.asarray(head(pooled)))
    # Dropout is for training, and as its seed says.
    one, same, other = (
        np.asarray(head(pooled, training=True, seed=np.array([3, step]))) for step in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
