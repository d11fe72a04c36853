"""The large model: what it says of a stretch of audio, in the classes of the compact one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.belief import Opinion
from edge.classifier import StreamingClassifier, calibrated, class_mask, filled, masked
from edge.errors import EdgelidError
from edge.features import most_samples, open_front_end
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.interpreter import Graphs, WindowGraph, open_on_disk
from edge.model.modelfile import (
    NONSPEECH,
    OTHER,
    SECOND_OPINIONS,
    Description,
    ModelFile,
    path_of,
    read_without_graph,
)

# Processor time of an answer where it must not be measured, so that a file has the same answers
# everywhere: what a Raspberry Pi 4 should need by the size of the model. It reads each weight
# once for every other frame of three seconds.
SECONDS_A_WEIGHT = 3e-8
ENOUGH_S = 3.0  # to be heard at once of a voice, where more is possible


@dataclass(frozen=True)
class Span:
    """How much a model hears of a stretch.

    Attributes
    ----------
    shortest_s : float
        What is shorter is repeated.
    window_s : float
        What it should hear at once of a stream that goes on.
    longest_s : float
    more_samples : int
        What its front end needs beside that, at 16 kHz.
    """

    shortest_s: float
    window_s: float
    longest_s: float
    more_samples: int

    @classmethod
    def of(cls, description: Description) -> Span:
        """Of a model."""
        config = description.front_end
        window_s = description.decoder.window_s
        if description.mode == "window":
            frame_s = config.hop_samples / config.sample_rate_hz
            shortest_s, longest_s = (n * frame_s for n in description.window_frames)
        else:
            # What a stream is decided by may be less than should be heard for an answer by itself.
            told_s = [each for each in description.stream.windows_s if each <= ENOUGH_S]
            shortest_s = longest_s = window_s = max([window_s, *told_s])
        hop_samples = config.hop_samples * SAMPLE_RATE_HZ // config.sample_rate_hz
        more_samples = most_samples(config, 1) - hop_samples
        return cls(shortest_s, window_s, longest_s, more_samples)

    def samples(self, length_s: float) -> int:
        """How many are needed to hear so much."""
        return round(length_s * SAMPLE_RATE_HZ) + self.more_samples

    def heard_s(self, samples: int) -> float:
        """How much it hears of so many."""
        return min(max(1, samples - self.more_samples) / SAMPLE_RATE_HZ, self.longest_s)

    def work(self, samples: int) -> float:
        """How much there is to compute for so many, as a share of that for `window_s`."""
        return max(self.heard_s(samples), self.shortest_s) / self.window_s


class Expert:
    """A model that is asked about stretches, each by itself; threads wait for each other.

    Parameters
    ----------
    model : ModelFile
        Of whole windows, or one that streams.
    graphs : Graphs or WindowGraph
        Of that model, for this one use.
    labels : sequence of str
        Classes to answer in; the model knows all of them.

    Attributes
    ----------
    name : str
    size_bytes : int
        Of the model file.
    span : Span
        How much it hears of a stretch.
    """

    def __init__(
        self, model: ModelFile, graphs: Graphs | WindowGraph, labels: Sequence[str]
    ) -> None:
        check_labels(model, labels)
        self._model, self._graphs = model, graphs
        self._lock = threading.Lock()  # an interpreter does one thing at a time
        self._labels = tuple(labels)
        description = model.description
        self.name, self.size_bytes = description.name, model.size_bytes
        self.span = Span.of(description)
        self._front_end = open_front_end(description.front_end, model.filterbank)
        self._streaming = (
            None
            if isinstance(graphs, WindowGraph)
            else StreamingClassifier(model, graphs, [self.span.window_s])
        )

    def asked(
        self, samples: Float32Array, end_s: float, languages: Sequence[str] | None
    ) -> Opinion:
        """What it says.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            16 kHz mono; at most the longest that it hears counts, the newest.
        end_s : float
            Stream time of their end.
        languages : sequence of str or None
            The only ones to expect, see :func:`edge.classifier.class_mask`.

        Raises
        ------
        EdgelidError
            If the model cannot compute that.
        """
        began_s = time.thread_time()
        with self._lock:
            probabilities = self._probabilities(samples)
        known, labels = self._model.labels, self._labels
        found = np.array(in_classes(probabilities, known, labels, languages))
        apart = None
        if OTHER in labels and not found.all():
            apart = np.array(in_classes(probabilities, known, labels))
        return Opinion(
            start_s=max(0.0, end_s - self.span.heard_s(len(samples))),
            end_s=end_s,
            window_s=self.span.window_s,
            probabilities=found,
            took_s=time.thread_time() - began_s,
            apart=apart,
        )

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""
        if self._streaming is not None:
            return self._streaming.stages()
        return {"front_end": (self._front_end, "log_mel"), "window": (self._graphs, "scores")}

    def _probabilities(self, samples: Float32Array) -> list[float]:
        """Of the model's own classes."""
        if self._streaming is not None:
            self._streaming.reset()
            heard = [*self._streaming.process(samples), *self._streaming.flush()]
            values: list[float] = heard[-1][0].probabilities.tolist()
            return values
        assert isinstance(self._graphs, WindowGraph)
        frames = self._front_end.log_mel(samples)
        count = self._graphs.fitting(len(frames))
        frames = filled(frames, count, self._front_end.silence)
        description = self._model.description
        config = description.front_end
        window_s = count * config.hop_samples / config.sample_rate_hz
        temperature = description.calibration.temperature(window_s)
        return calibrated(self._graphs.scores(frames).tolist(), temperature)


class ExpertFile:
    """A file with such a model, that is opened when it is needed.

    Parameters
    ----------
    name : str
        A path, or one of `SECOND_OPINIONS` for a model that comes along.
    labels : sequence of str
        Classes to answer in.

    Attributes
    ----------
    path : Path
    span : Span
        How much the model hears of a stretch.
    nominal_s : float
        Processor time of an answer about as much as it should hear, where it must not be measured.

    Raises
    ------
    EdgelidError
        If there is no such file, it is damaged, or its model does not know these classes.
    """

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.path = path_of(name)
        is_unknown = name not in SECOND_OPINIONS and "." not in name and os.sep not in name
        if is_unknown and not os.path.exists(name):  # noqa: PTH110 - no error where it cannot be
            words = ", ".join(SECOND_OPINIONS)
            raise EdgelidError(f"there is no second opinion {name!r}: choose {words} or a file.")
        self._labels = tuple(labels)
        model = read_without_graph(self.path)
        check_labels(model, labels)
        self.span = Span.of(model.description)
        self.nominal_s = SECONDS_A_WEIGHT * (model.description.weights or model.graph_bytes)

    def open(self) -> Expert:
        """Make it ready; the same checks as for any model file apply.

        Raises
        ------
        EdgelidError
            If it cannot be run.
        """
        # One thread: its processor time is that of the thread which asks.
        return Expert(*open_on_disk(self.path), self._labels)


def check_another(name: str, model: Path) -> None:
    """Refuse a second opinion that is the model itself, which costs time and says the same.

    Raises
    ------
    EdgelidError
        If it is.
    """
    if _is_same(path_of(name), model):
        another = next(word for word, path in SECOND_OPINIONS.items() if not _is_same(path, model))
        raise EdgelidError(
            f'the second opinion is the same model as the first: give another, such as "{another}".'
        )


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    with contextlib.suppress(OSError):  # where one is, relatively, may be nowhere any more
        return os.path.realpath(path) == os.path.realpath(other)
    return False


def in_classes(
    probabilities: Sequence[float],
    known: Sequence[str],
    labels: Sequence[str],
    languages: Sequence[str] | None = None,
) -> list[float]:
    """Probabilities of a model in the classes of another one.

    What speech has in languages that are none of these classes, or not expected, goes to
    ``other``, as :func:`edge.classifier.masked` has it.

    Parameters
    ----------
    probabilities : sequence of float
        Of the classes `known`, all above zero.
    known, labels : sequence of str
        See :func:`check_labels`.
    languages : sequence of str or None
        The only ones to expect.

    Returns
    -------
    list of float
        As large a sum; one for each of `labels`, zero for those that are not expected.
    """
    expected = [label for label in labels if label not in (OTHER, NONSPEECH)]
    mask = class_mask(known, expected if languages is None else languages).tolist()
    if OTHER in labels and OTHER not in known:
        probabilities, known, mask = [*probabilities, 0.0], [*known, OTHER], [*mask, True]
    if not all(mask):
        probabilities = masked(probabilities, known, mask)
    return [probabilities[known.index(label)] for label in labels]


def check_labels(model: ModelFile, labels: Sequence[str]) -> None:
    """Refuse a model that cannot answer in these classes.

    Raises
    ------
    EdgelidError
        If it does not know one of them, or tells speech from nonspeech where they do not.
    """
    # What else it knows goes to `other`, as languages do that are not expected; it needs no class
    # of that name if it knows others.
    needed = [*labels, *({OTHER, NONSPEECH} & {*model.labels})]
    if {*model.labels} - {*labels} and OTHER in labels:
        needed.remove(OTHER)
    unknown = [label for label in (*needed,) if label not in model.labels or label not in labels]
    if unknown:
        raise EdgelidError(
            f"the second opinion {str(model.path)!r} and the model disagree about the class "
            f"{unknown[0]!r}: give one that knows all classes of the model."
        )
