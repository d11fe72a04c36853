"""The second opinion of a stream: which audio, when to ask, and what has come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge.audio.gain import amplified
from edge.belief import Opinion
from edge.classifier import Window
from edge.decoder import Decoder
from edge.features import samples_ahead
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEndConfig
from edge.model.modelfile import NONSPEECH, ModelFile
from edge.opinion.asking import ASKED, UNAFFORDABLE, Asker, AtOnce, InBackground, Question
from edge.opinion.expert import ExpertFile, Span
from edge.opinion.moments import UNSURE_S, Moment, Moments

PART_SAMPLES = SAMPLE_RATE_HZ  # the most that is heard at once: so much may lie behind a hop


@dataclass(frozen=True)
class Told:
    """What has come of second opinions so far.

    Attributes
    ----------
    answers : int
    took_s : float
        Processor time of all of them.
    late : int
        How many came too late to count.
    refused : mapping of str to int
        How often one was wanted that there was none of, at most once a second, by reason:
        ``busy`` or ``budget``, or ``gone`` after the model has failed.
    newest : Opinion or None
        Times are of the stream since its last long gap.
    language : str or None
        Likeliest class of that.
    """

    answers: int
    took_s: float
    late: int
    refused: Mapping[str, int]
    newest: Opinion | None
    language: str | None


class SecondOpinion:
    """Keeps the audio of the last seconds, and has a large model asked about it.

    Parameters
    ----------
    file : ExpertFile
        Of the large model.
    model : ModelFile
        The compact one.
    asker : Asker
        Where questions go; it is closed with this.
    languages : sequence of str, optional
        The only ones to expect.
    """

    def __init__(
        self,
        file: ExpertFile,
        model: ModelFile,
        asker: Asker,
        languages: Sequence[str] | None = None,
    ) -> None:
        self._asker = asker
        self._labels = model.labels
        window_s = file.span.window_s
        self._audio = RecentAudio(model.description.front_end, file.span, window_s)
        self._moments = Moments(window_s, model.description.delay_s)
        self._stream = 0  # of streams, and of languages to expect: what counts together
        self._before_samples = 0  # of streams that are over
        self._answers, self._took_s, self._late = 0, 0.0, 0
        self._refused: Counter[str] = Counter()
        self._refused_s = -UNSURE_S
        self._newest: Opinion | None = None
        self._languages = None if languages is None else tuple(languages)

    @classmethod
    def of(
        cls,
        file: ExpertFile,
        model: ModelFile,
        share: float,
        languages: Sequence[str] | None = None,
        at_once: bool = False,
    ) -> SecondOpinion:
        """Of a model that this stream alone asks.

        Parameters
        ----------
        file, model, languages
            As for the class.
        share : float
            Of one core that it may take, over any minute.
        at_once : bool
            Whether audio waits for the answers, as that of a file can.

        Raises
        ------
        EdgelidError
            If it is to be asked at once, and the large model cannot be run.
        """
        asker: Asker = AtOnce(file, share) if at_once else InBackground(file, share)
        return cls(file, model, asker, languages)

    def expect(self, languages: Sequence[str] | None) -> None:
        """Go on with these as the only languages to expect."""
        before, self._languages = self._languages, None if languages is None else tuple(languages)
        if before != self._languages:  # what was asked, and what is being asked, is of others
            self._stream += 1
            self._moments.forget()

    def afford(self, share: float) -> None:
        """Go on with another share of a core."""
        self._asker.afford(share)

    def reset(self) -> None:
        """Start a new stream: nothing that was heard before counts."""
        self._stream += 1
        self._newest = None
        self._before_samples += self._audio.total_samples
        self._audio.reset()
        self._moments.reset()

    def hear(self, samples: Float32Array) -> None:
        """Take the next samples, shape (n,), at most `PART_SAMPLES`, before they are classified."""
        self._audio.add(samples)

    def attend(self, decoder: Decoder, short: Window, gain: float = 1.0) -> None:
        """At a hop: have the decoder consider what has come, and ask if that is wanted.

        Parameters
        ----------
        decoder : Decoder
            Has advanced to this hop.
        short : Window
            The newest short one.
        gain : float
            What the compact model has the sound of late amplified by.
        """
        self._consider(decoder)
        moment = self._moment(decoder, short)
        wanted = self._moments.wanted(moment)
        if wanted is None:
            return
        start_s, end_s = wanted
        end_s = min(end_s, self._audio.total_samples / SAMPLE_RATE_HZ)  # as the stream ends
        samples = self._audio.of(start_s, end_s, gain)
        question = Question(samples, end_s, self._languages, self._stream)
        now_s = (self._before_samples + self._audio.total_samples) / SAMPLE_RATE_HZ
        outcome = self._asker.ask(question, now_s)
        if outcome == ASKED:
            self._moments.asked(end_s)
        elif outcome == UNAFFORDABLE:
            decoder.stand_alone()
        # Speech that goes on is wanted at every hop until it is asked.
        if outcome != ASKED and now_s - self._refused_s >= UNSURE_S:
            self._refused[outcome] += 1
            self._refused_s = now_s
        self._consider(decoder)

    def told(self) -> Told:
        """What has come of it so far."""
        newest = self._newest
        language = None if newest is None else self._labels[int(newest.probabilities.argmax())]
        return Told(self._answers, self._took_s, self._late, dict(self._refused), newest, language)

    def close(self) -> None:
        """Ask no more."""
        self._asker.close()

    def _consider(self, decoder: Decoder) -> None:
        for stream, opinion in self._asker.take():
            self._answers += 1
            self._took_s += opinion.took_s
            if stream != self._stream:  # whose times are others
                self._late += 1
                continue
            self._newest = opinion
            self._late += not decoder.consider(opinion)

    def _moment(self, decoder: Decoder, short: Window) -> Moment:
        labels = self._labels
        nonspeech = 0.0
        if NONSPEECH in labels:
            nonspeech = float(short.probabilities[labels.index(NONSPEECH)])
        belief, alone = decoder.belief, decoder.alone
        leader = int(belief.argmax())
        return Moment(
            end_s=short.end_s,
            nonspeech=nonspeech,
            short_s=short.end_s - short.start_s,
            sure=float(belief[leader]),
            is_announced=labels[leader] == decoder.current.language,
            is_disputed=int(alone.argmax()) != leader,
        )


class RecentAudio:
    """The audio that a large model may be asked about.

    Parameters
    ----------
    front_end : FrontEndConfig
        Of the compact model: what it has heard at the end of a window.
    span : Span
        Of the large one.
    longest_s : float
        Of the stretches that it is asked about.

    Attributes
    ----------
    total_samples : int
        Of the stream so far.
    """

    def __init__(self, front_end: FrontEndConfig, span: Span, longest_s: float) -> None:
        self._ahead_samples = samples_ahead(front_end)
        self._span, self._most_samples = span, span.samples(longest_s)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._samples: Float32Array = np.empty(0, np.float32)
        self.total_samples = 0

    def add(self, samples: Float32Array) -> None:
        """Take the next samples, shape (n,), at most `PART_SAMPLES`."""
        kept = self._most_samples + 2 * PART_SAMPLES
        self._samples = np.concatenate([self._samples, samples])[-kept:]
        self.total_samples += len(samples)

    def of(self, start_s: float, end_s: float, gain: float = 1.0) -> Float32Array:
        """A copy of a stretch, amplified, shape (n,), as far as it is kept."""
        # What follows it has been heard at the end of a window, and is the same however the audio
        # was cut on its way here.
        end = min(self.total_samples, round(end_s * SAMPLE_RATE_HZ) + self._ahead_samples)
        wanted = self._span.samples(end_s - start_s)
        first = self.total_samples - len(self._samples)
        start = max(first, end - min(wanted, self._most_samples))
        return amplified(self._samples[start - first : end - first], gain)
