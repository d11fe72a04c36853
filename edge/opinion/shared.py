"""One large model for all streams of a server, and one budget."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from edge.belief import Opinion
from edge.opinion.asking import ASKED, Answers, Asker, InBackground, Question
from edge.opinion.expert import Expert, ExpertFile


class SharedFile(ExpertFile):
    """A file whose model is opened once, and serves whoever opens it.

    Parameters
    ----------
    name, labels
        As for :class:`edge.opinion.expert.ExpertFile`.
    """

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__(name, labels)
        self._opening = threading.Lock()
        self._opened: Expert | None = None

    def open(self) -> Expert:
        """The one model, see :meth:`edge.opinion.expert.ExpertFile.open`."""
        with self._opening:
            if self._opened is None:
                self._opened = super().open()
            return self._opened


class SharedAsker:
    """Asks for many streams, in one thread and within one budget.

    Streams that ask while an answer is on its way are told that it is busy, and ask again at their
    next hop: which of them comes next is a matter of chance.

    Parameters
    ----------
    file : ExpertFile
    share : float
        Of one core, for all streams together.
    """

    def __init__(self, file: ExpertFile, share: float) -> None:
        self._asker = InBackground(file, share)
        self._lock = threading.Lock()
        self._numbers = count()
        self._of: dict[int, tuple[_Desk, int]] = {}  # whose a question is, and of which stream

    def desk(self) -> Asker:
        """What one listener asks; closing it leaves the others as they are."""
        return _Desk(self)

    def close(self) -> None:
        """Ask no more, see :meth:`edge.opinion.asking.InBackground.close`."""
        self._asker.close()

    def ask(self, desk: _Desk, question: Question, now_s: float) -> str:
        """Ask for a desk."""
        with self._lock:
            number = next(self._numbers)
            outcome = self._asker.ask(replace(question, stream=number), now_s)
            if outcome == ASKED:
                self._of[number] = desk, question.stream
            return outcome

    def take(self, desk: _Desk) -> list[tuple[int, Opinion]]:
        """Answers that have come for a desk."""
        with self._lock:
            for number, opinion in self._asker.take():
                if number in self._of:  # whoever asked is still there
                    whose, stream = self._of.pop(number)
                    whose.answers.waiting.append((stream, opinion))
            return desk.answers.take()

    def forget(self, desk: _Desk) -> None:
        """Take note that nobody waits at a desk any more."""
        with self._lock:
            self._of = {n: asked for n, asked in self._of.items() if asked[0] is not desk}

    def afford(self, share: float) -> None:
        """Go on with another budget for all."""
        self._asker.afford(share)


class _Desk:
    """What one listener asks; an `Asker`."""

    def __init__(self, shared: SharedAsker) -> None:
        self._shared = shared
        self.answers = Answers()

    def ask(self, question: Question, now_s: float) -> str:
        return self._shared.ask(self, question, now_s)

    def take(self) -> list[tuple[int, Opinion]]:
        return self._shared.take(self)

    def afford(self, share: float) -> None:
        self._shared.afford(share)

    def close(self) -> None:
        self._shared.forget(self)
