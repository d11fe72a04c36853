"""A model between one and those that went on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.errors import EdgelidError
from train.model.checkpoint import Checkpoint
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
        If they do not belong together: networks, classes or front ends differ.
    """
    theirs = before.config
    for after, _ in runs:
        mine = after.config
        if (mine.model, mine.front_end, mine.data.labels) != (
            theirs.model,
            theirs.front_end,
            theirs.data.labels,
        ):
            raise EdgelidError("the checkpoints differ in network, front end or classes")
    arrays = {
        name: (value + sum(share * (after.arrays[name] - value) for after, share in runs)).astype(
            value.dtype
        )
        for name, value in before.arrays.items()
    }
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
        If a run did not begin there.
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
    save_parts(output, begun.arrays() | adapters, told | {"scores": {}})
