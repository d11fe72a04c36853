"""Strangers' graphs: what the interpreter does not survive ends as one sentence."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.model import trust
from edge.model.graphcheck import check_graph
from edge.model.interpreter import open_model
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, pack_model, read_model
from tests.fuzz.hostile import edited, schema
from tests.fuzz.seeds import LENGTHS_SEED, STREAM_SEED, WINDOW_SEED


@pytest.fixture(autouse=True)
def nothing_admitted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_admitted", set())


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that are started."""
    started = []
    run = subprocess.run

    def counting(command: Any, **options: Any) -> Any:
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counting)
    return started


def refusal(model: ModelFile) -> str:
    with pytest.raises(EdgelidError) as caught:
        open_model(model)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    return message


def with_graph(path: Path, change: Callable[[Any], object]) -> ModelFile:
    """A model with another graph, well-formed enough to be tried."""
    model = read_model(path)
    graph = edited(model.graph, change)
    check_graph(graph)
    return dataclasses.replace(model, graph=graph)


# --- which are tried ------------------------------------------------------------------------


def test_what_comes_along_is_not_tried(processes: list[Any], tmp_path: Path) -> None:
    open_model(read_model(DEFAULT_MODEL))
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(DEFAULT_MODEL.read_bytes())
    open_model(read_model(copy))
    assert processes == []


def test_a_part_of_what_comes_along_does_not_come_along(model: ModelFile) -> None:
    part = dataclasses.replace(model, graph=model.graph[:-4])
    assert "cannot be used, as its graph has" in refusal(part)


@pytest.mark.parametrize("path", [STREAM_SEED, WINDOW_SEED, LENGTHS_SEED])
def test_another_is_tried_once(path: Path, processes: list[Any]) -> None:
    open_model(read_model(path))
    open_model(read_model(path))
    assert len(processes) == 1


def test_what_was_refused_is_tried_again(processes: list[Any]) -> None:
    model = with_graph(STREAM_SEED, without_quantisation)
    assert refusal(model) == refusal(model)
    assert len(processes) == 2


def test_the_longest_window_is_tried() -> None:
    """What there is room for in a short window, there may not be in a long one."""
    model = read_model(LENGTHS_SEED)
    stream, huge = model.description.stream, 5_000_000
    several = dataclasses.replace(
        stream, receptive_field_frames=huge, windows_s=(*stream.windows_s[:-1], huge / 100)
    )
    description = dataclasses.replace(model.description, stream=several)
    assert "cannot" in refusal(dataclasses.replace(model, description=description))


# --- what they do there ---------------------------------------------------------------------


def without_quantisation(model: Any) -> None:
    """XNNPACK ends the process over an int8 sum that does not say what its steps mean.

    Fuzzing found this, and more: `tests/edge/test_hostile.py`.
    """
    part = model.subgraphs[0]
    adds = [
        i
        for i, code in enumerate(model.operatorCodes)
        if code.builtinCode == schema.BuiltinOperator.ADD
    ]
    adding = next(operator for operator in part.operators if operator.opcodeIndex in adds)
    part.tensors[adding.outputs[0]].quantization = None


def test_a_crash_is_a_sentence() -> None:
    model = with_graph(STREAM_SEED, without_quantisation)
    assert refusal(model) == (
        f"the model {str(model.path)!r} cannot be used, as the interpreter does not survive it "
        "(SIGABRT): convert it again."
    )


def test_the_command_survives(edgelid: Callable[..., Any], tmp_path: Path) -> None:
    model = with_graph(STREAM_SEED, without_quantisation)
    path = tmp_path / "hostile.tflite"
    path.write_bytes(pack_model(model.graph, model.labels, model.description, model.filterbank))
    done = edgelid("info", path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("edgelid: the model ")
    assert done.stderr.count("\n") == 1


def test_more_memory_than_there_may_be() -> None:
    """Each tensor may be; all of them together may not."""

    def change(model: Any) -> None:
        part = model.subgraphs[0]
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.array([1, 1 << 9, 1 << 8], "<i4").view(np.uint8)
        times = schema.TensorT()
        times.name, times.type = b"times", schema.TensorType.INT32
        times.shape, times.buffer = np.array([3], np.int32), len(model.buffers) - 1
        part.tensors.append(times)
        model.operatorCodes.append(schema.OperatorCodeT())
        model.operatorCodes[-1].builtinCode = schema.BuiltinOperator.TILE
        model.operatorCodes[-1].deprecatedBuiltinCode = schema.BuiltinOperator.TILE
        model.operatorCodes[-1].version = 1
        multiples = len(part.tensors) - 1
        source = part.tensors[part.inputs[0]]
        for _ in range(10):  # of 40 MiB each
            tiled = schema.TensorT()
            tiled.name, tiled.type, tiled.buffer = b"big", source.type, 0
            tiled.shape = np.array([1, 20 << 9, 16 << 8], np.int32)
            tiled.quantization = source.quantization
            part.tensors.append(tiled)
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs = np.array([part.inputs[0], multiples], np.int32)
            operator.outputs = np.array([len(part.tensors) - 1], np.int32)
            part.operators.append(operator)
            part.outputs = np.append(part.outputs, np.int32(len(part.tensors) - 1))

    message = refusal(with_graph(WINDOW_SEED, change))
    # A failed allocation is told by some kernels, and ends the process in others.
    assert "does not survive it" in message or "no interpreter can run" in message


def test_more_time_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    # What waits is the loading of an interpreter, as a graph that does would take a minute.
    script = """
import time
from edge.model import sandbox
sandbox.MAX_S = 1
sandbox._first_to_import = lambda: time.sleep(100)
sandbox.main(1)
"""
    monkeypatch.setattr(trust, "_TRIAL", ("-c", script))
    assert "does not get done with it" in refusal(read_model(WINDOW_SEED))


def test_names_in_the_file_do_not_reach_the_terminal() -> None:
    def change(model: Any) -> None:
        model.signatureDefs[0].signatureKey = b"\x1b]0;title\x07"

    assert "has no signature 'window'" in refusal(with_graph(WINDOW_SEED, change))


def test_modules_where_the_command_is_called_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "__init__.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "pickle.py").write_text("raise SystemExit('nor this one')")
    monkeypatch.chdir(tmp_path)
    open_model(read_model(WINDOW_SEED))


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.devnull)
    assert "cannot be tried in a process of its own" in refusal(read_model(WINDOW_SEED))
