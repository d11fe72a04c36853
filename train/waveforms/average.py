"""A model between one and those that went on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint, restore_model
from train.waveforms.adapters import joined, learnt_beside, put_on
from train.waveforms.checkpoint import fingerprint, load_parts, save_parts
from train.waveforms.large import large_of


def averaged(before: Checkpoint, runs: Sequence[tuple[Checkpoint, float]]) -> Checkpoint:
    """Weights between those from which runs began and those to which they came.

    Such a model is often better about what none has heard than all of them (Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models" and "Model soups").

    Parameters
    ----------
    before : Checkpoint
    runs : sequence of (Checkpoint, float)
        What they came to, and how much of the way there is gone. The last one tells what the new
        checkpoint tells.

    Raises
    ------
    EdgelidError
        If they do not belong together, as networks, classes or front ends differ, or one is
        damaged.
    """
    restore_model(before)  # which finds out whether its weights are all there
    theirs = before.config
    for after, _ in runs:
        mine = after.config
        if (mine.model, mine.front_end, mine.data.labels) != (
            theirs.model,
            theirs.front_end,
            theirs.data.labels,
        ):
            raise EdgelidError("the checkpoints differ in network, front end or classes")
        shapes = {name: value.shape for name, value in after.arrays.items()}
        if any(shapes.get(name) != value.shape for name, value in before.arrays.items()):
            raise EdgelidError("the checkpoints differ in their weights: one is damaged")
    with np.errstate(all="ignore"):  # what is not finite is refused in the end
        arrays = {
            name: (
                value + sum(share * (after.arrays[name] - value) for after, share in runs)
            ).astype(value.dtype)
            for name, value in before.arrays.items()
        }
    _check_finite(arrays)
    return replace(runs[-1][0], arrays=arrays, scores={})  # nobody has measured it yet


def average_large(before: Path, runs: Sequence[tuple[Path, float]], output: Path) -> None:
    """The same of large models, and runs of ``large``.

    Parameters
    ----------
    before, output : Path
        As of `train.waveforms.checkpoint.load_parts`.
    runs : sequence of (Path, float)

    Raises
    ------
    EdgelidError
        If a run did not begin there, or a checkpoint is damaged.
    """
    begun, labels = large_of(*load_parts(before))
    whose = (None, fingerprint([begun.encoder]))  # of a run without adapters, and of one with them
    old = begun.get_weights()
    told: dict[str, Any] = {}
    weights, beside = list(old), []
    for after, share in runs:
        arrays, told = load_parts(after)
        model, known = large_of(arrays, told)
        new = model.get_weights()
        if (
            labels != known
            or [w.shape for w in old] != [w.shape for w in new]
            or told.get("adapted") not in whose
        ):
            raise EdgelidError(f"{after} is of no run that began with {before}")
        with np.errstate(all="ignore"):  # what is not finite is refused in the end
            weights = [w + share * (b - a) for w, a, b in zip(weights, old, new, strict=True)]
        beside.append((learnt_beside(arrays), share))
    encoder = begun.encoder.get_weights()
    begun.set_weights(weights)
    # Where one run learnt without them, the sum is no encoder with channels beside it.
    adapters = joined(beside) if all(found for found, _ in beside) else {}
    if adapters:
        # As `attach` makes it, to the bit.
        begun.encoder.set_weights(encoder)
        put_on(begun.encoder, adapters)
    with np.errstate(over="ignore"):  # what half a float cannot hold becomes infinite
        halves = {
            k: np.asarray(v).astype(np.float16) for k, v in (begun.arrays() | adapters).items()
        }
    _check_finite(halves)
    save_parts(output, halves, told | {"scores": {}})


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise EdgelidError unless all weights are numbers."""
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise EdgelidError(
            "weights of the average are not finite: a checkpoint is damaged, or a share too large"
        )
