"""Reloading: new settings while the audio goes on."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from edge.audio.sources import Sound, length_samples
from edge.classifier import Window, class_mask
from edge.config import changed, gain_db
from edge.decoder import Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.languages import meant
from edge.lessons.correction import Correction
from edge.listener import Heard, Listener, Lost
from edge.model.interpreter import open_file
from edge.model.modelfile import ModelFile, path_of
from edge.opinion.expert import ExpertFile
from edge.opinion.second import SecondOpinion
from edge.outputs.settings import NEED_RESTART, Settings, contradictions, is_live
from edge.system.atomic import check_writable

S = TypeVar("S", Segment, Window, Lost)

logger = logging.getLogger(__name__)


class ReloadingListener:
    """A listener for one stream, that takes new settings between two blocks of audio.

    Other languages apply to what comes next. Another model, of whichever kind, or number of
    threads, begins with nothing heard: the segment that goes on is finished there, and stream time
    continues.

    Parameters
    ----------
    settings : Settings
    windows_s : sequence of float or None
        Windows to report; none of them, or with an empty sequence those of the model.
    is_paced : bool
        Whether even a file is read no faster than it would play.

    Attributes
    ----------
    settings : Settings
    model : ModelFile

    Raises
    ------
    EdgelidError
        If the model cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        windows_s: Sequence[float] | None = None,
        is_paced: bool = False,
    ) -> None:
        self.settings = settings
        self._is_paced = is_paced
        self._windows_s = windows_s
        self._wanted: Callable[[], Settings] | None = None
        self._lessons = _contents(settings.lessons)
        self._next = self.model, self._listener = self._open(settings)
        self._leaving: list[threading.Thread] = []  # in each, a listener of before ends

    def reload(self, read: Callable[[], Settings]) -> None:
        """Have new settings read before the next block; signal handlers may call it."""
        self._wanted = read

    @property
    def taught(self) -> dict[str, Any] | None:
        """What to tell of lessons, if there are any."""
        return self._listener.taught

    @property
    def windows_s(self) -> Sequence[float]:
        """Windows to report."""
        if self._windows_s is None:
            return ()
        return self._windows_s or self.model.description.stream.windows_s

    def hear(
        self, blocks: Iterable[Sound], reloaded: Callable[[Settings], None]
    ) -> Iterator[Heard]:
        """Listen until the audio ends, as `Listener.hear` does.

        Parameters
        ----------
        blocks : iterable of ndarray, shape (n,), float32, Gap or Level
        reloaded : callable
            Called with new settings before they apply; an EdgelidError that it raises, like
            their own faults, leaves everything as it was.
        """
        self._heard_samples, self._ended = 0, False
        rest = iter(blocks)
        while not self._ended:
            start_s = self._heard_samples / SAMPLE_RATE_HZ
            for heard in self._listener.hear(self._until_other_model(rest, reloaded)):
                yield _later(heard, start_s) if start_s else heard
            if self._next[1] is not self._listener:
                self._leave()
            self.model, self._listener = self._next

    def close(self) -> None:
        """End what runs beside the audio, also beside that before the last settings."""
        self._listener.close()
        for thread in self._leaving:
            thread.join()

    def _leave(self) -> None:
        """Close the listener that another one follows; the audio does not wait for that."""
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        thread = threading.Thread(target=self._listener.close, name="leaving", daemon=True)
        self._leaving.append(thread)
        thread.start()

    def _until_other_model(
        self, blocks: Iterator[Sound], reloaded: Callable[[Settings], None]
    ) -> Iterator[Sound]:
        self._ended = True  # also if the source fails
        for block in blocks:
            self._heard_samples += length_samples(block)
            yield block
            if self._wanted is not None:
                self._apply(reloaded)
            if self._next[1] is not self._listener:
                self._ended = False
                return

    def _apply(self, reloaded: Callable[[Settings], None]) -> None:
        """Take the settings that are wanted, or none of them."""
        read, self._wanted = self._wanted, None
        assert read is not None
        before = self.settings
        try:
            wanted = read()
            names = set(changed(before, wanted))
            later = {name: getattr(before, name) for name in names & NEED_RESTART}
            wanted = replace(wanted, **later)
            for problem in contradictions(wanted):
                raise EdgelidError(problem)
            lessons = _contents(wanted.lessons)
            other_lessons = lessons != (self._listener.written or self._lessons)
            if other_lessons or names & {"model", "threads", "second_opinion", "lessons", "learn"}:
                following = self._open(wanted)
            else:
                following = self._next
                class_mask(self.model.labels, _languages(wanted, self.model))
            reloaded(wanted)
        except EdgelidError as error:
            logger.warning("the configuration stays as it was: %s", error)
            return
        self.settings, self._next, self._lessons = wanted, following, lessons
        if following[1] is self._listener:
            self._listener.expect(_languages(wanted, self.model))
            self._listener.decide(_threshold(wanted, self.model), wanted.hold)
            self._listener.afford(wanted.second_opinion_share)
        if wanted.learn and not before.learn:
            logger.warning("%s", learning_sentence(wanted))
        if later:
            logger.warning("only a restart can change %s", ", ".join(sorted(later)))

    def _open(self, settings: Settings) -> tuple[ModelFile, Listener]:
        model, graphs = open_file(path_of(settings.model), settings.threads)
        windows_s = self._windows_s
        if windows_s is not None:
            windows_s = windows_s or model.description.stream.windows_s
        correction = learner = facts = None
        if settings.lessons:
            from edge.lessons.telling import told
            from edge.teaching import taught  # which listening does without otherwise

            untaught, book = model, Path(settings.lessons)
            if settings.learn:
                check_writable(book)  # or nobody would hear of it before something is learnt
            if not settings.learn or os.path.exists(book):  # noqa: PTH110 - no error where denied
                learnt = taught(book, model, graphs)
                model, correction = learnt.model, learnt.correction
                facts = told(book, learnt.book, learnt.brought)
            if settings.learn:
                from edge.learning import Learner

                at_once = not (self._is_paced or is_live(settings))
                learner = Learner(book, untaught, model.labels, at_once)
                channels = 2 * model.description.stream.embedding
                correction = correction or Correction.nothing(model.labels, channels)
        decoder = replace(model.description.decoder, confidence=_threshold(settings, model))
        languages = _languages(settings, model)
        second = None
        if settings.second_opinion:
            class_mask(model.labels, languages)  # before a thread of its own finds fault with it
            second = SecondOpinion.of(
                ExpertFile(settings.second_opinion, model.labels),
                model,
                settings.second_opinion_share,
                languages,
                at_once=not (self._is_paced or is_live(settings)),
            )
        make: Callable[..., Listener] = Listener
        if learner is not None:
            from edge.learning import LearningListener

            make = functools.partial(LearningListener, learner)
        listener = make(
            model,
            graphs,
            decoder,
            languages,
            windows_s or (),
            settings.hold,
            second,
            correction,
            gain_db(settings.gain) is None,
        )
        listener.taught = facts
        return model, listener


def _contents(lessons: str) -> bytes | None:
    """What tells whether a lesson book is as it was."""
    if not lessons:
        return None
    from edge.lessons.book import contents

    try:
        return hashlib.sha256(contents(Path(lessons))).digest()
    except EdgelidError:  # which is told where it is read
        return None


def learning_sentence(settings: Settings) -> str:
    """What people are told before anything is learnt from what is heard."""
    return f"learning from second opinions: statistics of what is heard go to {settings.lessons}."


def _threshold(settings: Settings, model: ModelFile) -> float:
    return settings.threshold or model.description.decoder.confidence


def _languages(settings: Settings, model: ModelFile) -> tuple[str, ...] | None:
    return meant(settings.languages, model.labels) or None


def _later(heard: Heard, by_s: float) -> Heard:
    """The same, with stream times moved by so much."""
    change = heard.change
    if change is not None:
        change = replace(change, start_s=change.start_s + by_s, decided_s=change.decided_s + by_s)
    return replace(
        heard,
        windows=[_moved(window, by_s) for window in heard.windows],
        change=change,
        finished=tuple(_moved(segment, by_s) for segment in heard.finished),
        current=_moved(heard.current, by_s),
        lost=None if heard.lost is None else _moved(heard.lost, by_s),
    )


def _moved(stretch: S, by_s: float) -> S:
    return replace(stretch, start_s=stretch.start_s + by_s, end_s=stretch.end_s + by_s)
