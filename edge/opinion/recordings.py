"""Second opinions of a recording: in what language it is, and where languages change.

What it is as a whole, long stretches tell best, and fewer of them the longer it is. A stretch may
reach across a change, though. So where languages change is asked as of a stream, all the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.belief import COMPACT, SECOND_OPINION, Opinion
from edge.borders import MIN_LIKELIHOOD
from edge.classifier import SPEECH, Window
from edge.decoder import Decoder
from edge.frontend import Float32Array, Float64Array
from edge.model.modelfile import NONSPEECH, ModelFile
from edge.opinion.asking import Patient
from edge.opinion.expert import Expert, ExpertFile
from edge.opinion.second import RecentAudio, SecondOpinion

# All stretches of the first two minutes of speech are asked about, every second one of the next
# four, every fourth of the next eight, and so on: so many windows of three seconds each time.
OFTEN = 40
# Exponent of the compact model's probabilities for each second that the large one has heard less
# than `ENOUGH_S`. Of more speech the large one is right more often alone: see
# docs/experiments.md.
COMPACT_WEIGHT_A_SECOND = 0.2
ENOUGH_S = 2.0
LEAST_S = 1.0  # a shorter rest is not worth a question, unless there is nothing else
# A shorter silence is part of the speech around it, where the model can hear more than a window.
PAUSE_S = 1.0
TAIL_S = 0.25  # of a silence that ends a stretch: where speech ends, half a short window tells


class Hearing:
    """Asks a large model about the speech of one recording after another.

    For the answer to the recording, it is cut from where speech begins into stretches as long as
    the model hears. A stretch ends early where a silence follows it; a model that hears little
    ends it at any, the others hear across pauses. For where languages change, the decoder has
    opinions as of a stream (`SecondOpinion`).

    Parameters
    ----------
    file : ExpertFile
    model : ModelFile
        The compact one.
    languages : sequence of str, optional
        The only ones to expect.

    Raises
    ------
    EdgelidError
        If the large model cannot be run.
    """

    def __init__(self, file: ExpertFile, model: ModelFile, languages: Sequence[str] | None) -> None:
        self._file, self._model, self._languages = file, model, languages
        self._expert: Expert = file.open()
        self._longest_s = file.span.longest_s
        self._pause_s = PAUSE_S if self._longest_s > file.span.window_s else 0.0
        self._audio = RecentAudio(model.description.front_end, file.span, self._longest_s)
        self.reset()

    def reset(self) -> None:
        """Begin another recording."""
        self._audio.reset()
        self._stream = SecondOpinion(
            self._file, self._model, Patient(self._expert), self._languages
        )
        self._covered_s = self._speech_s = 0.0  # asked or silent, and the end of the last speech
        self._stretches = self._answers = 0
        self._windows = 0  # of the length that the model listens with, in all stretches
        self._sum, self._weight = np.zeros(len(self._model.labels)), 0.0
        self._heard_s = self._took_s = 0.0
        self._gain = 1.0
        # The longest that was too short to ask about, and its end: it may be all there is.
        self._short, self._short_end_s = np.zeros(0, np.float32), 0.0

    def hear(self, samples: Float32Array) -> None:
        """Take the next samples, shape (n,), at most `PART_SAMPLES`, before they are classified."""
        self._audio.add(samples)
        self._stream.hear(samples)

    def attend(self, decoder: Decoder, short: Window, gain: float = 1.0) -> None:
        """At a hop: have the decoder consider opinions, and ask about a stretch that is over.

        The large model hears what the compact one does, with its gain.
        """
        self._stream.attend(decoder, short, gain)
        self._gain = gain
        labels, end_s = self._model.labels, short.end_s
        if NONSPEECH not in labels or short.probabilities[labels.index(NONSPEECH)] < SPEECH:
            self._speech_s = end_s
            if end_s - self._covered_s >= self._longest_s:
                self._ask(end_s)
            return
        # A short window without speech holds a silence as long as itself.
        new_s = self._speech_s - self._covered_s
        ends = end_s - self._speech_s >= self._pause_s or end_s - self._covered_s >= self._longest_s
        if new_s > 0 and not ends:
            return
        if new_s >= LEAST_S:
            tail_s = min(end_s, self._speech_s + TAIL_S)
            self._ask(min(tail_s, self._covered_s + self._longest_s))
        elif new_s > 0 and not self._answers:
            self._keep(min(end_s, self._speech_s + TAIL_S))
        self._covered_s = max(self._covered_s, end_s - (short.end_s - short.start_s) / 2)

    def rest(self, end_s: float) -> None:
        """At the end: ask about what is left."""
        left_s = self._speech_s - self._covered_s
        if left_s >= LEAST_S:
            self._ask(min(end_s, self._speech_s + TAIL_S))
        elif not self._answers:
            if left_s > 0:
                self._keep(min(end_s, self._speech_s + TAIL_S))
            if len(self._short):
                self._put(self._short, self._short_end_s, 1)

    def combined(self, compact: Float64Array) -> Float64Array:
        """Probabilities of the recording by both models, from those by the compact one."""
        if not self._weight:
            return compact
        large = np.maximum(self._sum / self._weight, MIN_LIKELIHOOD)
        compact_weight = COMPACT_WEIGHT_A_SECOND * max(0.0, ENOUGH_S - self._heard_s)
        both = np.maximum(compact, MIN_LIKELIHOOD) ** compact_weight * large
        both[compact == 0] = 0.0  # masked languages stay impossible
        combined: Float64Array = both / both.sum()
        return combined

    def facts(self, language: str, compact: tuple[str, float]) -> dict[str, Any]:
        """What a `Classification` says of who decided."""
        of_changes = self._stream.told()
        return {
            "by": COMPACT if language == compact[0] else SECOND_OPINION,
            "compact": compact,
            "opinions": self._answers + of_changes.answers,
            "took_s": self._took_s + of_changes.took_s,
        }

    def _ask(self, end_s: float) -> None:
        start_s, self._covered_s = self._covered_s, end_s
        every = 1
        while self._windows >= OFTEN * (2 * every - 1):
            every *= 2
        self._windows += max(1, round((end_s - start_s) / self._file.span.window_s))
        self._stretches += 1
        if (self._stretches - 1) % every:
            return
        self._put(self._audio.of(start_s, end_s, self._gain), end_s, every)

    def _keep(self, end_s: float) -> None:
        """Keep what is new up to there, unless what is kept is longer."""
        samples = self._audio.of(self._covered_s, end_s, self._gain)
        if len(samples) > len(self._short):
            self._short, self._short_end_s = samples, end_s

    def _put(self, samples: Float32Array, end_s: float, every: int) -> None:
        """Ask about these samples, for so many stretches."""
        opinion = self._expert.asked(samples, end_s, self._languages)
        labels = self._model.labels
        share = every * (opinion.end_s - opinion.start_s)
        if NONSPEECH in labels:
            share *= 1.0 - float(opinion.probabilities[labels.index(NONSPEECH)])
        self._sum += share * _calibrated(opinion, self._file.span.shortest_s)
        self._weight += share
        self._heard_s += opinion.end_s - opinion.start_s
        self._answers += 1
        self._took_s += opinion.took_s


def _calibrated(opinion: Opinion, shortest_s: float) -> Float64Array:
    """Probabilities of an opinion, shape (classes,), as sure as its length allows.

    What is shorter than the shortest window is repeated, and the model is as sure of it as of a
    whole one. Fitted to development speech of 1 and 2 s in windows of 3 s, the exponents are 0.5
    and 0.8 of that of 3 s.
    """
    share = min(1.0, (opinion.end_s - opinion.start_s) / shortest_s)
    flatter: Float64Array = opinion.probabilities ** math.sqrt(share)
    flatter /= flatter.sum()
    return flatter
