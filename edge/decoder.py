"""The online decoder: from window probabilities to segments of one language.

A hidden Markov forward filter (Rabiner 1989, section III.A) whose states are the classes. Its
prior is sticky: languages last. On top stands a rule for what to say aloud: a class is announced
once the filter is confident of it, and when it stops being confident of anything the answer is
``unknown``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.classifier import Window
from edge.frontend import Float64Array
from edge.languages import UNKNOWN
from edge.model.modelfile import DecoderDefaults

# What one hop may say against a class: a single wild window must not outweigh all before it.
MIN_LIKELIHOOD = 1e-3


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
    """

    language: str
    start_s: float
    end_s: float
    confidence: float


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
    """

    language: str
    previous: str
    start_s: float
    decided_s: float
    confidence: float


class Decoder:
    """Follows the class of a stream.

    Parameters
    ----------
    labels : sequence of str
        Classes, in the order of the probabilities.
    settings : DecoderDefaults
    hop_s : float
        Time between the windows it is fed.
    """

    def __init__(self, labels: Sequence[str], settings: DecoderDefaults, hop_s: float) -> None:
        self._labels = tuple(labels)
        self._settings = settings
        # Windows overlap: each brings only the evidence of its newest hop.
        self._evidence = hop_s / settings.window_s
        self._leave = min(0.5, hop_s / settings.stay_s)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        classes = len(self._labels)
        self._belief = [1.0 / classes] * classes
        self._answer = UNKNOWN
        self._previous = UNKNOWN  # the answer before this one
        self._start_s = 0.0
        self._end_s = 0.0
        self._confidence_sum = 0.0  # over the hops of the segment that goes on
        self._confidence_hops = 0
        self._leader = -1
        self._leader_since_s = 0.0

    @property
    def belief(self) -> Float64Array:
        """Smoothed probabilities, shape (classes,)."""
        return np.array(self._belief)

    @property
    def current(self) -> Segment:
        """The segment that is not finished yet."""
        confidence = self._confidence_sum / max(1, self._confidence_hops)
        return Segment(self._answer, self._start_s, max(self._start_s, self._end_s), confidence)

    def update(self, window: Window) -> tuple[Change, Segment] | None:
        """Take the next window.

        Parameters
        ----------
        window : Window
            Of length ``settings.window_s``, one hop after the one before.

        Returns
        -------
        (Change, Segment) or None
            If the answer changes: how, and the segment that this finishes.
        """
        self._filter(window.probabilities)
        previous_end_s, self._end_s = self._end_s, window.end_s
        confidence = max(self._belief)
        leader = self._belief.index(confidence)
        if leader != self._leader:
            self._leader, self._leader_since_s = leader, previous_end_s
        answer = self._labels[leader] if confidence >= self._settings.confidence else UNKNOWN
        if answer == self._answer:
            self._confidence_sum += confidence
            self._confidence_hops += 1
            return None
        start_s = previous_end_s
        # A class that comes back after a moment of doubt has led all along: nothing to date back.
        if answer not in (UNKNOWN, self._previous):
            start_s = self._leader_since_s
            if self._start_s > 0:
                # A window turns when the new language fills half of it.
                start_s -= self._settings.window_s / 2
        start_s = float(np.clip(start_s, self._start_s, window.end_s))
        return self._change(answer, start_s, confidence)

    def finish(self, end_s: float) -> Segment | None:
        """End the stream.

        Parameters
        ----------
        end_s : float
            Length of the audio.

        Returns
        -------
        Segment or None
            The last segment; None if it has no length.
        """
        current = self.current
        if end_s <= current.start_s:
            return None
        return Segment(current.language, current.start_s, end_s, current.confidence)

    def _change(self, answer: str, start_s: float, confidence: float) -> tuple[Change, Segment]:
        finished = self.current
        finished = Segment(finished.language, finished.start_s, start_s, finished.confidence)
        change = Change(answer, self._answer, start_s, self._end_s, confidence)
        self._previous = self._answer
        self._answer, self._start_s = answer, start_s
        self._confidence_sum, self._confidence_hops = confidence, 1
        return change, finished

    def _filter(self, probabilities: Float64Array) -> None:
        """One step of the forward recursion; the classes' priors are equal.

        In Python: on a dozen numbers, numpy's calls cost more than the arithmetic.
        """
        stay, evidence = 1 - self._leave, self._evidence
        arrive = self._leave / len(self._belief)
        belief = [
            # Masked languages stay impossible.
            (stay * before + arrive) * max(now, MIN_LIKELIHOOD) ** evidence if now > 0 else 0.0
            for before, now in zip(self._belief, probabilities.tolist(), strict=True)
        ]
        total = math.fsum(belief)
        self._belief = [value / total for value in belief]
