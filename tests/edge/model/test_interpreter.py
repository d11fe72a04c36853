"""The interpreter: which package is taken, and what is refused of a graph."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.model import interpreter
from edge.model.interpreter import (
    CANDIDATES,
    MAX_THREADS,
    Graphs,
    Int8Array,
    WindowGraph,
    open_graphs,
    open_model,
)
from edge.model.modelfile import ModelFile, read_model
from tests.fuzz.hostile import edited
from tests.fuzz.seeds import LENGTHS_SEED, WINDOW_SEED


def hops(model: ModelFile, count: int) -> list[Int8Array]:
    """Quantised frames, each of shape (hop_frames, mels)."""
    rng = np.random.default_rng(0)
    shape = (count, model.description.stream.hop_frames, model.description.front_end.mels)
    return list(rng.integers(-128, 128, shape).astype(np.int8))


def outputs(graphs: Graphs, frames: list[Int8Array]) -> bytes:
    return b"".join(part.tobytes() for hop in frames for part in graphs.step(hop))


def sentence(model: ModelFile, threads: int = 1) -> str:
    """What `open_graphs` refuses with."""
    with pytest.raises(EdgelidError) as caught:
        open_graphs(model, threads)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


# --- which package ---------------------------------------------------------------------------


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, graphs: Graphs) -> dict[str, Any]:
    """What each candidate's module has for its interpreter; a package not in it is missing."""
    contents: dict[str, Any] = {}
    # Installed under whatever name, this one works.
    contents["working"] = type(graphs._interpreter)

    def import_module(name: str) -> ModuleType:
        for candidate in CANDIDATES:
            if name == candidate.module and candidate.distribution in contents:
                value = contents[candidate.distribution]
                if isinstance(value, Exception):
                    raise value
                return SimpleNamespace(  # type: ignore[return-value]
                    Interpreter=value, lite=SimpleNamespace(Interpreter=value)
                )
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(interpreter, "importlib", SimpleNamespace(import_module=import_module))
    return contents


def working(packages: dict[str, Any]) -> Any:
    """The class of an interpreter that works, to derive others from."""
    return packages["working"]


class Unbuildable:
    """An interpreter that imports and fails, as that of tflite-runtime does with numpy 2."""

    def __init__(self, **_: object) -> None:
        raise SystemError("<built-in method> returned a result\nwith an exception set")


def test_the_order_of_the_candidates() -> None:
    assert [candidate.distribution for candidate in CANDIDATES] == [
        "ai-edge-litert",
        "tflite-runtime",
        "tensorflow",
    ]


def test_the_first_that_is_there_is_taken(model: ModelFile, packages: dict[str, Any]) -> None:
    packages["tensorflow"] = packages["working"]
    assert open_graphs(model).runtime.name == "tensorflow"
    packages["tflite-runtime"] = packages["working"]
    runtime = open_graphs(model).runtime
    assert (runtime.name, runtime.delegate) == ("tflite-runtime", "none")
    packages["ai-edge-litert"] = packages["working"]
    runtime = open_graphs(model).runtime
    assert (runtime.name, runtime.delegate) == ("ai-edge-litert", "XNNPACK")


@pytest.mark.parametrize(
    "broken",
    [
        Unbuildable,
        None,
        ImportError("libpython.so: cannot open shared object file"),
        ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers"),
        OSError("libstdc++.so.6: version not found"),
    ],
    ids=["SystemError", "no interpreter", "library", "dependency", "OSError"],
)
def test_one_that_does_not_work_is_passed_over(
    model: ModelFile, packages: dict[str, Any], broken: Any
) -> None:
    packages["ai-edge-litert"] = broken
    packages["tflite-runtime"] = packages["working"]
    assert open_graphs(model).runtime.name == "tflite-runtime"
    del packages["tflite-runtime"]
    message = sentence(model)
    assert "no interpreter can run the model" in message
    assert "ai-edge-litert: " in message
    assert "pip install" in message


def test_one_that_builds_and_does_not_run_is_passed_over(
    model: ModelFile, packages: dict[str, Any]
) -> None:
    class Unrunnable(working(packages)):  # type: ignore[misc]
        def get_signature_runner(self, name: str) -> Any:
            return Runner(super().get_signature_runner(name), fails=True)

    packages["ai-edge-litert"] = Unrunnable
    packages["tensorflow"] = packages["working"]
    assert open_graphs(model).runtime.name == "tensorflow"


def test_none_is_installed(model: ModelFile, packages: dict[str, Any]) -> None:
    assert sentence(model) == ('no TFLite interpreter is installed: pip install "edgelid[edge]".')


def test_modules_that_are_hidden_count_as_not_installed(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for candidate in CANDIDATES:
        monkeypatch.setitem(sys.modules, candidate.module, None)
    assert "no TFLite interpreter is installed" in sentence(model)


def test_a_package_by_another_name_has_no_version(
    model: ModelFile, packages: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))  # which tells none
    packages["tensorflow"] = packages["working"]
    assert "tensorflow of unknown version" in str(open_graphs(model).runtime)


def test_the_version_is_that_of_the_distribution(graphs: Graphs) -> None:
    """Which the package tells by itself."""
    assert graphs.runtime.version == importlib.metadata.version(graphs.runtime.name)


def test_it_says_which_it_took(
    model: ModelFile, caplog: pytest.LogCaptureFixture, graphs: Graphs
) -> None:
    caplog.set_level(logging.INFO, logger="edge.model.interpreter")
    runtime = open_graphs(model).runtime
    assert runtime == graphs.runtime
    assert caplog.messages == [f"interpreter: {runtime}"]
    assert runtime.name in {candidate.distribution for candidate in CANDIDATES}
    assert str(runtime).endswith(f"delegate {runtime.delegate}, 1 thread")


def test_it_is_silent_on_standard_error(
    model: ModelFile, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = open_graphs(model)
    opened.step(hops(model, 1)[0])
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""


# --- threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [-1, 0, MAX_THREADS + 1, 10**9])
def test_impossible_numbers_of_threads(model: ModelFile, threads: int) -> None:
    assert sentence(model, threads) == (
        f"{threads} threads are not possible: choose 1 to {MAX_THREADS}."
    )


def test_threads_change_nothing_but_the_time(model: ModelFile, graphs: Graphs) -> None:
    graphs.reset()
    two = open_graphs(model, 2)
    assert two.runtime.threads == 2
    assert str(two.runtime).endswith("2 threads")
    assert outputs(two, hops(model, 12)) == outputs(graphs, hops(model, 12))


# --- graphs and metadata ---------------------------------------------------------------------


def with_stream(model: ModelFile, **changes: object) -> ModelFile:
    stream = dataclasses.replace(model.description.stream, **changes)  # type: ignore[arg-type]
    description = dataclasses.replace(model.description, stream=stream)
    return dataclasses.replace(model, description=description)


def test_another_hop_is_refused(model: ModelFile) -> None:
    stream = model.description.stream
    for changes in (
        {"hop_frames": 2 * stream.hop_frames},
        {"hop_frames": 10**12, "stride_frames": 10**11},
        {"stride_frames": 1},
        {"embedding": stream.embedding + 1},
        {"states": ()},
        {"states": stream.states[:-1]},
        {"states": (*stream.states, (2, 64))},
        {"states": ((stream.states[0][0] + 1, stream.states[0][1]), *stream.states[1:])},
    ):
        assert "graph 'embed' does not fit its metadata" in sentence(with_stream(model, **changes))


def test_another_number_of_labels_is_refused(model: ModelFile) -> None:
    more = dataclasses.replace(model, labels=(*model.labels, "eo"))
    assert "graph 'head' does not fit its metadata" in sentence(more)


def test_another_number_of_bands_is_refused(model: ModelFile) -> None:
    front_end = dataclasses.replace(model.description.front_end, mels=80)
    description = dataclasses.replace(model.description, front_end=front_end)
    assert "graph 'embed' does not fit" in sentence(
        dataclasses.replace(model, description=description)
    )


def test_a_graph_that_is_none(model: ModelFile) -> None:
    for graph in (model.graph[:1_000], b"text"):
        assert "cannot be used, as its graph has " in sentence(
            dataclasses.replace(model, graph=graph)
        )
    # Readable, and nothing in it: what the interpreter says in its trial is handed on.
    nothing = dataclasses.replace(model, graph=b"\x1c\0\0\0TFL3" + bytes(100))
    assert "no interpreter can run the model" in sentence(nothing)


class Runner:
    """A signature runner some of whose details are changed."""

    def __init__(self, runner: Any, fails: bool = False, **changes: Any) -> None:
        self._runner, self._fails, self._changes = runner, fails, changes

    def __call__(self, **inputs: object) -> Any:
        if self._fails:
            raise RuntimeError("Node number 7 failed to invoke")
        return self._runner(**inputs)

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        return self._changed(self._runner.get_input_details())

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        return self._changed(self._runner.get_output_details())

    def _changed(self, details: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: value | self._changes.get(name, {}) for name, value in details.items()}


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        ("frames", {"dtype": np.float32}, "graph 'embed' does not fit its metadata"),
        ("scores", {"dtype": np.uint8}, "graph 'head' does not fit its metadata"),
        ("embeddings", {"shape": np.array([1, 1, 1, 1])}, "graph 'embed' does not fit"),
        ("state_0_next", {"quantization": (0.123, 4)}, "its graph requantises state 0"),
        ("pooled", {"quantization": (0.0, 0)}, "graph 'head' does not say how it is quantised"),
    ],
)
def test_tensors_that_do_not_fit(
    model: ModelFile, packages: dict[str, Any], tensor: str, change: dict[str, Any], message: str
) -> None:
    changes: Any = {tensor: change}

    class Changed(working(packages)):  # type: ignore[misc]
        def get_signature_runner(self, name: str) -> Any:
            return Runner(super().get_signature_runner(name), **changes)

    packages["ai-edge-litert"] = Changed
    refused = sentence(model)
    assert refused.startswith(f"the model {str(model.path)!r} cannot be used, as ")
    assert message in refused


@pytest.mark.parametrize("missing", ["embed", "head"])
def test_a_missing_signature(model: ModelFile, packages: dict[str, Any], missing: str) -> None:
    class Changed(working(packages)):  # type: ignore[misc]
        def get_signature_runner(self, name: str) -> Any:
            return super().get_signature_runner("absent" if name == missing else name)

    packages["ai-edge-litert"] = Changed
    assert f"its graph has no signature {missing!r}" in sentence(model)


# --- running ---------------------------------------------------------------------------------


def test_shapes_and_types(model: ModelFile, graphs: Graphs) -> None:
    stream = model.description.stream
    graphs.reset()
    embeddings, weights = graphs.step(hops(model, 1)[0])
    per_hop = stream.hop_frames // stream.stride_frames
    assert (embeddings.shape, embeddings.dtype.name) == ((per_hop, stream.embedding), "int8")
    assert (weights.shape, weights.dtype.name) == ((per_hop,), "int8")
    scores = graphs.head(np.zeros(2 * stream.embedding, np.int8))
    assert (scores.shape, scores.dtype.name) == ((len(model.labels),), "int8")


def test_reset_starts_anew(model: ModelFile, graphs: Graphs) -> None:
    graphs.reset()
    frames = hops(model, 3)
    first = outputs(graphs, frames)
    went_on = outputs(graphs, frames)
    graphs.reset()
    assert outputs(graphs, frames) == first
    assert went_on != first


def test_opened_graphs_start_anew(model: ModelFile, graphs: Graphs) -> None:
    graphs.reset()
    assert outputs(open_graphs(model), hops(model, 3)) == outputs(graphs, hops(model, 3))


def test_results_are_not_overwritten_by_the_next(model: ModelFile, graphs: Graphs) -> None:
    graphs.reset()
    first, second = hops(model, 2)
    embeddings, weights = graphs.step(first)
    kept = embeddings.tobytes(), weights.tobytes()
    graphs.step(second)
    assert (embeddings.tobytes(), weights.tobytes()) == kept


def test_a_stream_starts_with_silence_behind_it(model: ModelFile, graphs: Graphs) -> None:
    silence = np.full(hops(model, 1)[0].shape, graphs.frames.zero_point, np.int8)
    graphs.reset()
    first, _ = graphs._states[0]
    before = graphs._interpreter.get_tensor(first).tobytes()
    graphs.step(silence)
    assert graphs._interpreter.get_tensor(first).tobytes() == before


def test_frames_that_stay_the_same_cost_no_trunk(model: ModelFile) -> None:
    stream = model.description.stream
    memory_hops = -(-(stream.receptive_field_frames - stream.stride_frames) // stream.hop_frames)
    first, second, third = hops(model, 3)
    sequence = [first, *[second] * (2 * memory_hops + 5), third, *[second] * (memory_hops + 3)]
    graphs, always = open_graphs(model), open_graphs(model)
    always._remembered_hops = len(sequence)  # so many never come again
    assert outputs(graphs, sequence) == outputs(always, sequence)

    runs = []
    counting = SimpleNamespace(
        invoke=lambda: runs.append(None),
        set_tensor=graphs._interpreter.set_tensor,
        get_tensor=graphs._interpreter.get_tensor,
    )
    graphs._interpreter = counting
    graphs.reset()
    outputs(graphs, sequence)
    # Each stretch has to fill the memory once, and the hop after it shows that nothing changes.
    assert len(runs) == 1 + (memory_hops + 1) + 1 + (memory_hops + 1)


@pytest.mark.parametrize("method", ["step", "head"])
def test_a_graph_that_gives_up_on_some_audio(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("div.cc:262 data[i] != zero_point was not true.\nNode number 3")

    opened = open_graphs(model)
    part = {"step": "_interpreter", "head": "_head"}[method]
    failing = SimpleNamespace(invoke=fail, set_tensor=lambda *_: None) if part[1] == "i" else fail
    monkeypatch.setattr(opened, part, failing)
    with pytest.raises(EdgelidError) as caught:
        getattr(opened, method)(np.ones((16, 64) if method == "step" else 192, np.int8))
    assert str(caught.value) == (
        f"the model {str(model.path)!r} cannot compute this audio "
        "(div.cc:262 data[i] != zero_point was not true.)."
    )


@pytest.mark.parametrize("scores", [np.nan, np.inf, None])
def test_a_window_whose_scores_are_no_numbers(
    monkeypatch: pytest.MonkeyPatch, scores: float | None
) -> None:
    graph = open_model(read_model(WINDOW_SEED))
    assert isinstance(graph, WindowGraph)
    details = graph._output | {"dtype": np.float32}
    monkeypatch.setattr(graph, "_output", details)

    def run(**_: object) -> dict[str, Any]:
        if scores is None:
            raise RuntimeError("Node number 3 failed to invoke")
        return {"scores": np.array([[0.0, scores, 1.0, 2.0]], np.float32)}

    monkeypatch.setattr(graph, "_run", run)
    with pytest.raises(EdgelidError, match=r"^the model '.*' cannot compute this audio \(.*\)\.$"):
        graph.scores(np.zeros((20, 16), np.float32))


def test_windows_of_several_lengths() -> None:
    """Each is scored by itself: its frames alone count, in whatever order windows come."""
    graph = open_model(read_model(LENGTHS_SEED))
    assert isinstance(graph, WindowGraph)
    assert (graph.fewest, graph.most) == (10, 40)
    assert [graph.fitting(frames) for frames in (0, 10, 17, 40, 41)] == [10, 10, 17, 40, 40]
    frames = np.random.default_rng(0).uniform(0, 9, (40, 16)).astype(np.float32)
    frames *= np.linspace(0.1, 1, 40, dtype=np.float32)[:, None]
    lengths = (40, 10, 23, 40, 11)
    found = [graph.scores(frames[:length]) for length in lengths]
    np.testing.assert_array_equal(found[0], found[3])
    for length, scores in zip(lengths, found, strict=True):
        alone = open_model(read_model(LENGTHS_SEED))
        assert isinstance(alone, WindowGraph)
        np.testing.assert_array_equal(alone.scores(frames[:length]), scores)
    assert len({tuple(scores) for scores in found}) == 4


def test_a_graph_of_one_length_in_the_clothes_of_several() -> None:
    one, several = read_model(WINDOW_SEED), read_model(LENGTHS_SEED)
    assert "does not fit its metadata" in sentence_of(dataclasses.replace(several, graph=one.graph))
    assert "does not fit its metadata" in sentence_of(dataclasses.replace(one, graph=several.graph))


@pytest.mark.parametrize("place", ["inputs", "outputs"])
def test_a_window_that_does_not_say_how_it_is_quantised(place: str) -> None:
    """Whose scores would be the same for all audio."""

    def change(graph: Any) -> None:
        part = graph.subgraphs[0]
        part.tensors[getattr(part, place)[0]].quantization = None

    model = read_model(WINDOW_SEED)
    refused = sentence_of(dataclasses.replace(model, graph=edited(model.graph, change)))
    assert "its graph 'window' does not say how it is quantised" in refused


def sentence_of(model: ModelFile) -> str:
    with pytest.raises(EdgelidError) as caught:
        open_model(model)
    return str(caught.value)


def test_an_interpreter_that_computes_something_else_is_not_taken() -> None:
    """As ai-edge-litert 2.0 does with matrices of 4 bits, without a word."""
    model = read_model(WINDOW_SEED)
    graph = open_model(model)
    assert isinstance(graph, WindowGraph)
    found = graph.scores(np.zeros((graph.most, 16), np.float32))

    def told(scores: np.ndarray) -> ModelFile:
        description = dataclasses.replace(model.description, first_scores=tuple(scores))
        return dataclasses.replace(model, description=description)

    open_model(told(found + 0.5))
    assert "computes something else than when the model was converted" in sentence_of(
        told(found + 100)
    )
    assert "its first scores do not fit its labels" in sentence_of(told(found[1:]))
