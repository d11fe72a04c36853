"""Inference on many recordings, in any number of processes, which does not change the results."""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from edge.audio.sources import AudioSource
from edge.classifier import StreamingClassifier, filled, softmax
from edge.config import ListenSettings
from edge.decoder import Change, Segment, decoder_windows_s
from edge.errors import EdgelidError
from edge.features import open_front_end
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.listener import Listener
from edge.model.interpreter import WindowGraph, open_model, run_model
from edge.model.modelfile import NONSPEECH, OTHER, ModelFile, read_model
from edge.offline import RecordingClassifier
from edge.opinion.asking import AtOnce
from edge.opinion.expert import ExpertFile, in_classes
from edge.opinion.second import SecondOpinion
from train.corpus.cuts import Cut, load_cuts, read_audio
from train.corpus.manifest import Clip
from train.evaluation.conditions import Sounds, disturb
from train.evaluation.in_its_time import InItsTime
from train.evaluation.streams import Span, Stream, decode, make_stream, windows_of
from train.features.noise import NoiseClip
from train.parallel.pool import end_with_parent
from train.parallel.progress import bar

TINY = 1e-30  # whose logarithm stands for that of nothing
CUTS_A_JOB = 64

Job = TypeVar("Job")
Result = TypeVar("Result")


def score_audio(classifier: StreamingClassifier, samples: Float32Array) -> Float64Array:
    """Log-probabilities of one recording, streamed from its beginning to its end.

    Parameters
    ----------
    classifier : StreamingClassifier
        With one window, at least as long as the recording.
    samples : ndarray, shape (n,), float32

    Returns
    -------
    ndarray, shape (classes,)
    """
    classifier.reset()
    last = None
    for windows in classifier.process(samples):
        last = windows[0]
    for windows in classifier.flush():
        last = windows[0]
    assert last is not None, "flush answers for any audio"
    log_probabilities: Float64Array = np.log(last.probabilities + TINY)
    return log_probabilities


def score_whole_windows(
    model: ModelFile, graph: WindowGraph, samples: Float32Array
) -> Float64Array:
    """Log-probabilities of one recording by a model of whole windows.

    What is longer than the longest window is heard in windows that overlap by half, whose
    log-probabilities are averaged; what is shorter than the shortest is repeated, as on the device.

    Parameters
    ----------
    model : ModelFile
    graph : WindowGraph
        Of that model.
    samples : ndarray, shape (n,), float32

    Returns
    -------
    ndarray, shape (classes,)
    """
    description = model.description
    front_end = open_front_end(description.front_end, model.filterbank)
    frames = front_end.log_mel(samples)
    window = graph.fitting(len(frames))
    frames = frames if len(frames) > window else filled(frames, window, front_end.silence)
    count = max(1, round((len(frames) - window) / (window / 2)) + 1)
    starts = np.linspace(0, len(frames) - window, count).astype(int)
    scores = np.stack([graph.scores(frames[start : start + window]) for start in starts])
    config = description.front_end
    window_s = window * config.hop_samples / config.sample_rate_hz
    temperature = description.calibration.temperature(window_s)
    mean = np.log(softmax(scores / temperature) + TINY).mean(axis=0)
    log_probabilities: Float64Array = np.log(softmax(mean) + TINY)
    return log_probabilities


@dataclass(frozen=True)
class Setup:
    """What a process needs to score.

    Attributes
    ----------
    model : Path
        Model file.
    corpus : Path
        Folder of the speech.
    sounds : Sounds
        For the conditions other than clean.
    noise : Path
        Folder of the noise in streams.
    second : str
        Model for second opinions, as `edgelid classify --second-opinion` takes it; empty for none.
    """

    model: Path
    corpus: Path
    sounds: Sounds
    noise: Path
    second: str = ""


@dataclass(frozen=True)
class Trial:
    """A cut to be scored in a condition."""

    cut: Cut
    condition: str


@dataclass(frozen=True)
class StreamRecipe:
    """A stream to be made and followed.

    Attributes
    ----------
    clips : tuple of Clip
    noises : tuple of NoiseClip
    duration_s : float
    seed : int
    """

    clips: tuple[Clip, ...]
    noises: tuple[NoiseClip, ...]
    duration_s: float
    seed: int


Followed = tuple[tuple[Span, ...], tuple[list[Change], list[Segment]]]


@dataclass(frozen=True)
class Budgeted:
    """A stream that both models have followed.

    Attributes
    ----------
    followed : Followed
    answers : int
        Of the large model.
    took_s : float
        What these should take on a Raspberry Pi 4, see `edge.opinion.expert`.
    """

    followed: Followed
    answers: int
    took_s: float


class Scorer:
    """Scores audio with one model.

    Parameters
    ----------
    setup : Setup

    Raises
    ------
    EdgelidError
        If the model cannot be used.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._model = read_model(setup.model)
        self._graphs = open_model(self._model, 1)
        self._classifiers: dict[tuple[float, ...], StreamingClassifier] = {}
        self._large: _Large | None = None
        second = None
        if setup.second:
            second = self._file = ExpertFile(setup.second, self._model.labels)
        self._recordings = RecordingClassifier(self._model, self._graphs, second=second)

    def _score(self, samples: Float32Array) -> Float64Array:
        if self._setup.second:
            return self._score_recording(samples)
        return self._score_alone(samples)

    def _score_recording(self, samples: Float32Array) -> Float64Array:
        probabilities = self._recordings.classify(Samples(samples)).probabilities
        found: Float64Array = np.log(np.array([*probabilities.values()]) + TINY)
        return found

    def _score_alone(self, samples: Float32Array) -> Float64Array:
        if isinstance(self._graphs, WindowGraph):
            return score_whole_windows(self._model, self._graphs, samples)
        duration_s = len(samples) / SAMPLE_RATE_HZ
        return score_audio(self._classifier(duration_s), samples)

    def _classifier(self, *windows_s: float) -> StreamingClassifier:
        if windows_s not in self._classifiers:
            classifier = StreamingClassifier(self._model, self._graphs, windows_s)
            self._classifiers[windows_s] = classifier
        return self._classifiers[windows_s]

    def trials(self, trials: Sequence[Trial]) -> Float64Array:
        """Log-probabilities of trials, (trials, classes)."""
        return self._scores(trials, self._score)

    def trials_by_compact(self, trials: Sequence[Trial]) -> Float64Array:
        """The same without second opinions."""
        return self._scores(trials, self._score_alone)

    def trials_by_large(self, trials: Sequence[Trial]) -> Float64Array:
        """The same by the model of the second opinions alone."""
        return self._scores(trials, self._large_alone().score)

    def trials_both_ways(self, trials: Sequence[Trial]) -> Float64Array:
        """As streams that begin with them, and as `edgelid classify`, which hears them repeatedly.

        Returns
        -------
        ndarray, shape (trials, 2, classes)
        """

        def score(samples: Float32Array) -> Float64Array:
            return np.stack([self._score_alone(samples), self._score_recording(samples)])

        return self._scores(trials, score)

    def _large_alone(self) -> _Large:
        if self._large is None:
            self._large = _Large(self._file.path, self._model.labels)
        return self._large

    def _scores(
        self, trials: Sequence[Trial], score: Callable[[Float32Array], Float64Array]
    ) -> Float64Array:
        # Cuts of one item are nested: the longest one holds them all.
        longest: dict[str, Cut] = {}
        for trial in trials:
            name = trial.cut.item_key
            if name not in longest or longest[name].duration_s < trial.cut.duration_s:
                longest[name] = trial.cut
        audio = dict(
            zip(longest, load_cuts(list(longest.values()), self._setup.corpus), strict=True)
        )
        scores = []
        for trial in trials:
            name = trial.cut.item_key
            samples = audio[name][: round(trial.cut.duration_s * SAMPLE_RATE_HZ)]
            samples = disturb(samples, trial.condition, name, self._setup.sounds)
            scores.append(score(samples))
        return np.stack(scores)

    def noise(self, job: tuple[Path, float]) -> Float64Array:
        """Log-probabilities of the windows that follow one another in a recording.

        Parameters
        ----------
        job : (Path, float)
            The file, and the length of a window in seconds.

        Returns
        -------
        ndarray, shape (windows, classes)
            What is left at the end, shorter than a window, is not scored.
        """
        path, window_s = job
        length = round(window_s * SAMPLE_RATE_HZ)
        samples = read_audio(path)
        starts = range(0, len(samples) - length + 1, length)
        scores = [self._score(samples[start : start + length]) for start in starts]
        return np.stack(scores) if scores else np.empty((0, len(self._model.labels)))

    def stream(self, recipe: StreamRecipe) -> Followed:
        """Truth of a stream, and what the decoder makes of it as the model file sets it."""
        if self._setup.second:
            return self.budgeted((recipe, ListenSettings.second_opinion_share)).followed
        return self.stream_by_compact(recipe)

    def stream_by_compact(self, recipe: StreamRecipe) -> Followed:
        """The same without second opinions."""
        stream = self._made(recipe)
        settings = self._model.description.decoder
        classifier = self._classifier(*decoder_windows_s(self._model, settings.window_s))
        windows = windows_of(classifier, stream)
        times_s = classifier.hop_s, classifier.delay_s
        return stream.spans, decode(windows, self._model.labels, settings, *times_s)

    def divided(self, recipe: StreamRecipe) -> Followed:
        """The same as `edgelid classify` divides it, which announces nothing."""
        stream = self._made(recipe)
        answer = self._recordings.classify(Samples(stream.samples))
        whole = Segment(answer.language, 0.0, answer.duration_s, answer.confidence)
        return stream.spans, ([], [*answer.stretches] or [whole])

    def stream_by_large(self, recipe: StreamRecipe) -> Followed:
        """The same by the model of the second opinions alone."""
        stream = self._made(recipe)
        return stream.spans, self._large_alone().follow(stream)

    def budgeted(self, job: tuple[StreamRecipe, float]) -> Budgeted:
        """A stream as `edgelid listen --second-opinion` follows it on a Raspberry Pi 4.

        Parameters
        ----------
        job : tuple of StreamRecipe and float
            What is heard, and how much of a core answers may take.
        """
        recipe, share = job
        stream = self._made(recipe)
        asker = InItsTime(self._file, share)
        return self._with_both(stream, asker, asker.blocks(stream.samples))

    def at_once(self, recipe: StreamRecipe) -> Budgeted:
        """The same where answers take next to no time, and may be had as often as is wanted."""
        stream = self._made(recipe)
        return self._with_both(stream, AtOnce(self._file, 1.0), Samples(stream.samples).blocks())

    def _made(self, recipe: StreamRecipe) -> Stream:
        return make_stream(
            recipe.clips,
            self._setup.corpus,
            recipe.noises,
            self._setup.noise,
            self._model.labels,
            recipe.duration_s,
            recipe.seed,
        )

    def _with_both(
        self, stream: Stream, asker: AtOnce | InItsTime, blocks: Iterator[Float32Array]
    ) -> Budgeted:
        model = self._model
        second = SecondOpinion(self._file, model, asker)
        graphs = run_model(model, 1)  # which remember what they have heard
        listener = Listener(model, graphs, model.description.decoder, second=second)
        changes: list[Change] = []
        segments: list[Segment] = []
        for heard in listener.hear(blocks):
            changes += [heard.change] if heard.change else []
            segments += heard.finished
        followed = stream.spans, (changes, segments)
        return Budgeted(followed, second.told().answers, asker.spent_s)


class _Large:
    """The model of the second opinions by itself, in the classes of the compact one.

    Parameters
    ----------
    path : Path
    labels : tuple of str
    """

    def __init__(self, path: Path, labels: tuple[str, ...]) -> None:
        self._model = read_model(path)
        self._labels = labels
        self._graphs = open_model(self._model, 1)

    def score(self, samples: Float32Array) -> Float64Array:
        """Log-probabilities of a recording, shape (labels,)."""
        if isinstance(self._graphs, WindowGraph):
            found = score_whole_windows(self._model, self._graphs, samples)
        else:
            windows_s = [len(samples) / SAMPLE_RATE_HZ]
            found = score_audio(StreamingClassifier(self._model, self._graphs, windows_s), samples)
        probabilities = in_classes(np.exp(found).tolist(), self._model.labels, self._labels)
        log_probabilities: Float64Array = np.log(np.array(probabilities) + TINY)
        return log_probabilities

    def follow(self, stream: Stream) -> tuple[list[Change], list[Segment]]:
        """What its decoder makes of a stream."""
        model = self._model
        settings = model.description.decoder
        windows_s = decoder_windows_s(model, settings.window_s)
        # The languages that are asked for are those of the compact model, as for both together.
        languages = [label for label in self._labels if label not in (OTHER, NONSPEECH)]
        classifier = StreamingClassifier(model, self._graphs, windows_s, languages)
        windows = windows_of(classifier, stream)
        return decode(windows, model.labels, settings, classifier.hop_s, classifier.delay_s)


class Samples(AudioSource):
    """Samples as a source of audio."""

    name = "the samples"

    def __init__(self, samples: Float32Array) -> None:
        self._samples = samples

    def blocks(self) -> Iterator[Float32Array]:
        yield self._samples

    def close(self) -> None:
        """Nothing."""


class _Worker:
    """What a worker process has been started with."""

    scorer: Scorer

    @classmethod
    def start(cls, setup: Setup) -> None:
        # Ctrl-C reaches all processes of a terminal: the one that started this one will end it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent()
        cls.scorer = Scorer(setup)

    @classmethod
    def run(cls, function: Callable[[Scorer, Job], Result], job: Job) -> Result:
        return function(cls.scorer, job)


class Workers:
    """Processes that score.

    Parameters
    ----------
    setup : Setup
    count : int
        With one, everything is done in this process.
    """

    def __init__(self, setup: Setup, count: int) -> None:
        self._scorer: Scorer | None = None
        self._pool: ProcessPoolExecutor | None = None
        if count == 1:
            self._scorer = Scorer(setup)
        else:
            # Spawned, as a forked process could wait for ever for a lock that some thread of the
            # interpreter held at that moment.
            self._pool = ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), _Worker.start, (setup,)
            )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[[Scorer, Job], Result],
        jobs: Sequence[Job],
        what: str,
        sizes: Sequence[int] | None = None,
    ) -> list[Result]:
        """Results of a method of `Scorer` for all jobs, in their order, with a progress bar.

        Raises
        ------
        EdgelidError
            If audio cannot be read, or a process dies.
        """
        sizes = sizes or [1] * len(jobs)
        results: list[Result] = []
        try:
            with bar(None, what, sum(sizes)) as progress:
                for result, size in zip(self._run(function, jobs), sizes, strict=True):
                    results.append(result)
                    progress.update(size)
        except BrokenProcessPool as error:
            raise EdgelidError(
                "a worker process died, perhaps for want of memory: give fewer --workers"
            ) from error
        return results

    def _run(
        self, function: Callable[[Scorer, Job], Result], jobs: Sequence[Job]
    ) -> Iterator[Result]:
        if self._pool:
            run: Any = _Worker.run
            return self._pool.map(run, repeat(function), jobs)
        assert self._scorer is not None
        return map(functools.partial(function, self._scorer), jobs)


def score_trials(
    workers: Workers,
    trials: Sequence[Trial],
    what: str,
    score: Callable[[Scorer, list[Trial]], Float64Array] = Scorer.trials,
) -> Float64Array:
    """Log-probabilities of trials, in their order, whatever cut and condition they are of.

    Returns
    -------
    ndarray, shape (trials, classes), or as `score` gives it
    """
    # By item, as its audio is read once; neighbouring items share files.
    order = sorted(range(len(trials)), key=lambda i: trials[i].cut.item_key)
    jobs = list(_jobs([trials[i] for i in order]))
    found = workers.map(score, jobs, what, [len(job) for job in jobs])
    together = np.concatenate(found)
    scores = np.empty_like(together)
    scores[order] = together
    return scores


def _jobs(trials: Iterable[Trial]) -> Iterator[list[Trial]]:
    """Whole items, so many together that a job is worth sending to a process."""
    job: list[Trial] = []
    for _, item in groupby(trials, key=lambda trial: trial.cut.item_key):
        job.extend(item)
        if len(job) >= CUTS_A_JOB:
            yield job
            job = []
    if job:
        yield job
