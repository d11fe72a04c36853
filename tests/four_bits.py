"""A graph of one linear layer whose matrix has 4 bits, without a converter."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INPUTS, OUTPUTS, BLOCK = 64, 8, 32
TYPES = schema.TensorType


def graph_of(steps: np.ndarray, scales: np.ndarray) -> bytes:
    """A graph from (1, INPUTS) to (1, OUTPUTS).

    Parameters
    ----------
    steps : ndarray, shape (OUTPUTS, INPUTS), int8
        From -8 to 7.
    scales : ndarray, shape (OUTPUTS, INPUTS / BLOCK), float16
    """
    model, part = schema.ModelT(), schema.SubGraphT()
    nibbles = steps.reshape(-1).view(np.uint8)
    contents = [
        None,  # by convention the first buffer is empty
        (nibbles[::2] & 15) | (nibbles[1::2] & 15) << 4,
        np.frombuffer(scales.tobytes(), np.uint8),
    ]
    model.buffers = []
    for data in contents:
        buffer = schema.BufferT()
        buffer.data = data
        model.buffers.append(buffer)
    part.tensors = [
        tensor("x", (1, INPUTS), TYPES.FLOAT32, 0),
        tensor("matrix", (OUTPUTS, INPUTS), TYPES.INT4, 1),
        tensor("scales", scales.shape, TYPES.FLOAT16, 2),
        tensor("y", (1, OUTPUTS), TYPES.FLOAT32, 0),
    ]
    blocks = schema.BlockwiseQuantizationT()
    blocks.scales, blocks.zeroPoints, blocks.blockSize = 2, -1, BLOCK
    quantisation = schema.QuantizationParametersT()
    quantisation.details = blocks
    quantisation.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    part.tensors[1].quantization = quantisation
    layer = schema.OperatorT()
    layer.inputs, layer.outputs = [0, 1, -1], [3]
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    part.operators, part.inputs, part.outputs = [layer], [0], [3]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 12
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [part]
    builder = flatbuffers.Builder(4_096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tensor(name: str, shape: tuple[int, ...], kind: int, buffer: int) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, list(shape), kind, buffer
    return made
