"""The streaming graph: trained layers with their states as inputs and outputs, in int8.

A state comes out with the int8 scale that it goes in with, so that it can go round as it is. What
ties the two is the graph: each layer (`train.model.network.TemporalConv`) joins state and input and
cuts the next state out of that, and neither changes a scale. `edge.model.interpreter` refuses a
graph in which they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convert.flatbuffer import read_graphs
from convert.temporary import no_room, temporary_folder
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array
from edge.model.interpreter import HEAD_SIGNATURE, TRUNK_SIGNATURE, WINDOW_SIGNATURE
from edge.system.native_stderr import stderr_to_log
from train.model.network import Head, Trunk, pool

Tensors = dict[str, np.ndarray]  # by name
# What the converter asks its representative dataset for: a signature and its inputs.
Samples = Callable[[], Iterator[tuple[str, Tensors]]]
# The scope of what a whole window keeps in float32, as the runtime does in a stream: a variance
# is a small difference of large sums, of which 8 bits leave little. Some of its operators have
# int8 kernels in the newest interpreters only.
POOLING = "statistics_pooling"
# A stream begins with states of zeros, which it never has again. What the layers make of them is
# rare and far larger than all that follows (scores of attention ten times), and would leave the
# rest a few of the 255 steps. So ranges are those of streams that have gone on for so long.
SETTLED_S = 1.0


class StreamingModule(tf.Module):  # type: ignore[misc]
    """Trunk and head as two functions of fixed shapes.

    Parameters
    ----------
    trunk : Trunk
    head : Head
    hop_frames : int
        Feature frames a step takes; a multiple of the trunk's stride.
    """

    def __init__(self, trunk: Trunk, head: Head, hop_frames: int) -> None:
        super().__init__(name="edgelid")
        self.trunk, self.head, self.hop_frames = trunk, head, hop_frames
        mels, self.state_shapes = trunk.config.mels, trunk.state_shapes()
        states = {
            f"state_{i}": tf.TensorSpec((1, frames, 1, width), name=f"state_{i}")
            for i, (frames, width) in enumerate(self.state_shapes)
        }
        self.step = tf.function(
            self._step,
            input_signature=[
                {"frames": tf.TensorSpec((1, hop_frames, 1, mels), name="frames"), **states}
            ],
        )
        self.score = tf.function(
            self._score,
            input_signature=[
                {"pooled": tf.TensorSpec((1, 2 * trunk.config.embedding), name="pooled")}
            ],
        )

    def _step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        states = [inputs[f"state_{i}"] for i in range(len(self.state_shapes))]
        embeddings, weights, states = self.trunk(inputs["frames"], states)
        outputs = {"embeddings": embeddings, "weights": weights}
        return outputs | {f"state_{i}_next": state for i, state in enumerate(states)}

    def _score(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"scores": self.head(inputs["pooled"])}

    def stream(self, frames: Float32Array) -> Iterator[tuple[Tensors, Tensors]]:
        """Run over frames as the device does, in float, and over several streams at a time.

        Parameters
        ----------
        frames : ndarray, shape (streams, frames, mels)

        Yields
        ------
        inputs, outputs : dict of str to ndarray
            Of each step; the first axis is that of the streams.
        """
        run = tf.function(self._step)
        states = {
            f"state_{i}": np.zeros((len(frames), length, 1, width), np.float32)
            for i, (length, width) in enumerate(self.state_shapes)
        }
        for start in range(0, frames.shape[1] - self.hop_frames + 1, self.hop_frames):
            inputs = {"frames": frames[:, start : start + self.hop_frames, None, :], **states}
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            outputs = {name: value.numpy() for name, value in run(tensors).items()}
            yield inputs, outputs
            states = {f"state_{i}": outputs[f"state_{i}_next"] for i in range(len(states))}


def beginning_hops(hop_frames: int, lengths: Sequence[int]) -> int:
    """How many hops ranges leave out of the beginnings of streams of so many frames.

    None where these are so short that it would be most of them.
    """
    hops = [length // hop_frames for length in lengths]
    begun = math.ceil(SETTLED_S * FRAMES_PER_SECOND / hop_frames)
    return begun if 2 * sum(max(0, each - begun) for each in hops) >= sum(hops) else 0


def representative_samples(module: StreamingModule, clips: Sequence[Float32Array]) -> Samples:
    """Inputs of both graphs while they stream over real features, and have for a second.

    Parameters
    ----------
    module : StreamingModule
    clips : sequence of ndarray, shape (frames, mels)
        Where that second is most of them, all count from their beginning.

    Returns
    -------
    callable
        What the converter calls, for each signature in turn.
    """
    lengths = [len(clip) for clip in clips]
    # All at once, the shorter ones with silence behind, where their samples have already ended.
    frames = np.zeros((len(clips), max(lengths), clips[0].shape[1]), np.float32)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    begun = beginning_hops(module.hop_frames, lengths)

    def samples() -> Iterator[tuple[str, Tensors]]:
        embeddings, weights = [], []
        for hop, (inputs, outputs) in enumerate(module.stream(frames), start=1):
            embeddings.append(outputs["embeddings"])
            weights.append(outputs["weights"])
            # Windows of every length that a stream goes through while it fills.
            pooled = pool(np.concatenate(embeddings, 1), np.concatenate(weights, 1)).numpy()
            for i, length in enumerate(lengths):
                if hop * module.hop_frames <= length:
                    if hop > begun:
                        part = {name: value[i : i + 1] for name, value in inputs.items()}
                        yield TRUNK_SIGNATURE, part
                    yield HEAD_SIGNATURE, {"pooled": pooled[i : i + 1]}

    return samples


def to_int8(module: StreamingModule, samples: Samples) -> bytes:
    """Convert to a TFLite flatbuffer with int8 weights, activations, inputs and outputs.

    Parameters
    ----------
    module : StreamingModule
    samples : callable
        Representative dataset.

    Returns
    -------
    bytes
        Signatures ``embed`` and ``head``.

    Raises
    ------
    EdgelidError
        If the converter gives up.
    """
    endpoints = {TRUNK_SIGNATURE: module.step, HEAD_SIGNATURE: module.score}
    return _to_tflite(
        [module.trunk, module.head], endpoints, samples, [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    )


class WholeWindow(keras.Model):  # type: ignore[misc]
    """Trunk, pooling and head as one network from a window of frames to scores.

    Parameters
    ----------
    trunk : Trunk
    head : Head
    late_frames : int
        Of the stream that it is a window of, see `ModelConfig.late_frames`.
    """

    def __init__(self, trunk: Trunk, head: Head, late_frames: int) -> None:
        super().__init__(name="window")
        self.trunk, self.head, self.late_frames = trunk, head, late_frames

    def call(self, frames: Any) -> Any:
        """Score windows, (batch, frames, mels) to (batch, classes)."""
        embeddings, weights = self.trunk.of_recording(frames, self.late_frames)
        with tf.name_scope(POOLING):
            pooled = pool(embeddings, weights)
        return self.head(pooled)


def window_to_tflite(
    network: Any, shape: tuple[int, ...], windows: Sequence[Float32Array] | None
) -> bytes:
    """Convert a network of whole windows.

    Parameters
    ----------
    network : keras.Model
        From (batch, *shape) to (batch, classes).
    shape : tuple of int
        Of a window's features.
    windows : sequence of ndarray, of that shape, or None
        Representative dataset for int8; without it, everything stays float32. The pooling of a
        :class:`WholeWindow`, and what int8 has no kernels for, stay float32 in any case.

    Returns
    -------
    bytes
        Signature ``window``.

    Raises
    ------
    EdgelidError
        If the converter gives up.
    """
    function = window_function(network, shape)
    samples, operators = _quantisation(windows)
    return _to_tflite([network], {WINDOW_SIGNATURE: function}, samples, operators)


def _quantisation(windows: Sequence[Float32Array] | None) -> tuple[Samples | None, list[Any]]:
    """Representative dataset and operators of a graph of whole windows."""
    if windows is None:
        return None, [tf.lite.OpsSet.TFLITE_BUILTINS]

    def samples() -> Iterator[tuple[str, Tensors]]:
        yield from ((WINDOW_SIGNATURE, {"frames": window[None]}) for window in windows)

    return samples, [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]


def float_window_to_tflite(network: Any, shape: tuple[int, ...]) -> bytes:
    """Convert a network of whole windows, with int8 weights and float32 activations.

    Parameters
    ----------
    network : keras.Model
        From (batch, *shape) to (batch, classes).
    shape : tuple of int
        Of a window's features.

    Returns
    -------
    bytes
        Signature ``window``.

    Raises
    ------
    EdgelidError
        If the converter gives up.
    """
    return any_window_to_tflite(network, window_function(network, shape))


def any_window_to_tflite(network: Any, function: Any) -> bytes:
    """The same of a network that takes windows of any length, one at a time.

    Parameters
    ----------
    network : keras.Model
        Whose weights the function uses.
    function : tf.function
        From :func:`any_window_function`.

    Returns
    -------
    bytes
        Signature ``window``.

    Raises
    ------
    EdgelidError
        If the converter gives up.
    """
    operators = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return _to_tflite([network], {WINDOW_SIGNATURE: function}, None, operators, int8_weights=True)


def any_window_function(scores: Callable[[Any], Any], features: int) -> Any:
    """The endpoint of a function from (1, frames, features), any number of frames, to (1, classes).

    Parameters
    ----------
    scores : callable
    features : int
    """
    return tf.function(
        lambda inputs: {"scores": scores(inputs["frames"])},
        input_signature=[{"frames": tf.TensorSpec((1, None, features), name="frames")}],
    )


def window_function(network: Any, shape: tuple[int, ...]) -> Any:
    """The endpoint of a network of whole windows."""

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"scores": network(inputs["frames"])}

    network(np.zeros((1, *shape), np.float32))  # Keras builds a layer when it is first called
    return tf.function(run, input_signature=[{"frames": tf.TensorSpec((1, *shape), name="frames")}])


def _to_tflite(
    tracked: Sequence[Any],
    endpoints: dict[str, Any],
    samples: Samples | None,
    operators: Sequence[Any],
    int8_weights: bool = False,
) -> bytes:
    with temporary_folder() as folder:
        save_graph(str(folder), tracked, endpoints)
        converter = _converter(str(folder), list(endpoints), samples, operators)
        if int8_weights:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        around = samples is not None and any(isinstance(each, WholeWindow) for each in tracked)
        return converted(lambda: (_int8_around_pooling if around else _convert)(converter))


def save_graph(folder: str, tracked: Sequence[Any], endpoints: dict[str, Any]) -> None:
    """Write a SavedModel with frozen weights.

    Raises
    ------
    EdgelidError
        If there is no room for it.
    """
    # An export archive freezes the weights; a plain SavedModel of a Keras layer keeps them as
    # variables, which the calibrator cannot read.
    archive = keras.export.ExportArchive()
    for layer in tracked:
        archive.track(layer)
    for name, function in endpoints.items():
        archive.add_endpoint(name, function)
    try:
        with stderr_to_log("TensorFlow"):
            archive.write_out(folder, verbose=False)
    except (OSError, tf.errors.OpError) as error:
        words = error.strerror if isinstance(error, OSError) else error.message
        raise no_room(" ".join(str(words).split())) from error


def saved_window_converter(folder: str, windows: Sequence[Float32Array] | None) -> Any:
    """A converter of what `save_graph` wrote of a network of whole windows.

    Parameters
    ----------
    folder : str
    windows : sequence of ndarray, or None
        As for :func:`window_to_tflite`.
    """
    return _converter(folder, [WINDOW_SIGNATURE], *_quantisation(windows))


def converted(convert: Callable[[], bytes]) -> bytes:
    """Convert, and say in a sentence why TensorFlow gave up.

    Raises
    ------
    EdgelidError
        If it did.
    """
    try:
        with stderr_to_log("TensorFlow"):
            return convert()
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise EdgelidError(f"TensorFlow could not convert the model: {first}") from error


def _convert(converter: Any) -> bytes:
    return bytes(converter.convert())


def _converter(
    folder: str, signatures: list[str], samples: Samples | None, operators: Sequence[Any]
) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=signatures)
    converter.target_spec.supported_ops = list(operators)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    return converter


def _int8_around_pooling(converter: Any) -> bytes:
    """Quantise all but the pooling, with the tool that TensorFlow has for choosing."""
    tools = tf.lite.experimental
    options = tools.QuantizationDebugOptions
    quantiser = tools.QuantizationDebugger(
        converter=converter, debug_options=options(fully_quantize=True)
    )
    computed = [
        operator.outputs[0].name
        for graph in read_graphs(quantiser.calibrated_model)
        for operator in graph.operators
    ]
    pooling = [name for name in computed if POOLING in name.split("/")]
    quantiser.options = options(fully_quantize=True, denylisted_nodes=pooling)
    return bytes(quantiser.get_nondebug_quantized_model())
