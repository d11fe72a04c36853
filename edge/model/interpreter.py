"""The TFLite interpreter: finding one that works, and running a model's graphs with it.

An interpreter that can be imported may still not run (tflite-runtime 2.14 with numpy 2 is one),
so each candidate has to build one from the very model before it is taken.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array
from edge.model.modelfile import (
    Description,
    ModelFile,
    Quantisation,
    files_to_read,
    read_model,
    verified,
)
from edge.model.stored import StoredModel
from edge.model.trust import admit, comes_along
from edge.system.install import how_to_install
from edge.system.native_stderr import stderr_to_log

log = logging.getLogger(__name__)

Int8Array = npt.NDArray[np.int8]
Shapes = dict[str, tuple[int, ...]]  # of tensors, by name
MAX_THREADS = 64
LARGE_BYTES = 8_000_000  # of a file from which on it is worth a copy on disk
# Of scores, between processors and versions that compute the same: what is wrong is far more off.
MAX_DRIFT = 2.0

# Graphs of a model that streams. The converter sorts them by name, and the trunk must be the first.
TRUNK_SIGNATURE = "embed"
HEAD_SIGNATURE = "head"
WINDOW_SIGNATURE = "window"  # of a model of whole windows


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


class ComputationFailed(EdgelidError, RuntimeError):
    """A graph that works gave up on some audio, such as over a division by zero.

    Parameters
    ----------
    name : str
        Of the model.
    error : Exception
    """

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"the model {name!r} cannot compute this audio ({_first_line(error)}).")


class Graphs:
    """The trunk and the head of a model that streams, with int8 going in and coming out.

    Parameters
    ----------
    build : callable
        Gives a new TFLite interpreter of the model, of any of the candidates.
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

    def __init__(self, build: Callable[[], Any], model: ModelFile, runtime: Runtime) -> None:
        self.runtime = runtime
        self._name = str(model.path)
        # A signature's runner checks and resizes every tensor at every call, which for the trunk's
        # many states takes as long as the arithmetic. The first graph of a file runs without one,
        # but not in an interpreter that still has a runner: so the head has another interpreter.
        self._interpreter = build()
        self._head_interpreter = build()  # the runner does not keep it alive
        stream = model.description.stream
        mels, embedding = model.description.front_end.mels, stream.embedding
        per_hop = stream.hop_frames // stream.stride_frames
        states = [(1, frames, 1, channels) for frames, channels in stream.states]
        inputs: Shapes = {"frames": (1, stream.hop_frames, 1, mels)}
        inputs |= {f"state_{i}": shape for i, shape in enumerate(states)}
        outputs: Shapes = {"embeddings": (1, per_hop, 1, embedding), "weights": (1, per_hop, 1, 1)}
        outputs |= {f"state_{i}_next": shape for i, shape in enumerate(states)}
        trunk, indices = self._first_graph(model, inputs, outputs)
        self._head = _runner(self._head_interpreter, model, HEAD_SIGNATURE)
        head = _checked(
            model,
            HEAD_SIGNATURE,
            self._head,
            {"pooled": (1, 2 * embedding)},
            {"scores": (1, len(model.labels))},
        )
        self.frames, self.embeddings, self.weights = (
            trunk["frames"],
            trunk["embeddings"],
            trunk["weights"],
        )
        self.pooled, self.scores = head["pooled"], head["scores"]
        for i in range(len(states)):
            if trunk[f"state_{i}"] != trunk[f"state_{i}_next"]:
                raise _unfit(model, f"its graph requantises state {i}")
        self._frames, self._embeddings = indices["frames"], indices["embeddings"]
        self._weights = indices["weights"]
        self._states = [
            (indices[f"state_{i}"], indices[f"state_{i}_next"]) for i in range(len(states))
        ]
        # Zero is silence: what a stream that starts has behind it.
        self._silence = [
            np.full(shape, trunk[f"state_{i}"].zero_point, np.int8)
            for i, shape in enumerate(states)
        ]
        self._frames_shape = (stream.hop_frames, mels)
        # Of the first embedding of a hop, how many hops before it reach into it.
        before = stream.receptive_field_frames - stream.stride_frames
        self._remembered_hops = -(-before // stream.hop_frames)
        self._pooled_size = 2 * embedding
        self.reset()

    def _first_graph(
        self, model: ModelFile, inputs: Shapes, outputs: Shapes
    ) -> tuple[dict[str, Quantisation], dict[str, int]]:
        """Quantisations and indices of the trunk's tensors, by name."""
        runner = _runner(self._interpreter, model, TRUNK_SIGNATURE)
        quantisations = _checked(model, TRUNK_SIGNATURE, runner, inputs, outputs)
        details = {**runner.get_input_details(), **runner.get_output_details()}
        # Indices are a graph's own, names are not.
        first = {(d["index"], d["name"]) for d in self._interpreter.get_input_details()}
        if first != {(details[name]["index"], details[name]["name"]) for name in inputs}:
            raise _unfit(model, f"its graph {TRUNK_SIGNATURE!r} is not the first")
        return quantisations, {name: int(d["index"]) for name, d in details.items()}

    def reset(self) -> None:
        """Start a new stream."""
        for (state, _), silence in zip(self._states, self._silence, strict=True):
            self._interpreter.set_tensor(state, silence)
        self._previous = b""  # the frames of the hop before
        self._repeats = 0  # how often they have come again

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
        interpreter, contents = self._interpreter, frames.tobytes()
        self._repeats = self._repeats + 1 if contents == self._previous else 0
        self._previous = contents
        # A hop and all before it that it depends on are as they were a hop ago, and so is the
        # answer: a silent room costs no trunk.
        if self._repeats <= self._remembered_hops:
            interpreter.set_tensor(self._frames, frames[None, :, None, :])
            try:
                interpreter.invoke()
            except RuntimeError as error:
                raise ComputationFailed(self._name, error) from error
            # States go round as they are: same scale in and out, no requantisation.
            for state, following in self._states:
                interpreter.set_tensor(state, interpreter.get_tensor(following))
        embeddings: Int8Array = interpreter.get_tensor(self._embeddings)
        weights: Int8Array = interpreter.get_tensor(self._weights)
        return embeddings[0, :, 0], weights[0, :, 0, 0]

    def head(self, pooled: Int8Array) -> Int8Array:
        """Score one window.

        Parameters
        ----------
        pooled : ndarray, shape (2 * embedding,), int8

        Returns
        -------
        ndarray, shape (classes,), int8
        """
        try:
            scores: Int8Array = self._head(pooled=pooled[None])["scores"][0]
        except RuntimeError as error:
            raise ComputationFailed(self._name, error) from error
        return scores

    def warm_up(self) -> None:
        """Run both graphs once: only that proves that they work."""
        self.step(np.zeros(self._frames_shape, np.int8))
        self.head(np.zeros(self._pooled_size, np.int8))
        self.reset()


class WindowGraph:
    """The ``window`` graph of a model: all the frames of a window in, scores out.

    Parameters
    ----------
    build : callable
        Gives a new TFLite interpreter of the model, of any of the candidates.
    model : ModelFile
    runtime : Runtime

    Attributes
    ----------
    fewest, most : int
        Frames that a window may have.

    Raises
    ------
    EdgelidError
        If the graph's signature, shapes or types are not what the metadata say.
    """

    def __init__(self, build: Callable[[], Any], model: ModelFile, runtime: Runtime) -> None:
        self.runtime = runtime
        self._name = str(model.path)
        self._interpreter = build()  # the runner does not keep it alive
        self._run = _runner(self._interpreter, model, WINDOW_SIGNATURE)
        inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
        description = model.description
        self.fewest, self.most = description.window_frames
        self._usual = self.fitting(_frames(description, description.decoder.window_s))
        mels = description.front_end.features
        if set(inputs) != {"frames"} or set(outputs) != {"scores"}:
            raise _unfit(model, f"its graph {WINDOW_SIGNATURE!r} does not fit its metadata")
        self._input, self._output = inputs["frames"], outputs["scores"]
        # Some networks have an axis of length one for channels, before the bands or behind them.
        self._shape = tuple(int(n) for n in self._input["shape"])
        if self.fewest == self.most:
            found = [n for n in self._shape if n != 1]
            fits = found == [n for n in (self.most, mels) if n != 1]
        else:
            # Where any number is taken, the graph says minus one; the runner makes room for it.
            self._shape = tuple(int(n) for n in self._input["shape_signature"])
            fits = self._shape == (1, -1, mels)
        if (
            not fits
            or tuple(self._output["shape"]) != (1, len(model.labels))
            or any(d["dtype"] not in (np.int8, np.float32) for d in (self._input, self._output))
        ):
            raise _unfit(model, f"its graph {WINDOW_SIGNATURE!r} does not fit its metadata")
        narrow = [d for d in (self._input, self._output) if d["dtype"] is np.int8]
        if not all(0 < float(d["quantization"][0]) < math.inf for d in narrow):
            raise _unfit(model, f"its graph {WINDOW_SIGNATURE!r} does not say how it is quantised")
        self._mels = mels
        self._first_scores = np.array(description.first_scores)
        if len(self._first_scores) not in (0, len(model.labels)):
            raise _unfit(model, "its first scores do not fit its labels")

    def fitting(self, frames: int) -> int:
        """How many frames the window has that is best for so many: all of them, if it can."""
        return min(max(frames, self.fewest), self.most)

    def scores(self, frames: Float32Array) -> Float64Array:
        """Score one window.

        Parameters
        ----------
        frames : ndarray, shape (frames of a window, mels), float32
            From `fewest` to `most` of them.

        Returns
        -------
        ndarray, shape (classes,), float64
        """
        assert self.fewest <= len(frames) <= self.most, "a window of another length"
        values: npt.NDArray[Any] = frames.reshape(self._shape)
        if self._input["dtype"] is np.int8:
            scale, zero_point = self._input["quantization"]
            values = quantise(values, Quantisation(float(scale), int(zero_point)))
        try:
            scores: Float64Array = self._run(frames=values)["scores"][0].astype(np.float64)
        except (RuntimeError, ValueError) as error:  # the latter where it cannot make room
            raise ComputationFailed(self._name, error) from error
        if self._output["dtype"] is np.int8:
            scale, zero_point = self._output["quantization"]
            scores = (scores - zero_point) * scale
        if not np.isfinite(scores).all():  # a graph in float32 can divide by zero
            raise ComputationFailed(self._name, ArithmeticError("scores that are no numbers"))
        return scores

    def warm_up(self) -> None:
        """Run once: only that proves that it works.

        Raises
        ------
        RuntimeError
            If it does not compute what it did when it was converted: interpreters that are too old
            for an operator may run it nevertheless.
        """
        scores = self.scores(np.zeros((self._usual, self._mels), np.float32))
        if len(self._first_scores) and np.abs(scores - self._first_scores).max() > MAX_DRIFT:
            raise RuntimeError("it computes something else than when the model was converted")

    def try_all_lengths(self) -> None:
        """Run the shortest and the longest window, too: memory is taken for the longest so far."""
        for frames in sorted({self.fewest, self.most} - {self._usual}):
            self.scores(np.zeros((frames, self._mels), np.float32))


def _frames(description: Description, window_s: float) -> int:
    config = description.front_end
    return round(window_s * config.sample_rate_hz / config.hop_samples)


def _runner(interpreter: Any, model: ModelFile, name: str) -> Any:
    try:
        return interpreter.get_signature_runner(name)
    except (ValueError, RuntimeError) as error:
        raise _unfit(model, f"its graph has no signature {name!r}") from error


def _checked(
    model: ModelFile, name: str, runner: Any, inputs: Shapes, outputs: Shapes
) -> dict[str, Quantisation]:
    """Quantisations of a graph's tensors by name, all int8 and of these shapes."""
    found_inputs, found_outputs = runner.get_input_details(), runner.get_output_details()
    for found, wanted in ((found_inputs, inputs), (found_outputs, outputs)):
        shapes = {k: tuple(int(n) for n in d["shape"]) for k, d in found.items()}
        if shapes != wanted or any(d["dtype"] is not np.int8 for d in found.values()):
            raise _unfit(model, f"its graph {name!r} does not fit its metadata")
    quantisations = {
        k: Quantisation(float(d["quantization"][0]), int(d["quantization"][1]))
        for k, d in {**found_inputs, **found_outputs}.items()
    }
    if not all(0 < q.scale < math.inf for q in quantisations.values()):
        raise _unfit(model, f"its graph {name!r} does not say how it is quantised")
    return quantisations


def quantise(values: npt.NDArray[np.floating], to: Quantisation) -> Int8Array:
    """Round to the nearest int8 step, half to even, and clip."""
    steps = values / to.scale
    np.rint(steps, out=steps)
    steps += to.zero_point
    np.maximum(steps, -128, out=steps)
    np.minimum(steps, 127, out=steps)
    return steps.astype(np.int8)


def _unfit(model: ModelFile, reason: str) -> EdgelidError:
    return EdgelidError(
        f"the model {str(model.path)!r} cannot be used, as {reason}: convert it again."
    )


class _Runnable(Protocol):
    runtime: Runtime

    def warm_up(self) -> None: ...


G = TypeVar("G", bound=_Runnable)
Build = Callable[[Callable[[], Any], ModelFile, Runtime], G]


def open_model(model: ModelFile, threads: int = 1) -> Graphs | WindowGraph:
    """Build an interpreter for a model of either kind from the first package that can.

    Parameters
    ----------
    model : ModelFile
    threads : int
        One is best for a model this small: more cores cost more in waking than they save.

    Raises
    ------
    EdgelidError
        If no package is installed, none can run the model, the model does not fit, or its graph
        is not admitted.
    """
    _check_threads(threads)
    admit(model, threads)
    return run_model(model, threads)


def open_file(path: Path, threads: int = 1) -> tuple[ModelFile, Graphs | WindowGraph]:
    """Read a model file, and build an interpreter for it, see :class:`OpenedModel`.

    Parameters
    ----------
    path : Path
    threads : int

    Returns
    -------
    model : ModelFile
        Without its graph, where that is on disk.
    graphs : Graphs or WindowGraph

    Raises
    ------
    EdgelidError
        As :func:`edge.model.modelfile.read_model` and :func:`open_model`.
    """
    with contextlib.closing(OpenedModel(path, threads)) as opened:
        return opened.model, opened.run()


def open_on_disk(path: Path, threads: int = 1) -> tuple[ModelFile, Graphs | WindowGraph]:
    """The same, with the graph on disk however large it is.

    Parameters, what is returned and what is raised are those of :func:`open_file`.
    """
    with contextlib.closing(OpenedModel(path, threads, large_bytes=0)) as opened:
        return opened.model, opened.run()


class OpenedModel:
    """A model that is verified and admitted once, and run as often as is asked for.

    The graph of a large one is in no memory but the interpreters', which pack its weights: they are
    built from a copy of the file on disk, see :class:`edge.model.stored.StoredModel`.

    Parameters
    ----------
    path : Path
    threads : int
        Of each interpreter.
    large_bytes : int
        Of a file, above which it is copied.

    Attributes
    ----------
    model : ModelFile
        Without its graph, where that is on disk.

    Raises
    ------
    EdgelidError
        As :func:`edge.model.modelfile.read_model`, and if the graph is not admitted.
    """

    def __init__(self, path: Path, threads: int = 1, large_bytes: int = LARGE_BYTES) -> None:
        _check_threads(threads)
        self._threads = threads
        self._stored: StoredModel | None = None
        files = files_to_read(path)
        try:
            if sum(file.stat().st_size for file in files) > large_bytes:
                self._stored = StoredModel(files)
        except OSError as error:
            log.info("graph in memory, as there is no place on disk: %s", error.strerror)
        if self._stored is None:
            self.model = read_model(path)
            admit(self.model, threads)
            return
        try:
            self.model = self._verified(path, self._stored)
        except BaseException:
            self.close()
            raise

    def _verified(self, path: Path, stored: StoredModel) -> ModelFile:
        is_ours = comes_along(path)
        try:
            model = verified(path, stored.file, has_graph=not is_ours)
        except OSError as error:
            raise EdgelidError(
                f"the model {str(path)!r} cannot be read ({error.strerror})."
            ) from error
        if is_ours:
            return model
        admit(model, self._threads)
        return replace(model, graph=b"")  # before an interpreter packs the weights

    def run(self) -> Graphs | WindowGraph:
        """A new interpreter of it; any thread may ask for one.

        Raises
        ------
        EdgelidError
            As :func:`open_model`.
        """
        try:
            return run_model(self.model, self._threads, stored=self._stored)
        finally:
            if self._stored is not None:
                self._stored.let_go()

    def close(self) -> None:
        """Run it no more; interpreters that there are stay as they are."""
        if self._stored is not None:
            self._stored.close()


def _check_threads(threads: int) -> None:
    if not 1 <= threads <= MAX_THREADS:
        raise EdgelidError(f"{threads} threads are not possible: choose 1 to {MAX_THREADS}.")


def run_model(
    model: ModelFile,
    threads: int,
    candidates: Sequence[Candidate] | None = None,
    stored: StoredModel | None = None,
) -> Graphs | WindowGraph:
    """The same without admission: for graphs of our own making, and within a trial.

    Parameters
    ----------
    model, threads
        As for :func:`open_model`.
    candidates : sequence of Candidate, optional
        The only packages to take.
    stored : StoredModel, optional
        What to run instead of the graph in `model`.

    Raises
    ------
    EdgelidError
        As :func:`open_model`.
    """
    candidates = CANDIDATES if candidates is None else candidates
    if model.description.mode == "window":
        return _open(WindowGraph, model, threads, candidates, stored)
    return _open(Graphs, model, threads, candidates, stored)


def open_graphs(model: ModelFile, threads: int = 1) -> Graphs:
    """The same, for what only a model that streams can do.

    Raises
    ------
    EdgelidError
        As :func:`open_model`, and for a model of whole windows.
    """
    if model.description.mode == "window":
        raise EdgelidError(
            f"the model {str(model.path)!r} takes whole windows, and this needs one that streams: "
            "convert it with --mode stream."
        )
    graphs = open_model(model, threads)
    assert isinstance(graphs, Graphs)
    return graphs


def _open(
    kind: Build[G],
    model: ModelFile,
    threads: int,
    candidates: Sequence[Candidate],
    stored: StoredModel | None,
) -> G:
    failures = []
    for candidate in candidates:
        try:
            # LiteRT announces its delegate there.
            with stderr_to_log(candidate.distribution):
                graphs = _build(kind, candidate, model, threads, stored)
        except _FAILURES as error:
            if not _is_absent(candidate, error):
                failures.append(f"{candidate.distribution}: {_first_line(error)}")
        else:
            log.info("interpreter: %s", graphs.runtime)
            return graphs
    if failures:
        raise EdgelidError(
            f"no interpreter can run the model {str(model.path)!r} ({'; '.join(failures)}): "
            + how_to_install(force=True)
        )
    raise EdgelidError(f"no TFLite interpreter is installed: {how_to_install()}")


def _build(
    kind: Build[G],
    candidate: Candidate,
    model: ModelFile,
    threads: int,
    stored: StoredModel | None,
) -> G:
    value: Any = importlib.import_module(candidate.module)
    for name in candidate.attribute.split("."):
        value = getattr(value, name)

    given = {"model_path": stored.path} if stored else {"model_content": model.graph}

    def interpreter() -> Any:
        built = value(**given, num_threads=threads)
        built.allocate_tensors()
        return built

    runtime = Runtime(candidate.distribution, _version(candidate), candidate.delegate, threads)
    graphs = kind(interpreter, model, runtime)
    graphs.warm_up()
    return graphs


def _version(candidate: Candidate) -> str:
    """That of a package which has been imported."""
    package = sys.modules.get(candidate.module.partition(".")[0])
    told = getattr(package, "__version__", None)
    if isinstance(told, str):
        return told
    from importlib import metadata  # 37 modules, which a package that tells does without

    try:
        return metadata.version(candidate.distribution)
    except metadata.PackageNotFoundError:  # the module came under another name
        return "of unknown version"


def _is_absent(candidate: Candidate, error: Exception) -> bool:
    """Whether the package is simply not installed, which is no failure of it."""
    package = candidate.module.partition(".")[0]
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == package


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
