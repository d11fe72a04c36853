"""An encoder learns through few channels beside its matrices, and they become part of these."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.waveforms.adapters import adapt, adapters_of, learnt_beside, merged, put_on
from train.waveforms.whisper import Encoder

DIM, HEADS, RANK = 16, 2, 3


def learnt(first: int) -> tuple[Encoder, Encoder]:
    """An encoder as it was, and the same when it had learnt."""
    before, after = (Encoder(2, DIM, HEADS) for _ in range(2))
    after.set_weights(before.get_weights())
    adapt(after, RANK, first, seed=1)
    return before, after


def move(encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    for variable in encoder.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))


def features() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (2, 40, 80)).astype(np.float32)


def test_only_the_channels_learn_and_change_nothing_before() -> None:
    before, after = learnt(1)
    assert len(after.trainable_variables) == 2 * 4
    assert all(RANK in variable.shape for variable in after.trainable_variables)
    np.testing.assert_array_equal(before(features()), after(features()))


@pytest.mark.parametrize("first", [0, 1])
def test_what_was_learnt_becomes_part_of_the_matrices(first: int) -> None:
    before, after = learnt(first)
    move(after)
    beside = adapters_of(after)
    assert len(beside) == (2 - first) * 4 * 2
    whole = Encoder(2, DIM, HEADS)
    whole.set_weights(merged(after, after))
    wanted = np.asarray(after(features()))
    assert np.abs(wanted - np.asarray(before(features()))).max() > 0.1
    # Products are of factors in half precision.
    np.testing.assert_allclose(whole(features()), wanted, atol=0.02)
    put_on(before, learnt_beside({"other": np.zeros(1)} | beside))
    np.testing.assert_allclose(before(features()), whole(features()), atol=1e-5)


def test_who_learnt_nothing_is_left_as_it_is() -> None:
    encoder = Encoder(1, DIM, HEADS)
    assert adapters_of(encoder) == {}
    for kept, value in zip(merged(encoder, encoder), encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, value)


def test_channels_of_another_encoder_are_refused() -> None:
    _, after = learnt(0)
    beside = adapters_of(after)
    with pytest.raises(EdgelidError, match="of another encoder"):
        put_on(Encoder(1, DIM, HEADS), beside)
    with pytest.raises(EdgelidError, match="of another encoder"):
        put_on(Encoder(2, 2 * DIM, HEADS), beside)
    del beside["adapter/0/qkv/b"]
    with pytest.raises(EdgelidError, match="or damaged"):
        put_on(Encoder(2, DIM, HEADS), beside)
