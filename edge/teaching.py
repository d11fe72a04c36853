"""Teaching: from speech to a lesson in the book, with what it brings and costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.audio.sources import AudioSource
from edge.classifier import SPEECH, StreamingClassifier, Window
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.lessons.adapting import WINDOW_S, Adapted, Brought, adapt
from edge.lessons.book import (
    MAX_WINDOWS,
    Book,
    Lesson,
    check_language,
    read_book,
    update_book,
)
from edge.lessons.correction import Correction
from edge.model.interpreter import Graphs, Int8Array, WindowGraph
from edge.model.modelfile import NONSPEECH, ModelFile

STEP_S = 1.0  # between windows of a lesson, which overlap
PATIENCE = 4  # times as long is listened for, where so much speech is wanted
SHORTEST_S = 1.0  # of a window at the end of a recording that is shorter than a whole one
MAX_LESSON_WINDOWS = MAX_WINDOWS // 4


@dataclass(frozen=True)
class Given:
    """What one source of audio gave.

    Attributes
    ----------
    windows : list of ndarray, shape (2 * embedding,), int8
        Of speech, one a second.
    heard_s : float
        Length of the audio.
    """

    windows: list[Int8Array]
    heard_s: float


class LessonExtractor:
    """Takes windows of speech from audio.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
        Of that model.
    automatic_gain : bool
        Whether sound that is too quiet for the model is amplified.

    Raises
    ------
    EdgelidError
        If the model takes whole windows.
    """

    def __init__(
        self, model: ModelFile, graphs: Graphs | WindowGraph, automatic_gain: bool = True
    ) -> None:
        Book.of_model(model)
        self._classifier = StreamingClassifier(
            model, graphs, [WINDOW_S], automatic_gain=automatic_gain
        )
        self._nonspeech = model.labels.index(NONSPEECH) if NONSPEECH in model.labels else None
        self._hop_s = self._classifier.hop_s

    def hear(self, source: AudioSource, most_s: float | None = None) -> Given:
        """Listen to its end, or until there is so much speech.

        Raises
        ------
        EdgelidError
            If it cannot be read.
        """
        windows: list[Int8Array] = []
        heard_s, next_s = 0.0, WINDOW_S
        self._classifier.reset()
        last: Window | None = None

        def take(hops: Iterable[list[Window]]) -> None:
            nonlocal next_s, last
            for (window,) in hops:
                last = window
                if window.end_s >= next_s - self._hop_s / 2:
                    next_s = window.end_s + STEP_S
                    self._keep(window, windows)

        for block in source.blocks():
            if not isinstance(block, np.ndarray):  # what was lost says nothing
                continue
            heard_s += len(block) / SAMPLE_RATE_HZ
            take(self._classifier.process(block))
            if most_s is not None and (
                len(windows) * STEP_S >= most_s or heard_s > PATIENCE * most_s
            ):
                break
        else:
            take(self._classifier.flush())
        if not windows and last is not None and last.end_s >= SHORTEST_S:
            self._keep(last, windows)
        return Given(windows, heard_s)

    def _keep(self, window: Window, windows: list[Int8Array]) -> None:
        if self._nonspeech is None or window.probabilities[self._nonspeech] < SPEECH:
            windows.append(self._classifier.pooled(0))


def lesson_of(language: str, origin: str, given: Sequence[Given]) -> Lesson:
    """A lesson of what several sources gave: of much, of windows spread evenly over all of it.

    Raises
    ------
    EdgelidError
        If the language is none, or there is no speech.
    """
    check_language(language)
    windows = [window for each in given for window in each.windows]
    if not windows:
        heard_s = sum(each.heard_s for each in given)
        raise EdgelidError(
            f"there is no speech in the {heard_s:.0f} s that were heard, and silence, noise or "
            "music teach nothing: give a recording of someone who speaks."
        )
    taken = np.linspace(0, len(windows) - 1, min(len(windows), MAX_LESSON_WINDOWS)).round()
    rows = np.stack([windows[index] for index in taken.astype(int)])
    return Lesson(language, round(time.time(), 3), origin, rows)


def teach(
    path: Path, model: ModelFile, graphs: Graphs | WindowGraph, lesson: Lesson
) -> tuple[Book, Brought]:
    """Add a lesson to a book, unless what it would cost is too much.

    Raises
    ------
    EdgelidError
        If it costs too much, or the book cannot be used or written; it is as it was then.
    """
    brought: list[Brought] = []

    def add(book: Book) -> Book:
        following = book.with_lesson(lesson)
        brought.append(adapt(model, graphs, following).brought)
        return following

    return update_book(path, model, add), brought[-1]


@dataclass(frozen=True)
class Taught:
    """A model with what it was taught.

    Attributes
    ----------
    model : ModelFile
        With the labels of languages that lessons added.
    correction : Correction or None
        None where all lessons have been forgotten.
    book : Book
    brought : Brought or None
    """

    model: ModelFile
    correction: Correction | None
    book: Book
    brought: Brought | None


def taught(path: Path, model: ModelFile, graphs: Graphs | WindowGraph) -> Taught:
    """What a book makes of a model.

    Raises
    ------
    EdgelidError
        If the book cannot be used, or costs too much.
    """
    book = read_book(path, model)
    if not book.lessons:
        return Taught(model, None, book, None)
    adapted: Adapted = adapt(model, graphs, book)
    labels = adapted.correction.labels
    return Taught(replace(model, labels=labels), adapted.correction, book, adapted.brought)
