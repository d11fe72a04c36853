"""The average of two models, of which one went on from the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint
from train.waveforms.adapters import learnt_beside, put_on, scaled
from train.waveforms.checkpoint import fingerprint, load_parts, save_parts
from train.waveforms.large import large_of


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


def average_large(before: Path, after: Path, share: float, output: Path) -> None:
    """The same of two large models, of which the second is a run's of ``large``.

    Parameters
    ----------
    before, after, output : Path
        As of `train.waveforms.checkpoint.load_parts`.
    share : float
        Of `after`.

    Raises
    ------
    EdgelidError
        If they are no such pair.
    """
    arrays, told = load_parts(before)
    later, told_later = load_parts(after)
    begun, labels = large_of(arrays, told)
    model, known = large_of(later, told_later)
    beside = scaled(learnt_beside(later), share)
    whose = told_later.get("adapted")
    shapes, others = ([w.shape for w in each.get_weights()] for each in (begun, model))
    if labels != known or shapes != others or whose not in (None, fingerprint([begun.encoder])):
        raise EdgelidError(f"{after} is of no run that began with {before}")
    pairs = zip(begun.get_weights(), model.get_weights(), strict=True)
    model.set_weights([old + share * (new - old) for old, new in pairs])
    if beside:
        # As `attach` makes it, to the bit.
        model.encoder.set_weights(begun.encoder.get_weights())
        put_on(model.encoder, beside)
    save_parts(output, model.arrays() | beside, told_later | {"scores": {}})
