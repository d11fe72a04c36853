"""Matrices of 4 bits in a TFLite graph, in the place of those of 8 bits that a converter wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convert.rounding import BLOCK, Blocks
from edge.errors import EdgelidError
from edge.frontend import Float32Array

LAYER_VERSION = 12  # of the operator, from which on it knows blocks


def with_four_bits(flatbuffer: bytes, matrices: Sequence[Blocks]) -> bytes:
    """Put matrices into a graph whose int8 weights were made of these.

    Parameters
    ----------
    flatbuffer : bytes
        Of one graph, whose linear layers have int8 weights with a scale for each output.
    matrices : sequence of Blocks

    Raises
    ------
    EdgelidError
        If it has not each of them just once.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
    (graph,) = model.subgraphs
    linear = _kernels(model, graph, schema)
    for blocks in matrices:
        wanted = blocks.matrix.T
        found = [i for i in linear if _is(graph.tensors[i], model, wanted)]
        if len(found) != 1:
            raise EdgelidError(
                f"TensorFlow's converter wrote {len(found)} matrices where one of "
                f"{wanted.shape[0]} by {wanted.shape[1]} was expected: convert with --type int8"
            )
        linear.remove(found[0])
        _replace(graph.tensors[found[0]], model, graph, blocks, schema)
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = max(code.version, LAYER_VERSION)
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _kernels(model: Any, graph: Any, schema: Any) -> list[int]:
    """Places of the int8 matrices of linear layers that have a matrix to themselves."""
    used: list[int] = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == schema.BuiltinOperator.FULLY_CONNECTED:
            used.append(int(operator.inputs[1]))
    return [
        i
        for i in sorted(set(used))
        if graph.tensors[i].type == schema.TensorType.INT8
        and model.buffers[graph.tensors[i].buffer].data is not None
    ]


def _is(tensor: Any, model: Any, wanted: Float32Array) -> bool:
    """Whether a tensor is a matrix, (outputs, inputs), in 8 bits."""
    if tuple(tensor.shape) != wanted.shape:
        return False
    scales = np.asarray(tensor.quantization.scale, np.float32)[:, None]
    steps = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8)
    return bool(np.all(np.abs(steps.reshape(wanted.shape) * scales - wanted) <= 0.51 * scales))


def _replace(tensor: Any, model: Any, graph: Any, blocks: Blocks, schema: Any) -> None:
    flat = blocks.steps.T.reshape(-1).view(np.uint8)
    model.buffers[tensor.buffer].data = (flat[::2] & 15) | (flat[1::2] & 15) << 4
    scales = blocks.scales.T.astype(np.float16)  # (outputs, blocks)
    contents = schema.BufferT()
    contents.data = np.frombuffer(scales.tobytes(), np.uint8)
    model.buffers.append(contents)
    of_blocks = schema.TensorT()
    of_blocks.name, of_blocks.type = tensor.name + b"/scales", schema.TensorType.FLOAT16
    of_blocks.shape, of_blocks.buffer = scales.shape, len(model.buffers) - 1
    graph.tensors.append(of_blocks)
    tensor.type = schema.TensorType.INT4
    details = schema.BlockwiseQuantizationT()
    details.scales, details.blockSize = len(graph.tensors) - 1, BLOCK
    details.zeroPoints = -1  # there are none
    quantisation = schema.QuantizationParametersT()
    quantisation.details = details
    quantisation.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    tensor.quantization = quantisation
