"""The large model: what it says of a stretch of audio, in the classes of the compact one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.belief import Opinion
from edge.classifier import StreamingClassifier, calibrated, class_mask, filled, masked
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEnd
from edge.model.interpreter import Graphs, WindowGraph, open_model
from edge.model.modelfile import LARGE_MODEL, NONSPEECH, OTHER, ModelFile, read_model

LARGE = "large"  # the name of the model that comes along
# Processor time of an answer where it must not be measured, so that a file has the same answers
# everywhere: what a Raspberry Pi 4 should need by the size of the model. It reads each weight
# once for every other frame of three seconds.
SECONDS_A_BYTE = 3e-8


class Expert:
    """A model that is asked about stretches, each by itself.

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
    window_s : float
        The most that it hears of a stretch.
    """

    def __init__(
        self, model: ModelFile, graphs: Graphs | WindowGraph, labels: Sequence[str]
    ) -> None:
        check_labels(model, labels)
        self._model, self._graphs = model, graphs
        self._order = [model.labels.index(label) for label in labels]
        self._own = [label for label in labels if label not in (OTHER, NONSPEECH)]
        description = model.description
        self.name, self.size_bytes = description.name, model.size_bytes
        self.window_s = description.decoder.window_s
        self._temperature = description.calibration.temperature(self.window_s)
        self._front_end = FrontEnd(description.front_end, model.filterbank)
        self._streaming = (
            None
            if isinstance(graphs, WindowGraph)
            else StreamingClassifier(model, graphs, [self.window_s])
        )

    def asked(
        self, samples: Float32Array, end_s: float, languages: Sequence[str] | None
    ) -> Opinion:
        """What it says.

        Parameters
        ----------
        samples : ndarray, shape (n,), float32
            16 kHz mono; at most its window counts, the newest.
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
        probabilities = self._probabilities(samples)
        mask = class_mask(self._model.labels, self._own if languages is None else languages)
        if not mask.all():
            probabilities = masked(probabilities, self._model.labels, mask.tolist())
        ordered = np.array(probabilities)[self._order]
        length_s = min(len(samples) / SAMPLE_RATE_HZ, self.window_s)
        return Opinion(
            start_s=max(0.0, end_s - length_s),
            end_s=end_s,
            window_s=self.window_s,
            probabilities=ordered,
            took_s=time.thread_time() - began_s,
        )

    def _probabilities(self, samples: Float32Array) -> list[float]:
        """Of the model's own classes."""
        if self._streaming is not None:
            self._streaming.reset()
            heard = [*self._streaming.process(samples), *self._streaming.flush()]
            values: list[float] = heard[-1][0].probabilities.tolist()
            return values
        assert isinstance(self._graphs, WindowGraph)
        count = self._model.description.stream.receptive_field_frames
        frames = filled(self._front_end.log_mel(samples), count)
        return calibrated(self._graphs.scores(frames).tolist(), self._temperature)


class ExpertFile:
    """A file with such a model, that is opened when it is needed.

    Parameters
    ----------
    name : str
        A path, or `LARGE` for the model that comes along.
    labels : sequence of str
        Classes to answer in.

    Attributes
    ----------
    path : Path
    window_s : float
        The most that the model hears of a stretch.
    samples : int
        The same, with what its front end needs.
    nominal_s : float
        Processor time of an answer, where it must not be measured.

    Raises
    ------
    EdgelidError
        If there is no such file, it is damaged, or its model does not know these classes.
    """

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.path = LARGE_MODEL if name == LARGE else Path(name)
        self._labels = tuple(labels)
        model = read_model(self.path)
        check_labels(model, labels)
        config = model.description.front_end
        self.window_s = model.description.decoder.window_s
        self.samples = round(self.window_s * SAMPLE_RATE_HZ)
        self.samples += config.window_samples - config.hop_samples
        self.nominal_s = SECONDS_A_BYTE * len(model.graph)

    def open(self) -> Expert:
        """Make it ready; the same checks as for any model file apply.

        Raises
        ------
        EdgelidError
            If it cannot be run.
        """
        model = read_model(self.path)
        # One thread: its processor time is that of the thread which asks.
        return Expert(model, open_model(model, 1), self._labels)


def check_labels(model: ModelFile, labels: Sequence[str]) -> None:
    """Refuse a model that cannot answer in these classes.

    Raises
    ------
    EdgelidError
        If it does not know one of them, or tells speech from nonspeech where they do not.
    """
    # What else it knows goes to `other`, as languages do that are not expected.
    needed = [*labels, *({OTHER, NONSPEECH} & {*model.labels})]
    unknown = [label for label in (*needed,) if label not in model.labels or label not in labels]
    if unknown:
        raise EdgelidError(
            f"the second opinion {str(model.path)!r} and the model disagree about the class "
            f"{unknown[0]!r}: give one that knows all classes of the model."
        )
