"""A streaming layer of attention from a layer of the large model, in closed form.

The teacher's layer attends to all of a window, behind normalisations, in many channels; the
student's to a stretch around each frame, without any, in few (`train.model.attention`). Each part
of it is fitted to what the teacher's has on the same clips, in the order in which they compute, so
that a part makes up for what those before it lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from edge.frontend import Float32Array
from train.architecture import Attention
from train.model.attention import FAR, AttentionLayer
from train.waveforms.low_rank import explained, product_factors, ridge, value_factor
from train.waveforms.stepper import BATCH, batched, compiled
from train.waveforms.stream_basis import StreamBasis
from train.waveforms.whisper import Layer, Parts

Linear = tuple[Float32Array, Float32Array]  # kernel (inputs, outputs) and bias (outputs,)


@dataclass(frozen=True)
class Inherited:
    """Weights of a layer of attention.

    Attributes
    ----------
    query, key, value, out, up, down : tuple of ndarray
        Kernel and bias of each.
    distance : ndarray, shape (heads, past + ahead + 1)
    """

    query: Linear
    key: Linear
    value: Linear
    distance: Float32Array
    out: Linear
    up: Linear
    down: Linear

    def put_into(self, layer: AttentionLayer) -> None:
        """Give a layer these weights."""
        for name in ("query", "key", "value", "out", "up", "down"):
            kernel, bias = getattr(self, name)
            getattr(layer, name).set_weights([kernel[None, None], bias])
        layer.distance.assign(self.distance)


@dataclass(frozen=True)
class Clips:
    """Clips on their way through the layers.

    Attributes
    ----------
    tokens : ndarray, shape (clips, frames, dim)
        Of the teacher, at the student's rate.
    stream : ndarray, shape (clips, frames, width)
        Of the student: about the coordinates of these.
    """

    tokens: Float32Array
    stream: Float32Array


def inherit_layer(
    layer: Layer, clips: Clips, shape: Attention, basis: StreamBasis
) -> tuple[Inherited, Clips, tuple[float, float]]:
    """Fit a layer of attention to one of the teacher's.

    Parameters
    ----------
    layer : Layer
        Of the teacher.
    clips : Clips
        What goes into it.
    shape : Attention
        Of the student's layers.
    basis : StreamBasis

    Returns
    -------
    weights : Inherited
    clips : Clips
        What comes out of both.
    explained : tuple of float
        Share of the variance of the teacher's coordinates that the student's stream has behind
        its attention and behind the layer.
    """
    stream, theirs = clips.stream, Parts(*batched(layer.parts, clips.tokens))
    to_stream = np.asarray(layer.out.kernel) @ basis.kernel  # (dim, width)
    query, key, value = _projections(stream, theirs, to_stream, shape.head_width)
    queries, keys, values = (stream @ kernel + bias for kernel, bias in (query, key, value))
    distance = _distance(theirs.scores, queries, keys, shape)
    heard = attended(queries, keys, values, distance, shape)
    wanted = basis.coordinates(theirs.attended)
    out = ridge(heard, wanted - stream)
    stream = stream + heard @ out[0] + out[1]
    behind_attention = explained(stream, wanted)
    chosen = loudest(theirs.hidden, np.asarray(layer.down.kernel) @ basis.kernel, shape.feed)
    up = ridge(stream, theirs.hidden[..., chosen])
    hidden = np.maximum(stream @ up[0] + up[1], 0)
    wanted = basis.coordinates(theirs.output)
    down = ridge(hidden, wanted - stream)
    stream = stream + hidden @ down[0] + down[1]
    found = Inherited(query, key, value, distance, out, up, down)
    shares = behind_attention, explained(stream, wanted)
    return found, Clips(theirs.output, stream), shares


def _projections(
    stream: Float32Array, theirs: Parts, to_stream: Float32Array, head_width: int
) -> tuple[Linear, Linear, Linear]:
    """Queries, keys and values of all heads, each of `head_width` channels.

    The normalisation before them is part of what is fitted. What all keys have in common adds the
    same to all scores of a query, and what all values have in common is the same everywhere: both
    are left out.
    """
    made: list[list[Linear]] = [[], [], []]
    heads, width = theirs.queries.shape[1], theirs.queries.shape[3]
    (for_query, query_bias), (for_key, _), (for_value, _) = (
        ridge(stream, part.transpose(0, 2, 1, 3).reshape(*stream.shape[:2], -1))
        for part in (theirs.queries, theirs.keys, theirs.values)
    )
    flat = stream.reshape(-1, stream.shape[-1])
    usual = flat.mean(axis=0)
    for head in range(heads):
        here = slice(width * head, width * (head + 1))
        queries = flat @ for_query[:, here] + query_bias[here]
        keys, values = (centred(flat @ kernel[:, here]) for kernel in (for_key, for_value))
        fewer, fewer_keys = product_factors(queries, keys, head_width)
        fewer_values = value_factor(values, to_stream[here], head_width)
        made[0].append((for_query[:, here] @ fewer, query_bias[here] @ fewer))
        for place, kernel in (
            (1, for_key[:, here] @ fewer_keys),
            (2, for_value[:, here] @ fewer_values),
        ):
            made[place].append((kernel, -usual @ kernel))
    query, key, value = (_side_by_side(part) for part in made)
    return query, key, value


def centred(x: Float32Array) -> Float32Array:
    """Less its mean, shape (n, channels)."""
    return np.asarray(x - x.mean(axis=0))


def _side_by_side(parts: list[Linear]) -> Linear:
    kernels, biases = zip(*parts, strict=True)
    return np.concatenate(kernels, axis=1), np.concatenate(biases)


def _per_head(x: Float32Array, heads: int) -> Float32Array:
    """From (clips, frames, heads * width) to (clips, heads, frames, width)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _reach(frames: int, shape: Attention) -> np.ndarray:
    """Where each frame (rows) is in another's (columns) reach: from 0 for the oldest to
    ``past + ahead`` for the newest; outside, less or more. Shape (frames, frames).
    """
    place = np.arange(frames)
    return np.asarray(place[None] - place[:, None] + shape.past)


def _distance(
    scores: Float32Array, queries: Float32Array, keys: Float32Array, shape: Attention
) -> Float32Array:
    """What the distance of two frames adds to a score: the mean of what the teacher's have more.

    The teacher's tokens say where they are; those of a stream do not. What all scores of a query
    have more has no effect and does not count.

    Parameters
    ----------
    scores : ndarray, shape (clips, heads, frames, frames)
        The teacher's.
    queries, keys : ndarray, shape (clips, frames, heads * head_width)
        The student's.

    Returns
    -------
    ndarray, shape (heads, past + ahead + 1)
    """
    frames = scores.shape[-1]
    whole = np.arange(shape.past, frames - shape.ahead)  # whose reach lies within the clip
    within = whole[:, None] + np.arange(-shape.past, shape.ahead + 1)  # frames in reach of each
    total = np.zeros((shape.heads, within.shape[1]))
    for i in range(0, len(scores), BATCH):
        some = slice(i, i + BATCH)
        query, key = (_per_head(x[some], shape.heads) for x in (queries, keys))
        more = scores[some] - query @ key.swapaxes(2, 3)
        more = more[:, :, whole[:, None], within]  # (clips, heads, whole, reach)
        more = more - more.mean(axis=-1, keepdims=True)
        total += more.mean(axis=2, dtype=np.float64).sum(axis=0)
    return np.asarray(total / len(scores), np.float32)


def attended(
    queries: Float32Array,
    keys: Float32Array,
    values: Float32Array,
    distance: Float32Array,
    shape: Attention,
) -> Float32Array:
    """What frames attend to, where there is nothing outside the clip.

    Parameters
    ----------
    queries, keys, values : ndarray, shape (clips, frames, heads * head_width)
    distance : ndarray, shape (heads, past + ahead + 1)

    Returns
    -------
    ndarray, shape (clips, frames, heads * head_width)
    """
    place, reach = _reach(queries.shape[1], shape), shape.past + shape.ahead
    near = (place >= 0) & (place <= reach)
    added = np.where(near, distance[:, np.clip(place, 0, reach)], np.float32(FAR))

    def call(query: Any, key: Any, value: Any) -> Any:
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) + added)
        return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))

    fast, found = compiled(call), []
    for i in range(0, len(queries), BATCH):
        heads = (_per_head(x[i : i + BATCH], shape.heads) for x in (queries, keys, values))
        found.append(np.asarray(fast(*heads)))
    return np.concatenate(found).reshape(queries.shape)


def loudest(hidden: Float32Array, onward: Float32Array, count: int) -> np.ndarray:
    """Hidden channels of a feed-forward part that move what comes of it most, (count,).

    Parameters
    ----------
    hidden : ndarray, shape (..., channels)
        Before their activation.
    onward : ndarray, shape (channels, m)
        From channels to what they move.
    count : int
    """
    batches = range(0, len(hidden), BATCH)
    active = [ops.gelu(hidden[i : i + BATCH], approximate=True) for i in batches]
    variances = np.concatenate(active).reshape(-1, hidden.shape[-1]).var(axis=0)
    moved = np.square(onward).sum(axis=1)
    return np.asarray(np.argsort(-variances * moved)[:count])
