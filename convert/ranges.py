"""Ranges of activations that leave the answers as they are in float.

The converter gives each tensor the range of all that the representative speech makes of it. A few
rare values then cost the others their precision, and which of them matter cannot be seen from the
tensor: cut off, the same share of what goes into a softmax costs nothing, and of what is added to
the stream a lot. So each range in turn is made narrower and wider, and kept as what brings the
answers nearest to those in float: ranges are fitted to the loss, a coordinate at a time (Nahshan et
al. 2021, "Loss aware post-training quantization"), which needs no gradient and no labels.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.streaming_graph import (
    StreamingModule,
    calibrated_graph,
    int8_graph,
    representative_samples,
)
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, Float64Array
from edge.model.interpreter import Graphs, quantise
from train.model.network import pool

log = logging.getLogger(__name__)

FACTORS = (0.6, 0.8, 0.9, 1.12, 1.3, 1.6)  # that a range is tried with
LEAST_GAIN = 0.002  # of the distance: what brings less is left
WINDOWS_S = (1.0, 3.0)  # whose answers are compared
EVERY_S = 0.48  # where they end
# These hand on what they get as it is, in one scale. And these have one that is fixed.
PASSING = {"CONCATENATION", "RESHAPE", "STRIDED_SLICE", "TRANSPOSE"}
FIXED = {"LOGISTIC", "SOFTMAX"}


def fitted_int8(
    module: StreamingModule,
    clips: Sequence[Float32Array],
    opened: Callable[[bytes], Graphs],
) -> bytes:
    """Convert to int8, with ranges that are fitted to the answers.

    Parameters
    ----------
    module : StreamingModule
    clips : sequence of ndarray, shape (frames, mels)
        Representative dataset.
    opened : callable
        From the bytes of a graph to what runs it.

    Returns
    -------
    bytes
        As `convert.streaming_graph.to_int8` gives them.

    Raises
    ------
    EdgelidError
        If the converter gives up.
    """
    calibrated = calibrated_graph(module, representative_samples(module, clips))
    heard = _Heard(module, clips)
    ranges = _Ranges(calibrated)

    def distance(factors: dict[int, float]) -> float:
        try:
            return heard.distance(opened(int8_graph(ranges.scaled(factors))))
        except EdgelidError:  # a range that the graph cannot have
            return math.inf

    factors: dict[int, float] = {}
    first = nearest = distance(factors)
    for group in reversed(ranges.groups):  # what is nearest to the answers first
        tried = [factors | {group: by} for by in FACTORS]
        found = [distance(each) for each in tried]
        best = int(np.argmin(found))
        if found[best] < nearest * (1 - LEAST_GAIN):
            factors, nearest = tried[best], found[best]
    log.info("ranges fitted to the answers: %.5f nats from float instead of %.5f", nearest, first)
    return int8_graph(ranges.scaled(factors))


class _Heard:
    """Streams, and what the network in float says of windows of them.

    Parameters
    ----------
    module : StreamingModule
    clips : sequence of ndarray, shape (frames, mels)
    """

    def __init__(self, module: StreamingModule, clips: Sequence[Float32Array]) -> None:
        self._module, hop = module, module.hop_frames
        self._clips = [clip[: len(clip) // hop * hop] for clip in clips if len(clip) >= hop]
        frames = np.zeros(
            (len(self._clips), max(map(len, self._clips)), self._clips[0].shape[1]), np.float32
        )
        for row, clip in zip(frames, self._clips, strict=True):
            row[: len(clip)] = clip
        outputs = [out for _, out in module.stream(frames)]
        embeddings, weights = (
            np.concatenate([out[name] for out in outputs], 1) for name in ("embeddings", "weights")
        )
        stride = hop * len(outputs) // embeddings.shape[1]  # frames of an embedding
        counts = [len(clip) // stride for clip in self._clips]
        self._windows = _windows(counts, FRAMES_PER_SECOND / stride)
        each = zip(embeddings, weights, counts, strict=True)
        self._truth = self._said([(e[:n], w[:n]) for e, w, n in each])

    def _said(self, streams: Sequence[tuple[Float32Array, Float32Array]]) -> Float64Array:
        """Log-probabilities of all windows, shape (windows, classes), by the head in float."""
        pooled: list[Float32Array] = []
        for length, some in self._windows:
            parts = [
                (streams[k][0][a : a + length], streams[k][1][a : a + length]) for k, a in some
            ]
            embeddings, weights = (np.stack(x) for x in zip(*parts, strict=True))
            pooled.append(np.asarray(pool(embeddings, weights)))
        scores = np.asarray(self._module.head(np.concatenate(pooled)), np.float64)
        return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))

    def distance(self, graphs: Graphs) -> float:
        """Mean divergence (Kullback-Leibler) of the trunk in int8 from that in float, in nats."""
        hop = self._module.hop_frames
        streams = []
        for clip in self._clips:
            graphs.reset()
            frames = quantise(clip, graphs.frames).reshape(-1, hop, clip.shape[1])
            embeddings, weights = (
                np.concatenate(x) for x in zip(*map(graphs.step, frames), strict=True)
            )
            streams.append(
                (
                    _value(embeddings, graphs.embeddings)[:, None],
                    _value(weights, graphs.weights)[:, None, None],
                )
            )
        apart = np.exp(self._truth) * (self._truth - self._said(streams))
        return float(apart.sum(axis=1).mean())


def _value(steps: npt.NDArray[np.int8], of: Any) -> Float32Array:
    return np.asarray((steps.astype(np.float32) - of.zero_point) * of.scale, np.float32)


def _windows(counts: Sequence[int], per_second: float) -> list[tuple[int, list[tuple[int, int]]]]:
    """Lengths of windows, and where such windows begin: number of the stream, and embedding."""
    every = max(1, round(EVERY_S * per_second))
    found = []
    for window_s in WINDOWS_S:
        length = max(1, round(window_s * per_second))
        some = [
            (k, a) for k, count in enumerate(counts) for a in range(0, count - length + 1, every)
        ]
        if some:
            found.append((length, some))
    # Where no clip is that long, all of each counts.
    return found or [(min(counts), [(k, 0) for k in range(len(counts))])]


class _Ranges:
    """The ranges in a graph that was calibrated.

    Parameters
    ----------
    calibrated : bytes
        Of `convert.streaming_graph.calibrated_graph`.

    Attributes
    ----------
    groups : dict of int to list of int
        Tensors of the first graph, the trunk, that have one range.
    """

    def __init__(self, calibrated: bytes) -> None:
        from tensorflow.lite.tools import flatbuffer_utils

        self._tools = flatbuffer_utils
        self._model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(calibrated))
        graph = self._model.subgraphs[0]
        self._ranges = {
            i: (min(0.0, float(of.min[0])), max(0.0, float(of.max[0])))
            for i, tensor in enumerate(graph.tensors)
            if (of := tensor.quantization) is not None and of.min is not None and len(of.min) == 1
        }
        owner = {i: i for i in self._ranges}
        fixed = set()
        for operator in graph.operators:
            kind = flatbuffer_utils.opcode_to_name(self._model, operator.opcodeIndex)
            tensors = [i for i in (*operator.inputs, *operator.outputs) if i in owner]
            if kind in PASSING:
                owners = {owner[i] for i in tensors}
                first = min(owners)
                owner = {i: first if of in owners else of for i, of in owner.items()}
            elif kind in FIXED:
                fixed |= {*operator.outputs} & owner.keys()
        members: dict[int, list[int]] = defaultdict(list)
        for i, first in owner.items():
            members[first].append(i)
        self.groups = {k: v for k, v in sorted(members.items()) if not fixed & {*v}}

    def scaled(self, factors: dict[int, float]) -> bytes:
        """The graph, with the ranges of some groups multiplied."""
        ranges = dict(self._ranges)
        for group, by in factors.items():
            tensors = self.groups[group]
            low = min(self._ranges[i][0] for i in tensors) * by
            high = max(self._ranges[i][1] for i in tensors) * by
            ranges |= dict.fromkeys(tensors, (low, high))
        for i, (low, high) in ranges.items():
            of = self._model.subgraphs[0].tensors[i].quantization
            of.min, of.max = [low], [high]
        return bytes(self._tools.convert_object_to_bytearray(self._model))
