"""The interface for Python programs: `edge.load_model`, `edge.Listener`, `edge.classify`.

`import edge` offers these names, and imports this module when one of them is first used.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import listener
from edge.audio.mixing import Ear, amplified
from edge.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ, resampled
from edge.audio.sources import PLAUSIBLE_PEAK, AudioSource, FileSource
from edge.classifier import class_mask
from edge.config import ListenSettings
from edge.decoder import MAX_HOLD_S
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import meant
from edge.lessons.correction import Correction
from edge.listener import Heard
from edge.model.interpreter import Graphs, OpenedModel, WindowGraph
from edge.model.modelfile import path_of
from edge.offline import Classification, RecordingClassifier, classify_file
from edge.opinion.expert import check_another
from edge.opinion.second import SecondOpinion
from edge.opinion.shared import SharedFile

Samples = npt.NDArray[Any]

MAX_CHANNELS = 1_024  # as of raw PCM; more are samples whose axes were swapped

logger = logging.getLogger(__name__)


class Model:
    """A model that runs here, from `load_model`.

    Attributes
    ----------
    file : ModelFile
    graphs : Graphs or WindowGraph
        For recordings, one after another.
    lock : Lock
        Held by the thread whose recording that is.
    lessons : Correction or None
        What it has been taught.
    """

    def __init__(
        self, path: Path, threads: int, lessons: str | os.PathLike[str] | None = None
    ) -> None:
        self._opened = OpenedModel(path, threads)
        self.file = self._opened.model
        self.graphs = self._opened.run()
        self.lock = threading.Lock()
        self.lessons: Correction | None = None
        if lessons is not None:
            from edge.teaching import taught  # which others do without

            learnt = taught(Path(lessons), self.file, self.graphs)
            self.file, self.lessons = learnt.model, learnt.correction
        self._experts: dict[Path, SharedFile] = {}
        self._opening = threading.Lock()

    def expert(self, name: str | os.PathLike[str]) -> SharedFile:
        """A large model to ask about what this one hears, opened once for all who do.

        Raises
        ------
        EdgelidError
            If it cannot be used, does not suit this one, or is this one.
        """
        name = _named(name)
        check_another(name, self.file.path)
        path = path_of(name).absolute()
        with self._opening:
            if path not in self._experts:
                self._experts[path] = SharedFile(name, self.labels)
            return self._experts[path]

    def more_graphs(self) -> Graphs | WindowGraph:
        """Others of it, which remember what they hear apart from these."""
        return self._opened.run()

    @property
    def labels(self) -> tuple[str, ...]:
        """What an answer may be: languages by their codes, ``nonspeech``, ``other``."""
        return self.file.labels


def load_model(
    path: str | os.PathLike[str] | None = None,
    threads: int = 1,
    lessons: str | os.PathLike[str] | None = None,
) -> Model:
    """Read a model file, check it, and make it ready to run.

    Parameters
    ----------
    path : path-like, optional
        A file, or ``"large"`` or ``"xlarge"`` for one that comes along; the compact one, unless
        given.
    threads : int
        Of the interpreter; one is best for models this small.
    lessons : path-like, optional
        What ``edgelid teach`` wrote.

    Returns
    -------
    Model

    Raises
    ------
    EdgelidError
        If there is no such file, it is damaged, or nothing here can run it.
    """
    return Model(path_of("" if path is None else _named(path)), threads, lessons)


def _named(path: str | os.PathLike[str]) -> str:
    """A model as `path_of` takes it: only text may be the word for one that comes along."""
    if not os.fspath(path):  # as of a program that lost a name
        raise EdgelidError("the path of the model is empty: check it.")
    return path if isinstance(path, str) else str(Path(path).absolute())


_default_model = functools.cache(load_model)


def classify(
    samples_or_path: Samples | str | os.PathLike[str],
    model: Model | None = None,
    languages: Sequence[str] | None = None,
    rate_hz: int = SAMPLE_RATE_HZ,
    threshold: float | None = None,
    second_opinion: str | os.PathLike[str] | None = None,
    gain_db: float | None = None,
) -> Classification:
    """Answer once for a whole recording.

    Parameters
    ----------
    samples_or_path : ndarray, shape (n,) or (n, channels), or path-like
        Samples, int16 or floating point with full scale at 1; or an audio file.
    model : Model, optional
        The compact one that comes along, unless given.
    languages : sequence of str, optional
        The only languages to expect.
    rate_hz : int
        Of the samples; a file says its own.
    threshold : float, optional
        How sure the answer has to be, or it is ``unknown``; as the model file says, unless given.
    second_opinion : path-like, optional
        A large model to ask about the speech: a file, or ``"large"`` or ``"xlarge"`` for one that
        comes along.
    gain_db : float, optional
        What to amplify by, 0 for nothing; what is too quiet is amplified, unless given.

    Returns
    -------
    Classification
        With ``language``, ``confidence``, ``probabilities``, ``duration_s``, ``speech_s`` and
        ``stretches``; with a second opinion also ``by``, ``compact``, ``opinions`` and ``took_s``.

    Raises
    ------
    EdgelidError
        If there is no audio, it cannot be read, a language is not the model's, the second opinion
        does not suit it or is the same model, or the threshold or the gain is out of all reason.
    """
    _check_threshold(threshold)
    model = model or _default_model()
    second = None if second_opinion is None else model.expert(second_opinion)
    languages = _meant(languages, model)
    ear = Ear(gain_db=gain_db)
    with model.lock:
        classifier = RecordingClassifier(
            model.file, model.graphs, languages, threshold, second, model.lessons, gain_db is None
        )
        if isinstance(samples_or_path, (str, os.PathLike)):
            return classify_file(classifier, Path(samples_or_path), ear)
        return classifier.classify(_Samples([samples_or_path], rate_hz, ear))


class Listener:
    """Follows the language of a stream.

    Parameters
    ----------
    model : Model, optional
        The compact one that comes along, unless given.
    languages : sequence of str, optional
        The only languages to expect.
    rate_hz : int
        Of the samples that come; a file says its own.
    threshold : float, optional
        How sure an answer has to be, or it is ``unknown``; as the model file says, unless given.
    hold_s : float
        How long a language must last before it is announced, and how long the one before is kept
        while the answer is not sure.
    second_opinion : path-like, optional
        A large model to ask where the answer is not sure: a file, or ``"large"`` or ``"xlarge"``
        for one that comes along.
    second_opinion_share : float
        Of one core that it may take, over any minute.
    gain_db : float, optional
        What to amplify by, 0 for nothing; what is too quiet is amplified, unless given.

    Raises
    ------
    EdgelidError
        If a language is not the model's, the second opinion does not suit it or is the same model,
        or the threshold, the hold or the gain is out of all reason.
    """

    def __init__(
        self,
        model: Model | None = None,
        languages: Sequence[str] | None = None,
        rate_hz: int = SAMPLE_RATE_HZ,
        threshold: float | None = None,
        hold_s: float = 0.0,
        second_opinion: str | os.PathLike[str] | None = None,
        second_opinion_share: float = ListenSettings.second_opinion_share,
        gain_db: float | None = None,
    ) -> None:
        _check_threshold(threshold)
        _check_range("hold_s", hold_s, MAX_HOLD_S)
        model = model or _default_model()
        self._rate_hz = rate_hz
        self._ear = Ear(gain_db=gain_db)
        # Of its own: graphs remember what they have heard.
        graphs = model.more_graphs()
        decoder = model.file.description.decoder
        if threshold is not None:
            decoder = replace(decoder, confidence=threshold)
        languages = _meant(languages, model)
        class_mask(model.labels, languages)
        if not 0 < second_opinion_share <= 1:
            raise EdgelidError(
                f"second_opinion_share must be above 0 and at most 1, not {second_opinion_share:g}."
            )
        file = None if second_opinion is None else model.expert(second_opinion)

        def opened(at_once: bool) -> listener.Listener:
            second = None
            if file is not None:
                share = second_opinion_share
                second = SecondOpinion.of(file, model.file, share, languages, at_once)
            return listener.Listener(
                model.file,
                graphs,
                decoder,
                languages,
                hold_s=hold_s,
                second=second,
                lessons=model.lessons,
                automatic_gain=gain_db is None,
            )

        self._opened = opened

    def hear(self, audio: Iterable[Samples] | str | os.PathLike[str]) -> Iterator[Heard]:
        """Listen until the audio ends. What is heard next is a stream of its own; one at a time.

        Parameters
        ----------
        audio : iterable of ndarray, shape (n,) or (n, channels), or path-like
            Blocks of samples of any length, as they come, int16 or floating point with full scale
            at 1; or an audio file.

        Yields
        ------
        Heard
            Several a second. Where the answer changes, ``change`` says so; ``current`` is the
            answer now, and ``finished`` the segments that are known to be over. A file waits for
            second opinions; blocks never do, and have what comes in time.

        Raises
        ------
        EdgelidError
            If the audio cannot be read, once the last segment has been finished all the same.
        """
        is_file = isinstance(audio, (str, os.PathLike))
        with (
            self._source(audio) as source,
            contextlib.closing(self._opened(at_once=is_file)) as opened,
        ):
            yield from opened.hear(source.blocks())

    def _source(self, audio: Iterable[Samples] | str | os.PathLike[str]) -> AudioSource:
        if isinstance(audio, (str, os.PathLike)):
            return FileSource(audio, self._ear)
        return _Samples(audio, self._rate_hz, self._ear)


def _meant(languages: Sequence[str] | None, model: Model) -> tuple[str, ...] | None:
    """The classes that a caller means, as of ``--languages``."""
    if isinstance(languages, str):  # whose letters would be languages
        raise EdgelidError(f"languages must be a list, such as [{languages!r:.60}], and not text.")
    if languages is None:
        return None
    languages = tuple(languages)  # some can be read only once
    if not all(isinstance(language, str) for language in languages):
        raise EdgelidError('languages must be a list of text, such as ["de", "en"].')
    return meant(languages, model.labels)


def _check_threshold(threshold: float | None) -> None:
    if threshold is not None:
        _check_range("threshold", threshold, 1.0)


def _check_range(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # as no comparison with nan is true
        raise EdgelidError(f"{name} must be from 0 to {most:g}, not {value:g}.")


class _Samples(AudioSource):
    """Samples of the caller's as a source of audio."""

    name = "the samples"

    def __init__(self, blocks: Iterable[Samples], rate_hz: int, ear: Ear) -> None:
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise EdgelidError(
                f"{rate_hz} Hz is not possible: choose {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz."
            )
        self.rate_hz = rate_hz
        self._given, self._gain_db = blocks, ear.gain_db
        self._loud = False

    def blocks(self) -> Iterator[Float32Array]:
        frames = (amplified(self._checked(block)[:, None], self._gain_db) for block in self._given)
        return resampled(frames, self.rate_hz, 1)

    def _checked(self, block: Samples) -> Float32Array:
        """Of shape (n,); the first that cannot have full scale at 1 is told, as of a file."""
        mono = _mono(block)
        peak = float(np.abs(mono).max(initial=0.0))
        if peak > PLAUSIBLE_PEAK and not self._loud:
            self._loud = True
            logger.warning(
                "the samples reach %.4g times full scale, which is 1: were they scaled wrongly?",
                peak,
            )
        return mono

    def close(self) -> None:
        """Nothing: they are the caller's."""


def _mono(samples: Samples) -> Float32Array:
    """Of shape (n,), with full scale at 1."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or 0 in samples.shape[1:]:
        raise EdgelidError(f"samples must be of shape (n,) or (n, channels), not {samples.shape}.")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise EdgelidError(
            f"samples of shape {samples.shape} would have {samples.shape[1]} channels, of at most "
            f"{MAX_CHANNELS}: give them as (n, channels)."
        )
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32_768
    elif not np.issubdtype(samples.dtype, np.floating):
        raise EdgelidError(f"samples must be int16 or floating point, not {samples.dtype}.")
    mono: Float32Array = samples.astype(np.float32)
    if not np.isfinite(mono).all():
        raise EdgelidError("samples must be finite numbers, and some are not.")
    return mono if mono.ndim == 1 else mono.mean(axis=1)
