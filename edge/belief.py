"""What is believed of a stream: a hidden Markov forward filter that hindsight can correct.

The recursion is Rabiner's (1989, section III.A) with a sticky prior: languages last. Whether
anybody speaks, and in which language, are two chains beside each other, taken to be independent
given what was heard (a factorial hidden Markov model; Ghahramani and Jordan 1997): who pauses goes
on in the same language more often than not, and silence says nothing about it. In a pause, though,
another person may begin. Where another model's opinions count, silence is one more language.

Languages that are not expected are states of their own all the same, and together one answer,
``other``, as likely beforehand as each expected language that has not been spoken (`edge.usage`).
What a second model says of a stretch comes late. It is evidence about the hops of that stretch all
the same: the filter goes back to where the stretch begins, and runs over it again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.borders import MIN_LIKELIHOOD
from edge.classifier import Window
from edge.frontend import Float64Array

Expected = tuple[bool, ...]  # of each class, whether it is an answer of its own

COMPACT, SECOND_OPINION = "compact", "second opinion"  # who decides
# Both models hear the same audio, so that what they say must not count twice, and about strangers
# the large one is right far more often: which language it is, the compact one says with a part of
# its weight, where the large one has heard and for a while behind, as it is the same person who
# speaks. Whether anybody speaks, it says with all of it. Chosen on development speech, see
# docs/experiments.md.
COMPACT_WEIGHT = 0.1
OPINION_WEIGHT = 1.2  # of what heard a whole window
TRUST_S = 18.0  # a little longer than it takes until an answer is confirmed
MEMORY_S = 20.0  # how old what an opinion is about may be; a slow machine needs seconds for one
# A language changes 1 + 10 times as often in silence as within speech. Chosen on development
# streams, see docs/experiments.md.
PAUSE_CHANGES = 10.0
LEAST = 1e-12  # probability of speech at least: silence is never taken to be certain


@dataclass(frozen=True)
class Opinion:
    """What another model says of a stretch.

    Attributes
    ----------
    start_s, end_s : float
        Stream time of what it heard.
    window_s : float
        How much it can hear at most: what heard less says less.
    probabilities : ndarray, shape (classes,), float64
        Of the same classes, calibrated, summing to one; zero for those that are not expected.
    took_s : float
        Processor time.
    apart : ndarray, shape (classes,), float64, or None
        The same before those that are not expected became ``other``, as of a `Window`; None where
        none did.
    """

    start_s: float
    end_s: float
    window_s: float
    probabilities: Float64Array
    took_s: float
    apart: Float64Array | None = None


class Belief:
    """Forward filter over the classes, the priors of whose answers are equal to begin with.

    Parameters
    ----------
    classes : int
    leave : float
        Probability of a change from one hop to the next.
    evidence : float
        Exponent of the probabilities of a window: windows overlap, and each brings only the
        evidence of its newest hop.
    other : int, optional
        Index of the answer that classes which are not expected are together.
    nonspeech : int, optional
        Index of that class.
    """

    def __init__(
        self,
        classes: int,
        leave: float,
        evidence: float,
        other: int | None = None,
        nonspeech: int | None = None,
    ) -> None:
        self._leave, self._evidence = leave, evidence
        self._other, self._nonspeech = other, nonspeech
        self._expected: Expected = (True,) * classes
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._weights, self._threshold = [1.0] * len(self._expected), 1.0
        self._expect(self._expected)
        self._states = self._prior  # what is believed of each class, expected or not
        self._fresh = True

    @property
    def values(self) -> list[float]:
        """Smoothed probabilities of the answers."""
        return self._states if self._merged_in is None else self._answers(self._states)

    @property
    def priors(self) -> list[float]:
        """Probabilities of the answers where nothing is heard, but whether somebody speaks."""
        answers, quiet = self._answers(self._prior), self._nonspeech
        if quiet is None:
            return answers
        speech = 1 - answers[quiet]
        return [prior if index == quiet else prior / speech for index, prior in enumerate(answers)]

    def _answers(self, states: list[float]) -> list[float]:
        """What is believed of the answers, from what is believed of the classes."""
        if self._merged_in is None:
            return states
        values = [
            state if expected else 0.0
            for state, expected in zip(states, self._expected, strict=True)
        ]
        values[self._merged_in] = math.fsum(
            state
            for index, (state, expected) in enumerate(zip(states, self._expected, strict=True))
            if index == self._merged_in or not expected
        )
        return values

    @property
    def counts_opinions(self) -> bool:
        """Whether what is believed now is another model's opinion, too."""
        return False

    def favour(self, weights: Sequence[float], threshold: float) -> None:
        """Expect some answers more than others from now on.

        Parameters
        ----------
        weights : sequence of float, shape (classes,)
            All above zero: the priors of the answers are in proportion to theirs.
        threshold : float
            Where an answer is announced. Of speech, no prior is more than half of the way there,
            and all are closer to even if one would be: nothing is announced without being heard.
        """
        self._weights, self._threshold = list(weights), threshold
        self._expect(self._expected)
        if self._fresh:
            self._states = self._prior

    def update(
        self, probabilities: Float64Array, end_s: float, expected: Expected | None = None
    ) -> None:
        """One step of the recursion.

        Parameters
        ----------
        probabilities : ndarray, shape (classes,)
            Of a window, of each class by itself.
        end_s : float
            Stream time of its end.
        expected : tuple of bool, shape (classes,), optional
            Which classes are answers of their own; all of them by default.
        """
        self._take(expected or (True,) * len(probabilities))
        self._step(probabilities)

    def _take(self, expected: Expected) -> None:
        if expected != self._expected:
            self._expect(expected)
            if self._fresh:
                self._states = self._prior
        self._fresh = False

    def _expect(self, expected: Expected) -> None:
        """Take note of which classes are answers of their own."""
        self._expected = expected
        # The answer that several classes are together, if any are.
        self._merged_in = None if all(expected) else self._other
        self._prior = self._shared(self._weights)
        spoken = [prior for index, prior in enumerate(self.priors) if index != self._nonspeech]
        level = 1 / (len(spoken) - expected.count(False))
        most = level + max(0.0, self._threshold - level) / 2
        likeliest = max(spoken)
        if likeliest > most:
            part = (most - level) / (likeliest - level)
            self._prior = [
                part * usual + (1 - part) * even
                for usual, even in zip(
                    self._prior, self._shared([1.0] * len(expected)), strict=True
                )
            ]

    def _shared(self, weights: Sequence[float]) -> list[float]:
        """Priors of the classes, of which those that are not expected share one answer's."""
        merged = [not answer or index == self._other for index, answer in enumerate(self._expected)]
        of_other = 0.0 if self._other is None else weights[self._other] / sum(merged)
        each = [of_other if part else weight for part, weight in zip(merged, weights, strict=True)]
        total = math.fsum(each)
        return [weight / total for weight in each]

    def _step(self, probabilities: Float64Array) -> None:
        """One step over a window.

        In Python: on a dozen numbers, numpy's calls cost more than the arithmetic.
        """
        now = probabilities.tolist()
        silence, speech = self._heard(now)
        stay, leave, evidence = 1 - self._leave, self._leave, self._evidence
        quiet = self._nonspeech
        was_quiet = quiet_prior = 0.0
        if quiet is not None:
            was_quiet, quiet_prior = self._states[quiet], self._prior[quiet]
            now[quiet] = 0.0
        spoke, spoken_prior = max(1 - was_quiet, LEAST), 1 - quiet_prior
        change = min(0.5, leave * (1 + PAUSE_CHANGES * was_quiet))
        kept, new = (1 - change) / spoke, change / spoken_prior
        # Of a window that is part silence, as much as is speech says something about the language.
        exponent, least = evidence * speech, MIN_LIKELIHOOD * speech
        states = [
            # What no answer can be stays impossible.
            (kept * before + new * prior) * (each if each > least else least) ** exponent
            if each > 0
            else 0.0
            for before, prior, each in zip(self._states, self._prior, now, strict=True)
        ]
        quiet_now = (stay * was_quiet + leave * quiet_prior) * silence**evidence
        spoken_now = (stay * spoke + leave * spoken_prior) * speech**evidence
        both = quiet_now + spoken_now
        share = spoken_now / both / math.fsum(states)
        self._states = [value * share for value in states]
        if quiet is not None:
            self._states[quiet] = quiet_now / both

    def _heard(self, probabilities: Sequence[float]) -> tuple[float, float]:
        """What is said for silence and for speech, whichever."""
        if self._nonspeech is None:
            return 0.0, 1.0
        silence = probabilities[self._nonspeech]
        # What no answer can be stays impossible.
        likelihood = max(silence, MIN_LIKELIHOOD) if silence > 0 else 0.0
        return likelihood, max(1.0 - silence, MIN_LIKELIHOOD)


@dataclass
class _Hop:
    """What is remembered of a hop.

    Attributes
    ----------
    end_s : float
    before : list of float
        What was believed of the classes before it.
    probabilities : ndarray, shape (classes,)
        Of the compact model's window.
    opinions : list of (ndarray, shape (classes,), float)
        All that have been heard of it, of each class by itself, and how much each counts: the
        exponent.
    heard_s : float
        Up to where opinions have heard, of the stream before it.
    alone : bool
        Whether none was to be had before it.
    """

    end_s: float
    before: list[float]
    probabilities: Float64Array
    opinions: list[tuple[Float64Array, float]]
    heard_s: float
    alone: bool

    def language(self, after: list[float]) -> Float64Array:
        """What is known of it, shape (classes,), where `after` is what was believed behind it."""
        if not self.opinions:
            return np.maximum(after, MIN_LIKELIHOOD)
        said, weights = zip(*self.opinions, strict=True)
        logs = np.average(np.log(np.maximum(said, MIN_LIKELIHOOD)), axis=0, weights=weights)
        language: Float64Array = np.exp(logs)
        return language


class RevisableBelief(Belief):
    """The same, that takes opinions about what it has heard.

    Without any it believes what :class:`Belief` does, bit for bit.

    Parameters
    ----------
    classes, leave, evidence, other, nonspeech
        As for `Belief`.
    hop_s : float

    Attributes
    ----------
    alone : Belief
        What would be believed without opinions.
    """

    def __init__(
        self,
        classes: int,
        leave: float,
        evidence: float,
        hop_s: float,
        other: int | None = None,
        nonspeech: int | None = None,
    ) -> None:
        self._hop_s = hop_s
        self._hops: deque[_Hop] = deque(maxlen=math.ceil(MEMORY_S / hop_s))
        self.alone = Belief(classes, leave, evidence, other, nonspeech)
        super().__init__(classes, leave, evidence, other, nonspeech)

    def reset(self) -> None:
        """Start a new stream."""
        super().reset()
        self.alone.reset()
        self._hops.clear()
        self._heard_s = -math.inf
        self._stands_alone = False

    def favour(self, weights: Sequence[float], threshold: float) -> None:
        """Expect some answers more than others from now on, as in `Belief`."""
        self.alone.favour(weights, threshold)
        super().favour(weights, threshold)

    def update(
        self, probabilities: Float64Array, end_s: float, expected: Expected | None = None
    ) -> None:
        """One step of the recursion, as in `Belief`."""
        self.alone.update(probabilities, end_s, expected)
        self._take(expected or (True,) * len(probabilities))
        hop = _Hop(end_s, self._states, probabilities, [], self._heard_s, self._stands_alone)
        self._stands_alone = False
        self._hops.append(hop)
        self._hear(hop)

    def _take(self, expected: Expected) -> None:
        if expected != self._expected:
            # Where there is no `other`, nothing is known of what was not expected then.
            self._hops.clear()
        super()._take(expected)

    def revise(self, opinion: Opinion) -> bool:
        """Take an opinion, whenever it comes: the same is believed as if it had come in time.

        Returns
        -------
        bool
            Whether anything that it is about is still remembered.
        """
        weight = OPINION_WEIGHT * self._hop_s / opinion.window_s
        # What heard less is wrong more often, and not aware of it.
        weight *= min(1.0, (opinion.end_s - opinion.start_s) / opinion.window_s)
        # As of windows: of many languages that are not expected, one is spoken at a time.
        said = opinion.probabilities if opinion.apart is None else opinion.apart
        first = None
        for index, hop in enumerate(self._hops):
            if opinion.start_s < hop.end_s - self._hop_s / 2 <= opinion.end_s:
                first = index if first is None else first
                hop.opinions.append((said, weight))
        if first is None:
            return False
        # Of what is beyond the newest hop, that one has the weight: nothing waits for the rest.
        newest = self._hops[-1]
        beyond = round((opinion.end_s - newest.end_s) / self._hop_s)
        if beyond > 0:
            newest.opinions[-1] = said, weight * (1 + beyond)
        hops = list(self._hops)
        self._states, self._heard_s = hops[first].before, hops[first].heard_s
        for hop in hops[first:]:
            hop.before, hop.heard_s = self._states, self._heard_s
            self._hear(hop)
        return True

    @property
    def counts_opinions(self) -> bool:
        """Whether opinions were about the newest hop, or what was heard shortly before it."""
        return bool(self._hops) and self._trusts(self._hops[-1])

    def stand_alone(self) -> None:
        """From the next hop on, count the compact model in full until there is a new opinion."""
        self._stands_alone = True

    def hindsight(self, fine: Sequence[Window]) -> list[Window]:
        """Short windows, with what is known by now of the language in them.

        The compact model's short windows tell speech from silence. Of the language they say
        little; it is what opinions say of the hop, or what was believed where none has heard it.

        Parameters
        ----------
        fine : sequence of Window
            One a hop. They come back as they are without any opinion, and those that are
            remembered no longer in any case.
        """
        if not any(hop.opinions for hop in self._hops):
            return list(fine)
        befores = [hop.before for hop in self._hops][1:]
        hops = zip(self._hops, [*befores, self._states], strict=True)
        known = {hop.end_s: hop.language(after) for hop, after in hops}
        return [
            self._told(window, known[window.end_s]) if window.end_s in known else window
            for window in fine
        ]

    def _told(self, window: Window, language: Float64Array) -> Window:
        heard = window.probabilities if window.apart is None else window.apart
        spoken = heard > 0
        if self._nonspeech is not None:
            spoken[self._nonspeech] = False
        likely = np.where(spoken, language, 0.0)
        speech = heard[spoken].sum()
        told = np.where(spoken, speech * likely / likely.sum(), heard)
        if window.apart is None:
            return replace(window, probabilities=told)
        return replace(window, probabilities=np.array(self._answers(told.tolist())), apart=told)

    def _hear(self, hop: _Hop) -> None:
        """The step over a hop."""
        if hop.opinions:
            self._heard_s = hop.end_s
        elif hop.alone:
            self._heard_s = -math.inf
        if self._trusts(hop):
            self._weigh(hop)
        else:
            self._step(hop.probabilities)

    def _trusts(self, hop: _Hop) -> bool:
        """Whether opinions have heard it or the speech before it, as the newest hop."""
        return hop.end_s - self._heard_s <= TRUST_S

    def _weigh(self, hop: _Hop) -> None:
        """The step over a hop of which there are opinions, or were of what was said before.

        Here silence is one more language, and who goes on behind it is heard anew: it is opinions
        that say who does, and they come late.
        """
        stay, leave, evidence = 1 - self._leave, self._leave, self._evidence
        heard = hop.probabilities.tolist()
        _, speech = self._heard(heard)
        states = []
        rows = zip(self._states, self._prior, heard, strict=True)
        for index, (before, prior, now) in enumerate(rows):
            value = 0.0
            if now > 0:
                value = stay * before + leave * prior
                if index == self._nonspeech:
                    value *= max(now, MIN_LIKELIHOOD) ** evidence
                else:
                    language = max(now / speech, MIN_LIKELIHOOD) ** COMPACT_WEIGHT
                    value *= (speech * language) ** evidence
                # Stretches overlap as windows do: what several say of a hop is one evidence.
                for opinion, weight in hop.opinions:
                    share = weight / len(hop.opinions)
                    value *= max(float(opinion[index]), MIN_LIKELIHOOD) ** share
            states.append(value)
        total = math.fsum(states)
        self._states = [value / total for value in states]
