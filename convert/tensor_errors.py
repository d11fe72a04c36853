"""Quantisation errors of the tensors in the streaming graph, and a check that streams are exact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.streaming_graph import StreamingModule, Tensors, beginning_hops
from edge.classifier import StreamingClassifier
from edge.features import audio_samples
from edge.frontend import Float32Array, FrontEnd
from edge.model.interpreter import HEAD_SIGNATURE, TRUNK_SIGNATURE, Graphs, Int8Array, quantise
from edge.model.modelfile import ModelFile, Quantisation
from edge.system.native_stderr import stderr_to_log
from train.model.network import pool

MAX_SNR_DB = 99.9  # of a tensor without any error
SEED = 2


@dataclass(frozen=True)
class TensorError:
    """Error of one tensor, with all the errors before it, over held-out speech.

    Attributes
    ----------
    name : str
    snr_db : float
        Power of the float values over that of the error.
    channel_snr_db : float
        The same of the `channel` where it is lowest: a channel much larger than all others leaves
        them few of the steps, and hides their loss in the sum.
    clipped : float
        Share of the values at either end of the int8 range that lie beyond it in float.
    """

    name: str
    snr_db: float
    channel_snr_db: float
    channel: int
    clipped: float


@dataclass(frozen=True)
class StreamCheck:
    """Streams begun in different places, and cut in different blocks, value by value.

    Attributes
    ----------
    compared, different : int
        Values of embeddings and probabilities.
    """

    compared: int
    different: int


class _Sums:
    """Sums over the channels of a tensor, its last axis, from which its error follows."""

    def __init__(self, channels: int) -> None:
        self.values = self.clipped = 0
        self.signal, self.noise = np.zeros(channels), np.zeros(channels)

    def add(self, floats: np.ndarray, found: Int8Array, to: Quantisation) -> None:
        axes = tuple(range(floats.ndim - 1))
        error = (found.astype(np.float64) - to.zero_point) * to.scale - floats
        steps = floats / to.scale + to.zero_point
        self.values += floats.size
        self.signal += (floats.astype(np.float64) ** 2).sum(axes)
        self.noise += (error**2).sum(axes)
        self.clipped += int(((steps < -128.5) | (steps > 127.5)).sum())

    def result(self, name: str) -> TensorError:
        by_channel = decibels(self.signal, self.noise)
        return TensorError(
            name,
            snr_db=float(decibels(self.signal.sum(), self.noise.sum())),
            channel_snr_db=float(by_channel.min()),
            channel=int(by_channel.argmin()),
            clipped=round(self.clipped / self.values, 4),
        )


def decibels(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Ratio of powers; the largest that is told where there is no noise."""
    ratio = (signal + 1e-30) / np.maximum(noise, 1e-30)
    # Rounded, as the last digits of the float model vary with the processor's load.
    return np.round(
        np.where(noise > 0, np.minimum(MAX_SNR_DB, 10 * np.log10(ratio)), MAX_SNR_DB), 1
    )


def tensor_errors(module: StreamingModule, graph: bytes, frames: Float32Array) -> list[TensorError]:
    """Compare the float and the int8 graphs tensor by tensor.

    The states show the input of every temporal convolution, so with them nearly every layer is
    seen. The beginning of a stream, which its ranges are not made for, is left out.

    Parameters
    ----------
    module : StreamingModule
    graph : bytes
        The same, converted.
    frames : ndarray, shape (clips, frames, mels)

    Returns
    -------
    list of TensorError
        The worst channel first.
    """
    runners = _runners(graph)
    layers = [layer.name for layer in module.trunk.temporal]
    names = {f"state_{i}_next": f"input of {layer}" for i, layer in enumerate(layers)}
    sums: dict[str, _Sums] = {}

    def add(name: str, floats: np.ndarray, found: Int8Array, to: Quantisation) -> None:
        sums.setdefault(name, _Sums(floats.shape[-1])).add(floats, found, to)

    floats: dict[str, list[Float32Array]] = {"embeddings": [], "weights": []}
    rounded: dict[str, list[Float32Array]] = {"embeddings": [], "weights": []}
    converted = [_stream(runners[TRUNK_SIGNATURE], clip, module.hop_frames) for clip in frames]
    begun = beginning_hops(module.hop_frames, [frames.shape[1]])
    hops = zip(module.stream(frames), *converted, strict=True)
    for (_, outputs), *each in itertools.islice(hops, begun, None):
        for name, to in _quantisations(runners[TRUNK_SIGNATURE].get_output_details()).items():
            found = np.concatenate([one[name] for one in each])
            add(names.get(name, name), outputs[name], found, to)
            if name in floats:
                floats[name].append(outputs[name])
                rounded[name].append((found.astype(np.float32) - to.zero_point) * to.scale)
    pooled, heard = (
        pool(*(np.concatenate(each[name], 1) for name in ("embeddings", "weights"))).numpy()
        for each in (floats, rounded)
    )
    scores = np.asarray(module.head(pooled))
    to_pooled = _quantisations(runners[HEAD_SIGNATURE].get_input_details())["pooled"]
    to_scores = _quantisations(runners[HEAD_SIGNATURE].get_output_details())["scores"]
    for one, other, score in zip(pooled, heard, scores, strict=True):
        quantised = quantise(other, to_pooled)
        add("pooled", one, quantised, to_pooled)
        found = runners[HEAD_SIGNATURE](pooled=quantised[None])["scores"][0]
        add("scores", score, found, to_scores)
    errors = [each.result(name) for name, each in sums.items()]
    return sorted(errors, key=lambda error: (error.channel_snr_db, error.name))


def _runners(graph: bytes) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    with stderr_to_log("ai-edge-litert"):
        interpreter = Interpreter(model_content=graph)
        interpreter.allocate_tensors()
    return {
        name: interpreter.get_signature_runner(name) for name in (TRUNK_SIGNATURE, HEAD_SIGNATURE)
    }


def _quantisations(details: dict[str, Any]) -> dict[str, Quantisation]:
    return {
        name: Quantisation(float(each["quantization"][0]), int(each["quantization"][1]))
        for name, each in details.items()
    }


def _stream(step: Any, frames: Float32Array, hop_frames: int) -> Iterator[Tensors]:
    """All outputs of the int8 step, hop by hop."""
    inputs = step.get_input_details()
    to = _quantisations(inputs)
    states = {
        name: np.full(each["shape"], to[name].zero_point, np.int8)
        for name, each in inputs.items()
        if name != "frames"
    }
    for start in range(0, len(frames) - hop_frames + 1, hop_frames):
        hop = quantise(frames[start : start + hop_frames], to["frames"])
        out = step(frames=hop[None, :, None, :], **states)
        yield {name: value.copy() for name, value in out.items()}
        states = {name: out[f"{name}_next"] for name in states}


def samples_to_compare(model: ModelFile) -> int:
    """How long a stream must be that :func:`check_streams` learns something of.

    Of one that begins two hops late, there is more than the beginning.
    """
    stream = model.description.stream
    frames = stream.receptive_field_frames + 4 * stream.hop_frames
    return audio_samples(model.description.front_end, frames)


def check_streams(model: ModelFile, graphs: Graphs, clips: Sequence[Float32Array]) -> StreamCheck:
    """Start streams late, and cut them anywhere: every value must stay what it was.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs
    clips : sequence of ndarray, shape (samples,)
        Each at least as long as :func:`samples_to_compare` says.
    """
    stream = model.description.stream
    front_end = FrontEnd(model.description.front_end, model.filterbank)
    filled = -(-stream.receptive_field_frames // stream.stride_frames)
    per_hop = stream.hop_frames // stream.stride_frames
    rng = np.random.default_rng(SEED)
    compared = different = 0
    for clip in clips:
        frames = front_end.log_mel(clip)
        whole = _embeddings(graphs, frames, stream.hop_frames)
        skipped = int(rng.integers(1, 2 * per_hop + 1))
        late = _embeddings(graphs, frames[skipped * stream.stride_frames :], stream.hop_frames)
        same = whole[skipped + filled : skipped + len(late)]
        compared += same.size
        different += int((late[filled : filled + len(same)] != same).sum())
        classifier = StreamingClassifier(model, graphs, stream.windows_s)
        ends = np.sort(rng.integers(0, len(clip), 8))
        once, again = (
            _probabilities(classifier, blocks) for blocks in ([clip], np.split(clip, ends))
        )
        compared += once.size
        different += int((once != again).sum())
    return StreamCheck(compared, different)


def _embeddings(graphs: Graphs, frames: Float32Array, hop_frames: int) -> Int8Array:
    """Embeddings and weights of a stream that begins with `frames`, (n, embedding + 1)."""
    graphs.reset()
    rows = []
    for start in range(0, len(frames) - hop_frames + 1, hop_frames):
        hop = quantise(frames[start : start + hop_frames], graphs.frames)
        embeddings, weights = graphs.step(hop)
        rows.append(np.concatenate([embeddings, weights[:, None]], axis=1))
    return np.concatenate(rows)


def _probabilities(classifier: StreamingClassifier, blocks: Sequence[Float32Array]) -> np.ndarray:
    """Of every window, (windows, classes)."""
    classifier.reset()
    hops = [hop for block in blocks for hop in classifier.process(block)]
    hops += classifier.flush()
    return np.stack([window.probabilities for hop in hops for window in hop])
