"""Training: one loop, resumable at any step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.atomic import check_writable, write_atomically
from edge.errors import EdgelidError
from train.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, weights_of
from train.config import OptimiserConfig, RunConfig
from train.corpus import Corpus
from train.development import DevelopmentSet, score
from train.distil import UNITS
from train.sampling import Batch
from train.trainer import Trainer

log = logging.getLogger(__name__)

DATA = "data.sha256"  # in the folder of a run: what it learns from


def fit(
    config: RunConfig, run: Path, corpus: Corpus, start: Path | None = None, loaders: int = 0
) -> Checkpoint:
    """Train to the end of the plan, from the last checkpoint of the run if there is one.

    A run that was stopped and goes on ends, on the same machine, with the very bits of one that
    was not: batches and dropout depend on the seed and the step alone. If the data are not those
    that it began with, it goes on nevertheless, and says so.

    Parameters
    ----------
    config : RunConfig
    run : Path
        Folder of the run; gets ``last.npz`` (resumable), ``best.npz`` and ``data.sha256``.
    corpus : Corpus
    start : Path, optional
        Folder of another run whose last state a new run begins with, at its step: the same
        network with a longer plan or more data.
    loaders : int
        Processes that draw batches; none for a thread of this one.

    Returns
    -------
    Checkpoint
        The best one on the development set.

    Raises
    ------
    EdgelidError
        If the folder holds a run of another configuration, or cannot be written to.
    KeyboardInterrupt
        If it is interrupted; the run can then go on from the last whole step.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgelidError(f"cannot make the folder {run}: {error.strerror}") from error
    check_writable(run / LAST)
    trainer = Trainer(config, UNITS if corpus.teacher else 0)
    last, best = _resume(trainer, run)
    _note_data(run / DATA, corpus.digest(), resuming=last is not None)
    first = last.step if last else _continue(trainer, start) if start else 0
    sampler = corpus.sampler(config)
    development = DevelopmentSet.of(config, corpus.rows, corpus.development, corpus.features)
    plan = config.optimiser
    if last and not last.scores and _is_due(first, plan):
        best = _evaluate(trainer, development, run, best)
    batches = sampler.batches(first, plan.steps, loaders=loaders)
    progress = tqdm(batches, str(run), plan.steps, initial=first)
    try:
        for step, (batch,) in enumerate(progress, start=first + 1):
            loss, imitation, accuracy = _update(trainer, batch)
            figures = {"loss": loss, "teacher": imitation, "accuracy": accuracy}
            progress.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
            if _is_due(step, plan):
                tqdm.write(f"step {step}: {progress.postfix}")
                best = _evaluate(trainer, development, run, best)
    except KeyboardInterrupt:
        # By the optimiser's count: the interrupt may have come between a step and this loop's.
        Checkpoint(config, int(trainer.done), {}, trainer.state()).save(run / LAST)
        raise
    return best if best else _evaluate(trainer, development, run, best)


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


def _resume(trainer: Trainer, run: Path) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The last (restored) and the best checkpoint of a run, where there are any."""
    found = []
    for file in (run / LAST, run / BEST):
        found.append(load_checkpoint(file) if file.exists() else None)
        if found[-1] and found[-1].config != trainer.config:
            raise EdgelidError(f"{run} holds a run of another configuration: choose a new folder")
    last, best = found
    if last:
        trainer.restore(last.arrays)
        log.info("resuming at step %d", last.step)
    return last, best


def _continue(trainer: Trainer, start: Path) -> int:
    """Take over the last state of another run; returns the steps it had done."""
    other = load_checkpoint(start / LAST)
    done, planned = other.step, trainer.config.optimiser.steps
    if other.config.model != trainer.config.model or done >= planned:
        raise EdgelidError(
            f"the run {start} cannot be continued: it needs the same [model], and a plan of more "
            f"than its {done} steps"
        )
    trainer.restore(other.arrays)
    log.info("continuing %s at step %d", start, done)
    return done


def _evaluate(
    trainer: Trainer, development: DevelopmentSet, run: Path, best: Checkpoint | None
) -> Checkpoint:
    """Score the averaged model and save the run; returns the best checkpoint so far."""
    config, step = trainer.config, int(trainer.done)
    trunk, head = trainer.averaged_model()
    scores = score(trunk, head, development)
    tqdm.write(f"step {step}: {scores}")
    if best is None or scores["select"] >= best.scores["select"]:
        best = Checkpoint(config, step, scores, weights_of(trunk, head))
        best.save(run / BEST)
    Checkpoint(config, step, scores, trainer.state()).save(run / LAST)
    return best


def _update(trainer: Trainer, batch: Batch) -> tuple[float, float, float]:
    figures = trainer.step(batch.frames, batch.labels, batch.masks, batch.targets, batch.known)
    loss, error, accuracy = (float(figure) for figure in figures)
    if not np.isfinite(loss + error):
        raise EdgelidError("training diverged (the loss is not finite): lower learning_rate")
    return loss, error, accuracy
