"""The online decoder: from window probabilities to segments of one language.

A hidden Markov forward filter whose states are the classes (`edge.belief`), which expects most what
has been spoken before (`edge.usage`). On top stands a rule for what to say aloud: a class is
announced once the filter is confident of it, and it stays the answer while the filter is confident
of nothing else and still gives it some probability; then the answer is ``unknown``.

What is said aloud comes late, and its times are right all the same: when an answer is known, the
short windows of the last seconds tell where it began (`edge.borders`). So a segment is finished
once what follows it is known, or after `DOUBT_S` without an answer; doubt that ended earlier was
about when, not about what, and leaves no segment of its own, unless there is silence on both sides
of it: then somebody spoke whom nobody recognised.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.belief import COMPACT, SECOND_OPINION, Belief, Opinion, RevisableBelief
from edge.borders import FINE_S, HISTORY_S, PAUSE_S, find_borders, heard_as
from edge.classifier import Window
from edge.frontend import Float64Array
from edge.languages import UNKNOWN
from edge.model.modelfile import NONSPEECH, OTHER, DecoderDefaults, ModelFile
from edge.usage import Usage

# What has been announced stays the answer down to this share of the way from its prior to the
# threshold: a moment of doubt is no news, and announced anew behind it, the answer would be a
# change that was none. Chosen on development streams, see docs/experiments.md.
KEPT = 0.4
# `other` is what a model says of speech that it does not know, which may be in any language: to be
# announced, it must be so many times less doubtful than another class. Chosen on the same streams.
OTHER_DOUBT = 3.0
# A second opinion makes answers surer, wrong ones, too: where any counts, all must be so many times
# less doubtful. Chosen on the same streams, see docs/experiments.md.
OPINION_DOUBT = 3.0
DOUBT_S = 8.0  # without an answer, until there was none; the border must be within the history
MAX_HOLD_S = 30.0
UNRECOGNISED_S = 1.0  # of speech between two silences: with less, it may have been none


def decoder_windows_s(model: ModelFile, window_s: float) -> tuple[float, ...]:
    """Lengths of the windows that a decoder is fed with: its own, and a short one to find borders.

    Parameters
    ----------
    model : ModelFile
        One of whole windows has no others.
    window_s : float
        That of its settings.
    """
    description = model.description
    fine_s = max(FINE_S, description.embedding_s)
    if description.mode == "window" or window_s <= fine_s:
        return (window_s,)
    return window_s, fine_s


@dataclass(frozen=True)
class Segment:
    """A stretch of stream in one language.

    Attributes
    ----------
    language : str
        A class of the model, or ``unknown``.
    start_s, end_s : float
        Stream time.
    confidence : float
        Mean smoothed probability of the class; for ``unknown``, of the likeliest one.
    by : str or None
        Who decided on it, where there are two: ``compact`` or ``second opinion``.
    """

    language: str
    start_s: float
    end_s: float
    confidence: float
    by: str | None = None


@dataclass(frozen=True)
class Change:
    """The moment the answer changes.

    Attributes
    ----------
    language, previous : str
    start_s : float
        Where in the stream the new language is thought to have begun.
    decided_s : float
        Where in the stream that became clear.
    confidence : float
        Smoothed probability at the decision.
    by : str or None
        Who decided on it, where there are two: ``compact`` if it would have done so alone.
    took_s : float or None
        Processor time of the newest second opinion, if that decided.
    """

    language: str
    previous: str
    start_s: float
    decided_s: float
    confidence: float
    by: str | None = None
    took_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """What a hop decides.

    Attributes
    ----------
    change : Change or None
        The answer changes.
    finished : tuple of Segment
        Segments that this finishes, in their order.
    """

    change: Change | None
    finished: tuple[Segment, ...]


@dataclass
class _Stretch:
    """A segment that is not finished yet.

    Attributes
    ----------
    language : str
    start_s : float
    confidence_sum : float
        Over the hops at which it was the answer.
    hops : int
    by : str or None
        Who decided on it.
    """

    language: str
    start_s: float
    by: str | None = None
    confidence_sum: float = 0.0
    hops: int = 0

    def add(self, confidence: float) -> None:
        """Take note of a hop at which it is the answer."""
        self.confidence_sum += confidence
        self.hops += 1

    def until(self, end_s: float) -> Segment:
        """The segment that it is if it ends there."""
        confidence = self.confidence_sum / max(1, self.hops)
        return Segment(self.language, self.start_s, end_s, confidence, self.by)


class Decoder:
    """Follows the class of a stream.

    Parameters
    ----------
    labels : sequence of str
        Classes, in the order of the probabilities.
    settings : DecoderDefaults
    hop_s : float
        Time between the windows it is fed.
    hold_s : float
        How long another class must have been the answer before it is announced, and how long the
        one before is kept while there is none; at most `MAX_HOLD_S`.
    second_opinion : bool
        Whether it is to `consider` any.
    """

    def __init__(
        self,
        labels: Sequence[str],
        settings: DecoderDefaults,
        hop_s: float,
        hold_s: float = 0.0,
        second_opinion: bool = False,
    ) -> None:
        self._labels = tuple(labels)
        self._hop_s = hop_s
        self.decide(settings.confidence, hold_s)
        self._nonspeech, self._other = self._index(NONSPEECH), self._index(OTHER)
        self._second = second_opinion
        filtering = len(self._labels), min(0.5, hop_s / settings.stay_s), hop_s / settings.window_s
        self._belief = (
            RevisableBelief(*filtering, hop_s, self._other, self._nonspeech)
            if second_opinion
            else Belief(*filtering, self._other, self._nonspeech)
        )
        self._usage = Usage(self._labels)
        self._history: deque[Window] = deque(maxlen=math.ceil((HISTORY_S + MAX_HOLD_S) / hop_s))
        self.reset()

    def decide(self, threshold: float, hold_s: float) -> None:
        """Decide so from now on: what is believed stays.

        Parameters
        ----------
        threshold : float
            Smoothed probability below which the answer is ``unknown``.
        hold_s : float
            At most `MAX_HOLD_S`.
        """
        self._threshold, self._hold_s = threshold, hold_s

    def reset(self) -> None:
        """Start a new stream."""
        self._usage.reset()
        self._begin()

    def go_on(self) -> None:
        """Start anew behind a gap, in a place where it is known what has been spoken."""
        self._usage.go_on()
        self._begin()
        self._belief.favour(self._usage.weights, self._threshold)

    def _begin(self) -> None:
        self._belief.reset()
        self._history.clear()
        self._before_s = self._end_s = 0.0
        self._took_s: float | None = None
        self._settled = _Stretch(UNKNOWN, 0.0, COMPACT if self._second else None)
        # After a language, while it is not known what follows or whether it goes on.
        self._doubt: _Stretch | None = None
        self._doubt_since_s = 0.0
        self._candidate = UNKNOWN  # what the answer would be if nothing were held
        self._candidate_since_s = 0.0
        self._doubted_since_s = 0.0  # since when that is not what is announced

    @property
    def belief(self) -> Float64Array:
        """Smoothed probabilities, shape (classes,)."""
        return np.array(self._belief.values)

    @property
    def alone(self) -> Float64Array:
        """The same without second opinions."""
        if isinstance(self._belief, RevisableBelief):
            return np.array(self._belief.alone.values)
        return self.belief

    @property
    def current(self) -> Segment:
        """The answer now, and since when."""
        answer = self._answer
        return answer.until(max(answer.start_s, self._end_s))

    def update(self, window: Window, fine: Window | None = None) -> Decision | None:
        """Take the next window.

        Parameters
        ----------
        window : Window
            Of length ``settings.window_s``, one hop after the one before.
        fine : Window, optional
            A short one that ends with it, to find borders by; without it, that one itself.

        Returns
        -------
        Decision or None
            If anything is decided.
        """
        self.advance(window, fine)
        return self.conclude()

    def advance(self, window: Window, fine: Window | None = None) -> None:
        """The first half of `update`: take the next window, and decide nothing yet."""
        if window.apart is None and self._other is not None:
            self._belief.update(window.probabilities, window.end_s)
        else:  # some languages are not expected, or may not be: without `other` no window says so
            expected = tuple(probability > 0 for probability in window.probabilities.tolist())
            heard = window.probabilities if window.apart is None else window.apart
            self._belief.update(heard, window.end_s, expected)
        self._before_s, self._end_s = self._end_s, window.end_s
        self._history.append(window if fine is None else fine)

    def conclude(self) -> Decision | None:
        """The second half of `update`, once for every window."""
        answer, confidence = self._says(self._belief)
        if answer == UNKNOWN and self._is_kept():
            answer = self._settled.language
        answer = self._held(answer, self._before_s)
        if answer != self._answer.language:
            return self._change(answer, confidence)
        # Of what is said, which others may lead while it is held.
        said = self._index(answer)
        self._answer.add(confidence if said is None else self._belief.values[said])
        if self._doubt is not None and self._end_s - self._doubt_since_s >= DOUBT_S:
            return self._give_up(self._doubt)
        return None

    def consider(self, opinion: Opinion) -> bool:
        """Take another model's opinion of what was heard; the next conclusion counts it in.

        Returns
        -------
        bool
            Whether it came soon enough to count.
        """
        assert isinstance(self._belief, RevisableBelief)
        counts = self._belief.revise(opinion)
        if counts:
            self._took_s = opinion.took_s
        return counts

    def stand_alone(self) -> None:
        """Expect no opinion for now: of what follows, the model that listens decides by itself."""
        assert isinstance(self._belief, RevisableBelief)
        self._belief.stand_alone()

    def finish(self, end_s: float) -> tuple[Segment, ...]:
        """End the stream.

        Parameters
        ----------
        end_s : float
            Length of the audio.

        Returns
        -------
        tuple of Segment
            The last ones, in their order; none without audio.
        """
        finished = self._last(end_s)
        self._expect_again(finished)
        return finished

    def _last(self, end_s: float) -> tuple[Segment, ...]:
        last, doubt = self._settled, self._doubt
        if end_s <= last.start_s:
            return ()
        if doubt is not None and doubt.start_s < end_s:
            return last.until(doubt.start_s), doubt.until(end_s)
        if doubt is None and last.language not in (UNKNOWN, NONSPEECH):
            old_end_s, pause_end_s, _ = self._borders(last, UNKNOWN)
            # What no window has heard, behind the last one, is no pause.
            is_quiet = pause_end_s > old_end_s and pause_end_s >= self._end_s
            if is_quiet and end_s - old_end_s >= PAUSE_S:
                return last.until(old_end_s), self._pause(old_end_s, end_s, last.language)
        return (last.until(end_s),)

    @property
    def _answer(self) -> _Stretch:
        return self._settled if self._doubt is None else self._doubt

    def _says(self, belief: Belief) -> tuple[str, float]:
        """The answer by a belief if nothing is held, and how likely its likeliest class is."""
        values = belief.values
        confidence = max(values)
        index = values.index(confidence)
        needed = self._needed(belief)
        if index == self._other:
            needed = 1 - (1 - needed) / OTHER_DOUBT
        return self._labels[index] if confidence >= needed else UNKNOWN, confidence

    def _needed(self, belief: Belief) -> float:
        """How sure an answer has to be."""
        doubt = OPINION_DOUBT if belief.counts_opinions else 1.0
        return 1 - (1 - self._threshold) / doubt

    def _is_kept(self) -> bool:
        """Whether what was announced is still likely enough, where nothing else is."""
        settled = self._index(self._settled.language)
        if settled is None or self._doubt is not None:
            return False
        prior, needed = self._belief.priors[settled], self._needed(self._belief)
        return self._belief.values[settled] >= prior + KEPT * (needed - prior)

    def _by(self, answer: str) -> str | None:
        """Who decides on an answer, where there are two."""
        if not isinstance(self._belief, RevisableBelief):
            return None
        return COMPACT if self._says(self._belief.alone)[0] == answer else SECOND_OPINION

    def _index(self, label: str) -> int | None:
        return self._labels.index(label) if label in self._labels else None

    def _held(self, answer: str, before_s: float) -> str:
        """What is said, where the filter says `answer` since the hop that began at `before_s`."""
        said = self._answer.language
        if answer != self._candidate:
            self._candidate, self._candidate_since_s = answer, before_s
        if answer == said:
            self._doubted_since_s = self._end_s
        since_s = self._doubted_since_s if answer == UNKNOWN else self._candidate_since_s
        return answer if self._end_s - since_s >= self._hold_s else said

    def _change(self, answer: str, confidence: float) -> Decision:
        previous, last, by = self._answer.language, self._settled, self._by(answer)
        self._doubted_since_s = self._end_s
        finished: list[Segment] = []
        if answer == UNKNOWN:
            old_end_s, _, _ = self._borders(last, UNKNOWN)
            self._doubt = _Stretch(UNKNOWN, old_end_s, by)
            self._doubt_since_s = self._end_s
        elif answer == last.language:
            if answer == NONSPEECH and self._doubt is not None:
                finished += self._unrecognised(self._doubt, by)
            self._doubt = None
        else:
            old_end_s, pause_end_s, start_s = self._borders(last, answer)
            if old_end_s > last.start_s:
                finished.append(last.until(old_end_s))
            if pause_end_s > old_end_s:
                finished.append(self._pause(old_end_s, pause_end_s, last.language, answer))
            if start_s > pause_end_s:
                unclear = self._doubt or _Stretch(UNKNOWN, 0.0, by)
                unclear.start_s = pause_end_s
                finished.append(unclear.until(start_s))
            self._settled, self._doubt = _Stretch(answer, start_s, by), None
        now = self._answer
        now.add(confidence)
        took_s = self._took_s if by == SECOND_OPINION else None
        change = Change(answer, previous, now.start_s, self._end_s, confidence, by, took_s)
        self._expect_again(finished)
        return Decision(change, tuple(finished))

    def _expect_again(self, finished: Sequence[Segment]) -> None:
        """Expect what has been spoken."""
        if finished:
            for segment in finished:
                self._usage.add(segment.language, segment.start_s, segment.end_s)
            self._belief.favour(self._usage.weights, self._threshold)

    def _unrecognised(self, doubt: _Stretch, by: str | None) -> list[Segment]:
        """Finish speech between two silences, which nobody recognised, and the silence before."""
        _, _, start_s = self._borders(doubt, NONSPEECH)
        if start_s - doubt.start_s < UNRECOGNISED_S:
            return []
        finished = [self._settled.until(doubt.start_s), doubt.until(start_s)]
        self._settled = _Stretch(NONSPEECH, start_s, by)
        return finished

    def _give_up(self, doubt: _Stretch) -> Decision:
        """Finish a language that nothing has followed."""
        finished = self._settled.until(doubt.start_s)
        self._settled, self._doubt = doubt, None
        self._expect_again((finished,))
        return Decision(None, (finished,))

    def _borders(self, old: _Stretch, new: str) -> tuple[float, float, float]:
        """End of the stretch, end of a pause behind it, and start of what follows."""
        since_s = max(old.start_s, self._end_s - HISTORY_S - self._hold_s) + self._hop_s / 2
        windows = [window for window in self._history if window.end_s > since_s]
        windows = windows or [self._history[-1]]  # it has begun with this very hop
        if isinstance(self._belief, RevisableBelief):
            windows = self._belief.hindsight(windows)
        found = find_borders(
            windows,
            self._index(old.language),
            self._index(new),
            self._nonspeech,
            self._hop_s,
            self._other,
        )
        # What was announced was there, for a moment at least; the stream begins as it likes.
        least_s = old.start_s + self._hop_s if old.start_s or old.language != UNKNOWN else 0.0

        def within(time_s: float) -> float:
            return min(max(time_s, least_s), self._end_s)

        if old.language == UNKNOWN:
            start_s = within(found.new_start_s)
            if not old.start_s and start_s < PAUSE_S:
                start_s = 0.0  # the first windows are too short to say anything
            return start_s, start_s, start_s
        return within(found.old_end_s), within(found.pause_end_s), within(found.new_start_s)

    def _pause(self, start_s: float, end_s: float, *languages: str) -> Segment:
        """A pause beside languages, as sure as the short windows told it from them."""
        # Short windows tell it, which are the compact model's.
        pause = _Stretch(NONSPEECH, start_s, COMPACT if self._second else None)
        windows = [
            window
            for window in self._history
            if start_s <= (window.start_s + window.end_s) / 2 <= end_s
        ]
        if windows:
            classes = [self._labels.index(label) for label in (NONSPEECH, *languages)]
            logs = [heard_as(windows, answer, self._other).max(axis=1) for answer in classes]
            silence, *_ = likely = np.exp(logs)  # (classes, windows)
            for confidence in silence / likely.sum(axis=0):
                pause.add(float(confidence))
        return pause.until(end_s)
