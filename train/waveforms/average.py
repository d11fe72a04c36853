"""The average of two models, of which one went on from the other."""

from __future__ import annotations

from dataclasses import replace

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint


def averaged(before: Checkpoint, after: Checkpoint, share: float) -> Checkpoint:
    """Weights between those from which a run began and those to which it came.

    Such a model is often better about what neither has heard than both (Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models").

    Parameters
    ----------
    before, after : Checkpoint
    share : float
        Of `after`.

    Raises
    ------
    EdgelidError
        If they are no such pair: networks, classes or front ends differ.
    """
    mine, theirs = after.config, before.config
    if (mine.model, mine.front_end, mine.data.labels) != (
        theirs.model,
        theirs.front_end,
        theirs.data.labels,
    ):
        raise EdgelidError("the two checkpoints differ in network, front end or classes")
    arrays = {
        name: (share * value + (1 - share) * before.arrays[name]).astype(value.dtype)
        for name, value in after.arrays.items()
    }
    return replace(after, arrays=arrays, scores={})  # nobody has measured it yet
