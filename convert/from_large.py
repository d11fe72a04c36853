"""From a checkpoint of the large model to a model file of whole windows with int8 weights.

Its activations stay float32: the interpreter quantises them as it goes (dynamic-range
quantisation), so that no representative dataset decides what a stranger's voice may do.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from convert.from_checkpoint import MIN_DEVELOPMENT_CLIP_S, versions
from convert.held_out_audio import HeldOut, held_out_audio
from convert.output import check_output, write_model
from convert.parity import compare
from convert.proof import Limits, Proof
from convert.streaming_graph import float_window_to_tflite
from convert.whole_window import window_scores, window_spec
from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, FrontEnd, front_end_hash
from edge.model.interpreter import run_model
from edge.model.modelfile import (
    NONSPEECH,
    OTHER,
    WINDOW_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    model_of_bytes,
    pack_model,
)
from train.corpus.manifest import CLIPS_A_LANGUAGE, TEST, clips_of, open_manifest, thinned
from train.features.filterbank import mel_filterbank
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import divide
from train.waveforms.checkpoint import load_parts
from train.waveforms.large import Large, large_front_end

log = logging.getLogger(__name__)

WINDOW_S = 3.0
# A second opinion is asked for now and then; alone, it answers twice a second.
HOP_FRAMES = 50
LICENCE = (
    "Apache-2.0; the encoder's weights began as those of Whisper base (MIT, (c) 2022 OpenAI) and "
    "were fine-tuned"
)


def convert_large(
    checkpoint: Path, corpus: Path, output: Path, name: str, limits: Limits, sounds: Path | None
) -> Proof:
    """Convert a checkpoint of ``python -m train.waveforms large``.

    Parameters
    ----------
    checkpoint : Path
        Name that the parts ``NAME-0.npz``, ``NAME-1.npz`` were given.
    corpus : Path
        Manifest or folder; its development speech calibrates and proves.
    output : Path
        Model file to write.
    name : str
        What the model is called.
    limits : Limits
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged, or (as NotProven) the converted model answers
        differently; nothing is written then.
    """
    check_output(output, [checkpoint, corpus])
    arrays, told = load_parts(checkpoint)
    data = told["config"]["data"]
    labels = (*data["languages"], OTHER, NONSPEECH)
    model = Large(told["config"]["large"]["layers"], len(labels))
    model.load_arrays(arrays)
    config = large_front_end()
    filterbank = mel_filterbank(config)
    frames = round(WINDOW_S * FRAMES_PER_SECOND)
    log.info("converting")
    graph = float_window_to_tflite(model, (frames, config.mels))
    description = Description(
        format_version=WINDOW_FORMAT_VERSION,
        name=name,
        front_end=config,
        front_end_hash=front_end_hash(config, filterbank),
        stream=window_spec(config, frames, HOP_FRAMES),
        calibration=Calibration({f"{WINDOW_S:g}": 1.0}),
        decoder=DecoderDefaults(window_s=WINDOW_S),
        provenance=_provenance(told, arrays),
        licence=LICENCE,
    )
    draft = model_of_bytes(output, pack_model(graph, labels, description, filterbank))
    held = _held_out(corpus, sounds, data.get("development", {}), labels)
    log.info("comparing before and after over %d clips", len(held.audio))
    classifier = StreamingClassifier(draft, run_model(draft, 1), [WINDOW_S])
    trained = window_scores(model, FrontEnd(config, filterbank), frames)
    parity, scores = compare(trained, classifier, held)
    proof = Proof({f"{WINDOW_S:g}": parity}, [], [], None, {}, limits)
    proof.check()
    right = scores[held.spoken][:, : len(labels) - 2].argmax(1) == held.wanted[held.spoken]
    by_language = {
        labels[k]: round(float(right[held.wanted[held.spoken] == k].mean()), 4)
        for k in np.unique(held.wanted[held.spoken])
    }
    description.calibration.temperatures[f"{WINDOW_S:g}"] = parity.temperature_converted
    description.metrics.update(
        measured_on="development sources",
        accuracy_by_duration={
            f"{WINDOW_S:g}": round(float(np.mean(list(by_language.values()))), 4)
        },
        accuracy_by_language=by_language,
        proof=proof.as_dict(),
    )
    contents = pack_model(graph, labels, description, filterbank)
    write_model(output, contents)
    return proof


def _held_out(
    given: Path, sounds: Path | None, development: dict[str, list[str]], labels: tuple[str, ...]
) -> HeldOut:
    manifest = open_manifest(given)
    rows = manifest.rows.filter(pl.col("split") != TEST)
    _, held = divide(rows, development)
    heard = rows[held].filter(pl.col("seconds") >= MIN_DEVELOPMENT_CLIP_S)
    if heard.is_empty():
        raise EdgelidError(f"the corpus {given} holds no development speech: see docs/data.md")
    clips = clips_of(thinned(heard, CLIPS_A_LANGUAGE))
    noise = sounds_of(manifest.root, sounds) / "noise"
    noises = read_noise(noise, "train")
    return held_out_audio(clips, manifest.root, noises, noise, [WINDOW_S], labels)[WINDOW_S]


def _provenance(told: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    weights = hashlib.sha256()
    for key in sorted(arrays):
        weights.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    config = json.dumps(told["config"], sort_keys=True)
    return {
        "weights_sha256": weights.hexdigest(),
        "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "step": told["steps"],
        **versions(),
    }
