"""Classification of whole recordings: one answer for each."""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.audio.gain import MEMORY_S, decibels
from edge.audio.mixing import Ear
from edge.audio.sources import EVERYTHING, AudioSource, FileSource
from edge.classifier import SPEECH, StreamingClassifier, Window
from edge.decoder import Decoder, Segment, decoder_windows_s
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.languages import UNKNOWN
from edge.lessons.correction import Correction
from edge.model.interpreter import Graphs, WindowGraph
from edge.model.modelfile import NONSPEECH, ModelFile
from edge.opinion.expert import ExpertFile
from edge.opinion.recordings import Hearing
from edge.opinion.second import PART_SAMPLES

logger = logging.getLogger(__name__)

SILENCE_S = 3.0  # a shorter one is part of the speech around it
YOUNG_S = 1.0  # a stream that is shorter is too young for its windows to tell silence from speech
# Of less than that, the answer is the same whatever it is: measured on development speech, all of
# 0.15 s and less was taken for no speech, of 0.3 s 7 % was.
LEAST_S = 0.3
# A stream begins with nothing before it, and where its embeddings begin in the speech is chance. So
# a model that streams hears a recording that is no longer than its longest window several times
# more: with the last of itself and a gap before it, and each time a part of an embedding later.
# Chosen on development speech, see docs/experiments.md.
HEARINGS = 4
BEFORE_S, GAP_S = 2.0, 0.08
# Of the time of speech: a language with less is no second language of a recording.
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Classification:
    """The language of a recording.

    Attributes
    ----------
    language : str
        Likeliest class; ``unknown`` where that is less likely than the threshold, or there is too
        little audio to tell anything.
    confidence : float
        Probability of the likeliest class.
    probabilities : dict of str to float
        Of its speech; where there is none, of the whole.
    duration_s : float
    speech_s : float
        How much of that is speech.
    stretches : tuple of Segment
        Where languages change, in order, without holes; empty where there is but one.
    shortfall : str or None
        What of a file was not read, as a sentence.
    by : str or None
        Who decided on the language, where there are two: ``compact`` if it would have done so
        alone.
    compact : (str, float) or None
        What that would have answered, and its confidence.
    opinions : int
        How many stretches the large model was asked about, long and short ones.
    took_s : float
        Processor time of these.
    """

    language: str
    confidence: float
    probabilities: dict[str, float]
    duration_s: float
    speech_s: float
    stretches: tuple[Segment, ...]
    shortfall: str | None = None
    by: str | None = None
    compact: tuple[str, float] | None = None
    opinions: int = 0
    took_s: float = 0.0


def shares(stretches: Sequence[Segment]) -> dict[str, float]:
    """Share of each language, ``other`` among them, of their time; the largest first."""
    spoken_s: dict[str, float] = {}
    for stretch in stretches:
        if stretch.language not in (UNKNOWN, NONSPEECH):
            length_s = stretch.end_s - stretch.start_s
            spoken_s[stretch.language] = spoken_s.get(stretch.language, 0.0) + length_s
    total_s = sum(spoken_s.values())
    by_length = sorted(spoken_s.items(), key=lambda item: -item[1])
    return {language: length_s / total_s for language, length_s in by_length}


def opinion_record(answer: Classification) -> dict[str, Any]:
    """What JSON says of a second opinion: keys that come with one only."""
    if answer.by is None or answer.compact is None:
        return {}
    language, confidence = answer.compact
    return {
        "by": answer.by,
        "compact": {"language": language, "confidence": round(confidence, 4)},
        "second_opinions": answer.opinions,
        "took_s": round(answer.took_s, 3),
    }


class _Sum:
    """Probabilities of windows of a recording, each of which counts for what it adds.

    Parameters
    ----------
    nonspeech : int or None
        Index of that class.
    classes : int
    """

    def __init__(self, nonspeech: int | None, classes: int) -> None:
        self._nonspeech = nonspeech
        self._sum, self._weight = np.zeros(classes), 0.0  # of windows of speech
        self._rest, self._rest_weight = np.zeros(classes), 0.0  # of all others

    def add(self, window: Window, share: float) -> None:
        """Take a window that adds so much."""
        if not self.is_speech(window):
            self.add_rest(window, share)
            return
        if self._nonspeech is not None:
            share *= 1.0 - float(window.probabilities[self._nonspeech])
        self._sum += share * window.probabilities
        self._weight += share

    def add_rest(self, window: Window, share: float) -> None:
        """Take one that counts where nobody speaks at all."""
        self._rest += share * window.probabilities
        self._rest_weight += share

    def is_speech(self, window: Window) -> bool:
        """Whether somebody speaks in it."""
        return self._nonspeech is None or window.probabilities[self._nonspeech] < SPEECH

    @property
    def mean(self) -> Float64Array:
        """Of speech if there was any, shape (classes,)."""
        if self._weight:
            return self._sum / self._weight
        return self._rest / self._rest_weight


class _Speech:
    """Sums up the speech of one recording.

    From where speech begins, the recording is cut into windows of the longest length. A silence
    before or behind the speech in a window is left out, and so is a long one between: the next
    window begins where there is speech again.

    Parameters
    ----------
    window_s : float
        The longest length.
    nonspeech : int or None
        Index of that class.
    classes : int
    part : function of (start_s, end_s)
        The window between two times, at most the longest length ago.

    Attributes
    ----------
    parts : list of (float, float, float)
        Begin and end of the windows that were heard, and what each adds.
    """

    def __init__(
        self,
        window_s: float,
        nonspeech: int | None,
        classes: int,
        part: Callable[[float, float], Window],
    ) -> None:
        self._window_s = window_s
        self._part = part
        self._all = _Sum(nonspeech, classes)
        self.parts: list[tuple[float, float, float]] = []
        self._end_s = 0.0  # of what has been heard
        self._covered_s = 0.0  # what no window needs to hear any more
        self._begin_s = 0.0  # of speech that no long silence has interrupted
        self._spoken_s = 0.0  # where the newest speech ends
        self._heard_s = 0.0  # of speech, that no short window can take back any more
        self._lately: deque[tuple[float, float]] = deque()  # begin and end of hops of speech since

    @property
    def speech_s(self) -> float:
        """How much speech there was."""
        return self._heard_s + sum(end_s - start_s for start_s, end_s in self._lately)

    def add(self, short: Window) -> None:
        """Take the short window of a hop, in which no other ends."""
        before_s, self._end_s = self._end_s, short.end_s
        while self._lately and self._lately[0][1] <= short.start_s:
            start_s, end_s = self._lately.popleft()
            self._heard_s += end_s - start_s
        if self._all.is_speech(short):
            if self._covered_s == before_s and self._begin_s == before_s > 0:
                # The first short window of speech is one of silence for its first half.
                self._begin_s = (short.start_s + short.end_s) / 2
            self._spoken_s = short.end_s
            self._lately.append((before_s, short.end_s))
        else:
            self._lately.clear()  # all of a window without speech is without it
            if short.end_s <= YOUNG_S:
                self._heard_s = 0.0
            self._fall_silent(short, before_s)
        if self._end_s - self._covered_s >= self._window_s:
            self._choose()

    def probabilities(self) -> Float64Array | None:
        """Of the classes, shape (classes,); None if there was no window."""
        if self._end_s == 0.0:
            return None
        if self._end_s > self._covered_s:
            self._choose()
        return self._all.mean

    def _fall_silent(self, short: Window, before_s: float) -> None:
        """Take a hop without speech."""
        if self._covered_s != before_s:
            if self._end_s - self._spoken_s < SILENCE_S:
                return  # speech may go on
            self._choose()
        else:
            self._all.add_rest(short, self._end_s - before_s)
        self._covered_s = self._begin_s = self._end_s

    def _choose(self) -> None:
        """Hear what no window has heard yet, but for the silence at its end."""
        end_s = self._spoken_s
        start_s = max(self._begin_s, end_s - self._window_s)
        # It may overlap the one before: it counts for what only it has heard.
        share = end_s - self._covered_s
        self._covered_s = self._end_s
        self.parts.append((start_s, end_s, share))
        self._all.add(self._part(start_s, end_s), share)


class RecordingClassifier:
    """Classifies recordings one after another.

    The answer is about the speech in a recording, if there is any. Up to the longest window it is
    one window, calibrated for its length. More speech is cut into such windows, and the answer is
    their mean, each window counting for as much speech as it adds.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
    languages : sequence of str, optional
        The only languages to expect.
    threshold : float, optional
        Probability below which the answer is ``unknown``; the model file's, unless given.
    second : ExpertFile, optional
        A large model to ask about the speech.
    lessons : Correction, optional
        What the model has been taught.
    automatic_gain : bool
        Whether sound that is too quiet for the model is amplified, as for a stream; but a
        recording begins with the gain that its first seconds ask for.
    """

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        languages: Sequence[str] | None = None,
        threshold: float | None = None,
        second: ExpertFile | None = None,
        lessons: Correction | None = None,
        automatic_gain: bool = True,
    ) -> None:
        settings = model.description.decoder
        if threshold is not None:
            settings = replace(settings, confidence=threshold)
        self._threshold = settings.confidence
        self._longest_s = max(model.description.stream.windows_s)
        decoder_s = decoder_windows_s(model, settings.window_s)
        # Of a model that streams, another length costs next to nothing at every hop.
        at_hops_s = [self._longest_s] if model.description.mode == "stream" else []
        lengths_s = list(dict.fromkeys([*at_hops_s, *decoder_s]))
        self._of_decoder = [lengths_s.index(length_s) for length_s in decoder_s]
        self._classifier = StreamingClassifier(
            model,
            graphs,
            lengths_s,
            languages,
            lessons,
            automatic_gain,
            self._longest_s,
        )
        self._decoder = Decoder(
            self._classifier.labels,
            settings,
            self._classifier.hop_s,
            second_opinion=second is not None,
        )
        labels = self._classifier.labels
        self._nonspeech = labels.index(NONSPEECH) if NONSPEECH in labels else None
        # A model that keeps nothing from one window to the next says the same again.
        self._again_s = self._longest_s if model.description.mode == "stream" else 0.0
        self._embedding_s = model.description.embedding_s
        self._hearing: Hearing | None = None
        if second is not None:
            self._hearing = Hearing(second, model, languages)

    def classify(self, source: AudioSource) -> Classification:
        """Classify all that a source gives.

        Raises
        ------
        EdgelidError
            If it cannot be read to its end.
        """
        self._classifier.reset()
        self._decoder.reset()
        labels, part = self._classifier.labels, self._classifier.part
        speech = _Speech(self._longest_s, self._nonspeech, len(labels), part)
        stretches: list[Segment] = []
        samples = 0
        short: list[Float32Array] = []  # all of it, if it is to be heard again
        most = round(self._again_s * SAMPLE_RATE_HZ)
        hearing = self._hearing
        if hearing is not None:
            hearing.reset()

        def windows() -> Iterator[list[Window]]:
            nonlocal samples
            for block in self._foreseen(source):
                samples += len(block)
                short.append(block)
                if samples > most:
                    short.clear()
                if hearing is None:
                    yield from self._classifier.process(block)
                    continue
                for start in range(0, len(block), PART_SAMPLES):
                    hearing.hear(block[start : start + PART_SAMPLES])
                    yield from self._classifier.process(block[start : start + PART_SAMPLES])
            yield from self._classifier.flush()

        for hop in windows():
            fed = [hop[index] for index in self._of_decoder]
            speech.add(fed[-1])
            self._decoder.advance(*fed)
            if hearing is not None:
                hearing.attend(self._decoder, fed[-1], self._classifier.gain)
            decided = self._decoder.conclude()
            if decided is not None:
                stretches += decided.finished
        probabilities = speech.probabilities()
        if probabilities is None:
            raise EdgelidError(f"{source.name!r} gave no audio: see what feeds it.")
        duration_s = samples / SAMPLE_RATE_HZ
        if short and speech.parts and duration_s >= LEAST_S:
            probabilities = self._again(np.concatenate(short), speech.parts)
        if hearing is not None:
            hearing.rest(duration_s)
        stretches += self._decoder.finish(duration_s)
        compact = self._answer(probabilities, duration_s)
        if hearing is not None:
            probabilities = hearing.combined(probabilities)
        language, confidence = self._answer(probabilities, duration_s)
        if not _several(stretches):
            stretches = []
        else:  # what is said of the others would be no answer; of either model
            parts = shares(stretches)
            if parts.get(language, 0.0) < self._threshold:
                language = UNKNOWN
            if parts.get(compact[0], 0.0) < self._threshold:
                compact = UNKNOWN, compact[1]
        return Classification(
            language=language,
            confidence=confidence,
            probabilities=dict(zip(labels, probabilities.tolist(), strict=True)),
            duration_s=duration_s,
            speech_s=min(speech.speech_s, duration_s),
            stretches=tuple(stretches),
            **({} if hearing is None else hearing.facts(language, compact)),
        )

    def _again(
        self, samples: Float32Array, parts: Sequence[tuple[float, float, float]]
    ) -> Float64Array:
        """Probabilities of a short recording by further hearings, shape (classes,).

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
        parts : sequence of (float, float, float)
            As of `_Speech`: what to hear of it.
        """
        told = [samples[-round(BEFORE_S * SAMPLE_RATE_HZ) :]]
        position = len(told[0])
        starts_s: deque[float] = deque()
        for hearing in range(HEARINGS):
            whole = math.ceil((position / SAMPLE_RATE_HZ + GAP_S) / self._embedding_s)
            start = round((whole + hearing / HEARINGS) * self._embedding_s * SAMPLE_RATE_HZ)
            starts_s.append(start / SAMPLE_RATE_HZ)
            told += [np.zeros(start - position, np.float32), samples]
            position = start + len(samples)

        classifier = self._classifier
        heard = _Sum(self._nonspeech, len(classifier.labels))

        def hear(start_s: float) -> None:
            for begin_s, end_s, share in parts:
                heard.add(classifier.part(start_s + begin_s, start_s + end_s), share)

        classifier.reset()
        classifier.foresee(samples)
        _, last_s, _ = parts[-1]
        for hop in itertools.chain(classifier.process(np.concatenate(told)), classifier.flush()):
            while starts_s and hop[0].end_s >= starts_s[0] + last_s:
                hear(starts_s.popleft())
        for start_s in starts_s:  # the last one ends with the stream
            hear(start_s)
        return heard.mean

    def _foreseen(self, source: AudioSource) -> Iterator[Float32Array]:
        """The samples of a source, once the gain to begin with is known."""
        blocks = source.samples()  # what was lost says nothing
        first: list[Float32Array] = []
        while (
            sum(map(len, first)) < MEMORY_S * SAMPLE_RATE_HZ
            and (block := next(blocks, None)) is not None
        ):
            first.append(block)
        if first:
            self._classifier.foresee(np.concatenate(first))
        if (gain := self._classifier.gain) != 1.0:
            logger.info("%r: amplified by %d dB, to begin with", source.name, decibels(gain))
        yield from itertools.chain(first, blocks)

    def _answer(self, probabilities: Float64Array, duration_s: float) -> tuple[str, float]:
        """What is said where these are the probabilities of the speech, and how sure that is."""
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        label = self._classifier.labels[best]
        is_sure = confidence >= self._threshold and duration_s >= LEAST_S
        return label if is_sure else UNKNOWN, confidence


def _several(stretches: Sequence[Segment]) -> bool:
    """Whether more than one language has a share worth telling."""
    return sum(share >= LEAST_SHARE for share in shares(stretches).values()) > 1


def classify_file(
    classifier: RecordingClassifier, path: Path, ear: Ear = EVERYTHING
) -> Classification:
    """Classify an audio file.

    Raises
    ------
    EdgelidError
        If it cannot be read.
    """
    with FileSource(path, ear) as source:
        answer = classifier.classify(source)
        return replace(answer, shortfall=source.shortfall)
