"""Comparison of two checkpoints, before and after fine-tuning, language by language.

Unlike the development score, which is about the languages alone, ``other`` and ``nonspeech`` count
as answers here: a language that was of class ``other`` should become one of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.model.modelfile import OTHER
from train.command import run
from train.corpus.manifest import corpus_dir, open_manifest
from train.features.cache import prepare
from train.fit.development import DevelopmentSet, logits
from train.fit.training_data import Place, open_corpus
from train.model.checkpoint import Checkpoint, load_checkpoint, restore_model

DURATION_S = 3.0


@dataclass(frozen=True)
class Answers:
    """What a checkpoint says of the stretches in one language.

    Attributes
    ----------
    right, other : float
        Shares that are answered with the language, and with ``other``.
    mistaken : float
        Share of all that is spoken in other languages that is answered with this one.
    """

    right: float
    other: float
    mistaken: float


def answers(checkpoint: Checkpoint, stretches: DevelopmentSet) -> dict[str, Answers]:
    """By the language that is spoken; of class ``other``, all of them together."""
    labels = np.array(checkpoint.config.data.labels)
    scores = logits(*restore_model(checkpoint), stretches.frames, [DURATION_S])[0]
    said = labels[scores.argmax(-1)]
    spoken = np.array([source.partition("/")[0] for source in stretches.sources])
    spoken = np.where(stretches.labels < stretches.languages, spoken, OTHER)
    return {
        str(language): Answers(
            float((said[spoken == language] == language).mean()),
            float((said[spoken == language] == OTHER).mean()),
            float((said[spoken != language] == language).mean()),
        )
        for language in np.unique(spoken)
    }


def stretches_of(
    checkpoint: Checkpoint, corpus: Path, cache: Path, split: str, workers: int
) -> DevelopmentSet:
    """Held-out speech: development sources, or the test split, with the checkpoint's classes.

    Raises
    ------
    EdgelidError
        If there is none, or its features cannot be computed.
    """
    config = checkpoint.config
    if split == "dev":
        plan = replace(config.optimiser, teacher_weight=0.0)
        place = Place((corpus,), cache, workers)
        opened = open_corpus(replace(config, optimiser=plan), place)
        return DevelopmentSet.of(config, opened.rows, opened.development, opened.features)
    manifest = open_manifest(corpus).where(pl.col("split") == split)
    paths = manifest.rows["path"]
    if paths.is_empty():
        raise EdgelidError(f"the corpus {corpus} has no clips in its split {split}")
    features = prepare(manifest.root, paths, cache, config.front_end, 0, [], workers)
    return DevelopmentSet.of(config, manifest.rows, np.arange(len(paths)), features)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, compare, print a line a language."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluation.compare", description=__doc__)
    parser.add_argument("before", type=Path, help="checkpoint, or folder of a run")
    parser.add_argument("after", type=Path, help="the same; its languages are told about")
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="its manifest or folder")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--cache", type=Path, required=True, help="folder for features")
    parser.add_argument("--workers", type=int, default=1, help="processes, for features")
    options = parser.parse_args(arguments)

    def work() -> None:
        before, after = load_checkpoint(options.before), load_checkpoint(options.after)
        if before.config.front_end != after.config.front_end:  # both are given the same features
            raise EdgelidError(
                f"{options.before} and {options.after} cannot be compared: their front ends differ"
            )
        stretches = stretches_of(
            after, options.corpus, options.cache, options.split, options.workers
        )
        old, new = answers(before, stretches), answers(after, stretches)
        length_s = min(DURATION_S, stretches.length_s)
        print(f"of {length_s:g} s    right before, after    `other` before, after")
        for language in sorted(old, key=lambda each: (each == OTHER, each)):
            one, two = old[language], new[language]
            print(
                f"{language:<12}{one.right:9.1%}{two.right:9.1%}{one.other:14.1%}{two.other:9.1%}"
            )
        known = [k for k in old if k in before.config.data.languages]
        means = [np.mean([told[k].right for k in known]) for told in (old, new)]
        print(
            f"mean of the {len(known)} that both know: {means[0]:.1%} before, {means[1]:.1%} after"
        )
        added = [k for k in after.config.data.languages if k not in before.config.data.languages]
        for language in added:
            share = new[language].mistaken
            print(f"speech of other languages that is taken for {language}: {share:.1%}")

    return run("train.evaluation.compare", work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
