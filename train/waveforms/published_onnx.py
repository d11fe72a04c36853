"""Whisper's weights from the 8-bit graphs that transformers.js runs.

Whisper small can be had as a package in that form alone. A graph names its matrices by the node
that multiplies by them; each is integers, a zero and a scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgelidError

ENCODER, DECODER = "encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx"
_QUANTISED = "_quantized"
_MERGED = re.compile(r"_merged_\d+$")  # what both branches of the decoder's graph use


def read_onnx(folder: Path) -> dict[str, np.ndarray]:
    """All weights, in float32.

    Parameters
    ----------
    folder : Path
        With `ENCODER` and `DECODER`.

    Returns
    -------
    dict of str to ndarray
        By Hugging Face's names, such as ``encoder.layers.0.fc1.weight``.

    Raises
    ------
    EdgelidError
        If they are missing or damaged, or the package ``onnx`` is.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EdgelidError("to read Whisper's weights from ONNX, pip install onnx") from error
    found: dict[str, np.ndarray] = {}
    for name, prefix in ((ENCODER, "encoder."), (DECODER, "")):
        try:
            graph = onnx.load(str(folder / name)).graph
            found |= {f"{prefix}{key}": x for key, x in _weights(graph, onnx.numpy_helper)}
        except OSError as error:
            raise EdgelidError(f"cannot read {folder / name}: {error.strerror}") from error
        except (DecodeError, KeyError, ValueError) as error:
            raise EdgelidError(f"{folder / name} is no 8-bit graph of Whisper") from error
    return {name.removeprefix("model."): array for name, array in found.items()}


def _weights(graph: Any, helper: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a graph."""
    stored = {x.name: x for x in graph.initializer}
    for name, x in stored.items():
        inner = name.startswith(("onnx::", "/")) or name.endswith(
            (_QUANTISED, "_scale", "_zero_point")
        )
        if not inner and x.dims:
            yield _MERGED.sub("", name), helper.to_array(x)

    def whole(name: str) -> np.ndarray:
        values, zero, scale = (
            helper.to_array(stored[name + end]).astype(np.float32)
            for end in (_QUANTISED, "_zero_point", "_scale")
        )
        return np.asarray((values - zero) * scale, np.float32)

    seen = set()
    for node in _nodes(graph):
        place = {"MatMulInteger": 1, "ConvInteger": 1, "Gather": 0}.get(node.op_type)
        if place is None or not node.input[place].endswith(_QUANTISED):
            continue
        name = node.input[place].removesuffix(_QUANTISED)
        if name + _QUANTISED not in stored:
            continue  # a product of two activations
        if name in seen:
            continue  # both branches of a graph name it
        seen.add(name)
        if node.op_type == "MatMulInteger":
            layer = node.name.strip("/").removesuffix("/MatMul_quant").replace("/", ".")
            yield f"{layer}.weight", whole(name).T
        else:
            yield _MERGED.sub("", name), whole(name)


def _nodes(graph: Any) -> Iterator[Any]:
    """Of a graph and of those within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
