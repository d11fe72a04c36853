"""Asking the large model: in a thread of its own where time passes, and at once where it does not.

Both keep to a budget, but for recordings, which wait for every answer. The thread takes one
question at a time and refuses the next until it has answered: nothing queues up, and whoever asks
waits for nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge.belief import Opinion
from edge.frontend import Float32Array
from edge.opinion.budget import SPAN_S, Budget
from edge.opinion.expert import Expert, ExpertFile

log = logging.getLogger(__name__)

ASKED, BUSY, UNAFFORDABLE, GONE = "asked", "busy", "budget", "gone"  # what becomes of a question
REFUSALS = (BUSY, UNAFFORDABLE, GONE)
NICENESS = 10  # of the thread, where threads have one: audio comes first even on a single core
LEAVE_S = 10.0  # how long the end waits for an answer; an interpreter must not run beyond it


@dataclass(frozen=True)
class Question:
    """A stretch to give an opinion of.

    Attributes
    ----------
    samples : ndarray, shape (n,), float32
    end_s : float
        Stream time of their end.
    languages : sequence of str or None
    stream : int
        Counts the streams: times of another one mean nothing.
    """

    samples: Float32Array
    end_s: float
    languages: Sequence[str] | None
    stream: int


@dataclass
class Answers:
    """Opinions that have come, by the stream that they are of."""

    waiting: list[tuple[int, Opinion]] = field(default_factory=list)

    def take(self) -> list[tuple[int, Opinion]]:
        """Those that have come since this was last asked."""
        taken, self.waiting = self.waiting, []
        return taken


class Asker(Protocol):
    """Where questions go."""

    def ask(self, question: Question, now_s: float) -> str:
        """Ask, if the budget allows it; returns what becomes of it.

        Parameters
        ----------
        question : Question
        now_s : float
            How much has been heard so far, of all streams.
        """

    def take(self) -> list[tuple[int, Opinion]]:
        """Answers that have come."""

    def afford(self, share: float) -> None:
        """Go on with another budget."""

    def close(self) -> None:
        """Ask no more."""


class Patient:
    """Asks while the audio waits, whenever it is wanted.

    Parameters
    ----------
    expert : Expert
    """

    def __init__(self, expert: Expert) -> None:
        self._expert = expert
        self._answers = Answers()

    def ask(self, question: Question, now_s: float) -> str:
        """Answer."""
        opinion = self._expert.asked(question.samples, question.end_s, question.languages)
        self._answers.waiting.append((question.stream, opinion))
        return ASKED

    def take(self) -> list[tuple[int, Opinion]]:
        """Answers that have come."""
        return self._answers.take()

    def afford(self, share: float) -> None:
        """There is no budget."""

    def close(self) -> None:
        """Nothing is left to do."""


class AtOnce(Patient):
    """The same within a budget, for files that are read as fast as possible.

    Time is that of the stream, and every answer counts as its nominal cost: a file has the same
    answers whenever and wherever it is read.

    Parameters
    ----------
    file : ExpertFile
    share : float
        Of one core.

    Attributes
    ----------
    spent_s : float
        What all answers should have taken.

    Raises
    ------
    EdgelidError
        If the model cannot be run.
    """

    def __init__(self, file: ExpertFile, share: float) -> None:
        super().__init__(file.open())
        self.spent_s = 0.0
        self._file = file
        self._budget = Budget(share, file.nominal_s)

    def ask(self, question: Question, now_s: float) -> str:
        """Answer, if the budget allows it."""
        work = self._file.span.work(len(question.samples))
        if not self._budget.allows(now_s, work):
            return UNAFFORDABLE
        cost_s = work * self._file.nominal_s
        self.spent_s += cost_s
        self._budget.spend(now_s, cost_s, work)
        return super().ask(question, now_s)

    def afford(self, share: float) -> None:
        """Go on with another budget."""
        self._budget.change(share)


class InBackground:
    """Asks in a thread of its own, which begins and opens the model with the first question.

    A model that cannot be run is told of once, and listening goes on without it.

    Parameters
    ----------
    file : ExpertFile
    share : float
        Of one core.
    """

    def __init__(self, file: ExpertFile, share: float) -> None:
        self._file = file
        self._share = share
        self._budget = Budget(share, file.nominal_s)
        self._answers = Answers()
        self._question: Question | None = None  # it stays until it is answered
        self._changed = threading.Condition()
        self._is_ending = self._is_gone = self._has_told = False
        self._thread: threading.Thread | None = None

    def ask(self, question: Question, now_s: float) -> str:
        """Leave a question, if there is none and the budget allows it."""
        with self._changed:
            if self._is_gone:
                return GONE
            if self._question is not None:
                return BUSY
            work = self._file.span.work(len(question.samples))
            if not self._budget.allows(time.monotonic(), work):
                return UNAFFORDABLE
            self._question = question
            self._changed.notify()
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="second-opinion", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there is no room for another one
                self._give_up(error)
                return GONE
            self._thread = thread
        return ASKED

    def take(self) -> list[tuple[int, Opinion]]:
        """Answers that have come."""
        with self._changed:
            return self._answers.take()

    def afford(self, share: float) -> None:
        """Go on with another budget."""
        with self._changed:
            self._share = share
            self._budget.change(share)

    def close(self) -> None:
        """Ask no more, and wait for the answer that is on its way."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(LEAVE_S)

    def _work(self) -> None:
        give_way()
        began_s = time.thread_time()
        try:
            expert = self._file.open()
            with self._changed:
                spent_s = time.thread_time() - began_s
                self._budget.spend(time.monotonic(), spent_s, work=None)
            while (question := self._next()) is not None:
                opinion = expert.asked(question.samples, question.end_s, question.languages)
                self._answered(question, opinion)
        except Exception as error:  # whatever it is, nobody else would hear of it
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        # Where it is no sentence of ours, how it came about is for whoever looks for that.
        log.debug("the second opinion has failed", exc_info=error)
        words = str(error) or repr(error)
        log.warning("listening goes on without a second opinion: %s", words)
        with self._changed:
            self._is_gone, self._question = True, None

    def _next(self) -> Question | None:
        with self._changed:
            self._changed.wait_for(lambda: self._question is not None or self._is_ending)
            return None if self._is_ending else self._question

    def _answered(self, question: Question, opinion: Opinion) -> None:
        with self._changed:
            self._question = None
            self._answers.waiting.append((question.stream, opinion))
            work = self._file.span.work(len(question.samples))
            self._budget.spend(time.monotonic(), opinion.took_s, work)
            tell = self._budget.is_scarce and not self._has_told
            self._has_told |= tell
            share = self._share
        if tell:
            log.warning(
                "second opinions take %.1f s each, and %g of a core is %.2g of them a minute: it "
                "is asked less often than it should be",
                opinion.took_s,
                share,
                share * SPAN_S / opinion.took_s,
            )


def give_way() -> None:
    """Let all other threads go first, where the system has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
