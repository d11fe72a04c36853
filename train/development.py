"""Scores on held-out sources while training: quick, on float weights, for decisions only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array
from edge.modelfile import OTHER
from train.config import RunConfig
from train.features import CachedFeatures, seed_of
from train.manifest import Clip
from train.model import Head, Trunk, pool

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
        clips: Sequence[Clip],
        held_out: Sequence[int],
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
        by_speaker: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        labels = config.data.labels
        for i in held_out:
            clip = clips[i]
            label = clip.language if clip.language in labels else OTHER
            by_speaker[label, f"{clip.language}/{clip.source}", clip.speaker].append(i)
        items: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        for (label, source, speaker), indices in by_speaker.items():
            order = seed_of("development", speaker).permutation(indices)
            joined = np.concatenate([features.clip(int(i), 0) for i in order])
            for start in range(0, len(joined) - length + 1, length):
                items[label][source].append(joined[start : start + length])
        chosen = [
            (frames, labels.index(label), source)
            for label, sources in items.items()
            for source, stretches in sources.items()
            for frames in stretches[: max(1, items_per_label // len(sources))]
        ]
        if not any(label < len(config.data.languages) for _, label, _ in chosen):
            raise EdgelidError(
                f"the development sources hold no {max(DURATIONS_S):g} s of speech of any speaker "
                "in any of the languages: choose others in [data.development]"
            )
        return cls(
            np.stack([c[0] for c in chosen]),
            np.array([c[1] for c in chosen]),
            tuple(c[2] for c in chosen),
            len(config.data.languages),
        )


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
        ``select`` is the one number that picks checkpoints.
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
            scores["select"] = scores[f"{duration_s:g}s"]
            scores["by_language"] = {k: round(v, 3) for k, v in by_language.items()}
    strangers = ~spoken
    if strangers.any():
        hit = everything[-1][strangers].argmax(-1) == development.labels[strangers]
        scores["other"] = round(float(hit.mean()), 4)
    return scores
