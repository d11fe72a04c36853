"""When a second opinion is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from edge.classifier import SPEECH

PAUSE_S = 1.0  # behind a longer silence another person may speak
LEAST_S = 2.0  # of speech, of less of which even a large model is often wrong
# Of speech, before it is asked for the first time: a first answer about 2 s is wrong more often
# than it is early. What is over by then is asked about when it ends.
FIRST_S = 2.75
UNSURE_S = 1.0  # of new speech, before it is asked again while the answer is not sure
# The same while the compact model alone would answer otherwise, or behind any pause, until it has
# heard a whole window.
DISPUTE_S = 3.0
CONFIRM_S = 15.0  # the same while both agree
PATIENCE_S = 3.0  # how long it waits for speech without a pause, before it hears across one
SURE = 0.8  # smoothed probability below which an answer may soon be another


@dataclass(frozen=True)
class Moment:
    """What is known at a hop.

    Attributes
    ----------
    end_s : float
        Stream time.
    nonspeech : float
        Its probability in the newest short window.
    short_s : float
        Length of that.
    sure : float
        Smoothed probability of the likeliest class.
    is_announced : bool
        Whether that class is what is announced.
    is_disputed : bool
        Whether the compact model alone finds another one likeliest.
    """

    end_s: float
    nonspeech: float
    short_s: float
    sure: float
    is_announced: bool
    is_disputed: bool


class Moments:
    """Follows a stream, and says of which stretches an opinion is wanted.

    Parameters
    ----------
    window_s : float
        The most that the model hears.
    ahead_s : float
        How much more has been heard by a hop than is known: the model that listens is so late.
    """

    def __init__(self, window_s: float, ahead_s: float) -> None:
        self._window_s, self._ahead_s = window_s, ahead_s
        self._first_s, self._least_s = (min(each, window_s) for each in (FIRST_S, LEAST_S))
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._speech_s: float | None = None  # since when there is speech, but for short pauses
        self._voice_s = 0.0  # since when there is speech without even these
        self._pause_s: float | None = None  # since when there is a pause
        self._due_s = 0.0  # up to when there was no need to ask
        self._asked_s = 0.0  # up to where opinions have heard

    def wanted(self, moment: Moment) -> tuple[float, float] | None:
        """Where the stretch begins and ends that an opinion is wanted of; or None.

        Who speaks is taken to go on: what has been heard since the hop belongs to it.
        """
        end_s = moment.end_s
        if moment.nonspeech >= SPEECH:
            if self._pause_s is None:
                self._pause_s = end_s
                return self._unheard(end_s)
            if end_s - self._pause_s >= PAUSE_S:
                self._speech_s = None
                self._due_s = end_s
            return None
        if self._pause_s is not None or self._speech_s is None:
            self._voice_s = max(0.0, end_s - moment.short_s)
        self._pause_s = None
        if self._speech_s is None:
            self._speech_s = self._voice_s
        end_s += self._ahead_s
        is_first = self._asked_s <= self._speech_s
        new_s = end_s - max(self._asked_s, self._speech_s)
        if new_s < (self._first_s if is_first else self._new_s(moment)):
            self._due_s = end_s
            return None
        voice_s = self._of_voice(end_s, self._first_s)
        if voice_s is not None:
            return voice_s, end_s
        # What lies across a pause may be two people's, and then it hears neither of them.
        start_s = max(self._speech_s, end_s - self._window_s)
        if end_s - self._due_s >= PATIENCE_S and end_s - start_s >= self._first_s:
            return start_s, end_s
        return None

    def _unheard(self, end_s: float) -> tuple[float, float] | None:
        """The speech that ends here, if it is enough and none of it was asked about.

        It is wanted this once: while the asker is busy, short speech goes without an opinion.
        """
        if self._speech_s is None or self._asked_s > self._speech_s:
            return None
        start_s = self._of_voice(end_s, self._least_s)
        return None if start_s is None else (start_s, end_s)

    def _of_voice(self, end_s: float, least_s: float) -> float | None:
        """Where what can be heard of one voice begins that speaks up to here, if it is enough."""
        start_s = max(self._voice_s, end_s - self._window_s)
        return start_s if end_s - start_s >= least_s else None

    def _new_s(self, moment: Moment) -> float:
        """How much new speech there must be, once it has been asked."""
        if moment.sure < SURE or not moment.is_announced:
            return UNSURE_S
        if moment.is_disputed or self._asked_s < self._voice_s + self._window_s:
            return DISPUTE_S
        return CONFIRM_S

    def forget(self) -> None:
        """Take note that what opinions have heard counts no more."""
        self._asked_s = 0.0

    def asked(self, end_s: float) -> None:
        """Take note that an opinion has been asked for."""
        self._asked_s = end_s
