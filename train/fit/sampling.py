"""Batches: balanced by language, then source, then speaker; short clips of a speaker joined.

A batch depends on the seed and the step alone, so a run that resumes sees what it would have
seen, and several workers can each draw their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, Float64Array
from edge.model.modelfile import NONSPEECH, OTHER
from train.config import RunConfig
from train.features.augmentation import SpectrogramAugmenter
from train.features.cache import CachedFeatures, seed_of
from train.features.noise import NoiseClip
from train.fit.distillation import Origin, Teacher
from train.parallel.pool import CHUNKS_AHEAD, in_order, in_processes

T = TypeVar("T")

# Silence between two joined clips: a speaker's natural pause, not long enough to fill a window.
MAX_GAP_S = 0.4
MAX_GAP_FRAMES = round(MAX_GAP_S * FRAMES_PER_SECOND)
# Of the clips of class nonspeech, those that are digital silence under the augmenter's hiss.
SILENCE_SHARE = 0.15
CLEAN_SHARE = 0.25
# Slower and faster talkers, without the change of pitch that the cached variants have.
TEMPO_RANGE = (0.8, 1.25)
MIN_NOISE_FRAMES = 50  # repeated more often than that, any noise becomes a rattle
# Shares of the two classes that are no language, against one for a language.
OTHER_SHARE = 1.5
NONSPEECH_SHARE = 0.7
WINDOWS = 4  # that the head scores of each clip


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes
    ----------
    frames : ndarray, shape (batch, frames, mels), float32
    labels : ndarray, shape (batch,), int32
    masks : ndarray, shape (batch, windows, embeddings), float32
        Windows that the head scores: the whole clip, its first second, and random parts.
    targets : ndarray, shape (batch, embeddings), int32
        The teacher's units.
    known : ndarray, shape (batch, embeddings), float32
        Where there are targets.
    """

    frames: Float32Array
    labels: np.ndarray
    masks: Float32Array
    targets: np.ndarray
    known: Float32Array


@dataclass(frozen=True)
class _Choice(Generic[T]):
    """Items, and up to where in [0, 1) a random number draws each."""

    items: tuple[T, ...]
    bounds: Float64Array

    @classmethod
    def of(cls, weighted: Iterable[tuple[T, float]]) -> _Choice[T]:
        """Of items and numbers that their probabilities are proportional to."""
        items, weights = zip(*weighted, strict=True)
        return cls(items, _bounds(np.array(weights, float)))

    def draw(self, rng: np.random.Generator) -> T:
        return self.items[_draw(self.bounds, rng)]


def _bounds(weights: Float64Array) -> Float64Array:
    """The cumulative probabilities that `Generator.choice` would work out for every draw."""
    bounds = np.cumsum(weights / np.sum(weights))
    bounds /= bounds[-1]
    return bounds


def _draw(bounds: Float64Array, rng: np.random.Generator) -> int:
    return int(bounds.searchsorted(rng.random(), side="right"))


def _sums(places: np.ndarray, values: Float64Array) -> Float64Array:
    """Sums of the values of each place, added one by one: in no order of the processor's."""
    return np.asarray(np.bincount(places, values), np.float64)


def _share(seconds: Float64Array) -> Float64Array:
    """Weights of sources or speakers: the root of their speech, at most that of half an hour.

    Equal weights would repeat a source of ten words thousands of times; weights by duration
    would let the largest recording set-up stand for the language.
    """
    return np.asarray(np.sqrt(np.minimum(seconds, 1800.0)))


@dataclass(frozen=True)
class _Speech:
    """What each class that is speech is drawn from: its languages, sources, speakers and clips.

    There may be a million speakers: they and their clips are in flat arrays, those of a source
    beside each other.

    Attributes
    ----------
    classes : dict of str to _Choice of _Choice of (int, int)
        In the order of the labels, for each class the languages; for each of these the sources;
        for each of these the first of its speakers, and the one after its last.
    bounds : ndarray, shape (speakers,)
        As of a `_Choice`, for each source on its own.
    firsts : ndarray, shape (speakers + 1,)
        Where each speaker's clips begin.
    clips : ndarray, shape (clips,), int64
        Their indices.
    """

    classes: dict[str, _Choice[_Choice[tuple[int, int]]]]
    bounds: Float64Array
    firsts: np.ndarray
    clips: np.ndarray

    @classmethod
    def of(cls, rows: pl.DataFrame, labels: Sequence[str]) -> _Speech:
        """Build it of the rows of a manifest."""
        keys = ("language", "source", "speaker")
        # In the order in which each language, source and speaker first comes.
        first = pl.col("clip").min()
        firsts = [first.over(keys[: n + 1]).alias(f"first_{key}") for n, key in enumerate(keys)]
        clips = rows.select(*keys, "seconds").with_row_index("clip").with_columns(firsts)
        clips = clips.sort(*(f"first_{key}" for key in keys), "clip")
        starts = clips.with_columns(pl.int_range(pl.len()).alias("start"))
        speakers = starts.unique("first_speaker", keep="first", maintain_order=True)
        first_clips = np.append(speakers["start"].to_numpy(), len(clips))
        of_speaker = np.repeat(np.arange(len(speakers)), np.diff(first_clips))
        seconds = _sums(of_speaker, clips["seconds"].to_numpy())
        places = speakers.with_columns(pl.int_range(pl.len()).alias("place"))
        sources = places.unique("first_source", keep="first", maintain_order=True)
        ends = np.append(sources["place"].to_numpy(), len(speakers))
        bounds = np.empty(len(speakers))
        found: dict[str, dict[str, list[tuple[tuple[int, int], float]]]] = {k: {} for k in labels}
        for language, first, last in zip(
            sources["language"].cast(pl.String), ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            bounds[first:last] = _bounds(_share(seconds[first:last]))
            (spoken,) = _sums(np.zeros(last - first, int), seconds[first:last])
            weight = float(_share(spoken))
            languages = found[language if language in labels else OTHER]
            languages.setdefault(language, []).append(((first, last), weight))
        classes = {
            label: _Choice.of((_Choice.of(weighted), 1.0) for weighted in languages.values())
            for label, languages in found.items()
            if languages
        }
        return cls(classes, bounds, first_clips, clips["clip"].to_numpy().astype(np.int64))

    def draw(self, label: str, rng: np.random.Generator) -> np.ndarray:
        """Clips of a random speaker of a class."""
        first, last = self.classes[label].draw(rng).draw(rng)
        speaker = first + _draw(self.bounds[first:last], rng)
        return self.clips[self.firsts[speaker] : self.firsts[speaker + 1]]


class BatchSampler:
    """Draws augmented batches.

    Parameters
    ----------
    config : RunConfig
    rows : DataFrame
        Training clips, the rows of a manifest, in the order of `features`.
    features : CachedFeatures
    noises : sequence of NoiseClip
        In the order of `noise_features`.
    noise_features : CachedFeatures
    band_centres_hz : ndarray, shape (mels,)
    teacher : Teacher, optional
        Of the clips, in their order.
    """

    def __init__(
        self,
        config: RunConfig,
        rows: pl.DataFrame,
        features: CachedFeatures,
        noises: Sequence[NoiseClip],
        noise_features: CachedFeatures,
        band_centres_hz: Float32Array,
        teacher: Teacher | None = None,
    ) -> None:
        self._teacher = teacher
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
        self._speech = _Speech.of(rows, self._labels)
        if not self._noise_kinds or not self._nonspeech_kinds:
            raise EdgelidError(
                f"the noise holds nothing without speech of {MIN_NOISE_FRAMES} frames or more"
            )
        shares = {label: OTHER_SHARE if label == OTHER else 1.0 for label in self._speech.classes}
        self._classes = _Choice.of({**shares, NONSPEECH: NONSPEECH_SHARE}.items())

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Draw the batch of a step, or one of the parts that together are a batch.

        Parameters
        ----------
        step : int
        part, parts : int
            Number of the part, below `parts`, which divides the clips of a batch.

        Returns
        -------
        Batch
            Of ``batch_clips / parts`` clips.
        """
        seed = self._config.seed
        rng = seed_of(seed, step) if parts == 1 else seed_of(seed, step, part)
        count = self._config.optimiser.part_clips(parts)
        labels = [self._classes.draw(rng) for _ in range(count)]
        drawn = [self._draw(label, rng) for label in labels]
        frames = np.stack([stretch for stretch, _ in drawn])
        targets, known = self._targets([origin for _, origin in drawn])
        noise = np.stack([self._noise(self._noise_kinds, rng) for _ in range(count)])
        speech = np.array([label != NONSPEECH for label in labels])
        return Batch(
            self._augment(frames, noise, speech, rng),
            np.array([self._labels.index(label) for label in labels], np.int32),
            np.stack([self._windows(rng) for _ in range(count)]),
            targets,
            known,
        )

    def batches(
        self,
        first: int,
        last: int,
        part_numbers: Sequence[int] = (0,),
        parts: int = 1,
        loaders: int = 0,
    ) -> Iterator[list[Batch]]:
        """Batches of steps ``first <= step < last``, drawn ahead.

        Parameters
        ----------
        first, last : int
        part_numbers : sequence of int
            Which parts of each batch to draw: those of one of several training workers.
        parts : int
            Of how many.
        loaders : int
            Processes that draw; none for a thread of this one.

        Yields
        ------
        list of Batch
            The wanted parts of one step. The same, whatever `first` and `loaders`.

        Raises
        ------
        EdgelidError
            If a batch cannot be divided into so many parts.
        """
        self._config.optimiser.part_clips(parts)
        steps = range(first, last)
        draw = _Drawer(self, tuple(part_numbers), parts)
        if loaders:
            yield from in_processes(draw, steps, loaders, chunk_jobs=1)
            return
        with ThreadPoolExecutor(1) as thread:
            yield from in_order(thread, draw, steps, CHUNKS_AHEAD)

    def _targets(self, origins: list[Origin]) -> tuple[np.ndarray, Float32Array]:
        """What the teacher says at the moment that each embedding is about."""
        model = self._config.model
        newest = (np.arange(self._embeddings) + 1) * model.stride - 1
        if self._teacher is None:
            shape = (len(origins), self._embeddings)
            return np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        about = newest - model.delay_frames + model.late_frames(model.stride)
        found = [self._teacher.targets(o, about) for o in origins]
        return np.stack([t for t, _ in found]), np.stack([k for _, k in found])

    def _draw(self, label: str, rng: np.random.Generator) -> tuple[Float32Array, Origin]:
        out = np.zeros((self._frames, self._config.front_end.mels), np.float32)
        origin = Origin.nothing(self._frames)
        if label == NONSPEECH:
            if rng.random() < SILENCE_SHARE:
                return out, origin
            return self._noise(self._nonspeech_kinds, rng), origin
        clips = self._speech.draw(label, rng)
        at = int(rng.integers(0, MAX_GAP_FRAMES))
        while at < self._frames:
            clip = int(clips[rng.integers(len(clips))])
            variant = 0
            if rng.random() >= CLEAN_SHARE and self._features.variants > 1:
                variant = int(rng.integers(1, self._features.variants))
            whole = self._features.clip(clip, variant)
            times = self._times(len(whole), rng)[: self._frames - at]
            stretch = slice(at, at + len(times))
            out[stretch] = whole[times]
            origin.clips[stretch] = clip
            origin.times[stretch] = times * self._features.speeds[variant, clip]
            at += len(times) + int(rng.integers(0, MAX_GAP_FRAMES))
        return out, origin

    def _times(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Frames of a clip in the order they are played: a random part, at a random tempo."""
        tempo = rng.uniform(*TEMPO_RANGE) if rng.random() < 0.5 else 1.0
        times = (np.arange(int(length / tempo)) * tempo).astype(np.int64)
        if len(times) > self._frames:
            start = int(rng.integers(0, len(times) - self._frames + 1))
            times = times[start : start + self._frames]
        return times

    def _noise(self, kinds: dict[str, np.ndarray], rng: np.random.Generator) -> Float32Array:
        """A stretch of noise of a random kind, repeated where it is short, (frames, mels)."""
        kind = list(kinds)[rng.integers(len(kinds))]
        clip = self._noise_features.clip(int(kinds[kind][rng.integers(len(kinds[kind]))]), 0)
        start = int(rng.integers(0, max(1, len(clip) - self._frames)))
        return np.resize(
            clip[start : start + self._frames].astype(np.float32), (self._frames, clip.shape[1])
        )

    def _windows(self, rng: np.random.Generator) -> Float32Array:
        masks = np.zeros((WINDOWS, self._embeddings), np.float32)
        # Of two seconds there may be one embedding fewer than twice those of one.
        second = min(round(FRAMES_PER_SECOND / self._config.model.stride), self._embeddings // 2)
        masks[0] = 1
        masks[1, :second] = 1
        for row, lengths in ((2, (second, 2 * second)), (3, (2 * second, self._embeddings))):
            length = int(rng.integers(lengths[0], lengths[1] + 1))
            start = int(rng.integers(0, self._embeddings - length + 1))
            masks[row, start : start + length] = 1
        return masks


@dataclass(frozen=True)
class _Drawer:
    """Draws what one training worker needs of a step."""

    sampler: BatchSampler
    part_numbers: tuple[int, ...]
    parts: int

    def __call__(self, step: int) -> list[Batch]:
        return [self.sampler.batch(step, part, self.parts) for part in self.part_numbers]


def _by_kind(
    noises: Sequence[NoiseClip], lengths: np.ndarray, any_speech: bool
) -> dict[str, np.ndarray]:
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, noise in enumerate(noises):
        if lengths[index] >= MIN_NOISE_FRAMES and (any_speech or not noise.has_speech):
            kinds[noise.kind].append(index)
    return {kind: np.array(indices) for kind, indices in kinds.items()}
