"""The training loop, resumable at any step."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from edge.errors import EdgelidError
from edge.system.atomic import write_atomically
from train.config import OptimiserConfig, RunConfig
from train.fit.development import DevelopmentSet, score
from train.fit.distillation import UNITS
from train.fit.distributed import Devices, open_devices
from train.fit.finetune import initial_weights, known_classes
from train.fit.rendezvous import WorkerMissing
from train.fit.sampling import Batch
from train.fit.tensorboard import Journal
from train.fit.trainer import FIXED, FROZEN, Trainer
from train.fit.training_data import Corpus
from train.folder import make_place
from train.model.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    load_checkpoint,
    read_checkpoint,
    weights_of,
)
from train.model.precision import FLOAT32
from train.parallel.progress import bar

log = logging.getLogger(__name__)

DATA = "data.sha256"  # in the folder of a run: what it learns from
TRUNK, KNOWN = "trunk", "known"  # what of another run stays as it is
SAVE_EVERY_S = 300.0  # between evaluations: what a crash can cost
# What a collective operation of TensorFlow ends with when another worker has gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


@dataclass(frozen=True)
class Beginning:
    """Where a new run begins; one that goes on has begun already.

    Attributes
    ----------
    start : Path, optional
        Folder of another run whose last state it begins with, at its step: the same network with
        a longer plan or more data.
    init : Path, optional
        Run or checkpoint whose trunk it begins with, at step 0: other languages.
    freeze : str
        What of `init` stays as it is: `TRUNK`, `KNOWN` (that, and what the head says of the classes
        it has), or nothing.
    """

    start: Path | None = None
    init: Path | None = None
    freeze: str = ""


def fit(
    config: RunConfig,
    run: Path,
    corpus: Corpus,
    beginning: Beginning | None = None,
    precision: str = FLOAT32,
    loaders: int = 0,
) -> Checkpoint | None:
    """Train to the end of the plan, from the last checkpoint of the run if there is one.

    A run that was stopped and goes on ends, on the same machine, with the very bits of one that
    was not: batches and dropout depend on the seed and the step alone. If the data are not those
    that it began with, it goes on nevertheless, and says so.

    Parameters
    ----------
    config : RunConfig
    run : Path
        Folder of the run; gets ``last.npz`` (resumable), ``best.npz``, ``data.sha256`` and
        ``logs``. Of several workers, only the chief uses it.
    corpus : Corpus
    beginning : Beginning, optional
    precision : str
        Of the trunk's arithmetic.
    loaders : int
        Processes that draw batches; none for a thread of this one.

    Returns
    -------
    Checkpoint
        The best one on the development set; None where another worker is the chief.

    Raises
    ------
    EdgelidError
        If the folder holds a run of another configuration, or cannot be written to; as
        WorkerMissing, if another worker is not there, or no longer.
    KeyboardInterrupt
        If it is interrupted, or told to end; the run can then go on from the last whole step.
    """
    beginning = beginning or Beginning()
    digest = corpus.digest()  # of a million rows: once
    devices = open_devices(_agreement(config, digest, beginning, precision))
    with _ended_like_interrupted():
        try:
            session = _Session(config, run, corpus, digest, beginning, precision, devices)
            return session.train(loaders)
        except LOST as error:
            if devices.workers == 1:
                raise
            raise WorkerMissing(
                "another worker has gone: started again, all go on from the last checkpoint"
            ) from error


class _Session:
    """One call of :func:`fit`."""

    def __init__(
        self,
        config: RunConfig,
        run: Path,
        corpus: Corpus,
        digest: str,
        beginning: Beginning,
        precision: str,
        devices: Devices,
    ) -> None:
        self.plan, self.run, self.devices = config.optimiser, run, devices
        self.plan.part_clips(devices.replicas * self.plan.accumulation)  # refused before all else
        last: Checkpoint | None = None
        self.best: Checkpoint | None = None
        if devices.chief:
            make_place(run / LAST)
            last, self.best = _found(config, run)
            if last:
                # What the command says of a beginning is about one that has been.
                beginning = Beginning()
            _note_data(run / DATA, digest, resuming=last is not None)
        told = _frozen(config, last, beginning) if devices.chief else None
        frozen, fixed = json.loads(devices.share(json.dumps(told).encode()))
        if frozen and self.plan.teacher_weight:
            raise EdgelidError(
                "a frozen trunk learns nothing from a teacher: set teacher_weight = 0"
            )
        units = UNITS if corpus.teacher and not frozen else 0
        self.trainer = Trainer(config, units, devices, precision, frozen, fixed)
        if devices.chief:
            _begin(self.trainer, last, beginning)
        _agree(self.trainer)
        self.first = int(self.trainer.done.numpy())
        self.sampler = corpus.sampler(config)
        if devices.chief:
            self.development = DevelopmentSet.of(
                config, corpus.rows, corpus.development, corpus.features
            )
            self.journal = Journal(run)
            if last and not last.scores and _is_due(self.first, self.plan):
                self._evaluate()

    def train(self, loaders: int) -> Checkpoint | None:
        """Go through the steps that are left."""
        plan, trainer = self.plan, self.trainer
        if self._is_over(self.first):
            return self.best
        numbers = self.devices.part_numbers(plan.accumulation)
        batches = self.sampler.batches(self.first, plan.steps, numbers, trainer.parts, loaders)
        progress = bar(
            batches, str(self.run), plan.steps, initial=self.first, is_shown=self.devices.chief
        )
        saved_s = began_s = time.monotonic()
        try:
            for step, batch in enumerate(progress, start=self.first + 1):
                drawn_s = time.monotonic()
                loss, imitation, accuracy = _update(trainer, batch)
                took_s = time.monotonic() - began_s
                figures = {"loss": loss, "teacher": imitation, "accuracy": accuracy}
                progress.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
                if self.devices.chief:
                    figures["learning_rate"] = float(trainer.learning_rates(step - 1))
                    figures["clips_per_second"] = plan.batch_clips / took_s
                    figures["wait_share"] = (drawn_s - began_s) / took_s
                    self.journal.step(step, figures)
                if _is_due(step, plan):
                    if self.devices.chief:
                        tqdm.write(f"step {step}: {progress.postfix}")
                        self._evaluate()
                        saved_s = time.monotonic()
                    if self._is_over(step):
                        break
                elif self.devices.chief and time.monotonic() - saved_s > SAVE_EVERY_S:
                    self._save({})
                    saved_s = time.monotonic()
                began_s = time.monotonic()
        except KeyboardInterrupt:
            # By the trainer's count: the interrupt may have come between a step and this loop's.
            if self.devices.chief:
                self._save({})
            raise
        finally:
            progress.close()
            if self.devices.chief:
                self.journal.close()
        return self.best

    def _evaluate(self) -> None:
        """Score the averaged model and save the run."""
        trainer, step = self.trainer, int(self.trainer.done.numpy())
        trunk, head = trainer.averaged_model()
        scores = score(trunk, head, self.development)
        tqdm.write(f"step {step}: {scores}")
        self.journal.scores(step, scores)
        if self.best is None or scores["select"] >= self.best.scores["select"]:
            self.best = Checkpoint(trainer.config, step, scores, weights_of(trunk, head))
            self.best.save(self.run / BEST)
        self._save(scores)

    def _save(self, scores: dict[str, Any]) -> None:
        _snapshot(self.trainer, scores).save(self.run / LAST)

    def _is_over(self, step: int) -> bool:
        """Whether no step is to follow: all workers wait here for what the chief says."""
        over = step >= self.plan.steps or _is_out_of_patience(self.best, step, self.plan)
        return bool(json.loads(self.devices.share(json.dumps(over).encode())))


def _frozen(
    config: RunConfig, last: Checkpoint | None, beginning: Beginning
) -> tuple[bool, list[bool]]:
    """Whether the trunk stays as it is, and which classes do."""
    if last:
        fixed: list[bool] = last.arrays.get(FIXED, np.zeros(0, bool)).tolist()
        return bool(last.arrays.get(FROZEN, False)), fixed
    if beginning.init and beginning.freeze == KNOWN:
        return True, known_classes(config, beginning.init)
    return beginning.freeze == TRUNK, []


def _agreement(config: RunConfig, digest: str, beginning: Beginning, precision: str) -> str:
    """What all workers must have in common; `digest` is that of the corpus."""
    versions = (tf.__version__, keras.__version__, np.__version__)
    told = [asdict(config), digest, beginning.freeze, precision, versions]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _note_data(file: Path, digest: str, resuming: bool) -> None:
    """Keep what a run began with; warn if one that goes on has something else."""
    if not resuming:
        write_atomically(file, digest.encode())
    elif file.exists() and file.read_text() != digest:
        log.warning(
            "%s began with another corpus, noise or teacher: it goes on, but not as it would have",
            file.parent,
        )


def _is_due(step: int, plan: OptimiserConfig) -> bool:
    """Whether the model is evaluated after so many steps."""
    return step > 0 and (step % plan.evaluate_every_steps == 0 or step == plan.steps)


def _is_out_of_patience(best: Checkpoint | None, step: int, plan: OptimiserConfig) -> bool:
    """Whether too many evaluations have passed since the best one."""
    if plan.patience is None or best is None:
        return False
    every = plan.evaluate_every_steps
    return step // every - best.step // every >= plan.patience


def _found(config: RunConfig, run: Path) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The last and the best checkpoint of a run, where there are any."""
    found = []
    for file in (run / LAST, run / BEST):
        found.append(load_checkpoint(file) if file.exists() else None)
        if found[-1] and found[-1].config != config:
            raise EdgelidError(f"{run} holds a run of another configuration: choose a new folder")
    last, best = found
    return last, best


def _begin(trainer: Trainer, last: Checkpoint | None, beginning: Beginning) -> None:
    """Give the trainer its state."""
    if last:
        trainer.restore(last.arrays, last.step)
        log.info("resuming at step %d", last.step)
    elif beginning.start:
        _continue(trainer, beginning.start)
    elif beginning.init:
        trainer.begin_with(initial_weights(trainer.config, beginning.init))


def _continue(trainer: Trainer, start: Path) -> None:
    """Take over the last state of another run, at its step."""
    other = load_checkpoint(start / LAST)
    done, planned = other.step, trainer.config.optimiser.steps
    theirs, ours = other.config, trainer.config
    differs = (theirs.model, theirs.front_end, theirs.data.labels) != (
        ours.model,
        ours.front_end,
        ours.data.labels,
    )
    if differs or done >= planned:
        raise EdgelidError(
            f"the run {start} cannot be continued: it needs the same [model], [front_end] and "
            f"languages, and a plan of more than its {done} steps"
        )
    trainer.restore(other.arrays, done)
    log.info("continuing %s at step %d", start, done)


def _agree(trainer: Trainer) -> None:
    """Give all workers the state of the chief's trainer."""
    if trainer.devices.workers == 1:
        return
    buffer = io.BytesIO()
    _snapshot(trainer, {}).write(buffer)
    shared = trainer.devices.share(buffer.getvalue())
    if not trainer.devices.chief:
        state = read_checkpoint(io.BytesIO(shared), "the chief's state")
        trainer.restore(state.arrays, state.step)


def _snapshot(trainer: Trainer, scores: dict[str, Any]) -> Checkpoint:
    return Checkpoint(trainer.config, int(trainer.done.numpy()), scores, trainer.state())


def _update(trainer: Trainer, parts: Sequence[Batch]) -> tuple[float, float, float]:
    loss, error, accuracy = (float(figure) for figure in trainer.step(parts))
    if not np.isfinite(loss + error):
        raise EdgelidError("training diverged (the loss is not finite): lower learning_rate")
    return loss, error, accuracy


@contextlib.contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
