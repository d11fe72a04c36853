"""Conversion of a stranger's network in a process of its own: ``python -m convert.apart FOLDER``.

TensorFlow's converter does not survive every network; whatever becomes of it there is told in one
sentence here. The process reads a SavedModel and a plan from the folder, and writes a graph and a
report into it.

In int8 it also finds out what 8 bits are too few for. It quantises everything, and where that
answers differently, leaves what is no convolution in float32, as the pooling of our own whole
windows is: means, variances, products of activations and exponentials. If that is not enough
either, it tells which layers would help most if they stayed float32, too.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.flatbuffer import CONVOLUTIONS, Operator, read_graphs
from convert.temporary import temporary_folder
from edge.classifier import softmax
from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array
from edge.model.interpreter import WINDOW_SIGNATURE, quantise
from edge.model.modelfile import Quantisation
from edge.system.native_stderr import stderr_to_log
from train.evaluation.metrics import moved

# Operators that round once, or move values about: 8 bits do them no harm that they would not do
# to a convolution.
ROBUST = {
    *CONVOLUTIONS,
    *("AVERAGE_POOL_2D", "MAX_POOL_2D", "REDUCE_MAX", "MAXIMUM", "MINIMUM"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU"),
    *("CONCATENATION", "PACK", "SPLIT", "SPLIT_V", "UNPACK"),
    *("EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE", "TRANSPOSE_CONV"),
    *("GATHER", "SLICE", "STRIDED_SLICE", "MIRROR_PAD", "PAD", "PADV2"),
    *("BATCH_TO_SPACE_ND", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH"),
    "RESIZE_NEAREST_NEIGHBOR",
}
MARK = "."  # ends the name of a layer in the names of what it computes, see `mark_layers`
SHARE_OF_LIMITS = 0.5  # that a graph may use up on what it was quantised with
MAX_SUFFERING = 3  # layers that are named
SAVED, PLAN, WINDOWS, TRUTH = "saved", "plan.json", "windows.npy", "truth.npy"
GRAPH, REPORT, LOG = "graph.tflite", "report.json", "log.txt"
SHOWN_LETTERS = 300
OF_THE_SYSTEM = 100  # exit status from which on the rest is the number of the system's error
COMMAND = ("-m", "convert.apart")


@dataclass(frozen=True)
class Plan:
    """What is asked of the process.

    Attributes
    ----------
    int8 : bool
    min_agreement, max_mean_difference : float
        Limits of the proof.
    floats : tuple of str
        Layers that stay float32.
    kinds : dict of str to str
        Classes of the layers by name.
    """

    int8: bool
    min_agreement: float
    max_mean_difference: float
    floats: tuple[str, ...]
    kinds: dict[str, str]


@dataclass(frozen=True)
class Helped:
    """A layer that int8 hurts.

    Attributes
    ----------
    name : str
    moved : float
        How much of the probability moves to other classes if it stays float32.
    """

    name: str
    moved: float


@dataclass(frozen=True)
class Apart:
    """What came of it.

    Attributes
    ----------
    graph : bytes
    floats : tuple of str
        Layers that stayed float32, of an int8 graph.
    suffering : tuple of Helped
        Where even so it answers too differently, what would help, the most helpful first.
    """

    graph: bytes
    floats: tuple[str, ...] = ()
    suffering: tuple[Helped, ...] = ()


def mark_layers(network: Any) -> dict[str, str]:
    """Make the layers of a network tell themselves apart in the names of what they compute.

    TensorFlow appends numbers to names, and what it calls ``dense_1`` may come from ``dense``.

    Parameters
    ----------
    network : keras.Model

    Returns
    -------
    dict of str to str
        Classes by the names that they have had.
    """
    kinds = {}
    for layer in _leaves(network):
        kinds[layer.name] = type(layer).__name__
        layer.name += MARK
    return kinds


def _leaves(network: Any) -> Iterable[Any]:
    for layer in network.layers:
        if hasattr(layer, "layers"):  # a network within the network
            yield from _leaves(layer)
        else:
            yield layer


def convert_apart(
    save: Any, plan: Plan, windows: Sequence[Float32Array], truth: Float64Array
) -> Apart:
    """Convert in a child process.

    Parameters
    ----------
    save : callable
        Writes a SavedModel into a folder that it is given.
    plan : Plan
    windows : sequence of ndarray
        Representative dataset.
    truth : ndarray, shape (windows, classes)
        Log-probabilities of the network in float.

    Raises
    ------
    EdgelidError
        If it gives up, or dies, or its files cannot be written.
    """
    with temporary_folder() as folder:
        save(str(folder / SAVED))
        (folder / PLAN).write_text(json.dumps(asdict(plan)))
        np.save(folder / WINDOWS, np.stack(windows))
        np.save(folder / TRUTH, truth)
        status = _run(folder)
        if status >= OF_THE_SYSTEM:
            raise OSError(status - OF_THE_SYSTEM, os.strerror(status - OF_THE_SYSTEM))
        if status != 0:
            raise EdgelidError(_why(folder, status, plan))
        report = json.loads((folder / REPORT).read_text())
        return Apart(
            (folder / GRAPH).read_bytes(),
            tuple(report["floats"]),
            tuple(Helped(**each) for each in report["suffering"]),
        )


def _run(folder: Path) -> int:
    path = os.pathsep.join(filter(None, sys.path))
    # -P: modules in the folder where the command is called do not count.
    command = [sys.executable, "-P", *COMMAND, str(folder)]
    with open(folder / LOG, "wb") as log:
        environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        except OSError as error:
            raise EdgelidError(
                f"the conversion cannot start a process ({error.strerror}): end other programs; "
                "nothing was written"
            ) from error
        try:
            return child.wait()
        except BaseException:  # Ctrl-C, and whatever else ends the wait
            child.kill()
            child.wait()
            raise


def _why(folder: Path, status: int, plan: Plan) -> str:
    kinds = ", ".join(dict.fromkeys(plan.kinds.values())) or "no layers that it names"
    end = f"died of {signal.Signals(-status).name}" if status < 0 else "gave up"
    if status == -signal.SIGKILL:
        end += ", as where memory is short"
    reason = ""
    report = folder / REPORT
    if report.exists():  # words of TensorFlow's
        reason = f" ({json.loads(report.read_text())['reason']})"
    remedy = "try --type float32" if plan.int8 else "build it of other layers"
    return (
        f"TensorFlow's converter {end}{reason} on this network of {kinds}: {remedy}; nothing was "
        "written"
    )


def main(name: str) -> int:
    """Convert what is in the folder; returns the exit status."""
    try:
        return _main(Path(name))
    except OSError as error:  # not as a report, as there may be no room for one
        return OF_THE_SYSTEM + (error.errno or errno.EIO)


def _main(folder: Path) -> int:
    # Only now: the process that starts this one has loaded them already, or needs none.
    from convert.streaming_graph import converted, saved_window_converter

    values = json.loads((folder / PLAN).read_text())
    plan = Plan(**{**values, "floats": tuple(values["floats"])})
    windows, truth = np.load(folder / WINDOWS), np.load(folder / TRUTH)
    try:
        if plan.int8:
            converter = saved_window_converter(str(folder / SAVED), list(windows))
            apart = _quantised(converter, plan, windows, truth)
        else:
            converter = saved_window_converter(str(folder / SAVED), None)
            apart = Apart(converted(lambda: bytes(converter.convert())))
    # Foreign networks: what TensorFlow may raise is no closed list.
    except Exception as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        words = " ".join(said.removeprefix("TensorFlow could not convert the model: ").split())
        (folder / REPORT).write_text(json.dumps({"reason": words[:SHOWN_LETTERS]}))
        return 1
    (folder / GRAPH).write_bytes(apart.graph)
    report = {"floats": apart.floats, "suffering": [asdict(each) for each in apart.suffering]}
    (folder / REPORT).write_text(json.dumps(report))
    return 0


class _Quantiser:
    """Quantises a calibrated network again and again, with the tool that TensorFlow has for that.

    Parameters
    ----------
    converter : tf.lite.TFLiteConverter
        With a representative dataset.
    """

    def __init__(self, converter: Any) -> None:
        import tensorflow as tf

        self._tools = tf.lite.experimental
        options = self._tools.QuantizationDebugOptions(fully_quantize=True)
        self._quantiser = self._tools.QuantizationDebugger(
            converter=converter, debug_options=options
        )
        (graph,) = read_graphs(self._quantiser.calibrated_model)
        self.operators = graph.operators

    def graph(self, floats: Iterable[Operator]) -> bytes:
        """The graph in which these operators stay float32."""
        names = sorted({operator.outputs[0].name for operator in floats})
        self._quantiser.options = self._tools.QuantizationDebugOptions(
            fully_quantize=True, denylisted_nodes=names
        )
        return bytes(self._quantiser.get_nondebug_quantized_model())


def _quantised(converter: Any, plan: Plan, windows: Float32Array, truth: Float64Array) -> Apart:
    quantiser = _Quantiser(converter)
    operators = quantiser.operators
    always = [*_end(operators), *_of_layers(operators, plan.floats, plan.kinds)]
    graph = quantiser.graph(always)
    if _good(graph, plan, windows, truth):
        return Apart(graph, plan.floats)
    delicate = [each for each in operators if each.kind not in ROBUST]
    floats = [*always, *delicate]
    graph = quantiser.graph(floats)
    names = _names(delicate, plan.kinds)
    names = tuple(dict.fromkeys([*plan.floats, *names]))
    if _good(graph, plan, windows, truth):
        return Apart(graph, names)
    return Apart(graph, names, _suffering(quantiser, floats, plan, windows, truth))


def _suffering(
    quantiser: _Quantiser,
    floats: Sequence[Operator],
    plan: Plan,
    windows: Float32Array,
    truth: Float64Array,
) -> tuple[Helped, ...]:
    """Layers of convolutions that would help if they stayed float32, each alone."""
    operators = quantiser.operators
    _, before = _compared(quantiser.graph(floats), windows, truth)
    found = []
    for name in dict.fromkeys(_names([x for x in operators if x.weights], plan.kinds)):
        more = _of_layers(operators, [name], plan.kinds)
        _, after = _compared(quantiser.graph([*floats, *more]), windows, truth)
        if after < before:
            found.append(Helped(name, round(after, 4)))
    return tuple(sorted(found, key=lambda each: each.moved)[:MAX_SUFFERING])


def _end(operators: Sequence[Operator]) -> list[Operator]:
    """What follows the last convolutions: exponentials and logarithms of the scores."""
    made_by = {output.name: each for each in operators for output in each.outputs}
    found: dict[int, Operator] = {}
    waiting = [operators[-1]]
    while waiting:
        operator = waiting.pop()
        if operator.kind in CONVOLUTIONS or id(operator) in found:
            continue
        if operator.kind in ("MEAN", "SUM", "BATCH_MATMUL"):  # a pooling has sums of its own
            continue
        found[id(operator)] = operator
        waiting += [made_by[each.name] for each in operator.inputs if each.name in made_by]
    delicate = [each for each in found.values() if each.kind not in ROBUST]
    return delicate if delicate else []


def _layers_of(operator: Operator, kinds: dict[str, str]) -> list[str]:
    """Names of the layers that an operator computes; of one that is no layer's, its own."""
    names = []
    for piece in operator.outputs[0].name.split(";"):
        marked = [part for part in piece.split("/") if part.rpartition(MARK)[0] in kinds]
        if marked:
            names.append(marked[0].rpartition(MARK)[0])
    return list(dict.fromkeys(names))


def _names(operators: Iterable[Operator], kinds: dict[str, str]) -> tuple[str, ...]:
    """What to call operators: after a layer with weights, where several have become one."""
    found = []
    for operator in operators:
        layers = _layers_of(operator, kinds)
        layers.sort(key=lambda name: not kinds[name].startswith(("Conv", "Dense", "Depthwise")))
        found.append(layers[0] if layers else operator.kind.lower())
    return tuple(dict.fromkeys(found))


def _of_layers(
    operators: Iterable[Operator], names: Iterable[str], kinds: dict[str, str]
) -> list[Operator]:
    wanted = set(names)
    return [each for each in operators if wanted & set(_layers_of(each, kinds))]


def _good(graph: bytes, plan: Plan, windows: Float32Array, truth: Float64Array) -> bool:
    agreement, difference = _compared(graph, windows, truth)
    return (
        1 - agreement <= SHARE_OF_LIMITS * (1 - plan.min_agreement)
        and difference <= SHARE_OF_LIMITS * plan.max_mean_difference
    )


def _compared(graph: bytes, windows: Float32Array, truth: Float64Array) -> tuple[float, float]:
    """Share of equal answers, and how much of the probability moves to other classes."""
    from ai_edge_litert.interpreter import Interpreter

    with stderr_to_log("ai-edge-litert"):
        interpreter = Interpreter(model_content=graph)
        interpreter.allocate_tensors()
    run = interpreter.get_signature_runner(WINDOW_SIGNATURE)
    given, got = run.get_input_details()["frames"], run.get_output_details()["scores"]
    found = []
    for window in windows:
        values: Any = window[None]
        if given["dtype"] is np.int8:
            values = quantise(values, _quantisation_of(given))
        scores = run(frames=values)["scores"][0].astype(np.float64)
        if got["dtype"] is np.int8:
            to = _quantisation_of(got)
            scores = (scores - to.zero_point) * to.scale
        found.append(softmax(scores))
    probabilities = np.stack(found)
    agreement = float((probabilities.argmax(1) == truth.argmax(1)).mean())
    difference = moved(np.exp(truth), probabilities)
    return agreement, difference if np.isfinite(difference) else 1.0


def _quantisation_of(details: Any) -> Quantisation:
    scale, zero_point = details["quantization"]
    return Quantisation(float(scale), int(zero_point))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
