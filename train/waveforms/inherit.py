"""A compact model whose layers of attention are the large model's: where its training begins.

The large model (`train.waveforms.large`) is good about people whom nobody has heard because of
what its layers have seen of the world; a student that begins at random has to learn that from the
few people of a bank. So it begins with the teacher's layers themselves, made fit to stream. In this
order:

1. calibration: the teacher hears clips of training speech, and the directions that most of its
   stream is about become coordinates (`train.waveforms.stream_basis`);
2. what the first of its layers says in them is kept for the whole bank, as a hearing;
3. the convolutions learn to say the same (`train.waveforms.stem_fit`);
4. each further layer becomes one of the student's (`train.waveforms.inheriting`).

What reads the stream (embedding, gate, head) is new, and `train.waveforms.compact_fit`, which goes
on from here, lets it learn alone at first.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.architecture import Attention
from train.config import RunConfig
from train.folder import make_folder
from train.model.checkpoint import Checkpoint, build_model, load_checkpoint, weights_of
from train.model.network import Trunk
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import fingerprint, fingerprint_of
from train.waveforms.compact_fit import run_config
from train.waveforms.hearing import (
    BATCH,
    WINDOW_TOKENS,
    Hearing,
    keep_tokens,
    levelled,
)
from train.waveforms.hearing import fingerprint as bank_fingerprint
from train.waveforms.inheriting import Clips, inherit_layer
from train.waveforms.large import HEAD_WIDTH, Large, large_front_end, load_large
from train.waveforms.settings import compact_settings
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.state import digest
from train.waveforms.stem_fit import begin_stem, fit_stem
from train.waveforms.stream_basis import StreamBasis, fit_basis
from train.waveforms.whisper import normalised
from train.waveforms.windows import Forward, Windows, training_windows

PER_LANGUAGE, OTHERS = 64, 104  # clips to calibrate with
SAMPLES = samples_of(2 * WINDOW_TOKENS)  # of each: what the teacher hears at once
# An embedding is a rectified coordinate with so many deviations added: nearly all of it passes.
SHIFT = 2.0


def inherit(config: dict[str, Any], segments: Segments, given: argparse.Namespace) -> None:
    """Write the checkpoint, at step 0, that the training of a compact model begins with.

    Parameters
    ----------
    config : dict
        As ``train/configs/edgelid-9-attention.toml``.
    segments : Segments
        The decoded bank.
    given : Namespace
        Options of ``python -m train.waveforms inherit``.

    Raises
    ------
    EdgelidError
        If bank, teacher, hearing, start and configuration do not fit each other.
    """
    told = run_config(config)
    segments.check_held_out(told.data.development)
    # The convolutions' time alone ends their learning: without an end, they would learn for ever.
    if not all(0 < x < math.inf for x in (given.limit_s, given.hear_limit_s, given.towers)):
        raise EdgelidError("--limit-s, --hear-limit-s and --towers must be above 0 and finite")
    teacher, labels = load_large(given.teacher)
    if labels != list(told.data.labels):
        raise EdgelidError(f"{given.teacher} and the configuration differ in their languages")
    shape = attention_for(told, teacher)
    keras.utils.set_random_seed(told.seed)
    trunk, head = build_model(told)
    begun = None
    if given.start:
        start = load_checkpoint(given.start)
        taken, begun = begin_stem(trunk, start), fingerprint_of(start.arrays)
        print(f"{taken} of {len(trunk.temporal)} convolutions taken over", flush=True)
    windows = training_windows(segments, labels, SAMPLES, PER_LANGUAGE, told.seed, OTHERS)
    group = told.model.stride // 2  # tokens of the teacher for a frame of the student's stream
    basis = _basis(teacher, segments, windows, group, shape.width, given.hearing, told.seed)
    kept = ", ".join(f"{share:.1%}" for share in basis.kept)
    print(f"{shape.width} directions have {kept} of the layers' power", flush=True)
    first = _first_layer(teacher, basis, given.towers)
    whose = f"{fingerprint([teacher])} in {shape.width}"
    keep_tokens(segments, labels, first, shape.width, given.hearing, given.hear_limit_s, whose)
    hearing = Hearing.load(given.hearing, segments, whose)
    tts_weight = compact_settings(config).tts_weight
    run = digest(config, begun, fingerprint([teacher]), bank_fingerprint(segments))
    length = given.limit_s, given.output, given.towers
    fit_stem(trunk, told, segments, hearing, tts_weight, *length, run)
    tokens = np.concatenate(
        [
            batch.reshape(len(batch), -1, group, teacher.dim).mean(axis=2)
            for batch in _outputs(teacher, 1, segments, windows, "first layer")
        ]
    )
    clips = Clips(tokens, basis.coordinates(tokens))
    layers = zip(teacher.encoder.stack[1:], trunk.attention, strict=True)
    for number, (theirs, ours) in enumerate(layers, start=2):
        found, clips, shares = inherit_layer(theirs, clips, shape, basis)
        found.put_into(ours)
        print(
            f"layer {number}: {shares[0]:.1%} behind attention and {shares[1]:.1%} behind it of "
            "what the teacher has",
            flush=True,
        )
    _begin_readout(trunk, clips.stream, told.seed)
    Checkpoint(told, 0, {}, weights_of(trunk, head)).save(given.output)


def attention_for(config: RunConfig, teacher: Large) -> Attention:
    """The shape of the layers that inherit, which must be one that they can have.

    Raises
    ------
    EdgelidError
        If it is not.
    """
    shape, stack = config.model.attention, teacher.encoder.stack
    if shape is None:
        raise EdgelidError("the configuration has no layers of attention that could inherit")
    if shape.layers != len(stack) - 1:
        raise EdgelidError(
            f"the configuration has {shape.layers} layers of attention, where {len(stack) - 1} "
            "inherit: all of the teacher's but the first, which is the convolutions' part"
        )
    if shape.heads != stack[0].heads:
        raise EdgelidError(
            f"the configuration has {shape.heads} heads of attention, where the teacher has "
            f"{stack[0].heads}"
        )
    most = {"width": teacher.dim, "head_width": HEAD_WIDTH, "feed": 4 * teacher.dim}
    for name, limit in most.items():
        if getattr(shape, name) > limit:
            raise EdgelidError(
                f"attention.{name} is {getattr(shape, name)} in the configuration, where the "
                f"teacher has {limit}"
            )
    stride = config.model.stride
    if stride % 2 or WINDOW_TOKENS % (stride // 2):
        raise EdgelidError(
            f"the configuration's strides make {stride} frames of 10 ms one; the teacher's tokens "
            "are of 2"
        )
    if shape.past + shape.ahead >= (most_frames := 2 * WINDOW_TOKENS // stride):
        raise EdgelidError(
            f"the configuration attends to {shape.past + shape.ahead + 1} frames at once, where "
            f"the teacher hears {most_frames}"
        )
    return shape


def _outputs(teacher: Large, layers: int, segments: Segments, windows: Windows, what: str) -> Any:
    """What the first layers put out for windows, in batches of (clips, layers, tokens, dim)."""
    front_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))

    def call(wave: Any) -> Any:
        features = normalised(log_mel(levelled(wave), front_end, filters))
        return ops.stack(teacher.encoder.outputs(features)[:layers], axis=1)

    return Forward(segments, call).batches(windows, SAMPLES, what)


def _basis(
    teacher: Large,
    segments: Segments,
    windows: Windows,
    group: int,
    width: int,
    folder: Path,
    seed: int,
) -> StreamBasis:
    """Directions of the teacher's stream: once for all that is kept in a folder."""
    file, name = folder / "basis.npz", fingerprint([teacher])
    if file.exists():
        return StreamBasis.load(file, name, width)
    if (folder / "progress.json").exists():
        raise EdgelidError(f"{folder} has another hearing: give a folder of its own as --hearing")
    make_folder(folder)
    layers = len(teacher.encoder.stack)
    outputs = _outputs(teacher, layers, segments, windows, "calibration")
    basis = fit_basis(outputs, group, width, np.random.default_rng(seed))
    basis.save(file, name)
    return basis


def _first_layer(teacher: Large, basis: StreamBasis, towers: int) -> Callable[[Any], Any]:
    """From log-mel frames to coordinates of the first layer, (batch, tokens, width)."""
    kernel, places = (ops.convert_to_tensor(x) for x in (basis.kernel, basis.places))
    stops = [BATCH * i // towers for i in range(towers + 1)]

    def call(log_mel: Any) -> Any:
        # Parts side by side, as in training (`train.waveforms.stepper`).
        parts = [log_mel[a:b] for a, b in itertools.pairwise(stops) if b > a]
        tokens = [teacher.encoder.outputs(normalised(part))[0] for part in parts]
        return ops.concatenate([ops.matmul(x - places, kernel) for x in tokens])

    return call


def _begin_readout(trunk: Trunk, stream: Float32Array, seed: int) -> None:
    """Embeddings that pass on what comes out of the last layer, all moments alike.

    The rectifier before the pooling lets nearly everything through (`SHIFT`): at first the
    statistics are those of the stream.
    """
    width, embedding = stream.shape[-1], trunk.config.embedding
    size = max(width, embedding)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    spread = np.sqrt(np.mean(np.square(stream)))
    kernel = (rotation[:width, :embedding] / spread).astype(np.float32)
    trunk.embedding.set_weights([kernel[None, None], np.full(embedding, SHIFT, np.float32)])
    _, bias = trunk.weight.get_weights()
    trunk.weight.set_weights([np.zeros((1, 1, width, 1), np.float32), bias])
