"""Batches: balanced by language, then source, then speaker; short clips of a speaker joined.

A batch depends on the seed and the step alone, so a run that resumes sees what it would have
seen, and several workers can each draw their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edge.frontend import FRAMES_PER_SECOND, Float32Array
from edge.modelfile import NONSPEECH, OTHER
from train.augment import SpectrogramAugmenter
from train.config import RunConfig
from train.features import CachedFeatures, seed_of
from train.manifest import Clip
from train.noise import NoiseClip

# Silence between two joined clips: a speaker's natural pause, not long enough to fill a window.
MAX_GAP_S = 0.4
# Of the clips of class nonspeech, those that are digital silence under the augmenter's hiss.
SILENCE_SHARE = 0.15
CLEAN_SHARE = 0.25
MIN_NOISE_FRAMES = 50  # repeated more often than that, any noise becomes a rattle
# Shares of the two classes that are no language, against one for a language.
OTHER_SHARE = 1.5
NONSPEECH_SHARE = 0.7


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes
    ----------
    frames : ndarray, shape (batch, frames, mels), float32
    labels : ndarray, shape (batch,), int32
    masks : ndarray, shape (batch, windows, embeddings), float32
        Windows that the head scores: the whole clip, its first second, and random parts.
    """

    frames: Float32Array
    labels: np.ndarray
    masks: Float32Array


@dataclass(frozen=True)
class _Choice:
    """Items drawn with probability proportional to `weights`."""

    items: list
    weights: np.ndarray

    @classmethod
    def of(cls, weighted: dict) -> _Choice:
        weights = np.array(list(weighted.values()), float)
        return cls(list(weighted), weights / weights.sum())

    def draw(self, rng: np.random.Generator):  # type: ignore[no-untyped-def]
        return self.items[rng.choice(len(self.items), p=self.weights)]


def _share(seconds: float) -> float:
    """Weight of a source or speaker: the root of its speech, at most that of half an hour.

    Equal weights would repeat a source of ten words thousands of times; weights by duration
    would let the largest recording set-up stand for the language.
    """
    return float(min(seconds, 1800.0) ** 0.5)


class BatchSampler:
    """Draws augmented batches.

    Parameters
    ----------
    config : RunConfig
    clips : sequence of Clip
        Training clips, in the order of `features`.
    features : CachedFeatures
    noises : sequence of NoiseClip
        In the order of `noise_features`.
    noise_features : CachedFeatures
    band_centres_hz : ndarray, shape (mels,)
    """

    def __init__(
        self,
        config: RunConfig,
        clips: Sequence[Clip],
        features: CachedFeatures,
        noises: Sequence[NoiseClip],
        noise_features: CachedFeatures,
        band_centres_hz: Float32Array,
    ) -> None:
        self._config = config
        self._features = features
        self._noise_features = noise_features
        self._augment = SpectrogramAugmenter(config.front_end, band_centres_hz)
        self._labels = config.data.labels
        self._frames = int(config.optimiser.clip_s * FRAMES_PER_SECOND)
        self._embeddings = self._frames // config.model.stride
        lengths = noise_features.lengths[0]
        self._noise_kinds = _by_kind(noises, lengths, any_speech=True)
        self._nonspeech_kinds = _by_kind(noises, lengths, any_speech=False)
        # label -> language -> source -> speaker -> clips
        by_speaker: dict = defaultdict(list)
        for index, clip in enumerate(clips):
            label = clip.language if clip.language in self._labels else OTHER
            by_speaker[label, clip.language, clip.source, clip.speaker].append(index)
        seconds = {k: sum(clips[i].duration_s for i in v) for k, v in by_speaker.items()}
        self._tree: dict[str, list] = {}
        self._clips_of = {key: np.array(value) for key, value in by_speaker.items()}
        for label in {key[0] for key in by_speaker}:
            tree: dict = defaultdict(lambda: defaultdict(dict))
            for key, duration_s in seconds.items():
                if key[0] == label:
                    tree[key[1]][key[2]][key] = duration_s
            self._tree[label] = [
                _Choice.of(dict.fromkeys(tree, 1.0)),
                {
                    language: (
                        _Choice.of({s: _share(sum(v.values())) for s, v in sources.items()}),
                        {
                            source: _Choice.of({key: _share(s) for key, s in speakers.items()})
                            for source, speakers in sources.items()
                        },
                    )
                    for language, sources in tree.items()
                },
            ]
        shares = dict.fromkeys(self._tree, 1.0)
        if OTHER in shares:
            shares[OTHER] = OTHER_SHARE
        self._classes = _Choice.of({**shares, NONSPEECH: NONSPEECH_SHARE})

    def batch(self, step: int) -> Batch:
        """Draw the batch of a step.

        Parameters
        ----------
        step : int

        Returns
        -------
        Batch
        """
        rng = seed_of(self._config.seed, step)
        count = self._config.optimiser.batch_clips
        labels = [self._classes.draw(rng) for _ in range(count)]
        frames = np.stack([self._draw(label, rng) for label in labels])
        noise = np.stack([self._noise(self._noise_kinds, rng) for _ in range(count)])
        speech = np.array([label != NONSPEECH for label in labels])
        return Batch(
            self._augment(frames, noise, speech, rng),
            np.array([self._labels.index(label) for label in labels], np.int32),
            np.stack([self._windows(rng) for _ in range(count)]),
        )

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of steps ``first <= step < last``, drawn ahead by one thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self.batch, step) for step in range(first, min(first + 4, last))]
            for step in range(first, last):
                batch = ahead.pop(0).result()
                if step + 4 < last:
                    ahead.append(pool.submit(self.batch, step + 4))
                yield batch

    def _draw(self, label: str, rng: np.random.Generator) -> Float32Array:
        if label == NONSPEECH:
            if rng.random() < SILENCE_SHARE:
                return np.zeros((self._frames, self._config.front_end.mels), np.float32)
            return self._noise(self._nonspeech_kinds, rng)
        languages, sources_of = self._tree[label]
        sources, speakers_of = sources_of[languages.draw(rng)]
        clips = self._clips_of[speakers_of[sources.draw(rng)].draw(rng)]
        out = np.zeros((self._frames, self._config.front_end.mels), np.float32)
        at = int(rng.integers(0, MAX_GAP_S * FRAMES_PER_SECOND))
        while at < self._frames:
            variant = 0
            if rng.random() >= CLEAN_SHARE and len(self._features.frames) > 1:
                variant = int(rng.integers(1, len(self._features.frames)))
            piece = self._features.clip(int(rng.choice(clips)), variant)
            if len(piece) > self._frames:
                start = int(rng.integers(0, len(piece) - self._frames + 1))
                piece = piece[start : start + self._frames]
            piece = piece[: self._frames - at]
            out[at : at + len(piece)] = piece
            at += len(piece) + int(rng.integers(0, MAX_GAP_S * FRAMES_PER_SECOND))
        return out

    def _noise(self, kinds: dict[str, np.ndarray], rng: np.random.Generator) -> Float32Array:
        """A stretch of noise of a random kind, repeated where it is short, (frames, mels)."""
        kind = list(kinds)[rng.integers(len(kinds))]
        clip = self._noise_features.clip(int(rng.choice(kinds[kind])), 0)
        start = int(rng.integers(0, max(1, len(clip) - self._frames)))
        return np.resize(
            clip[start : start + self._frames].astype(np.float32), (self._frames, clip.shape[1])
        )

    def _windows(self, rng: np.random.Generator) -> Float32Array:
        masks = np.zeros((4, self._embeddings), np.float32)
        second = round(FRAMES_PER_SECOND / self._config.model.stride)
        masks[0] = 1
        masks[1, :second] = 1
        for row, lengths in ((2, (second, 2 * second)), (3, (2 * second, self._embeddings))):
            length = int(rng.integers(lengths[0], lengths[1] + 1))
            start = int(rng.integers(0, self._embeddings - length + 1))
            masks[row, start : start + length] = 1
        return masks


def _by_kind(
    noises: Sequence[NoiseClip], lengths: np.ndarray, any_speech: bool
) -> dict[str, np.ndarray]:
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, noise in enumerate(noises):
        if lengths[index] >= MIN_NOISE_FRAMES and (any_speech or not noise.has_speech):
            kinds[noise.kind].append(index)
    return {kind: np.array(indices) for kind, indices in kinds.items()}
