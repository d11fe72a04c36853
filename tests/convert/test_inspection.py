"""What `edgelid-convert inspect` and `diff` tell of model files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from convert.cli import main
from convert.flatbuffer import Graph, Operator, Tensor, read_graphs
from convert.inspection import difference, inspect, problems
from edge.errors import EdgelidError
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, pack_model, read_model


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
    import flatbuffers

    builder = flatbuffers.Builder(len(model.graph))
    builder.Finish(flatbuffer.Pack(builder), b"TFL3")
    description = dataclasses.replace(model.description, name="other")
    path.write_bytes(
        pack_model(bytes(builder.Output()), model.labels, description, model.filterbank)
    )
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
