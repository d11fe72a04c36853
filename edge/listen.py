"""``edgelid listen``: audio through classifier and decoder to a sink of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.classifier import StreamingClassifier, Window
from edge.decoder import Change, Decoder, Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.interpreter import Graphs, WindowGraph
from edge.modelfile import DecoderDefaults, ModelFile


@dataclass(frozen=True)
class Heard:
    """What a hop of audio brought.

    Attributes
    ----------
    windows : list of Window
        One a window length.
    change : Change or None
        The answer changes.
    finished : Segment or None
        A segment that is over.
    current : Segment
        The one that goes on.
    """

    windows: list[Window]
    change: Change | None
    finished: Segment | None
    current: Segment


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
    """

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        settings: DecoderDefaults,
        languages: Sequence[str] | None = None,
        more_windows_s: Sequence[float] = (),
    ) -> None:
        others = [w for w in more_windows_s if w != settings.window_s]
        self._classifier = StreamingClassifier(
            model, graphs, [settings.window_s, *others], languages
        )
        self._decoder = Decoder(model.labels, settings, self._classifier.hop_s)

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""
        return {**self._classifier.stages(), "decoder": (self._decoder, "update")}

    def expect(self, languages: Sequence[str] | None) -> None:
        """Go on with these as the only languages to expect; see `StreamingClassifier.expect`."""
        self._classifier.expect(languages)

    def hear(self, blocks: Iterable[Float32Array]) -> Iterator[Heard]:
        """Listen until the audio ends.

        Parameters
        ----------
        blocks : iterable of ndarray, shape (n,), float32
            16 kHz mono, as an audio source gives it.

        Yields
        ------
        Heard
            For every hop, and once more for the segment that the end of the stream finishes.

        Raises
        ------
        EdgelidError
            What the source raises, once the last segment has been finished all the same.
        """
        samples = 0
        failure: EdgelidError | None = None
        try:
            for block in blocks:
                samples += len(block)
                yield from map(self._heard, self._classifier.process(block))
        except EdgelidError as error:
            failure = error
        yield from map(self._heard, self._classifier.flush())
        last = self._decoder.finish(samples / SAMPLE_RATE_HZ)
        if last is not None:
            yield Heard([], None, last, last)
        if failure is not None:
            raise failure

    def _heard(self, windows: list[Window]) -> Heard:
        decided = self._decoder.update(windows[0])
        change, finished = decided if decided else (None, None)
        if finished is not None and finished.end_s <= finished.start_s:
            finished = None  # an answer taken back before it covered any audio
        return Heard(windows, change, finished, self._decoder.current)
