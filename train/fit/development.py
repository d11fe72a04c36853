"""Development scores while training: quick, on float weights, for decisions only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array
from edge.model.modelfile import OTHER
from train.config import RunConfig
from train.features.cache import CachedFeatures, seed_of
from train.model.network import Head, Trunk, pool

DURATIONS_S = (1.0, 3.0, 5.0)
ITEMS_PER_LABEL = 240
SELECT_DURATION_S = 3.0  # the duration whose accuracy picks the best checkpoint
BATCH = 64


@dataclass(frozen=True)
class DevelopmentSet:
    """Stretches of joined speech.

    Attributes
    ----------
    frames : ndarray, shape (items, frames of the longest duration, mels), float16
    labels : ndarray, shape (items,)
        Class of each item.
    sources : tuple of str
        Recording collection of each item.
    languages : int
        The first so many classes are languages.
    """

    frames: np.ndarray
    labels: np.ndarray
    sources: tuple[str, ...]
    languages: int

    @classmethod
    def of(
        cls,
        config: RunConfig,
        rows: pl.DataFrame,
        held_out: np.ndarray,
        features: CachedFeatures,
        items_per_label: int = ITEMS_PER_LABEL,
    ) -> DevelopmentSet:
        """Join each speaker's clips and cut; the sources of a class get equal shares of its items.

        Languages without development sources are left out of the scores.

        Raises
        ------
        EdgelidError
            If there is nothing to score.
        """
        length = int(max(DURATIONS_S) * FRAMES_PER_SECOND)
        labels = config.data.labels
        items: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        for label, source, speaker, indices, most in _speakers(
            rows, held_out, features.lengths[0], labels, length, items_per_label
        ):
            found = items[label][source]
            if len(found) >= most:
                continue
            order = seed_of("development", speaker).permutation(indices)
            joined = np.concatenate([features.clip(int(i), 0) for i in order])
            for start in range(0, len(joined) - length + 1, length):
                found.append(joined[start : start + length])
            del found[most:]
        chosen = [
            (frames, labels.index(label), source)
            for label, sources in items.items()
            for source, stretches in sources.items()
            for frames in stretches
        ]
        if not any(label < len(config.data.languages) for _, label, _ in chosen):
            raise EdgelidError(
                f"the development speech holds no {max(DURATIONS_S):g} s of speech of any speaker "
                "in any of the languages: hold more out with edgelid-train split, or choose others "
                "in [data.development]"
            )
        return cls(
            np.stack([c[0] for c in chosen]),
            np.array([c[1] for c in chosen]),
            tuple(c[2] for c in chosen),
            len(config.data.languages),
        )


def _speakers(
    rows: pl.DataFrame,
    held_out: np.ndarray,
    lengths: np.ndarray,
    labels: Sequence[str],
    item_frames: int,
    items_per_label: int,
) -> Iterator[tuple[str, str, str, list[int], int]]:
    """Speakers of held-out clips who say enough for an item: their clips, of millions of others'.

    Yields
    ------
    label, source, speaker : str
    indices : list of int
        Of the speaker's clips.
    most : int
        Items to take of the source.
    """
    language = pl.col("language").cast(pl.String)
    found = (
        rows[held_out]
        .select(
            pl.when(language.is_in(list(labels)))
            .then(language)
            .otherwise(pl.lit(OTHER))
            .alias("label"),
            pl.concat_str(language, pl.lit("/"), pl.col("source").cast(pl.String)).alias("source"),
            "speaker",
            pl.Series("clip", held_out),
            pl.Series("frames", lengths[held_out].astype(np.int64)),
        )
        .group_by("label", "source", "speaker", maintain_order=True)
        .agg("clip", pl.col("frames").sum())
        .filter(pl.col("frames") >= item_frames)
        .with_columns(sources=pl.col("source").n_unique().over("label"))
    )
    for label, source, speaker, clips, _, sources in found.iter_rows():
        yield label, source, speaker, clips, max(1, items_per_label // sources)


def logits(
    trunk: Trunk, head: Head, frames: np.ndarray, durations_s: Sequence[float]
) -> Float32Array:
    """Scores of the beginnings of stretches of speech.

    Parameters
    ----------
    frames : ndarray, shape (items, frames, mels)

    Returns
    -------
    ndarray, shape (durations, items, classes), float32
    """
    rate = FRAMES_PER_SECOND / trunk.config.stride
    out = []
    for start in range(0, len(frames), BATCH):
        x = frames[start : start + BATCH].astype(np.float32)[:, :, None, :]
        embeddings, weights, _ = trunk(x)
        counts = [max(1, int(d * rate)) for d in durations_s]
        out.append([np.asarray(head(pool(embeddings[:, :n], weights[:, :n]))) for n in counts])
    return np.stack([np.concatenate(parts) for parts in zip(*out, strict=True)])


def score(trunk: Trunk, head: Head, development: DevelopmentSet) -> dict[str, Any]:
    """Macro accuracy over the languages (other classes masked) by duration, and by language.

    Returns
    -------
    dict
        ``select`` is the one number that picks checkpoints: the mean recall of the classes, each
        of which may be answered, ``other`` as well. That is what a device does; without it, a
        language that has just been ``other`` may look right and never be answered.
    """
    everything = logits(trunk, head, development.frames, DURATIONS_S)
    spoken = development.labels < development.languages
    wanted = development.labels[spoken]
    scores: dict[str, Any] = {}
    for duration_s, values in zip(DURATIONS_S, everything, strict=True):
        hit = values[spoken, : development.languages].argmax(-1) == wanted
        by_language = {int(k): float(hit[wanted == k].mean()) for k in np.unique(wanted)}
        scores[f"{duration_s:g}s"] = round(float(np.mean(list(by_language.values()))), 4)
        if duration_s == SELECT_DURATION_S:
            answered = values.argmax(-1) == development.labels
            recalls = [
                answered[development.labels == k].mean() for k in np.unique(development.labels)
            ]
            scores["select"] = round(float(np.mean(recalls)), 4)
            scores["by_language"] = {k: round(v, 3) for k, v in by_language.items()}
    strangers = ~spoken
    if strangers.any():
        hit = everything[-1][strangers].argmax(-1) == development.labels[strangers]
        scores["other"] = round(float(hit.mean()), 4)
    return scores
