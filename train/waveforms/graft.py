"""The command ``graft``: a large model gets a narrow decoder, made of Whisper's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import is_large, load_parts, save_parts
from train.waveforms.decoder import DecoderShape
from train.waveforms.draws import Drawer
from train.waveforms.grafting import SHARE, graft, hear, learn
from train.waveforms.large import HEAD_WIDTH, Large, decoder_shape, large_front_end, large_of
from train.waveforms.lessons import augmented_waves, clean_waves, room_constants
from train.waveforms.low_rank import ridge
from train.waveforms.published import read_whisper
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.stepper import BATCH, batched, compiled
from train.waveforms.voices import draw_voices, voice_maps, voiced
from train.waveforms.whisper import normalised
from train.waveforms.whisper_languages import WhisperLanguages

WINDOWS = {1.0: 8800, 2.0: 3200, 3.0: 8800, 5.0: 2800}  # augmented, by their seconds
OTHER_VOICES = 0.6  # of the windows: Whisper is asked what it says of voices that nobody has, too
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
    shape = decoder_shape(config)
    if shape is None:
        raise EdgelidError("the configuration has no [large.decoder]: nothing to graft")
    if not is_large(given.start):
        raise EdgelidError(f"{given.start} is no checkpoint of the large model")
    arrays, told = load_parts(given.start)
    bare, labels = large_of(arrays, told)
    if bare.decoder is not None:
        raise EdgelidError(f"{given.start} has a decoder already: give the one without")
    if labels[:-2] != config["data"]["languages"]:
        raise EdgelidError(f"{given.start} and the configuration differ in their languages")
    try:
        epochs, rate = config["large"]["epochs"], config["large"]["decoder_rate"]
    except KeyError as error:
        raise EdgelidError(f"[large] lacks {error.args[0]}") from error
    whisper, *others = (WhisperLanguages(read_whisper(w), labels[:-2]) for w in given.weights)
    layers = len(bare.encoder.stack)
    _check_fit(shape, bare, whisper)
    drawer = Drawer(segments, labels, config["seed"])
    windows = _windows(bare, whisper, others, segments, drawer)
    groups = [hear(whisper, layers, tokens[::FITTED]) for tokens, _ in windows]
    decoder = graft(whisper, groups, shape, _say)
    languages = learn(decoder, windows, epochs, rate, _say)
    states = np.concatenate([batched(decoder, tokens) for tokens, _ in windows])
    rows = np.concatenate([rows for _, rows in windows])
    scores = np.asarray(ops.log_softmax(whisper.classes(rows)))
    said, _ = ridge(states, SHARE * (scores - scores.mean(axis=1, keepdims=True)))
    model = Large(layers, len(labels), 0.0, "float32", bare.dim, bare.dim // HEAD_WIDTH, shape)
    for part in ("encoder", "gate", "centre"):
        getattr(model, part).set_weights(getattr(bare, part).get_weights())
    model.scores.set_weights([(1 - SHARE) * part for part in bare.scores.get_weights()])
    assert model.decoder is not None
    model.decoder.set_weights(decoder.get_weights())
    model.said.set_weights([said])
    model.rows.set_weights(languages.get_weights())
    told = told | {"config": config, "scores": {}}  # nobody has measured it yet
    save_parts(given.output, model.arrays(), told)


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


def _windows(
    model: Large,
    whisper: WhisperLanguages,
    others: Sequence[WhisperLanguages],
    segments: Segments,
    drawer: Drawer,
) -> list[tuple[Float32Array, Float32Array]]:
    """Tokens of the large model, and what the Whispers say of the windows, by their length.

    The mean of their log-probabilities: they err apart.
    """
    layers, found = len(model.encoder.stack), []
    front_end = large_front_end()
    filters, maps = ops.convert_to_tensor(filterbank(front_end)), voice_maps(front_end)
    bank = ops.convert_to_tensor(np.asarray(segments.samples))  # once: gigabytes
    for s, count in WINDOWS.items():
        frames = round(s * 100)
        samples = samples_of(frames)
        constants = room_constants(segments, drawer, samples) | {"bank": bank}

        def call(draw: Any, constants: Any, samples: int = samples) -> Any:
            wave = augmented_waves(clean_waves(draw, constants, samples), draw, constants)
            features = voiced(log_mel(wave, front_end, filters), draw, maps)
            tokens = model.encoder(normalised(features))
            heard = [whisper.heard_from(layers, tokens)] + [w.heard(features) for w in others]
            rows = [
                ops.log_softmax(w.decoded(x))
                for w, x in zip((whisper, *others), heard, strict=True)
            ]
            return tokens, sum(rows) / len(rows)

        fast = compiled(call)
        tokens: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for _ in range(count // BATCH):
            draw = drawer.batch(BATCH, samples, frames, front_end.mels)
            draw |= draw_voices(drawer.rng, draw["rate"], OTHER_VOICES)
            some, said = fast(draw, constants)
            # Half precision: the windows of all lengths are in memory together.
            tokens.append(np.asarray(some).astype(np.float16))
            rows.append(np.asarray(said))
        found.append((np.concatenate(tokens), np.concatenate(rows)))
        _say(f"{len(found[-1][0])} windows of {s:g} s")
    return found
