"""Following a stream: audio through classifier and decoder to events, gaps accounted for.

Audio can be lost on its way here, and the source says where and how much. Then this rule holds:

- A gap of up to `BRIDGED_S` is bridged. It is heard as silence of its length, windows and
  decoder go on, and it lies within a segment.
- A longer one ends the segment where it begins. Behind it classifier and decoder begin anew:
  nothing that was heard before counts any longer.

Either way it is reported, and stream time goes on by its length. Segments and the gaps that are
not bridged follow one another without holes or overlaps, from 0 to the end of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.audio.gaps import Reason
from edge.audio.level import Level
from edge.audio.sources import Gap, Sound
from edge.classifier import StreamingClassifier, Window
from edge.decoder import Change, Decision, Decoder, Segment, decoder_windows_s
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.lessons.correction import Correction
from edge.model.interpreter import Graphs, WindowGraph
from edge.model.modelfile import DecoderDefaults, ModelFile
from edge.opinion.second import PART_SAMPLES, SecondOpinion, Told

BRIDGED_S = 0.5
UNDECIDED = Decision(None, ())


@dataclass(frozen=True)
class Lost:
    """A stretch of stream that was not heard.

    Attributes
    ----------
    start_s, end_s : float
        Stream time.
    reason : Reason
    bridged : bool
        Whether it was short enough to go on, and a segment covers it.
    """

    start_s: float
    end_s: float
    reason: Reason
    bridged: bool


@dataclass(frozen=True)
class Heard:
    """What a hop of audio brought.

    Attributes
    ----------
    windows : list of Window
        One a window length.
    change : Change or None
        The answer changes.
    finished : tuple of Segment
        Segments that are known to be over, in their order.
    current : Segment
        The answer now.
    lost : Lost or None
        A gap that is over.
    level : Level or None
        The level changes for the worse or the better.
    second : Told or None
        What has come of second opinions, if any are asked for.
    gain : float
        What the sound of late is amplified by, as it is too quiet.
    """

    windows: list[Window]
    change: Change | None
    finished: tuple[Segment, ...]
    current: Segment
    lost: Lost | None = None
    level: Level | None = None
    second: Told | None = None
    gain: float = 1.0


class Listener:
    """Classifier and decoder for one stream.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
    settings : DecoderDefaults
    languages : sequence of str, optional
        The only languages to expect.
    more_windows_s : sequence of float
        Windows to report besides the decoder's own.
    hold_s : float
        See `Decoder`.
    second : SecondOpinion, optional
        For this stream; it is closed with the listener.
    lessons : Correction, optional
        What the model has been taught.
    automatic_gain : bool
        Whether sound that is too quiet for the model is amplified.

    Attributes
    ----------
    taught : dict or None
        What to tell of lessons, see `edge.lessons.telling.told`; None without any.
    """

    taught: dict[str, Any] | None = None
    _unreported_s: tuple[float, ...] = ()  # lengths of windows for whoever builds on this

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        settings: DecoderDefaults,
        languages: Sequence[str] | None = None,
        more_windows_s: Sequence[float] = (),
        hold_s: float = 0.0,
        second: SecondOpinion | None = None,
        lessons: Correction | None = None,
        automatic_gain: bool = True,
    ) -> None:
        reported = list(dict.fromkeys([settings.window_s, *more_windows_s]))
        fine_s = decoder_windows_s(model, settings.window_s)[-1]
        lengths_s = reported if fine_s in reported else [*reported, fine_s]
        self._lengths_s = lengths_s = [*dict.fromkeys([*lengths_s, *self._unreported_s])]
        self._reported, self._fine = len(reported), lengths_s.index(fine_s)
        self._classifier = StreamingClassifier(
            model, graphs, lengths_s, languages, lessons, automatic_gain
        )
        self._second = second
        self._decoder = Decoder(
            self._classifier.labels, settings, self._classifier.hop_s, hold_s, second is not None
        )
        self._samples = 0  # of the stream, with its gaps
        self._origin_samples = 0  # where classifier and decoder began

    @property
    def written(self) -> bytes | None:
        """SHA-256 of the file of lessons, if it has itself written what it has learnt to it."""
        return None

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""
        return {**self._classifier.stages(), "decoder": (self._decoder, "update")}

    def expect(self, languages: Sequence[str] | None) -> None:
        """Go on with these as the only languages to expect; see `StreamingClassifier.expect`."""
        self._classifier.expect(languages)
        if self._second is not None:
            self._second.expect(languages)

    def decide(self, threshold: float, hold_s: float) -> None:
        """Decide so from now on, see `Decoder.decide`."""
        self._decoder.decide(threshold, hold_s)

    def afford(self, share: float) -> None:
        """Go on with another share of a core for second opinions."""
        if self._second is not None:
            self._second.afford(share)

    def close(self) -> None:
        """End what runs beside the audio."""
        if self._second is not None:
            self._second.close()

    def hear(self, blocks: Iterable[Sound]) -> Iterator[Heard]:
        """Listen until the audio ends.

        Parameters
        ----------
        blocks : iterable of ndarray, shape (n,), float32, Gap or Level
            16 kHz mono, as an audio source gives it.

        Yields
        ------
        Heard
            For every hop, for every part of a gap and for its end, for a level, and once more for
            a segment that a gap or the end of the stream finishes.

        Raises
        ------
        EdgelidError
            What the source raises, once the last segment has been finished all the same.
        """
        failure: EdgelidError | None = None
        gap: Gap | None = None
        try:
            for block in blocks:
                if isinstance(block, Level):
                    yield Heard([], None, (), self._current(), level=block)
                elif isinstance(block, Gap):
                    gap = (
                        block if gap is None else replace(gap, samples=gap.samples + block.samples)
                    )
                    yield from self._lose(gap)
                else:
                    if gap is not None:
                        yield from self._go_on(gap)
                        gap = None
                    yield from self._hear(block)
        except EdgelidError as error:
            failure = error
        if gap is not None:
            yield from self._go_on(gap)
        yield from self._finish()
        if failure is not None:
            raise failure

    def _hear(self, samples: Float32Array) -> Iterator[Heard]:
        self._samples += len(samples)
        if self._second is None:
            yield from map(self._heard, self._classifier.process(samples))
            return
        for start in range(0, len(samples), PART_SAMPLES):
            part = samples[start : start + PART_SAMPLES]
            self._second.hear(part)
            yield from map(self._heard, self._classifier.process(part))

    def _lose(self, gap: Gap) -> Iterator[Heard]:
        """Take note of a gap that may not be over yet."""
        if gap.duration_s > BRIDGED_S and self._samples > self._origin_samples:
            yield from self._finish()
            self._begin(self._samples)
        yield Heard([], None, (), self._current())

    def _go_on(self, gap: Gap) -> Iterator[Heard]:
        """Behind a gap."""
        bridged = gap.duration_s <= BRIDGED_S
        end_samples = self._samples + gap.samples
        times_s = self._samples / SAMPLE_RATE_HZ, end_samples / SAMPLE_RATE_HZ
        lost = Lost(*times_s, gap.reason, bridged)
        if bridged:
            yield from self._hear(np.zeros(gap.samples, np.float32))
        else:
            self._samples = end_samples
            self._begin(end_samples)
        yield Heard([], None, (), self._current(), lost)

    def _begin(self, samples: int) -> None:
        self._classifier.reset()
        self._decoder.go_on()
        if self._second is not None:
            self._second.reset()
        self._origin_samples = samples

    def _finish(self) -> Iterator[Heard]:
        """End the segment that goes on."""
        yield from map(self._heard, self._classifier.flush())
        own_samples = self._samples - self._origin_samples
        finished = [*map(self._in_stream, self._decoder.finish(own_samples / SAMPLE_RATE_HZ))]
        if finished:
            end_s = self._samples / SAMPLE_RATE_HZ
            finished[-1] = replace(finished[-1], end_s=end_s)
            yield Heard([], None, tuple(finished), replace(self._current(), end_s=end_s))

    def _heard(self, windows: list[Window]) -> Heard:
        decided = self._decide(windows[0], windows[self._fine]) or UNDECIDED
        change, finished = decided.change, decided.finished
        windows = windows[: self._reported]
        current = self._decoder.current
        if change is not None:
            # At its end what is late is decided without waiting for more.
            heard_s = (self._samples - self._origin_samples) / SAMPLE_RATE_HZ
            decided_s = min(change.decided_s + self._classifier.delay_s, heard_s)
            change = replace(change, decided_s=decided_s)
        if self._origin_samples:
            origin_s = self._origin_samples / SAMPLE_RATE_HZ
            windows = [
                replace(w, start_s=origin_s + w.start_s, end_s=origin_s + w.end_s) for w in windows
            ]
            current = self._in_stream(current)
            finished = tuple(map(self._in_stream, finished))
            change = change and replace(
                change,
                start_s=origin_s + change.start_s,
                decided_s=origin_s + change.decided_s,
            )
        told = None if self._second is None else self._second.told()
        gain = self._classifier.gain
        return Heard(windows, change, finished, current, second=told, gain=gain)

    def _decide(self, window: Window, fine: Window) -> Decision | None:
        if self._second is None:
            return self._decoder.update(window, fine)
        self._decoder.advance(window, fine)
        self._second.attend(self._decoder, fine, self._classifier.gain)
        return self._decoder.conclude()

    def _current(self) -> Segment:
        return self._in_stream(self._decoder.current)

    def _in_stream(self, segment: Segment) -> Segment:
        """A segment of the decoder's in time of the stream."""
        origin_s = self._origin_samples / SAMPLE_RATE_HZ
        return replace(segment, start_s=origin_s + segment.start_s, end_s=origin_s + segment.end_s)
