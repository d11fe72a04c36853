"""Quantisation errors of weights: trained kernels against those in the graph, by channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.flatbuffer import Operator, Tensor, read_graphs
from convert.tensor_errors import decibels
from edge.frontend import Float64Array
from train.model.network import Head, Trunk


@dataclass(frozen=True)
class WeightError:
    """Error of the weights of one layer.

    Attributes
    ----------
    name : str
    snr_db : float
        Power of the trained weights over that of the error.
    channel_snr_db : float
        The same of the channel where it is lowest.
    channel : str
        Which that is, such as ``input 3``: what the layer makes of channel 3 of what it is given.
    """

    name: str
    snr_db: float
    channel_snr_db: float
    channel: str


def weight_errors(trunk: Trunk, head: Head, graph: bytes) -> list[WeightError]:
    """Compare trained weights with those of a converted graph.

    An output channel has a scale of its own; input channels share it, so that those much smaller
    than others lose.

    Parameters
    ----------
    trunk : Trunk
    head : Head
    graph : bytes
        The same, converted.

    Returns
    -------
    list of WeightError
        The worst channel first.
    """
    operators = [each for part in read_graphs(graph) for each in part.operators if each.weights]
    errors = []
    for name, kernel in trained_kernels(trunk, head):
        # Of layers of one shape it is the one that is nearest: a graph has an order of its own.
        alike = [each for each in operators if each.weights[0].shape == kernel.shape]
        if alike:
            found = min(alike, key=lambda each: float(np.sum(_difference(kernel, each) ** 2)))
            operators.remove(found)
            errors.append(_error(name, kernel, found))
    return sorted(errors, key=lambda error: (error.channel_snr_db, error.name))


def trained_kernels(trunk: Trunk, head: Head) -> Iterator[tuple[str, Float64Array]]:
    """Names and kernels of all layers, with their normalisation, in the layout of TFLite."""
    for temporal, pointwise in zip(trunk.temporal, trunk.pointwise, strict=True):
        kernel = np.asarray(temporal.conv.kernel)
        if pointwise is None:  # (frames, 1, inputs, outputs)
            yield temporal.name, _folded(kernel, temporal.norm).transpose(3, 0, 1, 2)
        else:  # depthwise, (frames, 1, channels, 1)
            yield temporal.name, _folded(kernel[..., 0], temporal.norm)[None]
            conv, norm = pointwise
            yield conv.name, _folded(np.asarray(conv.kernel), norm).transpose(3, 0, 1, 2)
    entering = () if trunk.enter is None else (trunk.enter,)
    plain = [(layer.name, layer) for layer in (*entering, trunk.embedding, trunk.weight)]
    for name, layer in [*plain, *_of_attention(trunk)]:
        yield name, np.asarray(layer.kernel, np.float64).transpose(3, 0, 1, 2)
    yield head.hidden.name, _folded(np.asarray(head.hidden.kernel), head.norm).T
    yield head.scores.name, np.asarray(head.scores.kernel, np.float64).T


def _of_attention(trunk: Trunk) -> Iterator[tuple[str, Any]]:
    for each in trunk.attention:
        for layer in (each.query, each.key, each.value, each.out, each.up, each.down):
            yield f"{each.name}_{layer.name}", layer


def _folded(kernel: np.ndarray, norm: Any) -> Float64Array:
    """A kernel, its outputs last, times what normalisation multiplies them by."""
    gamma, variance = (np.asarray(x, np.float64) for x in (norm.gamma, norm.moving_variance))
    folded: Float64Array = kernel * (gamma / np.sqrt(variance + norm.epsilon))
    return folded


def _error(name: str, kernel: Float64Array, operator: Operator) -> WeightError:
    """Of a kernel of shape (outputs, ..., inputs), or depthwise (1, ..., channels)."""
    depthwise, error = _is_depthwise(operator), _difference(kernel, operator)
    axes = {"channel": kernel.ndim - 1} if depthwise else {"output": 0, "input": kernel.ndim - 1}
    worst, channel = np.inf, ""
    for what, axis in axes.items():
        others = tuple(i for i in range(kernel.ndim) if i != axis)
        if kernel.size == kernel.shape[axis]:
            continue  # of a single value, rounding says nothing about the tensor
        ratios = decibels((kernel**2).sum(others), (error**2).sum(others))
        if ratios.min() < worst:
            worst, channel = float(ratios.min()), f"{what} {ratios.argmin()}"
    return WeightError(name, float(decibels((kernel**2).sum(), (error**2).sum())), worst, channel)


def _is_depthwise(operator: Operator) -> bool:
    return operator.kind == "DEPTHWISE_CONV_2D"


def _difference(kernel: Float64Array, operator: Operator) -> Float64Array:
    """What an operator's weights differ from a kernel by."""
    found = _dequantised(operator.weights[0], axis=-1 if _is_depthwise(operator) else 0)
    difference: Float64Array = found - kernel
    return difference


def _dequantised(tensor: Tensor, axis: int) -> Float64Array:
    values = np.frombuffer(tensor.contents, np.int8).reshape(tensor.shape).astype(np.float64)
    scales = np.array(tensor.scales)
    shape = np.ones(values.ndim, int)
    shape[axis] = len(scales)  # one a channel, or one for all
    scaled: Float64Array = values * scales.reshape(shape)
    return scaled
