"""The streaming classifier: audio in, class probabilities of sliding windows out.

Every frame goes through the front end and the trunk once. What a window needs of its embeddings
are sums, and sums of int8 values are exact: running totals in 64-bit integers give the same
answer for a window as computing it alone, bit for bit, at the cost of one subtraction.

A model of whole windows has no such sums to show: its window is recomputed at every hop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array, FrontEnd
from edge.interpreter import Graphs, WindowGraph, quantise
from edge.modelfile import MAX_WINDOW_S, NONSPEECH, ModelFile, Quantisation, StreamSpec

POOL_EPSILON = 1e-2  # train.model.POOL_EPSILON, which this package must not import
MIN_VARIANCE = 1e-6
MAX_SCORE_DIFFERENCE = 600.0  # exp(-600) is still a normal number


@dataclass(frozen=True)
class Window:
    """Probabilities of the classes over one window.

    Attributes
    ----------
    start_s, end_s : float
        Stream time of its embeddings; shorter than asked for while the stream is young.
    length_s : float
        Nominal length.
    probabilities : ndarray, shape (classes,), float64
        Calibrated, summing to one; zero for masked classes and for no others.
    """

    start_s: float
    end_s: float
    length_s: float
    probabilities: Float64Array


def pool(
    sums: npt.NDArray[np.int64], embeddings: Quantisation, weights: Quantisation
) -> Float64Array:
    """Weighted mean and standard deviation of a window from its integer sums.

    The same in float is :func:`train.model.pool`.

    Parameters
    ----------
    sums : ndarray, shape (1 + 2 * embedding,), int64
        Over the window: weights, weights times values, weights times squared values; all as
        integers above their zero points.
    embeddings, weights : Quantisation

    Returns
    -------
    ndarray, shape (2 * embedding,), float64
    """
    channels = (len(sums) - 1) // 2
    total = sums[0] * weights.scale + POOL_EPSILON
    mean = sums[1 : 1 + channels] * (weights.scale * embeddings.scale) / total
    square = sums[1 + channels :] * (weights.scale * embeddings.scale**2) / total
    deviation = np.sqrt(np.maximum(square - mean * mean, MIN_VARIANCE))
    return np.concatenate([mean, deviation])


def class_mask(labels: Sequence[str], languages: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    """Which classes may be answered.

    Parameters
    ----------
    labels : sequence of str
        Classes of the model.
    languages : sequence of str or None
        The only languages to expect; None for all. Nonspeech always stays possible; ``other``
        only where it is named.

    Returns
    -------
    ndarray of bool, shape (classes,)

    Raises
    ------
    EdgelidError
        If the model does not know one of them.
    """
    if languages is None:
        return np.ones(len(labels), bool)
    known = [label for label in labels if label != NONSPEECH]
    unknown = [language for language in languages if language not in known]
    if unknown or not languages:
        wrong = f"does not know {', '.join(unknown)}" if unknown else "needs at least one language"
        raise EdgelidError(f"the model {wrong}: choose from {', '.join(known)}.")
    return np.array([label in languages or label == NONSPEECH for label in labels])


class _Totals:
    """Windows of a model that streams, from running totals over its embeddings.

    Parameters
    ----------
    graphs : Graphs
    stream : StreamSpec
    longest : int
        Embeddings of the longest window to be asked for.
    """

    def __init__(self, graphs: Graphs, stream: StreamSpec, longest: int) -> None:
        self._graphs = graphs
        self._width = 1 + 2 * stream.embedding
        self._rows = longest + stream.hop_frames // stream.stride_frames + 1
        self.reset()

    def reset(self) -> None:
        self._graphs.reset()
        self._embeddings = 0  # of the stream so far
        # Row ``n % rows`` holds the totals over the first ``n`` embeddings of the stream. In 64
        # bits they would overflow after centuries.
        self._totals = np.zeros((self._rows, self._width), np.int64)

    def advance(self, frames: Float32Array, count: int) -> None:
        """Take a hop of frames, (hop_frames, mels), and keep the first embeddings of it."""
        graphs = self._graphs
        embeddings, weights = graphs.step(quantise(frames, graphs.frames))
        x = embeddings[:count].astype(np.int64) - graphs.embeddings.zero_point  # (n, embedding)
        w = weights[:count].astype(np.int64)[:, None] - graphs.weights.zero_point  # (n, 1)
        for row in np.concatenate([w, w * x, w * x * x], axis=1):
            before = self._totals[self._embeddings % self._rows]
            self._embeddings += 1
            np.add(before, row, out=self._totals[self._embeddings % self._rows])

    def scores(self, first: int, last: int) -> Float64Array:
        """Of the window of embeddings from `first` to before `last`, which is the newest."""
        graphs = self._graphs
        sums = self._totals[last % self._rows] - self._totals[first % self._rows]
        pooled = pool(sums, graphs.embeddings, graphs.weights)
        quantised = graphs.head(quantise(pooled, graphs.pooled)).astype(np.float64)
        scores: Float64Array = (quantised - graphs.scores.zero_point) * graphs.scores.scale
        return scores


class _WholeWindows:
    """Windows of a model that takes nothing else, each computed from all its frames.

    Parameters
    ----------
    graph : WindowGraph
    frames, mels : int
        Of a window.
    """

    def __init__(self, graph: WindowGraph, frames: int, mels: int) -> None:
        self._graph = graph
        self._shape = (frames, mels)
        self.reset()

    def reset(self) -> None:
        # Zero is silence: what a stream that starts has behind it.
        self._frames = np.zeros(self._shape, np.float32)

    def advance(self, frames: Float32Array, count: int) -> None:
        """Take a hop of frames, (hop_frames, mels), and keep the first of it."""
        self._frames = np.concatenate([self._frames, frames[:count]])[-self._shape[0] :]

    def scores(self, first: int, last: int) -> Float64Array:
        """Of the newest window; of a young stream, with silence before it."""
        return self._graph.scores(self._frames)


class StreamingClassifier:
    """Classifies sliding windows of a stream of audio.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
        Of that model; used by one classifier at a time.
    windows_s : sequence of float
        Window lengths to answer for; a model of whole windows has one.
    languages : sequence of str, optional
        See :func:`class_mask`.

    Raises
    ------
    EdgelidError
        If a window is too short or too long, or a language is not known.
    """

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        windows_s: Sequence[float],
        languages: Sequence[str] | None = None,
    ) -> None:
        description = model.description
        config, stream = description.front_end, description.stream
        self.labels = model.labels
        self._mask = class_mask(model.labels, languages)
        self._front_end = FrontEnd(config, model.filterbank)
        self._calibration = description.calibration
        self._hop_frames = stream.hop_frames
        self._per_hop = stream.hop_frames // stream.stride_frames
        self._embedding_s = stream.stride_frames * config.hop_samples / config.sample_rate_hz
        self.hop_s = self._per_hop * self._embedding_s
        self._windows: list[tuple[float, int]] = []
        for window_s in windows_s:
            if not self._embedding_s <= window_s <= MAX_WINDOW_S:
                raise EdgelidError(
                    f"a window of {window_s:g} s is not possible: choose "
                    f"{self._embedding_s:g} to {MAX_WINDOW_S:g} s."
                )
            self._windows.append((window_s, round(window_s / self._embedding_s)))
        self._graphs = graphs
        self._memory = self._memory_of(graphs, model)
        self.reset()

    def _memory_of(self, graphs: Graphs | WindowGraph, model: ModelFile) -> _Totals | _WholeWindows:
        stream = model.description.stream
        if not isinstance(graphs, WindowGraph):
            return _Totals(graphs, stream, max(count for _, count in self._windows))
        only_s = stream.windows_s[0]
        if any(window_s != only_s for window_s, _ in self._windows):
            raise EdgelidError(
                f"the model takes windows of {only_s:g} s only: ask for no others, or convert it "
                "with --mode stream."
            )
        return _WholeWindows(
            graphs, stream.receptive_field_frames, model.description.front_end.mels
        )

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""
        methods = ("scores",) if isinstance(self._graphs, WindowGraph) else ("step", "head")
        graphs = {("window" if m == "scores" else m): (self._graphs, m) for m in methods}
        return {"front_end": (self._front_end, "process"), **graphs}

    def reset(self) -> None:
        """Start a new stream at time zero."""
        self._front_end.reset()
        self._memory.reset()
        self._frames = np.empty((0, self._front_end.config.mels), np.float32)
        self._received_samples = 0
        self._embeddings = 0  # of the stream so far

    def process(self, samples: Float32Array) -> Iterator[list[Window]]:
        """Take the next samples and give the windows that end in them.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            16 kHz mono, full scale at 1; any number of them.

        Yields
        ------
        list of Window
            One a window length, in the order given, for every hop completed.
        """
        self._received_samples += len(samples)
        new = self._front_end.process(samples)
        self._frames = np.concatenate([self._frames, new]) if len(self._frames) else new
        while len(self._frames) >= self._hop_frames:
            hop, self._frames = self._frames[: self._hop_frames], self._frames[self._hop_frames :]
            self._advance(hop, self._per_hop)
            yield [self._window(length_s, count) for length_s, count in self._windows]

    def flush(self) -> Iterator[list[Window]]:
        """End the stream with what is left of a hop.

        An embedding depends on no later frame: silence fills the hop up, and the embeddings that
        would hear of it are left out. Only audio too short for any embedding is itself
        completed with silence.

        Yields
        ------
        list of Window
            As :meth:`process`; nothing where no embedding is left.
        """
        config = self._front_end.config
        stride = self._hop_frames // self._per_hop
        if self._received_samples > 0 and not self._embeddings and len(self._frames) < stride:
            needed_samples = (stride - 1) * config.hop_samples + config.window_samples
            silence = np.zeros(needed_samples - self._received_samples, np.float32)
            self._frames = np.concatenate([self._frames, self._front_end.process(silence)])
        count = len(self._frames) // stride
        if count == 0:
            return
        hop = np.zeros((self._hop_frames, config.mels), np.float32)
        hop[: count * stride] = self._frames[: count * stride]
        self._frames = self._frames[count * stride :]
        self._advance(hop, count)
        yield [self._window(length_s, size) for length_s, size in self._windows]

    def _advance(self, frames: Float32Array, count: int) -> None:
        self._memory.advance(frames, count)
        self._embeddings += count

    def _window(self, length_s: float, count: int) -> Window:
        last = self._embeddings
        first = max(0, last - count)
        scores = self._memory.scores(first, last) / self._calibration.temperature(length_s)
        # A probability that underflows to zero would be that of a masked class.
        scores = np.maximum(scores, scores[self._mask].max() - MAX_SCORE_DIFFERENCE)
        return Window(
            start_s=first * self._embedding_s,
            end_s=last * self._embedding_s,
            length_s=length_s,
            probabilities=softmax(np.where(self._mask, scores, -np.inf)),
        )


def softmax(scores: Float64Array) -> Float64Array:
    """Probabilities of scores of shape (..., classes); minus infinity is impossible."""
    exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Float64Array = exponential / exponential.sum(axis=-1, keepdims=True)
    return probabilities
