"""The command ``graft``: a large model gets a narrow decoder, made of Whisper's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from train.config import held_out_sources
from train.model.unreadable import UNREADABLE
from train.waveforms.asked import Asked, ask
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import is_large, load_parts, save_parts, starting_weights
from train.waveforms.decoder import DecoderShape
from train.waveforms.grafting import SHARE, graft, hear, learn
from train.waveforms.large import (
    Large,
    empty_large,
    labels_of,
    large_of,
    load_large,
    width_of,
)
from train.waveforms.linear import Linear
from train.waveforms.low_rank import ridge
from train.waveforms.published import read_whisper
from train.waveforms.settings import GraftedHead, Grafting, LargeSizes, large_settings
from train.waveforms.stepper import batched
from train.waveforms.whisper_languages import WhisperLanguages

FITTED = 4  # one in so many has a part in the closed forms; from all of them it learns then


def graft_decoder(config: dict[str, Any], segments: Segments, given: argparse.Namespace) -> None:
    """Write the checkpoint of a large model with a narrow decoder.

    Parameters
    ----------
    config : dict
        As ``train/configs/edgelid-9-large.toml``.
    segments : Segments
        The decoded bank.
    given : Namespace
        Options of ``python -m train.waveforms graft``.

    Raises
    ------
    EdgelidError
        If the configuration asks for no decoder, or the weights do not fit.
    """
    shape = large_settings(LargeSizes, config).decoder
    if shape is None:
        raise EdgelidError("the configuration has no [large.decoder]: nothing to graft")
    labels = labels_of(config)
    segments.check_held_out(held_out_sources(config, "the configuration"))
    keras.utils.set_random_seed(config["seed"])
    bare, told = _begun(given.start, config, labels)
    learning = large_settings(Grafting, config)
    penalty = None if told else large_settings(GraftedHead, config).head_penalty
    whisper, *others = (_teacher(weights, labels) for weights in given.weights)
    if not isinstance(whisper, WhisperLanguages):
        raise EdgelidError(f"{given.weights[0]} is no Whisper: its weights come first")
    layers = len(bare.encoder.stack)
    _check_fit(shape, bare, whisper)
    heard = ask(bare, whisper, others, segments, labels, config["seed"], given.windows, _say)
    if penalty is not None:
        _fit_head(bare, heard, penalty)
    groups = [hear(whisper, layers, some.tokens[::FITTED]) for some in heard]
    decoder = graft(whisper, groups, shape, _say)
    del groups  # gigabytes
    languages = learn(
        decoder,
        [(some.tokens, some.rows) for some in heard],
        learning.epochs,
        learning.decoder_rate,
        _say,
    )
    states = np.concatenate([batched(decoder, some.tokens) for some in heard])
    rows = np.concatenate([some.rows for some in heard])
    scores = np.asarray(ops.log_softmax(whisper.classes(rows)))
    wanted = SHARE * (scores - scores.mean(axis=1, keepdims=True))
    said, said_bias = ridge(states, wanted)
    model = empty_large(config, bare.dim, shape)
    for part in ("encoder", "gate", "centre"):
        getattr(model, part).set_weights(getattr(bare, part).get_weights())
    kernel, bias = ((1 - SHARE) * part for part in bare.scores.get_weights())
    model.scores.set_weights([kernel, bias + said_bias])  # `said` has no bias of its own
    assert model.decoder is not None
    model.decoder.set_weights(decoder.get_weights())
    model.said.set_weights([said])
    model.rows.set_weights(languages.get_weights())
    # Nobody has measured it yet.
    told = {"steps": 0, "clips": 0} | told | {"config": config, "scores": {}}
    save_parts(given.output, model.arrays(), told)


def _teacher(weights: Path, labels: list[str]) -> WhisperLanguages | Large:
    """A Whisper, or a large model that has a decoder."""
    if not is_large(weights):
        return WhisperLanguages(read_whisper(weights), labels[:-2])
    model, known = load_large(weights)
    if model.decoder is None or known != labels:
        raise EdgelidError(
            f"{weights} is no large model of the configuration's languages with a decoder"
        )
    return model


def _begun(start: Path, config: dict[str, Any], labels: list[str]) -> tuple[Large, dict[str, Any]]:
    """A model without a decoder, and what is told of it: nothing, if its head was not fitted."""
    if is_large(start):
        arrays, told = load_parts(start)
        bare, known = large_of(arrays, told)
        if bare.decoder is not None:
            raise EdgelidError(f"{start} has a decoder already: give the one without")
        if known != labels:
            raise EdgelidError(f"{start} and the configuration differ in their languages")
        return bare, told
    try:
        arrays = starting_weights(start)
        bare = empty_large(config, width_of(arrays), None)
        bare.load_arrays(arrays)
    except UNREADABLE as error:
        raise EdgelidError(
            f"{start} is neither a checkpoint of the large model nor an encoder of so many layers"
        ) from error
    return bare, {}


def _fit_head(model: Large, heard: list[Asked], penalty: float) -> None:
    """Fit the linear layer on pooled statistics to what was spoken in the windows."""
    x = np.concatenate([batched(model.pool, some.tokens) for some in heard])
    y = np.concatenate([some.labels for some in heard])
    head = Linear.fit(x, y, penalty)
    right = float(np.mean(head.scores(x).argmax(axis=1) == y))
    _say(f"head fitted to {len(x)} windows: {right:.1%} right")
    model.take_head(head)


def _check_fit(shape: DecoderShape, bare: Large, whisper: WhisperLanguages) -> None:
    if bare.dim != whisper.encoder.dim:
        raise EdgelidError(
            f"the large model is {bare.dim} wide, and Whisper {whisper.encoder.dim}: give the "
            "weights that it began with"
        )
    heads, steps = len(whisper.steps_[0].keys), len(whisper.steps_)
    if shape.heads != heads:
        raise EdgelidError(f"[large.decoder] must have as many heads as Whisper: {heads}")
    if shape.steps[:1] != (0,) or not all(0 <= step < steps for step in shape.steps):
        raise EdgelidError(
            "the steps of [large.decoder] must begin with 0 and be those of Whisper: 0 to "
            f"{steps - 1}"
        )


def _say(line: str) -> None:
    print(line, flush=True)
