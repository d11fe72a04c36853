"""The streaming classifier: audio in, class probabilities of sliding windows out.

Every frame goes through the front end and the trunk once. What a window needs of its embeddings
are sums, and sums of int8 values are exact: running totals give the same answer for a window as
computing it alone, bit for bit, at the cost of one subtraction.

A model of whole windows has no such sums to show: its window is recomputed at every hop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.audio.gain import AutomaticGain
from edge.errors import EdgelidError
from edge.features import most_samples, open_front_end
from edge.frontend import Float32Array, Float64Array
from edge.lessons.correction import Correction
from edge.model.interpreter import Graphs, Int8Array, WindowGraph, quantise
from edge.model.modelfile import MAX_WINDOW_S, NONSPEECH, OTHER, ModelFile, Quantisation, StreamSpec

POOL_EPSILON = 1e-2  # train.model.network.POOL_EPSILON, which this package must not import
MIN_VARIANCE = 1e-6
MIN_PROBABILITY = 1e-260
SPEECH = 0.5  # a window, short or long, is of speech unless it is more likely to be of none


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
    apart : ndarray, shape (classes,), float64, or None
        The same before the masked classes became `other`; None where none did. A sum over classes
        is not evidence as that of one class is: it grows with their number, and most where
        nothing is heard clearly.
    """

    start_s: float
    end_s: float
    length_s: float
    probabilities: Float64Array
    apart: Float64Array | None = None


def pool(sums: Float64Array, embeddings: Quantisation, weights: Quantisation) -> Float64Array:
    """Weighted mean and standard deviation of a window from its integer sums.

    The same in float is :func:`train.model.network.pool`.

    Parameters
    ----------
    sums : ndarray, shape (1 + 2 * embedding,), float64
        Over the window: weights, weights times values, weights times squared values; all as
        integers above their zero points.
    embeddings, weights : Quantisation

    Returns
    -------
    ndarray, shape (2 * embedding,), float64
    """
    channels = (len(sums) - 1) // 2
    total = float(sums[0]) * weights.scale + POOL_EPSILON
    pooled = np.empty(2 * channels)
    mean, deviation = pooled[:channels], pooled[channels:]
    np.multiply(sums[1 : 1 + channels], weights.scale * embeddings.scale / total, out=mean)
    square = sums[1 + channels :] * (weights.scale * embeddings.scale**2 / total)
    np.multiply(mean, mean, out=deviation)
    np.subtract(square, deviation, out=deviation)
    np.maximum(deviation, MIN_VARIANCE, out=deviation)
    np.sqrt(deviation, out=deviation)
    return pooled


def class_mask(labels: Sequence[str], languages: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    """Which classes may be answered.

    Parameters
    ----------
    labels : sequence of str
        Classes of the model.
    languages : sequence of str or None
        The only languages to expect; None for all. Nonspeech and ``other`` always stay possible.

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
    return np.array([label in (*languages, OTHER, NONSPEECH) for label in labels])


def masked(
    probabilities: Sequence[float], labels: Sequence[str], mask: Sequence[bool]
) -> list[float]:
    """Probabilities with only some classes possible.

    Whether there is speech does not depend on the languages that are expected: nonspeech keeps
    what it has. What speech has in the languages that are not expected goes to ``other``, or if
    the model knows no such class, to the languages that are, in their proportion.

    Parameters
    ----------
    probabilities : sequence of float
        All above zero.
    labels : sequence of str
    mask : sequence of bool
        See `class_mask`.

    Returns
    -------
    list of float
        As large a sum; zero for what is not possible, and for that alone.
    """
    moved = math.fsum(p for p, possible in zip(probabilities, mask, strict=True) if not possible)
    kept = [p if possible else 0.0 for p, possible in zip(probabilities, mask, strict=True)]
    if OTHER in labels:
        kept[labels.index(OTHER)] += moved
        return kept
    expected = math.fsum(p for p, label in zip(kept, labels, strict=True) if label != NONSPEECH)
    scale = 1.0 + moved / expected
    return [p if label == NONSPEECH else p * scale for p, label in zip(kept, labels, strict=True)]


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
        per_hop = stream.hop_frames // stream.stride_frames
        self._channels = stream.embedding
        # A whole number of hops, so that the embeddings of one lie behind one another.
        self._rows = (-(-longest // per_hop) + 1) * per_hop
        self.reset()

    def reset(self) -> None:
        self._graphs.reset()
        self._embeddings = 0  # of the stream so far; of all hops but its last, whole ones
        # Row ``(n - 1) % rows`` holds the totals over the first ``n`` embeddings of the stream: of
        # weights, of weights times values, and of weights times squared values, less the same
        # number in all rows.
        self._totals = np.zeros((self._rows, 1 + 2 * self._channels))

    def advance(self, frames: Float32Array, count: int) -> None:
        """Take a hop of frames, (hop_frames, mels), and keep the first embeddings of it."""
        graphs, channels = self._graphs, self._channels
        embeddings, weights = graphs.step(quantise(frames, graphs.frames))
        x = embeddings[:count].astype(np.float64)  # (n, embedding)
        x -= graphs.embeddings.zero_point
        row = self._embeddings % self._rows
        if row == 0:  # integers of double precision are exact as long as they are small
            self._totals -= self._totals[-1]
        before = self._totals[row - 1]
        new = self._totals[row : row + count]
        w = np.subtract(
            weights[:count, None], graphs.weights.zero_point, out=new[:, :1], dtype=np.float64
        )
        x_w = np.multiply(x, w, out=new[:, 1 : 1 + channels])
        np.multiply(x_w, x, out=new[:, 1 + channels :])
        for totals in new:
            totals += before
            before = totals
        self._embeddings += count

    def wait(self, frames: Float32Array) -> None:
        """Take a hop of frames whose embeddings are of the time before the stream."""
        self._graphs.step(quantise(frames, self._graphs.frames))

    def scores(self, first: int, last: int) -> list[float]:
        """Of the window of embeddings from `first` to before `last`, which is the newest."""
        graphs = self._graphs
        sums = self._totals[(last - 1) % self._rows] - self._totals[(first - 1) % self._rows]
        pooled = pool(sums, graphs.embeddings, graphs.weights)
        quantised = graphs.head(quantise(pooled, graphs.pooled)).tolist()
        scale, zero_point = graphs.scores.scale, graphs.scores.zero_point
        return [scale * (score - zero_point) for score in quantised]

    def pooled(self, first: int, last: int) -> Int8Array:
        """What the head takes of that window, (2 * embedding,)."""
        graphs = self._graphs
        sums = self._totals[(last - 1) % self._rows] - self._totals[(first - 1) % self._rows]
        return quantise(pool(sums, graphs.embeddings, graphs.weights), graphs.pooled)


class _TaughtTotals(_Totals):
    """The same with lessons.

    Parameters
    ----------
    graphs, stream, longest
        As for `_Totals`.
    lessons : Correction
    """

    def __init__(
        self, graphs: Graphs, stream: StreamSpec, longest: int, lessons: Correction
    ) -> None:
        super().__init__(graphs, stream, longest)
        self.lessons = lessons

    def scores(self, first: int, last: int) -> list[float]:
        return self.lessons.corrected(self.pooled(first, last), super().scores(first, last))


def filled(frames: Float32Array, count: int, silence: Float32Array) -> Float32Array:
    """The newest frames, as many as a window has; fewer are repeated until they fill it.

    Models of whole windows recognise a second of speech better three times in a row than once
    behind silence.

    Parameters
    ----------
    frames : ndarray, shape (n, features), float32
    count : int
    silence : ndarray, shape (features,), float32
        What the window has where there are no frames at all.

    Returns
    -------
    ndarray, shape (count, features), float32
    """
    newest = frames[-count:] if len(frames) else silence[None]
    return newest if len(newest) == count else np.resize(newest, (count, len(silence)))


class _WholeWindows:
    """Windows of a model that takes nothing else, each computed from all its frames.

    Parameters
    ----------
    graph : WindowGraph
    frames : int
        Of the longest window to be asked for.
    silence : ndarray, shape (features,)
        A frame of it.
    """

    def __init__(self, graph: WindowGraph, frames: int, silence: Float32Array) -> None:
        self._graph = graph
        self._count, self._silence = frames, silence
        self.reset()

    def reset(self) -> None:
        self._frames = np.empty((0, len(self._silence)), np.float32)
        self._total = 0  # of the stream so far

    def advance(self, frames: Float32Array, count: int) -> None:
        """Take a hop of frames, (hop_frames, features), and keep the first of it."""
        self._frames = np.concatenate([self._frames, frames[:count]])[-self._count :]
        self._total += count

    def scores(self, first: int, last: int) -> list[float]:
        """Of the window of frames from `first` to before `last`; too few are repeated."""
        oldest = self._total - len(self._frames)
        frames = self._frames[max(0, first - oldest) : last - oldest]
        count = self._graph.fitting(len(frames))
        scores: list[float] = self._graph.scores(filled(frames, count, self._silence)).tolist()
        return scores


class StreamingClassifier:
    """Classifies sliding windows of a stream of audio.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
        Of that model; used by one classifier at a time.
    windows_s : sequence of float
        Window lengths to answer for, which a model of whole windows must take.
    languages : sequence of str, optional
        See :func:`class_mask`.
    lessons : Correction, optional
        What a model that streams has been taught.
    automatic_gain : bool
        Whether sound that is too quiet for the model is amplified.
    longest_s : float, optional
        Of what :meth:`part` is asked for; the longest of these windows, unless given.

    Attributes
    ----------
    gain : float
        What the sound of late is amplified by.
    hop_s : float
        From window to window.
    delay_s : float
        How long after a moment the windows come that end there.

    Raises
    ------
    EdgelidError
        If a window is too short or too long, or a language is not known.
    """

    _embeddings: int

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        windows_s: Sequence[float],
        languages: Sequence[str] | None = None,
        lessons: Correction | None = None,
        automatic_gain: bool = False,
        longest_s: float | None = None,
    ) -> None:
        description = model.description
        config, stream = description.front_end, description.stream
        self.labels = model.labels if lessons is None else lessons.labels
        self.expect(languages)
        self._front_end = open_front_end(config, model.filterbank)
        self._hop_frames = stream.hop_frames
        self._pace = self._front_end.pace(stream.hop_frames)
        self._most_samples = most_samples(config, stream.hop_frames)
        self._per_hop = stream.hop_frames // stream.stride_frames
        self._embedding_s = description.embedding_s
        self.hop_s = self._per_hop * self._embedding_s
        self._late_hops = stream.late_hops
        self.delay_s = description.delay_s
        self._temperature = description.calibration.temperature
        self._windows: list[tuple[float, int, float]] = []  # length, embeddings, temperature
        for window_s in windows_s:
            if not self._embedding_s <= window_s <= MAX_WINDOW_S:
                raise EdgelidError(
                    f"a window of {window_s:g} s is not possible: choose "
                    f"{self._embedding_s:g} to {MAX_WINDOW_S:g} s."
                )
            count = round(window_s / self._embedding_s)
            temperature = self._temperature(window_s)
            self._windows.append((window_s, count, temperature))
        self._gain = AutomaticGain(self.hop_s) if automatic_gain else None
        self._longest = max(count for _, count, _ in self._windows)
        if longest_s is not None:
            self._longest = max(self._longest, round(longest_s / self._embedding_s))
        self._graphs = graphs
        self._memory = self._memory_of(graphs, model, lessons)
        self.reset()

    def _memory_of(
        self, graphs: Graphs | WindowGraph, model: ModelFile, lessons: Correction | None
    ) -> _Totals | _WholeWindows:
        stream = model.description.stream
        if not isinstance(graphs, WindowGraph):
            if lessons is not None:
                return _TaughtTotals(graphs, stream, self._longest, lessons)
            return _Totals(graphs, stream, self._longest)
        if any(not graphs.fewest <= count <= graphs.most for _, count, _ in self._windows):
            lengths = f"{max(stream.windows_s):g} s only"
            if graphs.fewest < graphs.most:
                lengths = f"{min(stream.windows_s):g} to {max(stream.windows_s):g} s"
            raise EdgelidError(
                f"the model takes windows of {lengths}: ask for no others, or convert it "
                "with --mode stream."
            )
        return _WholeWindows(graphs, self._longest, self._front_end.silence)

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""
        front_end = {"front_end": (self._front_end, "process")}
        if isinstance(self._graphs, WindowGraph):
            return {**front_end, "window": (self._graphs, "scores")}
        return {**front_end, "step": (self._graphs, "step"), "head": (self._graphs, "head")}

    def pooled(self, index: int) -> Int8Array:
        """Statistics of the newest window of a length, as the head of a model that streams takes
        them.

        Parameters
        ----------
        index : int
            Of the length, in the order given.

        Returns
        -------
        ndarray, shape (2 * embedding,), int8
        """
        assert isinstance(self._memory, _Totals), "a model of whole windows has no such statistics"
        _, count, _ = self._windows[index]
        return self._memory.pooled(max(0, self._embeddings - count), self._embeddings)

    def part(self, start_s: float, end_s: float) -> Window:
        """The window between two times, which the newest one of the longest length holds.

        A model that takes windows of one length gives its newest one.

        Parameters
        ----------
        start_s, end_s : float
            Stream time; at least one embedding is heard, whatever they are.

        Returns
        -------
        Window
            Calibrated for its own length.
        """
        newest = self._embeddings
        oldest = max(0, newest - self._longest)
        last = min(max(round(end_s / self._embedding_s), oldest + 1), newest)
        first = min(max(round(start_s / self._embedding_s), oldest), last - 1)
        length_s = (last - first) * self._embedding_s
        if isinstance(self._graphs, WindowGraph) and self._graphs.fewest == self._graphs.most:
            return self._window(*self._windows[0])
        return self._window(length_s, last - first, self._temperature(length_s), last)

    def learn(self, lessons: Correction) -> None:
        """Go on with what has been learnt since, where there were lessons before."""
        assert isinstance(self._memory, _TaughtTotals), "began without lessons"
        assert lessons.labels == self.labels, "other classes"
        self._memory.lessons = lessons

    def expect(self, languages: Sequence[str] | None) -> None:
        """Answer with these from now on, see :func:`class_mask`.

        Raises
        ------
        EdgelidError
            If one is not known; then nothing changes.
        """
        mask = class_mask(self.labels, languages).tolist()
        self._mask = None if all(mask) else mask

    def reset(self) -> None:
        """Start a new stream at time zero."""
        self._front_end.reset()
        self._memory.reset()
        if self._gain is not None:
            self._gain.reset()
        self.gain = 1.0
        # Samples are gathered until they complete a hop: the front end costs as much for a frame
        # as for three. The first frame of a stream needs more than the others, or, where silence
        # counts as heard before it, less.
        first_hop_samples = self._front_end.missing_samples(self._hop_frames)
        self._audio = np.empty(self._most_samples, np.float32)
        self._gathered_samples, self._wanted_samples = 0, first_hop_samples
        self._embeddings = 0  # of the stream so far
        self._waiting_hops = self._late_hops

    def foresee(self, samples: Float32Array) -> None:
        """Begin a recording with the gain that its beginning, shape (n,), asks for."""
        if self._gain is not None:
            self._gain.foresee(samples)
            self.gain = self._gain.gain

    def process(self, samples: Float32Array) -> Iterator[list[Window]]:
        """Take the next samples and give the windows that end in them.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            16 kHz mono, full scale at 1; any number of them.

        Yields
        ------
        list of Window
            One a window length, in the order given, for every hop completed; they end `delay_s`
            before it does.
        """
        start = 0
        while start < len(samples):
            some = samples[start : start + self._wanted_samples - self._gathered_samples]
            start += len(some)
            self._audio[self._gathered_samples : self._gathered_samples + len(some)] = some
            self._gathered_samples += len(some)
            if self._gathered_samples == self._wanted_samples:
                frames = self._gathered_frames()
                if self._waiting_hops:
                    self._wait(frames)
                else:
                    yield self._advance(frames, self._per_hop)

    def flush(self) -> Iterator[list[Window]]:
        """End the stream with what is left of a hop.

        An embedding depends on no frame later than the model's delay: silence fills the hop up,
        and what is late, and the embeddings that are of nothing else are left out. Only audio too
        short for any embedding is itself completed with silence.

        Yields
        ------
        list of Window
            As :meth:`process`; nothing where no embedding is left.
        """
        config = self._front_end.config
        stride = self._hop_frames // self._per_hop
        late = self._late_hops - self._waiting_hops  # hops that have gone in and not come out
        if not self._embeddings and not late and self._gathered_samples:
            needed_samples = self._front_end.missing_samples(stride)
            self._audio[self._gathered_samples : needed_samples] = 0
            self._gathered_samples = max(self._gathered_samples, needed_samples)
        frames = self._gathered_frames()
        count = len(frames) // stride
        owed = late * self._per_hop + count
        hop = np.zeros((self._hop_frames, config.features), np.float32)
        hop[: count * stride] = frames[: count * stride]
        while owed:
            if self._waiting_hops:
                self._wait(hop)
            else:
                given = min(owed, self._per_hop)
                owed -= given
                yield self._advance(hop, given)
            hop = np.zeros_like(hop)

    def _wait(self, frames: Float32Array) -> None:
        self._step(frames)
        self._waiting_hops -= 1

    def _step(self, frames: Float32Array) -> None:
        """Take a hop of frames whose embeddings are of the time before the stream."""
        assert isinstance(self._memory, _Totals), "a model of whole windows is never late"
        self._memory.wait(frames)

    def _gathered_frames(self) -> Float32Array:
        """Frames of the samples gathered."""
        samples = self._audio[: self._gathered_samples]
        if self._gain is not None and len(samples):
            earlier, samples = self._gain.applied(samples)
            self.gain = self._gain.gain
            if earlier:
                self._hear_again(earlier)
        frames = self._front_end.process(samples)
        self._gathered_samples, self._wanted_samples = 0, self._pace.samples
        return frames

    def _hear_again(self, hops: Sequence[Float32Array]) -> None:
        """Take all hops of a stream once more; what has been said of them stays said."""
        self._front_end.reset()
        self._memory.reset()
        for number, hop in enumerate(hops):
            frames = self._front_end.process(hop)
            if number < self._late_hops:
                self._step(frames)
            else:
                self._memory.advance(frames, self._per_hop)

    def _advance(self, frames: Float32Array, count: int) -> list[Window]:
        """Windows that end with the first embeddings of a hop of frames, (hop_frames, mels)."""
        self._memory.advance(frames, count)
        self._embeddings += count
        return [self._window(*window) for window in self._windows]

    def _window(
        self, length_s: float, count: int, temperature: float, last: int | None = None
    ) -> Window:
        """The window of so many embeddings, the newest ones unless it ends at another."""
        last = self._embeddings if last is None else last
        first = max(0, last - count)
        scores = self._memory.scores(first, last)
        probabilities = calibrated(scores, temperature)
        apart: Float64Array | None = None
        if self._mask is not None:
            if OTHER in self.labels:
                apart = np.array(probabilities)
            probabilities = masked(probabilities, self.labels, self._mask)
        return Window(
            start_s=first * self._embedding_s,
            end_s=last * self._embedding_s,
            length_s=length_s,
            probabilities=np.array(probabilities),
            apart=apart,
        )


def calibrated(scores: list[float], temperature: float) -> list[float]:
    """Calibrated probabilities of one window, none of them zero.

    In Python: on a dozen numbers, numpy's calls cost more than the arithmetic.
    """
    best = max(scores)
    # What underflows to zero would count as impossible.
    exponentials = [math.exp((score - best) / temperature) or MIN_PROBABILITY for score in scores]
    total = math.fsum(exponentials)  # `sum` rounds differently from Python 3.12 on
    return [exponential / total for exponential in exponentials]


def softmax(scores: Float64Array) -> Float64Array:
    """Probabilities of scores of shape (..., classes); minus infinity is impossible."""
    exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Float64Array = exponential / exponential.sum(axis=-1, keepdims=True)
    return probabilities
