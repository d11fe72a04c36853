"""Benchmark of drawing batches, against what a training step takes of them.

    python -m train.fit.pipeline_bench train/configs/edgelid-9.toml --corpus CORPUS --step

It draws batches with several numbers of loaders, and tells the clips a second by the clock and
the processor time of a clip; with ``--step`` also what this machine trains on meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgelidError
from train.command import DEFAULT_CACHE, run
from train.config import RunConfig, read_config
from train.corpus.manifest import corpus_dir
from train.fit.sampling import Batch
from train.fit.training_data import Corpus, Place, open_corpus

WARM_UP_STEPS = 3  # until the first files are open, and TensorFlow has built its graph


@dataclass(frozen=True)
class Pace:
    """How fast clips went.

    Attributes
    ----------
    clips_per_s : float
        By the clock, which tells of whatever else the machine does.
    processor_ms : float
        Processor time of a clip, of all processes.
    """

    clips_per_s: float
    processor_ms: float

    def line(self, what: str) -> str:
        """As a row of a table."""
        return f"{what:24} {self.clips_per_s:8.0f} clips/s {self.processor_ms:8.2f} ms a clip"


def drawing(corpus: Corpus, config: RunConfig, steps: int, loaders: int) -> Pace:
    """Draw batches and do nothing with them."""
    last = WARM_UP_STEPS * max(1, loaders) + steps
    batches = corpus.sampler(config).batches(0, last, loaders=loaders)
    for _ in range(last - steps):
        next(batches)
    begun, used = time.perf_counter(), _processor_s()
    for _ in batches:  # to its end: processes tell what they used when they have ended
        pass
    return _pace(begun, used, steps * config.optimiser.batch_clips)


def stepping(corpus: Corpus, config: RunConfig, steps: int) -> Pace:
    """Train on batches that are there already."""
    from train.fit.distillation import UNITS
    from train.fit.trainer import Trainer

    trainer = Trainer(config, UNITS if corpus.teacher else 0)
    batches = list(corpus.sampler(config).batches(0, WARM_UP_STEPS + steps))

    def train(batch: list[Batch]) -> None:
        float(trainer.step(batch)[0])  # waits for it

    for batch in batches[:WARM_UP_STEPS]:
        train(batch)
    begun, used = time.perf_counter(), _processor_s()
    for batch in batches[WARM_UP_STEPS:]:
        train(batch)
    return _pace(begun, used, steps * config.optimiser.batch_clips)


def _processor_s() -> float:
    """Of this process and of those it has seen end."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _pace(begun: float, used: float, clips: int) -> Pace:
    return Pace(clips / (time.perf_counter() - begun), (_processor_s() - used) / clips * 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print a line each."""
    parser = argparse.ArgumentParser(
        prog="python -m train.fit.pipeline_bench", description="Measures the drawing of batches."
    )
    parser.add_argument("config", type=Path, help="TOML file of a run")
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="manifest or folder")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for features")
    parser.add_argument("--loaders", default="0,1,2", help="numbers of processes (%(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="batches (%(default)s)")
    parser.add_argument("--step", action="store_true", help="measure training steps as well")
    options = parser.parse_args(arguments)

    def work() -> None:
        try:
            loaders = [int(part) for part in options.loaders.split(",")]
        except ValueError as error:
            raise EdgelidError("--loaders must be numbers, such as 0,1,2") from error
        if min([*loaders, options.steps - 1]) < 0:
            raise EdgelidError("--loaders must be at least 0, and --steps at least 1")
        config = read_config(options.config)
        plan = dataclasses.replace(config.optimiser, teacher_weight=0.0)
        config = dataclasses.replace(config, optimiser=plan)
        workers = os.cpu_count() or 1
        corpus = open_corpus(config, Place((options.corpus,), options.cache.expanduser(), workers))
        for count in loaders:
            pace = drawing(corpus, config, options.steps, count)
            print(pace.line(f"drawing, {count} loaders"), flush=True)
        if options.step:
            print(stepping(corpus, config, options.steps).line("training steps"))

    return run("train.fit.pipeline_bench", work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
