"""The state of a training run, beside its checkpoint: one that was stopped goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file
from train.model.unreadable import UNREADABLE
from train.waveforms.stepper import Clock, Stepper, report

SAVE_EVERY_S = 300.0


def state_file(checkpoint: Path) -> Path:
    """Where the state of the run lies that writes a checkpoint."""
    return checkpoint.with_suffix(".state.npz")


def digest(config: Mapping[str, Any], *others: Any) -> str:
    """What tells a run from others, whose state it must not take over.

    Parameters
    ----------
    config : mapping
        Its configuration.
    *others : str, float or None
        What it depends on besides: fingerprints of the weights that it begins with, of who
        teaches, and of the bank; the scale of its batches. Not its length: a run may be given
        more time.
    """
    told = json.dumps([config, *others], sort_keys=True, default=str)  # TOML has dates
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Course:
    """The course of a run, whose state is kept beside its checkpoint every few minutes.

    A run that was stopped, from the keyboard or otherwise, goes on from there.

    Parameters
    ----------
    checkpoint : Path
        That the run writes.
    stepper : Stepper
        Takes over the state that is there.
    limit_s : float
        Length of the run, with what it had of it before.
    run : str
        What tells it from others, see :func:`digest`.
    every_s : float
        After which the state is kept again.

    Attributes
    ----------
    begun : int
        Steps that were done before.
    clock : Clock
    best : float
        Score of the checkpoint; minus infinity if there is none yet.
    """

    def __init__(
        self,
        checkpoint: Path,
        stepper: Stepper,
        limit_s: float,
        run: str,
        every_s: float = SAVE_EVERY_S,
    ) -> None:
        self._checkpoint, self._stepper, self._every_s = checkpoint, stepper, every_s
        self._run = run
        self.begun, spent_s, self.best = load_state(checkpoint, stepper, run)
        self.clock, self._saved_s = Clock(limit_s, spent_s), spent_s
        self._before = 0

    def run(
        self,
        steps: float,
        take: Callable[[int], tuple[int, dict[str, Any]]],
        look: Callable[[int], None],
        log_every: int,
        look_every_s: float = math.inf,
    ) -> None:
        """Take the steps that are left, and look at what was learnt, at the end at least.

        Whoever stops it from the keyboard loses nothing.

        Parameters
        ----------
        steps : float
            Length of the run; infinite where its time alone ends it.
        take : callable
            Takes the step of a number, from 0 on, and tells how many clips were heard by then, and
            figures.
        look : callable
            Scores and keeps the models, which have their averaged weights, after so many steps.
        log_every : int
            Steps.
        look_every_s : float
        """
        # Steps that do not count: what is new learns first, or a step compiles.
        self._before = self._steps - self.begun
        # Who begins takes one at least, however short the time.
        done, last = self.begun, self.begun >= steps or (self.begun > 0 and self.clock.over)
        try:
            while not last:
                clips, figures = take(done)
                done += 1
                last = done >= steps or self.clock.over
                if (done - 1) % log_every == 0 or last:
                    report(done, self.clock, clips, figures)
                if not last and self.clock.due(look_every_s):
                    self._look(look, done)
                self._save_if_due()
            self._look(look, done)
        except KeyboardInterrupt:
            # JAX gives the memory of a state to the step that makes the next one: amid it there
            # is nothing to be kept.
            with contextlib.suppress(RuntimeError):
                self._save()
            raise

    def _look(self, look: Callable[[int], None], done: int) -> None:
        self._save()  # scoring takes a while
        self._stepper.settle()
        look(done)
        self._save()  # with the best score

    @property
    def _steps(self) -> int:
        return int(self._stepper.state["step"])

    def _save(self) -> None:
        step = self._steps - self._before
        if not step:
            return  # it would be taken for a run that begins: without the time that it had spent
        spent_s = self.clock.spent_s
        save_state(self._checkpoint, self._stepper, self._run, step, spent_s, self.best)
        self._saved_s = self.clock.spent_s

    def _save_if_due(self) -> None:
        if self.clock.spent_s - self._saved_s >= self._every_s:
            self._save()


def save_state(
    checkpoint: Path, stepper: Stepper, run: str, step: int, spent_s: float, best: float
) -> None:
    """Write weights, moments and averages, whose they are, how far it has come, and its best."""
    arrays = {
        f"{name}/{i}": ops.convert_to_numpy(value)
        for name, values in stepper.state.items()
        for i, value in enumerate(values if isinstance(values, list) else [values])
    }
    with atomic_file(state_file(checkpoint)) as file:
        told = {"run": np.array([step, spent_s, best]), "whose": np.array(run)}
        np.savez(file, allow_pickle=False, **told, **arrays)


def load_state(checkpoint: Path, stepper: Stepper, run: str) -> tuple[int, float, float]:
    """Take over what :func:`save_state` wrote, if there is any.

    Returns
    -------
    step : int
    spent_s : float
        Both zero for a run that begins.
    best : float
        As of `Course`.

    Raises
    ------
    EdgelidError
        If it is damaged, or of another run.
    """
    file = state_file(checkpoint)
    if not file.exists():
        return 0, 0.0, -math.inf
    try:
        with np.load(file, allow_pickle=False) as archive:
            if "whose" not in archive.files:
                raise EdgelidError(
                    f"{file} does not tell of which run it is, as older versions wrote it: remove "
                    "it to begin anew"
                )
            if str(archive["whose"]) != run:
                raise ValueError("another run")
            state: dict[str, Any] = {}
            for name, values in stepper.state.items():
                if isinstance(values, list):
                    state[name] = [_like(v, archive[f"{name}/{i}"]) for i, v in enumerate(values)]
                else:
                    state[name] = _like(values, archive[f"{name}/0"])
            step, spent_s, best = archive["run"].tolist()
    except UNREADABLE as error:
        raise EdgelidError(
            f"{file} is damaged or of another run: remove it to begin anew"
        ) from error
    stepper.state = state
    return int(step), float(spent_s), float(best)


def _like(value: Any, kept: np.ndarray) -> Any:
    if tuple(value.shape) != kept.shape:
        raise ValueError("another shape")
    return ops.convert_to_tensor(kept, value.dtype)
