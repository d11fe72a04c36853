"""A narrow decoder made of Whisper's: in closed form, and then by learning what that says.

It reads the tokens of a large model of ours, which has fewer layers than Whisper's encoder and was
fine-tuned. Whatever the layers that are left out do to them, as far as a linear map tells, is part
of its keys and values; what passes from step to step is told along its principal components; and
each part is fitted to Whisper's by regression from what the parts before it made of it, so that it
makes up for what these lost (as `train.waveforms.inheriting` does for the compact model).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.frontend import Float32Array
from train.waveforms.decoder import Decoder, DecoderShape, Step, normalised
from train.waveforms.inheriting import centred, loudest
from train.waveforms.lessons import divergence
from train.waveforms.low_rank import explained, product_factors, ridge, value_factor
from train.waveforms.stepper import Stepper, batched, rate_factor
from train.waveforms.whisper_languages import Parts, WhisperLanguages

SHARE = 0.5  # of Whisper's log-probabilities in the scores; the rest is the model's own
LEARNT = 32  # windows of a step of learning
AVERAGE_DECAY = 0.998
TOKENS = 120_000  # of the windows, from which the map between encoders is fitted


@dataclass(frozen=True)
class Heard:
    """Windows of one length.

    Attributes
    ----------
    ours : ndarray, shape (windows, tokens, dim)
        Tokens of the large model, normalised.
    theirs : ndarray, shape (windows, tokens, dim)
        What Whisper's decoder would read: behind all of its encoder's layers.
    """

    ours: Float32Array
    theirs: Float32Array


def hear(whisper: WhisperLanguages, layers: int, tokens: Float32Array) -> Heard:
    """What both decoders read of tokens of our last layer.

    Parameters
    ----------
    whisper : WhisperLanguages
        Whose further layers go on from our tokens.
    layers : int
        Of ours.
    tokens : ndarray, shape (windows, tokens, dim)
    """
    return Heard(*batched(lambda x: (normalised(x), whisper.heard_from(layers, x)), tokens))


def graft(
    whisper: WhisperLanguages,
    groups: Sequence[Heard],
    shape: DecoderShape,
    told: Callable[[str], None],
) -> Decoder:
    """Make a narrow decoder.

    Parameters
    ----------
    whisper : WhisperLanguages
    groups : sequence of Heard
        Of windows of several lengths.
    shape : DecoderShape
    told : callable
        Gets a line for each step that is made.

    Returns
    -------
    Decoder
    """
    dim = groups[0].ours.shape[-1]
    decoder = Decoder(shape, dim)
    every = max(1, sum(g.ours.shape[0] * g.ours.shape[1] for g in groups) // TOKENS)
    ours = np.concatenate([group.ours.reshape(-1, dim)[::every] for group in groups])
    theirs = np.concatenate([group.theirs.reshape(-1, dim)[::every] for group in groups])
    across, _ = ridge(ours, theirs)  # what all tokens have in common changes no score
    known_share = explained(centred(ours) @ across, centred(theirs))
    told(f"tokens of Whisper's encoder explained: {known_share:.3f}")
    # What Whisper makes of each window, layer by layer.
    traces = _traces(whisper, groups)
    known: Float32Array | None = None
    for step, place in zip(decoder.steps, shape.steps, strict=True):
        known, shares = _fit(
            step, whisper.steps_[place], traces[place], groups, known, across, ours, shape
        )
        told(f"step {place} explained: {shares[0]:.3f} behind its look, {shares[1]:.3f} behind it")
    return decoder


def learn(
    decoder: Decoder,
    windows: Sequence[tuple[Float32Array, Float32Array]],
    epochs: int,
    rate: float,
    told: Callable[[str], None],
) -> keras.layers.Dense:
    """Let a decoder learn to say what Whisper's says, of all of its languages.

    Nobody tells it which language was spoken: so it learns to hear as Whisper does, and not who the
    people are. The tokens stay as they are.

    Parameters
    ----------
    decoder : Decoder
    windows : sequence of (ndarray, ndarray)
        For each length, tokens of our last layer, (windows, tokens, dim), and Whisper's scores of
        all of its rows, (windows, rows).
    epochs : int
    rate : float
        Peak learning rate.
    told : callable
        Gets a line for each epoch.

    Returns
    -------
    keras.layers.Dense
        From the decoder's last state to the scores of these rows.
    """
    states = np.concatenate([batched(decoder, tokens) for tokens, _ in windows])
    kernel, bias = ridge(states, np.concatenate([rows for _, rows in windows]))
    rows = keras.layers.Dense(len(bias), name="rows")
    rows.build((None, len(kernel)))
    rows.set_weights([kernel, bias])

    def loss(outs: Callable[..., Any], draw: Any, constants: Any) -> Any:
        said = outs(1, outs(0, ops.cast(draw["tokens"], "float32")))
        found = ops.mean(divergence(ops.softmax(draw["rows"]), said))
        return found, {"divergence": found}

    stepper = Stepper([decoder, rows], loss, lambda _: rate, 0.0, AVERAGE_DECAY)
    rng = np.random.default_rng(0)
    steps = epochs * sum(len(tokens) // LEARNT for tokens, _ in windows)
    step = 0
    for epoch in range(epochs):
        batches = [
            (group, some)
            for group, (tokens, _) in enumerate(windows)
            for some in np.array_split(rng.permutation(len(tokens)), len(tokens) // LEARNT)
        ]
        found = []
        for i in rng.permutation(len(batches)):
            group, some = batches[i]
            tokens, wanted = windows[group]
            draw = {"tokens": tokens[some], "rows": wanted[some]}
            found.append(float(stepper.step(draw, {}, rate_factor(step / steps))["divergence"]))
            step += 1
        told(f"epoch {epoch + 1} of {epochs}: divergence {np.mean(found):.3f}")
    stepper.settle()
    return rows


def _traces(whisper: WhisperLanguages, groups: Sequence[Heard]) -> list[Parts]:
    def call(heard: Any) -> tuple[Any, ...]:
        found: list[Any] = []
        x = whisper.begun(heard)
        for step in whisper.steps_:
            parts = step.parts(x, heard)
            found += parts
            x = parts.output
        return tuple(found)

    pieces = [batched(call, group.theirs) for group in groups]
    flat = [np.concatenate(part) for part in zip(*pieces, strict=True)]
    size = len(Parts._fields)
    return [Parts(*flat[i : i + size]) for i in range(0, len(flat), size)]


def _fit(
    step: Step,
    teacher: Any,
    parts: Parts,
    groups: Sequence[Heard],
    known: Float32Array | None,
    across: Float32Array,
    ours: Float32Array,
    shape: DecoderShape,
) -> tuple[Float32Array, tuple[float, float]]:
    basis = _basis(parts, shape.width)
    keys = [np.asarray(key.kernel) @ across.T for key in teacher.keys]  # (dim / heads, dim) each
    if step.first:
        asked = np.stack([parts.queries[0, h] @ kernel for h, kernel in enumerate(keys)], axis=1)
        step.asked.set_weights([asked])
    else:
        assert known is not None
        _set_queries(step, parts.queries, known, keys, ours, shape)
    _set_values(step, teacher, parts.values, basis, across, shape)
    found = _found(step, groups, known)
    wanted = centred(parts.attended) @ basis
    inputs = found if known is None else np.concatenate([known, found], axis=1)
    kernel, bias = ridge(inputs, wanted)
    width = 0 if known is None else shape.width
    if width:
        step.carry.set_weights([kernel[:width]])
    step.out.set_weights([kernel[width:], bias])
    state = inputs @ kernel + bias
    behind_look = explained(state, wanted)
    chosen = loudest(parts.hidden, np.asarray(teacher.down.kernel) @ basis, shape.feed)
    up = ridge(state, parts.hidden[:, chosen])
    step.up.set_weights(list(up))
    hidden = np.asarray(ops.gelu(state @ up[0] + up[1], approximate=True), np.float32)
    wanted = centred(parts.output) @ basis
    down = ridge(hidden, wanted - state)
    step.down.set_weights(list(down))
    state = np.asarray(state + hidden @ down[0] + down[1], np.float32)
    return state, (behind_look, explained(state, wanted))


def _basis(parts: Parts, width: int) -> Float32Array:
    """Directions that have most of the power of what passes through a step, (dim, width)."""
    both = np.concatenate([centred(parts.attended), centred(parts.output)])
    _, axes = np.linalg.eigh(both.T.astype(np.float64) @ both)
    return np.ascontiguousarray(axes[:, -width:], np.float32)


def _set_queries(
    step: Step,
    queries: Float32Array,
    known: Float32Array,
    keys: Sequence[Float32Array],
    ours: Float32Array,
    shape: DecoderShape,
) -> None:
    """Queries from what is known, and keys, of fewer channels, whose products are most alike."""
    kernels, biases, made = [], [], []
    for head, key in enumerate(keys):
        kernel, bias = ridge(known, queries[:, head])
        for_queries, for_keys = product_factors(
            known @ kernel + bias, centred(ours @ key.T), shape.channels
        )
        kernels.append(kernel @ for_queries)
        biases.append(bias @ for_queries)
        made.append(for_keys.T @ key)
    step.query.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])
    step.keys.set_weights([np.concatenate(made)])


def _set_values(
    step: Step,
    teacher: Any,
    values: Float32Array,
    basis: Float32Array,
    across: Float32Array,
    shape: DecoderShape,
) -> None:
    """Values of fewer channels, from which what Whisper's add is regained best."""
    width = values.shape[2]
    out = np.asarray(teacher.out.kernel)
    made = []
    for head, theirs in enumerate(teacher.values):
        added = out[width * head : width * (head + 1)] @ basis
        factor = value_factor(centred(values[:, head]), added, shape.channels)
        made.append(across @ np.asarray(theirs.kernel) @ factor)
    step.values.set_weights([np.concatenate(made, axis=1)])


def _found(step: Step, groups: Sequence[Heard], known: Float32Array | None) -> Float32Array:
    """What the heads of a step find, (windows, heads * channels)."""

    def call(heard: Any, x: Any = None) -> Any:
        return step.found(x, heard)

    rows, first = [], 0
    for group in groups:
        count = len(group.ours)
        given = () if known is None else (known[first : first + count],)
        rows.append(batched(call, group.ours, *given))
        first += count
    return np.concatenate(rows)
