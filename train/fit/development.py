"""Development scores while training: quick, on float weights, for decisions only."""

from __future__ import annotations

import logging
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
from train.corpus.held_out import SHORTEST_S
from train.features.cache import CachedFeatures, seed_of
from train.model.network import Head, Trunk, pool

log = logging.getLogger(__name__)

DURATIONS_S = (1.0, 3.0, 5.0)  # where speakers say so much
ITEMS_PER_LABEL = 240
SELECT_DURATION_S = 3.0  # the duration whose accuracy picks the best checkpoint
BATCH = 64


@dataclass(frozen=True)
class DevelopmentSet:
    """Stretches of joined speech.

    Attributes
    ----------
    frames : ndarray, shape (items, frames of an item, mels), float16
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

    @property
    def length_s(self) -> float:
        """Of an item."""
        return float(self.frames.shape[1] / FRAMES_PER_SECOND)

    @property
    def durations_s(self) -> tuple[float, ...]:
        """The lengths to score: `DURATIONS_S`, as far as items go, and the longest there is."""
        shorter = [each for each in DURATIONS_S if each < self.length_s]
        return (*shorter, self.length_s)

    @property
    def select_s(self) -> float:
        """The one of them that picks the best checkpoint."""
        return min(SELECT_DURATION_S, self.length_s)

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

        Items last 5 s, or as long as some speaker of every language speaks. Languages in which
        nobody says a second are left out of the scores, by name.

        Raises
        ------
        EdgelidError
            If there is nothing to score.
        """
        labels = config.data.labels
        voices = _voices(rows, held_out, features.lengths[0], labels)
        length = _item_frames(voices, config.data.languages)
        items: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        for label, source, speaker, indices, most in _speakers(voices, length, items_per_label):
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
        return cls(
            np.stack([c[0] for c in chosen]),
            np.array([c[1] for c in chosen]),
            tuple(c[2] for c in chosen),
            len(config.data.languages),
        )


def _voices(
    rows: pl.DataFrame, held_out: np.ndarray, lengths: np.ndarray, labels: Sequence[str]
) -> pl.DataFrame:
    """Speakers of held-out clips, in each class and source that they are in.

    Returns
    -------
    DataFrame
        Columns ``label``, ``source``, ``speaker``, ``clip`` (a list) and ``frames`` (of all).
    """
    language = pl.col("language").cast(pl.String)
    return (
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
    )


def _item_frames(voices: pl.DataFrame, languages: Sequence[str]) -> int:
    """How long an item can be, so that every language that has speech has some.

    Raises
    ------
    EdgelidError
        If none has.
    """
    tenth = int(FRAMES_PER_SECOND / 10)
    shortest = int(SHORTEST_S * FRAMES_PER_SECOND) - tenth  # a second of sound has fewer frames
    wanted = int(max(DURATIONS_S) * FRAMES_PER_SECOND)
    longest = dict(voices.group_by("label").agg(pl.col("frames").max()).iter_rows())
    heard = {each: longest[each] for each in languages if longest.get(each, 0) >= shortest}
    if not heard:
        raise EdgelidError(
            f"the development speech holds no {SHORTEST_S:g} s of any speaker in any of the "
            "languages: hold more out with edgelid-train split, give the clips of a speaker one "
            "name, or choose other sources in [data.development]"
        )
    if absent := [each for each in languages if each not in heard]:
        log.warning(
            "no development speech of %s: it takes no part in picking the best checkpoint",
            ", ".join(absent),
        )
    least = min(heard.values())
    if least >= wanted:
        return wanted
    frames: int = least // tenth * tenth
    named = [each for each, most in heard.items() if most < wanted]
    log.warning(
        "nobody held out says more than %.1f s of %s: checkpoints are picked on that length",
        frames / FRAMES_PER_SECOND,
        ", ".join(named),
    )
    return frames


def _speakers(
    voices: pl.DataFrame, item_frames: int, items_per_label: int
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
    found = voices.filter(pl.col("frames") >= item_frames).with_columns(
        sources=pl.col("source").n_unique().over("label")
    )
    for label, source, speaker, clips, _, sources in found.iter_rows():
        yield label, source, speaker, clips, max(1, items_per_label // sources)


def logits(
    trunk: Trunk,
    head: Head,
    frames: np.ndarray,
    durations_s: Sequence[float],
    hop_frames: int | None = None,
) -> Float32Array:
    """Scores of the beginnings of stretches of speech.

    Parameters
    ----------
    frames : ndarray, shape (items, frames, mels)
    durations_s : sequence of float
    hop_frames : int, optional
        Of the stream that is asked about; the shortest there is if not given.

    Returns
    -------
    ndarray, shape (durations, items, classes), float32
    """
    stride = trunk.config.stride
    rate, late_frames = FRAMES_PER_SECOND / stride, trunk.config.late_frames(hop_frames or stride)
    out = []
    for start in range(0, len(frames), BATCH):
        x = frames[start : start + BATCH].astype(np.float32)
        embeddings, weights = trunk.of_recording(x, late_frames)
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
    durations_s = development.durations_s
    everything = logits(trunk, head, development.frames, durations_s)
    spoken = development.labels < development.languages
    wanted = development.labels[spoken]
    scores: dict[str, Any] = {}
    for duration_s, values in zip(durations_s, everything, strict=True):
        hit = values[spoken, : development.languages].argmax(-1) == wanted
        by_language = {int(k): float(hit[wanted == k].mean()) for k in np.unique(wanted)}
        scores[f"{duration_s:g}s"] = round(float(np.mean(list(by_language.values()))), 4)
        if duration_s == development.select_s:
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
