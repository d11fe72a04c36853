"""What a graph may be made of: each rule refuses what breaks it, and nothing that is converted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.model import graphcheck
from edge.model.graphcheck import UnfitGraph, check_graph
from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests import four_bits
from tests.fuzz.hostile import edited, schema
from tests.fuzz.seeds import LENGTHS_SEED, STREAM_SEED, WINDOW_SEED

GRAPH = read_model(WINDOW_SEED).graph
Change = Callable[[Any], object]


def refusal(change: Change) -> str:
    with pytest.raises(UnfitGraph) as caught:
        check_graph(edited(GRAPH, change))
    return str(caught.value)


@pytest.mark.parametrize("path", [DEFAULT_MODEL, STREAM_SEED, WINDOW_SEED, LENGTHS_SEED])
def test_models_that_were_converted_are_admitted(path: Any) -> None:
    check_graph(read_model(path).graph)


def test_an_edit_alone_changes_nothing() -> None:
    check_graph(edited(GRAPH, lambda model: None))


def operator(model: Any, kind: str) -> Any:
    """The first operator of a kind."""
    number = getattr(schema.BuiltinOperator, kind)
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    return next(o for o in model.subgraphs[0].operators if codes[o.opcodeIndex] == number)


def leave_out(operator: Any, operand: int) -> None:
    operator.inputs = [-1 if i == operand else int(n) for i, n in enumerate(operator.inputs)]


def settings(path: str, value: object) -> Change:
    """Sets one field, such as ``subgraphs.0.inputs``."""

    def change(model: Any) -> None:
        *way, last = path.split(".")
        for name in way:
            model = model[int(name)] if name.isdigit() else getattr(model, name)
        if isinstance(model, list | np.ndarray):
            model[int(last)] = value
        else:
            assert hasattr(model, last)
            setattr(model, last, value)

    return change


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.WHILE, "(number 119)"),
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.CALL_ONCE, "(number 129)"),
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.READ_VARIABLE, "(number 143)"),
        ("operatorCodes.0.builtinCode", 100_000, "(number 100000)"),
        ("subgraphs.0.tensors.0.type", schema.TensorType.STRING, "something else than numbers"),
        ("subgraphs.0.tensors.0.type", schema.TensorType.RESOURCE, "something else than numbers"),
        ("subgraphs.0.tensors.0.isVariable", True, "variables, or sparse"),
        ("subgraphs.0.tensors.0.sparsity", schema.SparsityParametersT(), "variables, or sparse"),
        ("subgraphs.0.tensors.0.shape", [1, 20, 0], "without a fixed size"),
        ("subgraphs.0.tensors.0.shape", [1, -1, 16], "without a fixed size"),
        ("subgraphs.0.tensors.0.shape", [1] * 9, "more than 8 axes"),
        ("subgraphs.0.tensors.0.shape", [1 << 15, 1 << 15], "larger than 64 MiB"),
        ("subgraphs.0.tensors.0.shape", [(1 << 31) - 1] * 8, "larger than 64 MiB"),
        ("subgraphs.0.tensors.0.buffer", 1_000, "contents that it does not have"),
        ("subgraphs.0.tensors.0.externalBuffer", 1, "outside the flatbuffer"),
        ("buffers.0.offset", 4_096, "outside the flatbuffer"),
        ("buffers.0.size", 1 << 40, "outside the flatbuffer"),
        ("externalBufferGroups", [schema.ExternalBufferGroupT()], "outside the flatbuffer"),
        ("externalBuffers", [schema.ExternalBufferT()], "outside the flatbuffer"),
        ("metadata", [schema.MetadataT("x", 1_000)], "contents that it does not have"),
        ("subgraphs.0.inputs", [1_000], "tensors that it does not have"),
        ("subgraphs.0.inputs", [-1], "tensors that it does not have"),
        ("subgraphs.0.outputs", [1_000], "tensors that it does not have"),
        ("subgraphs.0.inputs", [], "not been computed"),
        ("subgraphs.0.operators", [], "outputs that it does not compute"),
        ("subgraphs.0.operators.0.opcodeIndex", 1_000, "operator of no kind"),
        ("subgraphs.0.operators.0.inputs", [-1], "tensors that it does not have"),
        ("subgraphs.0.operators.0.outputs", [1 << 30], "tensors that it does not have"),
        ("subgraphs.0.operators.0.outputs", [0], "twice, or one that is given"),
        ("subgraphs.0.operators.0.intermediates", [0], "memories of their own"),
        ("signatureDefs.0.subgraphIndex", 1, "signature of no graph"),
        ("signatureDefs.0.inputs.0.tensorIndex", 1_000, "tensors that it does not have"),
    ],
)
def test_refused(path: str, value: object, reason: str) -> None:
    assert reason in refusal(settings(path, value))


def test_contents_that_do_not_fill_their_tensor() -> None:
    def change(model: Any) -> None:
        kernel = model.subgraphs[0].tensors[operator(model, "CONV_2D").inputs[1]]
        model.buffers[kernel.buffer].data = model.buffers[kernel.buffer].data[:-1]

    assert "do not fill" in refusal(change)


def test_a_shape_that_is_computed() -> None:
    """It would decide on memory with the audio, long after any trial."""

    def change(model: Any) -> None:
        part = model.subgraphs[0]
        operator(model, "RESHAPE").inputs = [part.inputs[0], part.inputs[0]]

    assert "computes sizes" in refusal(change)


def test_a_left_out_operand_that_is_needed() -> None:
    def change(model: Any) -> None:
        leave_out(operator(model, "FULLY_CONNECTED"), 1)

    assert "does not have" in refusal(change)


def test_a_left_out_bias() -> None:
    def change(model: Any) -> None:
        leave_out(operator(model, "FULLY_CONNECTED"), 2)

    check_graph(edited(GRAPH, change))


def narrow_graph() -> bytes:
    steps = np.random.default_rng(0).integers(-7, 8, (four_bits.OUTPUTS, four_bits.INPUTS))
    return four_bits.graph_of(steps.astype(np.int8), np.full((four_bits.OUTPUTS, 2), 0.5, "f2"))


def test_a_matrix_of_4_bits_is_admitted() -> None:
    check_graph(narrow_graph())


MATRIX = "subgraphs.0.tensors.1"
BLOCKS = f"{MATRIX}.quantization.details"
OTHERWISE, ELSEWHERE = "quantised in a way", "4 bits elsewhere"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (f"{MATRIX}.quantization", None, OTHERWISE),
        (f"{MATRIX}.quantization.detailsType", 1, OTHERWISE),
        (f"{MATRIX}.quantization.details", None, OTHERWISE),
        (f"{MATRIX}.type", schema.TensorType.INT8, "do not fill"),
        (f"{MATRIX}.shape", [four_bits.INPUTS, four_bits.OUTPUTS], OTHERWISE),
        (f"{MATRIX}.shape", [1, four_bits.OUTPUTS, four_bits.INPUTS], OTHERWISE),
        (f"{BLOCKS}.scales", 1_000, "tensors that it does not have"),
        (f"{BLOCKS}.scales", -1, "tensors that it does not have"),
        (f"{BLOCKS}.scales", 0, OTHERWISE),  # which is computed
        (f"{BLOCKS}.zeroPoints", 2, OTHERWISE),
        (f"{BLOCKS}.blockSize", 0, OTHERWISE),
        (f"{BLOCKS}.blockSize", -32, OTHERWISE),
        (f"{BLOCKS}.blockSize", 16, OTHERWISE),
        (f"{BLOCKS}.blockSize", 48, OTHERWISE),
        (f"{BLOCKS}.blockSize", 64, OTHERWISE),  # there are scales for twice as many blocks
        ("subgraphs.0.tensors.2.type", schema.TensorType.INT16, OTHERWISE),
        ("subgraphs.0.tensors.2.shape", [16], OTHERWISE),
        ("subgraphs.0.operators.0.inputs", [1, 1, -1], ELSEWHERE),
        ("subgraphs.0.outputs", [1], ELSEWHERE),
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.MUL, ELSEWHERE),
    ],
)
def test_4_bits_otherwise_are_refused(path: str, value: object, reason: str) -> None:
    with pytest.raises(UnfitGraph, match=reason):
        check_graph(edited(narrow_graph(), settings(path, value)))


def test_any_truncation_or_flipped_bit_is_a_reason_or_harmless() -> None:
    """Whatever the bytes, it neither raises anything else nor reads for long."""
    rng = np.random.default_rng(0)
    refused = 0
    for end in range(0, len(GRAPH), 37):
        with pytest.raises(UnfitGraph):
            check_graph(GRAPH[:end])
    for _ in range(3_000):
        data = bytearray(GRAPH)
        for at in rng.integers(0, len(GRAPH), rng.integers(1, 20)):
            data[at] = rng.integers(256)
        try:
            check_graph(bytes(data))
        except UnfitGraph:
            refused += 1
    assert refused > 300


def test_lists_that_would_take_for_ever() -> None:
    part = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(GRAPH, 0)).subgraphs[0]
    assert "more than 8 parts" in refusal(settings("subgraphs", [part] * 9))
    code = schema.OperatorCodeT()
    assert "more than 10000 parts" in refusal(settings("operatorCodes", [code] * 10_001))


def test_vectors_that_would_take_for_ever() -> None:
    """A vector has room for millions, and tables by the thousand may share it."""
    for path in ("inputs", "operators.0.inputs", "operators.0.outputs", "tensors.0.shape"):
        assert "more than 1000 numbers" in refusal(settings(f"subgraphs.0.{path}", [0] * 1_001))


def test_vectors_that_are_long_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphcheck, "_MAX_ENTRIES_READ", 10_000)

    def change(model: Any) -> None:
        part = model.subgraphs[0]
        layer = operator(model, "FULLY_CONNECTED")
        layer.inputs, layer.outputs = [part.inputs[0]] * 1_000, []
        part.operators = [layer] * 11

    assert "more than 10000 entries" in refusal(change)


def test_a_list_of_fields_that_thousands_of_tables_share() -> None:
    """It has room for 32,000, and would be gone through for each of them."""
    fields = 32_000
    of_fields = struct.pack("<HH", 4 + 2 * fields, 4) + bytes(2 * fields)
    data = of_fields + struct.pack("<i", len(of_fields))
    table = graphcheck._Table(data, len(of_fields), graphcheck._Allowance())
    with pytest.raises(UnfitGraph, match="more than 1000000 entries"):
        for _ in range(100):
            table.check_numbers()


@pytest.mark.parametrize("path", [DEFAULT_MODEL, STREAM_SEED, WINDOW_SEED, LENGTHS_SEED])
def test_models_that_were_converted_are_far_from_the_limits(
    path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphcheck, "_MAX_ENTRIES", graphcheck._MAX_ENTRIES // 20)
    monkeypatch.setattr(graphcheck, "_MAX_ENTRIES_READ", graphcheck._MAX_ENTRIES_READ // 50)
    check_graph(read_model(path).graph)


def test_offsets_that_lead_out() -> None:
    """Every word that is an offset, made to lead out: tflite-runtime would follow it."""
    refused = 0
    for at in range(0, len(GRAPH) - 4, 4):
        data = bytearray(GRAPH)
        data[at : at + 4] = (0x7FFFFFF0).to_bytes(4, "little")
        try:
            check_graph(bytes(data))
        except UnfitGraph:
            refused += 1
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(GRAPH, 0))
    part = model.subgraphs[0]
    # At the least those to every tensor, its name, shape and quantisation, and every operator.
    assert refused > 4 * len(part.tensors) + 3 * len(part.operators) + len(model.buffers)
