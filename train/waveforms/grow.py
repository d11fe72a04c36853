"""A larger network that begins as the function of a smaller one, or nearly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint, build_model, restore_model, weights_of

# What a frame that was out of reach has added to its score of attention, beside what the nearest
# one in reach has: a seventh of its weight.
BEYOND = -2.0


def farseeing(checkpoint: Checkpoint, ahead: int) -> Checkpoint:
    """Let layers of attention wait for more frames that follow.

    Parameters
    ----------
    checkpoint : Checkpoint
    ahead : int
        Frames that follow, which each layer is to attend to.

    Raises
    ------
    EdgelidError
        If there are no such layers, or they wait for as much already.
    """
    shape = checkpoint.config.model
    if shape.attention is None or ahead <= shape.attention.ahead:
        raise EdgelidError("only layers of attention can wait for more than they do, with --ahead")
    wider = replace(shape.attention, ahead=ahead)
    config = replace(checkpoint.config, model=replace(shape, attention=wider))
    before, head = restore_model(checkpoint)
    after, _ = build_model(config)
    more = ahead - shape.attention.ahead
    for mine, theirs in zip(before.weights, after.weights, strict=True):
        value = np.asarray(mine)
        if mine.path.endswith("distance"):
            value = np.concatenate([value, np.repeat(value[:, -1:] + BEYOND, more, axis=1)], axis=1)
        theirs.assign(value)
    return replace(checkpoint, config=config, arrays=weights_of(after, head))


def grown(checkpoint: Checkpoint, blocks: int) -> Checkpoint:
    """Add residual blocks to the end of the last stage, which change nothing until they learn.

    The branch of a new block ends in a normalisation whose scale is zero (Goyal et al. 2017,
    "Accurate, large minibatch SGD", 5.1), and what passes beside it has been rectified before.

    Parameters
    ----------
    checkpoint : Checkpoint
    blocks : int
        To be added.

    Raises
    ------
    EdgelidError
        If there would be none, or the last stage delays what passes a block: then each of them
        delays the answer.
    """
    shape = checkpoint.config.model
    last = shape.stages[-1]
    if blocks < 1:
        raise EdgelidError("at least one block must be added")
    if last.delay:
        raise EdgelidError("only a stage without delay can grow: a block would delay the answer")
    stages = (*shape.stages[:-1], replace(last, blocks=last.blocks + blocks))
    config = replace(checkpoint.config, model=replace(shape, stages=stages))
    before, head = restore_model(checkpoint)
    after, _ = build_model(config)
    layers = zip(before.temporal, after.temporal, strict=False)
    behind = [(trunk.enter, *trunk.attention, trunk.embedding) for trunk in (before, after)]
    for mine, theirs in [*layers, *zip(*behind, strict=True)]:
        if mine is not None:
            theirs.set_weights(mine.get_weights())
    after.weight.set_weights(before.weight.get_weights())
    for pair, made in zip(before.pointwise, after.pointwise, strict=False):
        for mine, theirs in zip(pair or (), made or (), strict=True):
            theirs.set_weights(mine.get_weights())
    for made in after.pointwise[len(before.pointwise) :]:
        for norm in made[1:] if made else ():
            norm.gamma.assign(np.zeros_like(norm.gamma))
    return replace(checkpoint, config=config, arrays=weights_of(after, head))
