"""The learning curve: accuracy by the number of sources a language was learnt from.

    python -m train.evaluation.learning_curve train/checkpoints/edgelid-9.npz --cache CACHE \
        --json curve.json

Training the network anew for every point would take days. The trunk stays, and a linear classifier
on its pooled embeddings is fitted to the speech of the first one, two, three ... sources of each
language, in several random orders, and scored on the development sources. It tells what more
sources bring to the decision between languages; the trunk has heard all of them. The same amount
of speech of every source is used, so hours grow with sources; to part the two, every point is also
fitted to as much speech from one source fewer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.frontend import FRAMES_PER_SECOND, Float32Array
from edge.system.atomic import check_writable
from train.command import run
from train.config import RunConfig
from train.corpus.manifest import corpus_dir
from train.evaluation.report import write_json
from train.features.cache import seed_of
from train.fit.development import BATCH, DevelopmentSet
from train.fit.training_data import Corpus, Place, open_corpus
from train.model.checkpoint import load_checkpoint, restore_model
from train.model.network import Trunk, pool

DURATION_S = 3.0
ITEMS_PER_SOURCE = 30  # a small source has fewer
ORDERS = 8
# Inverse strength of the penalty: there are as many statistics as examples.
REGULARISATION = 0.01


@dataclass(frozen=True)
class Examples:
    """Pooled embeddings of stretches of speech.

    Attributes
    ----------
    pooled : ndarray, shape (items, 2 * embedding), float32
    labels : ndarray, shape (items,)
    sources : ndarray of str, shape (items,)
    """

    pooled: Float32Array
    labels: np.ndarray
    sources: np.ndarray


def pooled_embeddings(trunk: Trunk, frames: np.ndarray) -> Float32Array:
    """Statistics of the first seconds of stretches of speech.

    Parameters
    ----------
    frames : ndarray, shape (items, frames, mels)

    Returns
    -------
    ndarray, shape (items, 2 * embedding)
    """
    length = int(DURATION_S * FRAMES_PER_SECOND)
    out = []
    for start in range(0, len(frames), BATCH):
        x = frames[start : start + BATCH, :length].astype(np.float32)
        late_frames = trunk.config.late_frames(trunk.config.stride)
        out.append(np.asarray(pool(*trunk.of_recording(x, late_frames))))
    return np.concatenate(out)


def examples(corpus: Corpus, indices: np.ndarray, config: RunConfig, trunk: Trunk) -> Examples:
    """Stretches of the languages of a model, as its trunk hears them."""
    # The set shares its items among sources: ask for more than any source can have, then limit.
    every = DevelopmentSet.of(config, corpus.rows, indices, corpus.features, items_per_label=10**6)
    seen: dict[str, int] = {}
    chosen = []
    for i, (label, source) in enumerate(zip(every.labels, every.sources, strict=True)):
        if label < every.languages and seen.setdefault(source, 0) < ITEMS_PER_SOURCE:
            seen[source] += 1
            chosen.append(i)
    sources = np.array(every.sources)[chosen]
    return Examples(pooled_embeddings(trunk, every.frames[chosen]), every.labels[chosen], sources)


def accuracy(train: Examples, held_out: Examples, chosen: np.ndarray) -> float:
    """Macro accuracy of logistic regression fitted to the `chosen` examples."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=300),
    )
    classifier.fit(train.pooled[chosen], train.labels[chosen])
    return float(balanced_accuracy_score(held_out.labels, classifier.predict(held_out.pooled)))


def learning_curve(train: Examples, held_out: Examples) -> list[dict[str, Any]]:
    """Accuracy by the number of sources of each language.

    Returns
    -------
    list of dict
        For each number: ``sources``, ``items`` (mean), ``accuracy`` (mean over orders),
        ``lowest``, ``highest``; and ``same_amount_fewer_sources``, the mean accuracy with as
        many items drawn from the sources of the point before.
    """
    by_label = {
        label: np.unique(train.sources[train.labels == label]) for label in np.unique(train.labels)
    }
    most = max(len(sources) for sources in by_label.values())
    points: list[dict[str, Any]] = []
    for count in range(1, most + 1):
        scores, fewer, items = [], [], []
        for order in range(ORDERS):
            rng = seed_of("learning curve", order)
            ranked = {label: rng.permutation(sources) for label, sources in by_label.items()}
            chosen = _of(train, [s for r in ranked.values() for s in r[:count]])
            before = _of(train, [s for r in ranked.values() for s in r[: max(1, count - 1)]])
            repeated = rng.choice(before, size=len(chosen), replace=len(chosen) > len(before))
            items.append(len(chosen))
            scores.append(accuracy(train, held_out, chosen))
            fewer.append(accuracy(train, held_out, repeated))
        points.append(
            {
                "sources": count,
                "items": round(float(np.mean(items))),
                "accuracy": round(float(np.mean(scores)), 4),
                "lowest": round(min(scores), 4),
                "highest": round(max(scores), 4),
                "same_amount_fewer_sources": round(float(np.mean(fewer)), 4),
            }
        )
    return points


def _of(train: Examples, sources: Sequence[str]) -> np.ndarray:
    return np.flatnonzero(np.isin(train.sources, sources))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, compute, print a line a point."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.learning_curve", description=learning_curve.__doc__
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="manifest or folder")
    parser.add_argument("--also", type=Path, action="append", default=[], help="of another corpus")
    parser.add_argument("--cache", type=Path, required=True, help="folder for features")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        check_writable(options.json)
        checkpoint = load_checkpoint(options.checkpoint)
        config = checkpoint.config
        trunk, _ = restore_model(checkpoint)
        place = Place((options.corpus, *options.also), options.cache)
        corpus = open_corpus(_without_teacher(config), place)
        train, held_out = (
            examples(corpus, indices, config, trunk)
            for indices in (corpus.train, corpus.development)
        )
        points = learning_curve(train, held_out)
        write_json(options.json, {"duration_s": DURATION_S, "orders": ORDERS, "points": points})
        for point in points:
            print(
                f"{point['sources']:>2} sources, {point['items']:>5} items: "
                f"{point['accuracy']:.1%} ({point['lowest']:.1%} to {point['highest']:.1%}); "
                f"as much of one source fewer: {point['same_amount_fewer_sources']:.1%}"
            )

    return run("train.evaluation.learning_curve", work, "nothing was written")


def _without_teacher(config: RunConfig) -> RunConfig:
    return replace(config, optimiser=replace(config.optimiser, teacher_weight=0.0))


if __name__ == "__main__":
    sys.exit(main())
