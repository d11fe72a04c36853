"""Second opinions that come when they would on a Raspberry Pi 4, though a file is read at once."""

from __future__ import annotations

from collections.abc import Iterator

from edge.audio.sources import BLOCK_S
from edge.belief import Opinion
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.opinion.asking import ASKED, BUSY, AtOnce, Question
from edge.opinion.expert import ExpertFile

BLOCK_SAMPLES = round(BLOCK_S * SAMPLE_RATE_HZ)


class InItsTime:
    """Asks as a device does: one question at a time, whose answer comes once it is worked out.

    Who listens has gone on by then. A delay that was measured with answers that take no time would
    be one that no device has.

    Parameters
    ----------
    file : ExpertFile
        Tells what an answer should take on a Raspberry Pi 4.
    share : float
        Of one core, at most 1.

    Attributes
    ----------
    heard_s : float
        Of the stream so far.
    spent_s : float
        What all answers should have taken.
    """

    def __init__(self, file: ExpertFile, share: float) -> None:
        self.heard_s = 0.0
        self._asker = AtOnce(file, share)
        self._due_s: float | None = None  # when the answer comes that is being worked out

    @property
    def spent_s(self) -> float:
        return self._asker.spent_s

    def blocks(self, samples: Float32Array) -> Iterator[Float32Array]:
        """Blocks of a stream, shape (at most `BLOCK_SAMPLES`,), while its time passes."""
        for start in range(0, len(samples), BLOCK_SAMPLES):
            block = samples[start : start + BLOCK_SAMPLES]
            self.heard_s = (start + len(block)) / SAMPLE_RATE_HZ
            yield block

    def ask(self, question: Question, now_s: float) -> str:
        """Ask, if no question is under way and the budget allows it."""
        if self._due_s is not None:
            return BUSY
        before_s = self.spent_s
        outcome = self._asker.ask(question, now_s)
        if outcome == ASKED:
            self._due_s = self.heard_s + self.spent_s - before_s
        return outcome

    def take(self) -> list[tuple[int, Opinion]]:
        """The answer, once it has been worked out."""
        if self._due_s is None or self.heard_s < self._due_s:
            return []
        self._due_s = None
        return self._asker.take()

    def afford(self, share: float) -> None:
        """Go on with another budget."""
        self._asker.afford(share)

    def close(self) -> None:
        """Ask no more."""
        self._asker.close()
