"""A compact model without some of its blocks: a smaller one to go on with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint, build_model, restore_model, weights_of


def thinned(checkpoint: Checkpoint, left_out: Collection[int]) -> Checkpoint:
    """Leave blocks of the last stage out; a block adds to what passes it, so the rest still works.

    Parameters
    ----------
    checkpoint : Checkpoint
    left_out : collection of int
        Blocks, counted from zero.

    Raises
    ------
    EdgelidError
        If the last stage has no such block.
    """
    config = checkpoint.config
    *before, last = config.model.stages
    if unknown := sorted(set(left_out) - set(range(last.blocks))):
        raise EdgelidError(
            f"the last stage has {last.blocks} blocks, counted from 0; there is no {unknown[0]}"
        )
    stages = (*before, replace(last, blocks=last.blocks - len(set(left_out))))
    smaller = replace(config, model=replace(config.model, stages=stages))
    old, head = restore_model(checkpoint)
    new, _ = build_model(smaller)
    first = len(old.temporal) - last.blocks
    kept = [i for i in range(len(old.temporal)) if i - first not in left_out]
    for place, i in enumerate(kept):
        new.temporal[place].set_weights(old.temporal[i].get_weights())
        for mine, theirs in zip(new.pointwise[place] or (), old.pointwise[i] or (), strict=True):
            mine.set_weights(theirs.get_weights())
    new.embedding.set_weights(old.embedding.get_weights())
    new.weight.set_weights(old.weight.get_weights())
    return Checkpoint(smaller, checkpoint.step, {}, weights_of(new, head))
