"""A Keras network of the user's: read, made plain, and its outputs understood as scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from edge.classifier import softmax
from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array

LEAST_PROBABILITY = 1e-12  # whose logarithm is still a number in float32
SUM_TOLERANCE = 0.01  # of probabilities in half precision, over many classes
COLOURS = 3  # channels of a network for pictures, which hears the same in each
SCORES, PROBABILITIES, SIGMOIDS = "scores", "probabilities", "sigmoids"
SCORE, PROBABILITY = "score", "probability"  # of the second of two classes
# Linear outputs leave the range of probabilities when their inputs grow; sigmoids do not.
STRETCHES = (1.0, 10.0, 100.0, -10.0)
DRAWN = 4  # windows that are stretched, of real ones and of noise each
RECURRENT = ("GRU", "LSTM", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D")
# Tensors that a step of an unrolled layer makes, measured on what TensorFlow converts; the device
# admits 10 000 in a graph.
USUAL_STEP_TENSORS = 20
STEP_TENSORS = {"GRU": 18, "LSTM": 16, "SimpleRNN": 4}
MAX_UNROLLED_TENSORS = 9_000
BATCH = 32  # windows at a time
SEED = 0
SHOWN_LETTERS = 300


@dataclass(frozen=True)
class Fed:
    """How a network takes a window.

    Attributes
    ----------
    shape : tuple of int
        Of its input, without the batch.
    frames : int
        Of a window.
    turned : bool
        Whether the bands come before the frames, as `librosa` has them.
    """

    shape: tuple[int, ...]
    frames: int
    turned: bool

    def given(self, windows: Any) -> Any:
        """Windows as the network takes them, (batch, frames, mels) to (batch, *shape)."""
        if self.turned:
            windows = keras.ops.swapaxes(windows, 1, 2)
        if self.shape[-1] != COLOURS or len(self.shape) < 3:
            return keras.ops.reshape(windows, (-1, *self.shape))
        one = keras.ops.reshape(windows, (-1, *self.shape[:-1], 1))
        return keras.ops.concatenate([one] * COLOURS, axis=-1)


class Scores(keras.Model):  # type: ignore[misc]
    """A network with one score a class: numbers that a softmax makes probabilities of.

    Parameters
    ----------
    network : keras.Model
    fed : Fed
    classes : int
    key : str, int or None
        Of the output to take, where there are several; None of a single one.
    kind : str
        What the network gives: `SCORES`; `PROBABILITIES` or `SIGMOIDS`, which become logarithms;
        or of two classes the `PROBABILITY` or the `SCORE` of the second alone.
    """

    def __init__(
        self, network: Any, fed: Fed, classes: int, key: str | int | None, kind: str
    ) -> None:
        super().__init__(name="scores")
        self.network, self.fed, self.classes = network, fed, classes
        self.key, self.kind = key, kind

    def call(self, windows: Any) -> Any:
        """Score windows, (batch, frames, mels) to (batch, classes)."""
        given = output_of(self.network, self.fed.given(windows), self.key)
        if self.kind in (PROBABILITY, SCORE):
            given = keras.ops.reshape(given, (-1, 1))
            other = 0 * given if self.kind == SCORE else 1 - given
            given = keras.ops.concatenate([other, given], axis=-1)
        else:
            given = keras.ops.reshape(given, (-1, self.classes))
        if self.kind in (SCORES, SCORE):
            return given
        return keras.ops.log(keras.ops.maximum(given, LEAST_PROBABILITY))


def output_of(network: Any, inputs: Any, key: str | int | None) -> Any:
    """One output; what only training does, such as noise, is left out."""
    taken = _functional(network).input
    if isinstance(taken, dict):
        inputs = dict.fromkeys(taken, inputs)
    elif isinstance(taken, (list, tuple)):
        inputs = [inputs]
    given = network(inputs, training=False)
    if key is not None:
        return given[key]
    return given[0] if isinstance(given, (list, tuple)) else given


def _functional(network: Any) -> Any:
    """What knows inputs and outputs as they are nested, of a sequence of layers too."""
    return getattr(network, "_functional", None) or network


def plain(network: Any) -> Any:
    """The same network in float32, and without loops: recurrent layers unrolled.

    The device admits no loops, as nobody can tell beforehand when they end.

    Raises
    ------
    EdgelidError
        If it would be too long.
    """
    _check_length(network)
    try:
        config = keras.saving.serialize_keras_object(network)
        changed = _plain_config(config)
        if changed == config:
            return network
        copy = keras.saving.deserialize_keras_object(changed)
        copy.set_weights(network.get_weights())
        return copy
    # Foreign layers: what their configurations may raise is no closed list.
    except Exception as error:
        raise EdgelidError(
            "the network cannot be put into float32 without loops "
            f"({reason_of(error)}): save it so, with unroll=True in its recurrent layers"
        ) from error


def _plain_config(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(_plain_config(each) for each in node)
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "DTypePolicy":
        return {**node, "config": {**node["config"], "name": "float32"}}
    changed = {key: _plain_config(value) for key, value in node.items()}
    for key in ("batch_shape", "batch_input_shape"):  # the device has one window at a time
        if changed.get("class_name") == "InputLayer" and changed["config"].get(key):
            shape = (None, *changed["config"][key][1:])
            changed["config"] = {**changed["config"], key: type(node["config"][key])(shape)}
    if changed.get("class_name") in RECURRENT and "unroll" in changed["config"]:
        changed["config"] = {**changed["config"], "unroll": True, "stateful": False}
    return changed


def _check_length(network: Any) -> None:
    """Refuse what would have more parts, unrolled, than the device admits."""
    tensors, longest, kinds = 0, 0, []
    for layer in network._flatten_layers(include_self=False, recursive=True):
        kind = type(layer).__name__
        if kind not in RECURRENT:
            continue
        steps = _steps(layer, network)
        tensors += STEP_TENSORS.get(kind, USUAL_STEP_TENSORS) * steps
        longest = max(longest, steps)
        kinds.append(kind)
    if tensors > MAX_UNROLLED_TENSORS:
        raise EdgelidError(
            f"the network's {', '.join(dict.fromkeys(kinds))} layers take {longest} steps, too "
            f"many for a device that runs no loops (all in all, {MAX_UNROLLED_TENSORS // 18} steps "
            "of a GRU are possible): let a convolution or a pooling with strides come before them"
        )


def _steps(layer: Any, network: Any) -> int:
    """Steps in time that a recurrent layer takes; those of the network where it does not say."""
    for node in getattr(layer, "_inbound_nodes", []):
        shape = node.input_tensors[0].shape
        if len(shape) > 2 and shape[1]:
            return int(shape[1])
    shape = getattr(layer, "_build_shapes_dict", None) or {}
    given = next(iter(shape.values()), None)
    if isinstance(given, (list, tuple)) and len(given) > 2 and isinstance(given[1], int):
        return given[1]
    return 0


def single_input(network: Any) -> tuple[int | None, ...]:
    """Shape of the one input, with the batch.

    Raises
    ------
    EdgelidError
        If there are several, or it is not known.
    """
    inputs = network.inputs if getattr(network, "inputs", None) else []
    if len(inputs) != 1:
        names = ", ".join(str(each.name) for each in inputs)
        raise EdgelidError(
            f"the network has {len(inputs)} inputs{f' ({names})' if names else ''}, which must be "
            "one: a window of features. Build and save one that has"
        )
    return tuple(inputs[0].shape)


def output_key(network: Any, labels: Sequence[str]) -> str | int | None:
    """Which output has the scores, see :class:`Scores`.

    Raises
    ------
    EdgelidError
        If none has, or several.
    """
    given = _functional(network).output
    if isinstance(given, dict):
        outputs: dict[Any, Any] = dict(given)
    elif isinstance(given, (list, tuple)):
        outputs = dict(enumerate(given))
    else:
        outputs = {None: given}
    fitting = [key for key, each in outputs.items() if _fits(each.shape, labels)]
    if len(fitting) == 1:
        key: str | int | None = fitting[0]
        return key
    shapes = ", ".join(
        f"{key}: {tuple(each.shape)}" if key is not None else f"{tuple(each.shape)}"
        for key, each in outputs.items()
    )
    which = "none of which fits" if len(outputs) > 1 else "which does not fit"
    if fitting:
        which = "more than one of which fits"
    raise EdgelidError(
        f"the network gives {shapes}, {which} {len(labels)} labels: {', '.join(labels)}"
    )


def _fits(shape: Sequence[int | None], labels: Sequence[str]) -> bool:
    if any(n is None for n in shape[1:]):
        return False
    size = math.prod(n for n in shape[1:] if n is not None)
    longest = max((n for n in shape[1:] if n is not None), default=0)
    return size == longest and (size == len(labels) or (size == 1 and len(labels) == 2))


def as_scores(
    network: Any, fed: Fed, labels: Sequence[str], windows: Sequence[Float32Array]
) -> Scores:
    """Tell by what a network gives what its outputs are.

    Whatever layers it ends with: probabilities sum to one, sigmoids stay between zero and one
    however large the inputs are, and all else are scores already.

    Parameters
    ----------
    network : keras.Model
    fed : Fed
    labels : sequence of str
    windows : sequence of ndarray, shape (frames, mels)
        Of real features.

    Raises
    ------
    EdgelidError
        If they are no numbers, the same whatever is heard, or fit no labels.
    """
    key = output_key(network, labels)
    given = np.stack(windows)
    rng = np.random.default_rng(SEED)
    loud = np.abs(given).max() or 1.0
    drawn = (loud * rng.standard_normal((DRAWN, *given.shape[1:]))).astype(np.float32)
    real = _outputs(network, fed, given, key)
    if not np.isfinite(real).all():
        raise EdgelidError(
            "the network gives scores that are no numbers (nan or inf) for your recordings: it "
            "is damaged, or expects other features"
        )
    if len(given) > 1 and (np.ptp(real, axis=0) == 0).all():
        raise EdgelidError(
            "the network gives the same scores whatever it hears: nothing of it can be proven"
        )
    some = np.concatenate([given[:DRAWN], drawn])
    stretched = [_outputs(network, fed, some * factor, key) for factor in STRETCHES]
    found = np.concatenate([real, *stretched])
    kind = _kind(found[np.isfinite(found).all(axis=1)])
    return Scores(network, fed, len(labels), key, kind)


def _outputs(network: Any, fed: Fed, windows: np.ndarray, key: str | int | None) -> Float64Array:
    batches = np.array_split(windows.astype(np.float32), -(-len(windows) // BATCH))
    found = [np.asarray(output_of(network, fed.given(each), key), np.float64) for each in batches]
    return np.concatenate([each.reshape(len(each), -1) for each in found])


def log_probabilities(scores: Scores, windows: Sequence[Float32Array]) -> Float64Array:
    """What a network says of windows in float, each (frames, mels), as (windows, classes)."""
    batches = np.array_split(np.stack(windows), -(-len(windows) // BATCH))
    found = np.concatenate([np.asarray(scores(each), np.float64) for each in batches])
    return np.log(softmax(found) + 1e-30)


def _kind(found: Float64Array) -> str:
    bounded = bool(((found >= 0) & (found <= 1)).all())
    if found.shape[1] == 1:
        return PROBABILITY if bounded else SCORE
    if not bounded:
        return SCORES
    sums = found.sum(axis=1)
    return PROBABILITIES if (abs(sums - 1) <= SUM_TOLERANCE).all() else SIGMOIDS


def reason_of(error: Exception) -> str:
    """What a library says went wrong, in one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= SHOWN_LETTERS else f"{words[:SHOWN_LETTERS]} ..."
