"""The state of a training run, beside its checkpoint: one that was stopped goes on from there."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file
from train.waveforms.stepper import Stepper


def state_file(checkpoint: Path) -> Path:
    """Where the state of the run lies that writes a checkpoint."""
    return checkpoint.with_suffix(".state.npz")


def save_state(checkpoint: Path, stepper: Stepper, step: int, spent_s: float) -> None:
    """Write weights, moments and averages, and how far the run has come."""
    arrays = {
        f"{name}/{i}": ops.convert_to_numpy(value)
        for name, values in stepper.state.items()
        for i, value in enumerate(values if isinstance(values, list) else [values])
    }
    with atomic_file(state_file(checkpoint)) as file:
        np.savez(file, allow_pickle=False, run=np.array([step, spent_s]), **arrays)


def load_state(checkpoint: Path, stepper: Stepper) -> tuple[int, float]:
    """Take over what :func:`save_state` wrote, if there is any.

    Returns
    -------
    step : int
    spent_s : float
        Both zero for a run that begins.

    Raises
    ------
    EdgelidError
        If it is damaged, or of another model.
    """
    file = state_file(checkpoint)
    if not file.exists():
        return 0, 0.0
    try:
        with np.load(file, allow_pickle=False) as archive:
            state: dict[str, Any] = {}
            for name, values in stepper.state.items():
                if isinstance(values, list):
                    state[name] = [_like(v, archive[f"{name}/{i}"]) for i, v in enumerate(values)]
                else:
                    state[name] = _like(values, archive[f"{name}/0"])
            step, spent_s = archive["run"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EdgelidError(
            f"{file} is damaged or of another model: remove it to begin anew"
        ) from error
    stepper.state = state
    return int(step), float(spent_s)


def _like(value: Any, kept: np.ndarray) -> Any:
    if tuple(value.shape) != kept.shape:
        raise ValueError("another shape")
    return ops.convert_to_tensor(kept, value.dtype)
