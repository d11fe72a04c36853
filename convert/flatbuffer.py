"""A TFLite flatbuffer as plain values: its graphs, operators and tensors, without running any."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from edge.errors import EdgelidError

# Operators whose work is multiply-accumulates, and what one element of their output costs.
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
CUSTOM = "CUSTOM"
Contents = bytes  # a tensor calls the number of them so


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes
    ----------
    graph, name : str
    type : str
        As the schema calls it, such as ``INT8``.
    shape : tuple of int
    scales, zero_points : tuple
        One, one a channel, or none where it is not quantised.
    bytes : int
        Of its contents in the file; zero for what is computed.
    sha256 : str
        Of those; empty for what is computed.
    contents : bytes
        Those.
    """

    graph: str
    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    bytes: int
    sha256: str
    contents: Contents = field(repr=False)

    @property
    def is_constant(self) -> bool:
        """Whether its contents are in the file."""
        return self.bytes > 0

    @property
    def elements(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """An operator of a graph, in the order of execution.

    Attributes
    ----------
    graph : str
    kind : str
        As the schema calls it; ``CUSTOM`` for what only other runtimes know.
    inputs, outputs : tuple of Tensor
    """

    graph: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Kernel and bias; none for operators that have neither."""
        if self.kind not in CONVOLUTIONS:
            return ()
        return tuple(tensor for tensor in self.inputs[1:] if tensor.is_constant)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        if self.kind == "BATCH_MATMUL":  # neither of the two as its transpose
            return self.outputs[0].elements * self.inputs[0].shape[-1]
        if self.kind not in CONVOLUTIONS or len(self.inputs) < 2:
            return 0
        kernel = self.inputs[1]
        # A depthwise kernel is (1, height, width, channels), the others (channels, ..., inputs).
        channels = kernel.shape[-1] if self.kind == "DEPTHWISE_CONV_2D" else kernel.shape[0]
        return self.outputs[0].elements * kernel.elements // channels

    @property
    def name(self) -> str:
        """Name of the layer it comes from: that of its kernel, or of what it computes."""
        tensor = self.weights[0] if self.weights else self.outputs[0]
        first = tensor.name.split(";")[0]  # fused layers are all named
        return first.rpartition("/")[0] or first


@dataclass(frozen=True)
class Graph:
    """One graph of the file.

    Attributes
    ----------
    name : str
        Of its signature.
    operators : tuple of Operator
    tensors : tuple of Tensor
    inputs, outputs : dict of str to Tensor
        By their names in the signature.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def read_graphs(
    flatbuffer: bytes, shapes: Mapping[int, tuple[int, ...]] | None = None
) -> list[Graph]:
    """All graphs that have a signature, in the order of their names.

    Parameters
    ----------
    flatbuffer : bytes
    shapes : mapping of int to tuple of int, optional
        Of the tensors of the first graph by their number, where they depend on its input and the
        file says ones.

    Raises
    ------
    EdgelidError
        If it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
        kinds, types = _names(schema.BuiltinOperator), _names(schema.TensorType)
        found = [
            _graph(model, signature, kinds, types, shapes or {})
            for signature in model.signatureDefs
        ]
    # Foreign bytes: what a parser without checks of its own may raise is no closed list.
    except Exception as error:
        raise EdgelidError("the model's graph cannot be read: it is damaged") from error
    return sorted(found, key=lambda graph: graph.name)


def operator_name(number: int) -> str:
    """Kind of an operator, as the schema calls it."""
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.BuiltinOperator).get(number, f"number {number}")


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _graph(
    model: Any,
    signature: Any,
    kinds: dict[int, str],
    types: dict[int, str],
    shapes: Mapping[int, tuple[int, ...]],
) -> Graph:
    name = signature.signatureKey.decode()
    part = model.subgraphs[signature.subgraphIndex]
    tensors = [_tensor(model, name, tensor, types) for tensor in part.tensors]
    if signature.subgraphIndex == 0:
        tensors = [replace(each, shape=shapes.get(i, each.shape)) for i, each in enumerate(tensors)]

    def some(indices: Sequence[int] | None) -> tuple[Tensor, ...]:
        # Minus one stands for an optional tensor that is not there.
        return tuple(tensors[i] for i in (() if indices is None else indices) if i >= 0)

    operators = []
    for operator in part.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Old files have the kind in a byte, new ones in both places.
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operators.append(Operator(name, kind, some(operator.inputs), some(operator.outputs)))
    return Graph(
        name,
        tuple(operators),
        tuple(tensors),
        {each.name.decode(): tensors[each.tensorIndex] for each in signature.inputs},
        {each.name.decode(): tensors[each.tensorIndex] for each in signature.outputs},
    )


def _tensor(model: Any, graph: str, tensor: Any, types: dict[int, str]) -> Tensor:
    scale = getattr(tensor.quantization, "scale", None)
    zero_point = getattr(tensor.quantization, "zeroPoint", None)
    data = model.buffers[tensor.buffer].data
    contents = b"" if data is None else bytes(data)
    return Tensor(
        graph=graph,
        name=tensor.name.decode(errors="replace"),
        type=types[tensor.type],
        shape=tuple(int(n) for n in (() if tensor.shape is None else tensor.shape)),
        scales=tuple(float(s) for s in (() if scale is None else scale)),
        zero_points=tuple(int(z) for z in (() if zero_point is None else zero_point)),
        bytes=len(contents),
        sha256=hashlib.sha256(contents).hexdigest() if contents else "",
        contents=contents,
    )
