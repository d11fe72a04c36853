"""What `edgelid-convert inspect` and `diff` tell of model files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import pytest
from ai_edge_litert import schema_py_generated as schema

from convert.cli import main
from convert.flatbuffer import Graph, Operator, Tensor, read_graphs
from convert.inspection import difference, inspect, problems
from convert.streaming_graph import any_window_function, any_window_to_tflite
from convert.whole_window import window_spec
from edge.errors import EdgelidError
from edge.model.modelfile import (
    DEFAULT_MODEL,
    LENGTHS_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    ModelFile,
    pack_model,
    read_model,
)


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return read_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def facts(model: ModelFile) -> dict[str, Any]:
    return inspect(model)


def test_the_graphs_are_what_the_metadata_say(model: ModelFile) -> None:
    trunk, head = read_graphs(model.graph)
    stream = model.description.stream
    assert (trunk.name, head.name) == ("embed", "head")
    mels = model.description.front_end.mels
    assert trunk.inputs["frames"].shape == (1, stream.hop_frames, 1, mels)
    assert head.outputs["scores"].shape == (1, len(model.labels))
    assert head.inputs["pooled"].type == "INT8"
    assert not head.inputs["pooled"].is_constant


def test_counts_parameters_and_work(model: ModelFile, facts: dict[str, Any]) -> None:
    """By hand, for the layers whose shapes are known; as the trunk's own count for all."""
    head = [layer for layer in facts["layers"] if layer["graph"] == "head"]
    classes = len(model.labels)
    hidden = head[0]["output_shape"][1]
    assert [layer["macs"] for layer in head] == [
        2 * model.description.stream.embedding * hidden,
        hidden * classes,
    ]
    assert head[1]["parameters"] == hidden * classes + classes
    assert head[1]["bytes"] == hidden * classes + 4 * classes  # biases have 32 bits
    a_second = model.description.provenance["macs_per_second"]
    hops = 100 / model.description.stream.hop_frames
    assert facts["macs"]["embed"] * hops == pytest.approx(a_second, rel=1e-6)
    assert facts["parameters"] == sum(layer["parameters"] for layer in facts["layers"])
    assert facts["parameters"] < facts["graph_bytes"] < facts["size_bytes"]


def test_tells_of_states_and_operators(model: ModelFile, facts: dict[str, Any]) -> None:
    assert [tuple(state["shape"]) for state in facts["states"]] == [
        (1, frames, 1, channels) for frames, channels in model.description.stream.states
    ]
    assert all(len(state["scales"]) == 1 for state in facts["states"])
    assert facts["operators"]["FULLY_CONNECTED"] == 2
    assert facts["problems"] == []
    assert facts["mode"] == "stream"


def tensor(name: str, kind: str) -> Tensor:
    return Tensor("embed", name, kind, (1, 4), (), (), 0, "", b"")


@pytest.mark.parametrize(
    ("kind", "type_", "told"),
    [
        ("ADD", "FLOAT32", "embed: ADD block has the float32 tensor block/out"),
        ("DEQUANTIZE", "FLOAT16", "embed: DEQUANTIZE block has the float16 tensor block/out"),
        ("CUSTOM", "INT8", "embed: block is a custom operator"),
    ],
)
def test_a_stream_is_int8_alone(kind: str, type_: str, told: str) -> None:
    operator = Operator("embed", kind, (tensor("in", "INT8"),), (tensor("block/out", type_),))
    fine = dataclasses.replace(operator, kind="ADD", outputs=operator.inputs)
    assert problems([Graph("embed", (fine, operator), (), {}, {})]) == [told]


def changed(model: ModelFile, path: Path) -> Path:
    """The model in a file of its own, with another name and one operator of another kind."""
    flatbuffer = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model.graph, 0))
    for code in flatbuffer.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.LOGISTIC:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = b"Sigmoid"
    path.write_bytes(packed(model, flatbuffer, name="other"))
    return path


def test_a_custom_operator_fails(
    model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(model, tmp_path / "other.tflite")
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert "CUSTOM" in captured.out
    assert "does not stream in int8 alone: embed: " in captured.err
    assert captured.err.count("\n") == 1


def test_inspects_for_people_and_machines(
    facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(DEFAULT_MODEL)]) == 0
    out = capsys.readouterr().out
    assert f"{facts['parameters']:,}" in out
    assert out.count("CONV_2D") > 10
    assert all(state["name"] in out for state in facts["states"])
    assert main(["inspect", "--json", str(DEFAULT_MODEL)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(facts))


def test_a_model_is_like_itself(facts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert difference(facts, facts) == {}
    assert main(["diff", str(DEFAULT_MODEL), str(DEFAULT_MODEL)]) == 0
    assert capsys.readouterr().out == "the two models are the same\n"


def test_differences(model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(model, tmp_path / "other.tflite")
    assert main(["diff", str(DEFAULT_MODEL), str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == [model.description.name, "other"]
    assert found["operators.LOGISTIC"] == [1, None]
    assert found["operators.CUSTOM"] == [None, 1]
    assert not any("conv" in name for name in found)
    assert main(["diff", str(DEFAULT_MODEL), str(path)]) == 0
    assert f"name\n  - {model.description.name}\n  + other\n" in capsys.readouterr().out


def packed(model: ModelFile, flatbuffer: Any, **described: Any) -> bytes:
    """The model with another graph, and another description."""
    builder = flatbuffers.Builder(len(model.graph))
    builder.Finish(flatbuffer.Pack(builder), b"TFL3")
    description = dataclasses.replace(model.description, **described)
    return pack_model(bytes(builder.Output()), model.labels, description, model.filterbank)


def test_what_a_terminal_would_obey(
    model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither do names of tensors begin lines, nor what a file says of itself."""
    flatbuffer = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model.graph, 0))
    for graph in flatbuffer.subgraphs:
        for tensor in graph.tensors:
            tensor.name = b"a\x1b[2J\nb/c"
    path = tmp_path / "other.tflite"
    told = {"tensorflow": "\x1b]0;title\x07\nlines"}
    path.write_bytes(packed(model, flatbuffer, provenance=told))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "a\\x1b[2J\\nb" in out
    assert "\\x1b]0;title\\x07\\nlines" in out
    assert main(["diff", str(DEFAULT_MODEL), str(path)]) == 0
    out += capsys.readouterr().out
    assert not {"\x1b", "\x07"} & {*out}
    assert not any(line.startswith(("b", "lines")) for line in out.splitlines())


@pytest.mark.parametrize("kind", ["no outputs", "no channels", "no shape", "clips"])
def test_what_makes_no_sense(
    kind: str, model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flatbuffer = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model.graph, 0))
    (graph, *_), described = flatbuffer.subgraphs, {}
    wanted = schema.BuiltinOperator.CONV_2D
    kinds = [code.builtinCode for code in flatbuffer.operatorCodes]
    operator = next(each for each in graph.operators if kinds[each.opcodeIndex] == wanted)
    kernel = graph.tensors[operator.inputs[1]]
    if kind == "no outputs":
        operator.outputs = []
    elif kind == "no channels":
        kernel.shape = [0, *kernel.shape[1:]]
    elif kind == "no shape":
        kernel.shape = []
    else:
        described = {"provenance": {"representative_clips": 3}}
    path = tmp_path / "other.tflite"
    path.write_bytes(packed(model, flatbuffer, **described))
    for command in (["inspect"], ["inspect", "--json"], ["diff", str(DEFAULT_MODEL)]):
        assert main([*command, str(path)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith("its graph or its metadata make no sense\n")
        assert captured.err.count("\n") == 1


def test_counts_whole_windows_of_any_length(
    model: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the longest, not of the one frame that the graph itself tells of."""
    mels, classes, channels = model.description.front_end.mels, len(model.labels), 4
    network = keras.Sequential(
        [
            keras.Input((None, mels)),
            keras.layers.Conv1D(channels, 3, padding="same", activation="relu"),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(classes),
        ]
    )
    graph = any_window_to_tflite(network, any_window_function(network, mels))
    stream = window_spec(model.description.front_end, 40, 16)
    windows_s = (0.1, 0.2, 0.4)
    description = dataclasses.replace(
        model.description,
        format_version=LENGTHS_FORMAT_VERSION,
        stream=dataclasses.replace(stream, windows_s=windows_s),
        calibration=Calibration({"0.1": 1.0, "0.4": 1.0}),
        decoder=DecoderDefaults(window_s=0.2),
    )
    path = tmp_path / "any.tflite"
    path.write_bytes(pack_model(graph, model.labels, description, model.filterbank))
    macs = 40 * 3 * mels * channels + channels * classes
    assert inspect(read_model(path))["macs"] == {"window": macs}
    assert main(["inspect", str(path)]) == 0
    assert f"window {macs:,} in windows of 0.4 s; " in capsys.readouterr().out


def test_a_graph_that_is_none() -> None:
    with pytest.raises(EdgelidError, match="cannot be read: it is damaged"):
        read_graphs(b"\x10\x00\x00\x00TFL3" + b"\xff" * 40)


@pytest.mark.parametrize("command", [["inspect"], ["diff", str(DEFAULT_MODEL)]])
def test_files_that_are_not_there(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, str(tmp_path / "none.tflite")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "does not exist" in captured.err


def test_output_that_cannot_be_written() -> None:
    command = [sys.executable, "-m", "convert.cli", "inspect", str(DEFAULT_MODEL), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert "standard output cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    pipeline = subprocess.run(
        ["bash", "-c", '"$@" | true; echo "${PIPESTATUS[0]}"', "bash", *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (pipeline.stdout, pipeline.stderr) == ("141\n", "")
