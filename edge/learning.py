"""Learning while listening: stretches that a second opinion is sure of become lessons.

The compact model's own answers never do. The large one errs, too, so that it has to be sure twice
in a row, and of the same language. What is learnt is balanced by language, bounded, and fades;
whether it helps is measured each time, as with every lesson (`edge.lessons.adapting`), and what
does not is dropped.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.belief import Opinion
from edge.classifier import Window
from edge.errors import EdgelidError
from edge.lessons.adapting import WINDOW_S, Adapted, TooDear, adapt
from edge.lessons.book import (
    MAX_LESSONS,
    MAX_WINDOWS,
    SECOND_OPINION,
    Book,
    Lesson,
    check_language,
    pack_book,
    update_book,
)
from edge.lessons.correction import Correction
from edge.lessons.telling import told
from edge.listener import Heard, Listener
from edge.model.interpreter import Graphs, Int8Array, open_file
from edge.model.modelfile import ModelFile
from edge.opinion.asking import give_way

log = logging.getLogger(__name__)

SURE = 0.95  # probability of a language, from which on an opinion teaches
AGREEING_S = 60.0  # within which another one must say the same
STEP_S = 0.5  # between windows that are remembered: an opinion is about some time between them
MEMORY_S = 30.0  # as opinions come late
NEAR_S = 0.7  # how far a window may be from what the opinion is about
LESSON_WINDOWS = 24  # that are enough to learn from, of all languages
MOST_OF_ONE = 12  # windows of a language in a lesson, which are enough, too: some speak only one
EVERY_S = 300.0  # of stream, at least between two times
MAX_LEARNT = 600  # windows of this origin in a book
LEAVE_S = 10.0


@dataclass(frozen=True)
class _Remembered:
    """A window of the compact model."""

    start_s: float
    end_s: float
    pooled: Int8Array


class Learner:
    """Gathers lessons from opinions, and learns from them beside the audio.

    Parameters
    ----------
    path : Path
        Lesson book; begun if it is not there.
    model : ModelFile
        As it is in its file.
    labels : sequence of str
        Classes of the stream, with languages that lessons have added.
    at_once : bool
        Whether audio waits, as that of a file can.

    Attributes
    ----------
    told : dict or None
        What to tell of the book since something was learnt.
    written : bytes or None
        SHA-256 of the file of lessons as it was written when something was learnt.
    """

    told: dict[str, Any] | None = None
    written: bytes | None = None

    def __init__(
        self, path: Path, model: ModelFile, labels: Sequence[str], at_once: bool = False
    ) -> None:
        Book.of_model(model)
        self._path, self._model, self._labels = path, model, tuple(labels)
        self._at_once = at_once
        self._graphs: Graphs | None = None
        self._new: Correction | None = None
        self._thread: threading.Thread | None = None
        self._learnt_s, self._heard_s = -EVERY_S, 0.0
        self._pending: dict[str, list[Int8Array]] = {}
        self._why_not = ""
        self.reset()

    def reset(self) -> None:
        """Start a new stream: times of the one before mean nothing."""
        self._windows: deque[_Remembered] = deque(maxlen=round(MEMORY_S / STEP_S))
        self._opinion: Opinion | None = None
        self._unconfirmed: tuple[str, float, list[Int8Array]] | None = None

    def remembers(self, window: Window) -> bool:
        """Whether a window is one to remember: a whole one, some time after the last."""
        whole = window.end_s - window.start_s >= WINDOW_S - 1e-6
        return whole and (not self._windows or window.end_s - self._windows[-1].end_s >= STEP_S)

    def remember(self, window: Window, pooled: Int8Array) -> None:
        """Take a window of the compact model."""
        # From window to window it is more than STEP_S, as they come at hops.
        self._heard_s += window.end_s - self._windows[-1].end_s if self._windows else STEP_S
        self._windows.append(_Remembered(window.start_s, window.end_s, pooled))

    def consider(self, opinion: Opinion | None) -> Correction | None:
        """Take the newest opinion, and give what has been learnt since this was last asked."""
        if opinion is not None and opinion is not self._opinion:
            self._opinion = opinion
            self._hear(opinion)
        gathered = [*map(len, self._pending.values())]
        enough = sum(gathered) >= LESSON_WINDOWS or MOST_OF_ONE in gathered
        if enough and self._heard_s - self._learnt_s >= EVERY_S:
            self._learn()
        new, self._new = self._new, None
        return new

    def close(self) -> None:
        """Wait for what is being learnt."""
        if self._thread is not None:
            self._thread.join(LEAVE_S)

    def _hear(self, opinion: Opinion) -> None:
        best = int(opinion.probabilities.argmax())
        language = self._labels[best]
        if not _can_be_taught(language) or opinion.probabilities[best] < SURE:
            self._unconfirmed = None
            return
        windows = [
            each.pooled
            for each in self._windows
            if abs(each.start_s - opinion.start_s) <= NEAR_S
            and abs(each.end_s - opinion.end_s) <= NEAR_S
        ][:1]
        before, self._unconfirmed = self._unconfirmed, (language, opinion.end_s, windows)
        if before is None or before[0] != language or opinion.end_s - before[1] > AGREEING_S:
            return
        own = self._pending.setdefault(language, [])
        own += before[2] + windows
        self._unconfirmed = language, opinion.end_s, []
        del own[:-MOST_OF_ONE]  # the newest are of whoever speaks now

    def _learn(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        lessons = [
            Lesson(language, round(time.time(), 3), SECOND_OPINION, np.stack(windows))
            for language, windows in sorted(self._pending.items())
            if windows
        ]
        self._pending, self._learnt_s = {}, self._heard_s
        if self._at_once:
            self._work(lessons)
            return
        self._thread = threading.Thread(
            target=self._work, args=(lessons,), name="learning", daemon=True
        )
        self._thread.start()

    def _work(self, lessons: Sequence[Lesson]) -> None:
        if not self._at_once:
            give_way()
        adapted: list[Adapted] = []

        def add(book: Book) -> Book:
            following = faded(book, sum(len(each.windows) for each in lessons), len(lessons))
            for lesson in lessons:
                following = following.with_lesson(lesson)
            if self._graphs is None:
                self._graphs = self._own_graphs()
            adapted.append(adapt(self._model, self._graphs, following))
            return following

        try:
            book = update_book(self._path, self._model, add)
            self._why_not = ""
        except TooDear as error:
            log.info("what was heard is not learnt from: %s", error)
            return
        except Exception as error:  # whatever it is, nobody else would hear of it
            log.debug("learning has failed", exc_info=error)
            why_not = str(error) or repr(error)
            if why_not != self._why_not:  # once, and not every few minutes
                log.warning("nothing is learnt: %s", why_not)
            self._why_not = why_not
            return
        learnt = adapted[-1]
        if learnt.correction.labels != self._labels:
            return  # somebody else has taught another language, which a reload takes up
        self.told = told(self._path, book, learnt.brought)
        self._new = learnt.correction
        self.written = hashlib.sha256(pack_book(book)).digest()

    def _own_graphs(self) -> Graphs:
        """Those of the stream are of its own thread, and what they are built from may be gone."""
        model, graphs = open_file(self._model.path)
        if model.sha256 != self._model.sha256:
            raise EdgelidError(f"the model {str(model.path)!r} has changed meanwhile: start again.")
        assert isinstance(graphs, Graphs)
        return graphs


def _can_be_taught(label: str) -> bool:
    """Whether a book takes it: not ``other``, nor what another's model calls a language."""
    try:
        check_language(label)
    except EdgelidError:
        return False
    return True


def faded(book: Book, coming: int, lessons_coming: int = 1) -> Book:
    """A book with room for so many windows that were learnt while listening, and their lessons.

    The oldest of them go, of the language that has most; what people taught stays.

    Raises
    ------
    EdgelidError
        If that leaves no room for so many.
    """
    lessons = list(book.lessons)
    taught = [len(each.windows) for each in lessons if each.origin != SECOND_OPINION]
    room = min(MAX_LEARNT, MAX_WINDOWS - sum(taught))
    if coming > room or len(taught) + lessons_coming > MAX_LESSONS:
        raise EdgelidError(
            "the lessons are full of what people taught: `edgelid teach --forget LANGUAGE`, or "
            "listen without --learn."
        )
    while True:
        counts: dict[str, int] = {}
        for each in lessons:
            if each.origin == SECOND_OPINION:
                counts[each.language] = counts.get(each.language, 0) + len(each.windows)
        fits = sum(counts.values()) + coming <= room
        if fits and len(lessons) + lessons_coming <= MAX_LESSONS:
            return replace(book, lessons=tuple(lessons))
        most = max(sorted(counts), key=lambda language: counts[language])
        del lessons[
            next(
                i
                for i, each in enumerate(lessons)
                if each.origin == SECOND_OPINION and each.language == most
            )
        ]


class LearningListener(Listener):
    """A listener that goes on learning from second opinions.

    Parameters
    ----------
    learner : Learner
    args, kwargs
        As for `Listener`, with a second opinion and lessons to begin with.
    """

    _unreported_s = (WINDOW_S,)

    def __init__(self, learner: Learner, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._learner = learner
        self._of_lessons = self._lengths_s.index(WINDOW_S)

    @property
    def written(self) -> bytes | None:
        """See `Listener.written`."""
        return self._learner.written

    def close(self) -> None:
        """End what runs beside the audio."""
        super().close()
        self._learner.close()

    def _begin(self, samples: int) -> None:
        super()._begin(samples)
        self._learner.reset()

    def _heard(self, windows: list[Window]) -> Heard:
        heard = super()._heard(windows)
        window = windows[self._of_lessons]
        if self._learner.remembers(window):
            self._learner.remember(window, self._classifier.pooled(self._of_lessons))
        learnt = self._learner.consider(None if heard.second is None else heard.second.newest)
        if learnt is not None:
            self._classifier.learn(learnt)
            self.taught = self._learner.told
        return heard
