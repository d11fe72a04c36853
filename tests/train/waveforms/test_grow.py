"""A network that was grown says what it said before, and learns with what it got."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.model.checkpoint import load_checkpoint, restore_model
from train.model.shipped import TRUNK
from train.waveforms.grow import farseeing, grown

ATTENTIVE = TRUNK.parent / "edgelid-9.npz"


def test_begins_as_the_same_function() -> None:
    checkpoint = load_checkpoint(TRUNK)
    taller = grown(checkpoint, 2)
    stages = checkpoint.config.model.stages, taller.config.model.stages
    assert stages[1][-1].blocks == stages[0][-1].blocks + 2
    frames = np.random.default_rng(1).uniform(0, 15, (2, 80, 1, checkpoint.config.model.mels))
    (before, head), (after, same_head) = restore_model(checkpoint), restore_model(taller)
    for mine, theirs in zip(before(frames)[:2], after(frames)[:2], strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    for mine, theirs in zip(head.get_weights(), same_head.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_new_blocks_learn() -> None:
    import tensorflow as tf

    trunk, _ = restore_model(grown(load_checkpoint(TRUNK), 1))
    frames = np.random.default_rng(1).uniform(0, 15, (1, 80, 1, trunk.config.mels))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(trunk(frames.astype(np.float32), training=True)[0])
    _, norm = trunk.pointwise[-1] or pytest.fail("the last block has no branch")
    assert float(tf.reduce_max(tf.abs(tape.gradient(loss, norm.gamma)))) > 0


def test_waits_for_more_and_says_nearly_the_same() -> None:
    """As late as its new reach, and what it says by then has hardly changed."""
    checkpoint = load_checkpoint(ATTENTIVE)
    shape = checkpoint.config.model
    assert shape.attention is not None
    wider = farseeing(checkpoint, shape.attention.ahead + 2)
    late = [x.config.model.late_frames(4) for x in (checkpoint, wider)]
    assert late[1] - late[0] == 2 * shape.attention.layers * shape.stride
    frames = np.random.default_rng(1).uniform(0, 15, (2, 480, shape.mels)).astype(np.float32)
    said = [
        np.asarray(restore_model(x)[0].of_recording(frames, some)[0])[:, 30:90]
        for x, some in zip((checkpoint, wider), late, strict=True)
    ]
    assert np.corrcoef(said[0].ravel(), said[1].ravel())[0, 1] > 0.97


def test_what_cannot_wait() -> None:
    checkpoint = load_checkpoint(ATTENTIVE)
    with pytest.raises(EdgelidError, match="layers of attention"):
        farseeing(checkpoint, 1)
    bare = replace(checkpoint.config, model=replace(checkpoint.config.model, attention=None))
    with pytest.raises(EdgelidError, match="layers of attention"):
        farseeing(replace(checkpoint, config=bare), 8)


def test_what_cannot_grow() -> None:
    checkpoint = load_checkpoint(TRUNK)
    with pytest.raises(EdgelidError, match="at least one block"):
        grown(checkpoint, 0)
    *stages, last = checkpoint.config.model.stages
    late = replace(checkpoint.config.model, stages=(*stages, replace(last, delay=1)))
    with pytest.raises(EdgelidError, match="would delay the answer"):
        grown(replace(checkpoint, config=replace(checkpoint.config, model=late)), 1)
