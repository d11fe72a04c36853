"""Finding a TFLite interpreter that works, and running a model's two graphs with it.

An interpreter that can be imported may still not run (tflite-runtime 2.14 with numpy 2 is one),
so each candidate has to build one from the very model before it is taken.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.modelfile import ModelFile, Quantisation
from edge.native import stderr_to_log

log = logging.getLogger(__name__)

Int8Array = npt.NDArray[np.int8]
Shapes = dict[str, tuple[int, ...]]  # of tensors, by name
MAX_THREADS = 64


# What packages raise that cannot be loaded or cannot run a model. SystemError: tflite-runtime with
# a numpy it was not built for.
_FAILURES = (
    AttributeError,
    ImportError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Candidate:
    """A package that has an interpreter.

    Attributes
    ----------
    distribution, module, attribute : str
        What to ask for its version, import, and take from the module.
    delegate : str
        What runs int8 graphs there by default.
    """

    distribution: str
    module: str
    attribute: str
    delegate: str


CANDIDATES = (
    Candidate("ai-edge-litert", "ai_edge_litert.interpreter", "Interpreter", "XNNPACK"),
    # Built without XNNPACK for int8: the plain kernels run, about 19 times slower on x86-64.
    Candidate("tflite-runtime", "tflite_runtime.interpreter", "Interpreter", "none"),
    Candidate("tensorflow", "tensorflow", "lite.Interpreter", "XNNPACK"),
)


@dataclass(frozen=True)
class Runtime:
    """The interpreter that was taken.

    Attributes
    ----------
    name, version, delegate : str
    threads : int
    """

    name: str
    version: str
    delegate: str
    threads: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.name} {self.version}, delegate {self.delegate}, {threads}"


class Graphs:
    """The ``step`` and ``head`` graphs of a model, with int8 going in and coming out.

    Parameters
    ----------
    interpreter : object
        A TFLite interpreter of any of the candidates.
    model : ModelFile
    runtime : Runtime

    Attributes
    ----------
    frames, embeddings, weights, pooled, scores : Quantisation
        Of the tensors with these names.

    Raises
    ------
    EdgelidError
        If the graphs' signatures, shapes or types are not what the metadata say.
    """

    def __init__(self, interpreter: Any, model: ModelFile, runtime: Runtime) -> None:
        self.runtime = runtime
        self._interpreter = interpreter  # the runners do not keep it alive
        stream = model.description.stream
        mels, embedding = model.description.front_end.mels, stream.embedding
        per_hop = stream.hop_frames // stream.stride_frames
        states = [(1, frames, 1, channels) for frames, channels in stream.states]
        inputs: Shapes = {"frames": (1, stream.hop_frames, 1, mels)}
        inputs |= {f"state_{i}": shape for i, shape in enumerate(states)}
        outputs: Shapes = {"embeddings": (1, per_hop, 1, embedding), "weights": (1, per_hop, 1, 1)}
        outputs |= {f"state_{i}_next": shape for i, shape in enumerate(states)}
        self._step, step = self._runner(model, "step", inputs, outputs)
        self._head, head = self._runner(
            model, "head", {"pooled": (1, 2 * embedding)}, {"scores": (1, len(model.labels))}
        )
        self.frames, self.embeddings, self.weights = (
            step["frames"],
            step["embeddings"],
            step["weights"],
        )
        self.pooled, self.scores = head["pooled"], head["scores"]
        for i in range(len(states)):
            if step[f"state_{i}"] != step[f"state_{i}_next"]:
                raise _unfit(model, f"its graph requantises state {i}")
        # Zero is silence: what a stream that starts has behind it.
        self._silence = {
            f"state_{i}": np.full(shape, step[f"state_{i}"].zero_point, np.int8)
            for i, shape in enumerate(states)
        }
        self._states: dict[str, Int8Array] = {}
        self.reset()

    def _runner(
        self,
        model: ModelFile,
        name: str,
        inputs: Shapes,
        outputs: Shapes,
    ) -> tuple[Callable[..., dict[str, Int8Array]], dict[str, Quantisation]]:
        try:
            runner = self._interpreter.get_signature_runner(name)
        except (ValueError, RuntimeError) as error:
            raise _unfit(model, f"its graph has no signature {name!r}") from error
        found_inputs, found_outputs = runner.get_input_details(), runner.get_output_details()
        for found, wanted in ((found_inputs, inputs), (found_outputs, outputs)):
            shapes = {k: tuple(int(n) for n in d["shape"]) for k, d in found.items()}
            if shapes != wanted or any(d["dtype"] is not np.int8 for d in found.values()):
                raise _unfit(model, f"its graph {name!r} does not fit its metadata")
        details = {**found_inputs, **found_outputs}
        quantisations = {
            k: Quantisation(float(d["quantization"][0]), int(d["quantization"][1]))
            for k, d in details.items()
        }
        if not all(q.scale > 0 for q in quantisations.values()):
            raise _unfit(model, f"its graph {name!r} does not say how it is quantised")
        return runner, quantisations

    def reset(self) -> None:
        """Start a new stream."""
        self._states = dict(self._silence)

    def step(self, frames: Int8Array) -> tuple[Int8Array, Int8Array]:
        """Advance the trunk by one hop.

        Parameters
        ----------
        frames : ndarray, shape (hop_frames, mels), int8

        Returns
        -------
        embeddings : ndarray, shape (embeddings a hop, embedding), int8
        weights : ndarray, shape (embeddings a hop,), int8
        """
        out = self._step(frames=frames[None, :, None, :], **self._states)
        # States go round as they are: same scale in and out, no requantisation.
        self._states = {name: out[f"{name}_next"] for name in self._states}
        return out["embeddings"][0, :, 0], out["weights"][0, :, 0, 0]

    def head(self, pooled: Int8Array) -> Int8Array:
        """Score one window.

        Parameters
        ----------
        pooled : ndarray, shape (2 * embedding,), int8

        Returns
        -------
        ndarray, shape (classes,), int8
        """
        scores: Int8Array = self._head(pooled=pooled[None])["scores"][0]
        return scores


def _unfit(model: ModelFile, reason: str) -> EdgelidError:
    return EdgelidError(
        f"the model {str(model.path)!r} cannot be used, as {reason}: convert it again."
    )


def open_graphs(model: ModelFile, threads: int = 1) -> Graphs:
    """Build an interpreter for a model from the first package that can.

    Parameters
    ----------
    model : ModelFile
    threads : int
        One is best for a model this small: more cores cost more in waking than they save.

    Raises
    ------
    EdgelidError
        If no package is installed, none can run the model, or the model does not fit.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise EdgelidError(f"{threads} threads are not possible: choose 1 to {MAX_THREADS}.")
    failures = []
    for candidate in CANDIDATES:
        try:
            # LiteRT announces its delegate there.
            with stderr_to_log(candidate.distribution):
                graphs = _build(candidate, model, threads)
        except _FAILURES as error:
            if not _is_absent(candidate, error):
                failures.append(f"{candidate.distribution}: {_first_line(error)}")
        else:
            log.info("interpreter: %s", graphs.runtime)
            return graphs
    if failures:
        raise EdgelidError(
            f"no interpreter can run the model {str(model.path)!r} ({'; '.join(failures)}): "
            'pip install --force-reinstall "edgelid[edge]".'
        )
    raise EdgelidError('no TFLite interpreter is installed: pip install "edgelid[edge]".')


def _build(candidate: Candidate, model: ModelFile, threads: int) -> Graphs:
    """Build an interpreter and run both graphs once: only that proves that it works."""
    value: Any = importlib.import_module(candidate.module)
    for name in candidate.attribute.split("."):
        value = getattr(value, name)
    interpreter = value(model_content=model.graph, num_threads=threads)
    interpreter.allocate_tensors()
    runtime = Runtime(
        candidate.distribution, _version(candidate.distribution), candidate.delegate, threads
    )
    graphs = Graphs(interpreter, model, runtime)
    stream = model.description.stream
    graphs.step(np.zeros((stream.hop_frames, model.description.front_end.mels), np.int8))
    graphs.head(np.zeros(2 * stream.embedding, np.int8))
    graphs.reset()
    return graphs


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # the module came under another name
        return "of unknown version"


def _is_absent(candidate: Candidate, error: Exception) -> bool:
    """Whether the package is simply not installed, which is no failure of it."""
    package = candidate.module.partition(".")[0]
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == package


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
