"""From a checkpoint to a model file: quantise, calibrate, prove, and only then write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from convert.graph import StreamingModule, representative_samples, to_int8
from convert.parity import Parity, compare
from convert.representative import representative
from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, FrontEnd, front_end_hash
from edge.interpreter import open_graphs
from edge.modelfile import (
    FORMAT_VERSION,
    NONSPEECH,
    OTHER,
    Calibration,
    DecoderDefaults,
    Description,
    StreamSpec,
    model_of_bytes,
    pack_model,
)
from train.checkpoint import Checkpoint, restore_model
from train.cuts import Cut, balanced, cuts, load_cut, read_audio
from train.evaluate import expected_calibration_error, fit_temperature
from train.filterbank import mel_filterbank
from train.fit import held_out_speakers
from train.manifest import Clip, read_manifest
from train.model import ModelConfig
from train.noise import read_noise

log = logging.getLogger(__name__)

WINDOWS_S = (1.0, 3.0, 10.0)
HOP_FRAMES = 16  # 160 ms: two decisions where the usual runtime makes one
CUTS_PER_LANGUAGE = 40
CUTS_OTHER = 60
SEED = 1


def convert(
    checkpoint: Checkpoint, corpus: Path, output: Path, name: str
) -> tuple[Description, dict[str, Parity]]:
    """Convert a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    corpus : Path
        Folder of the training corpus: the representative dataset, the calibration and the proof
        come from it (from its ``train`` split; the proof and the calibration from the
        development sources, which the model was not trained on).
    output : Path
        Model file to write.
    name : str
        What the model is called.

    Returns
    -------
    Description
        What was written into the file.
    dict of str to Parity
        Float against int8, by window length.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged, or the converted model is not as good as the trained
        one; nothing is written then.
    """
    config = checkpoint.config
    trunk, head = restore_model(checkpoint)
    filterbank = mel_filterbank(config.front_end)
    front_end = FrontEnd(config.front_end, filterbank)
    clips = [clip for clip in read_manifest(corpus) if clip.split == "train"]
    held_out = held_out_speakers(clips, config.data.development)
    noise_folder = corpus.parent / "noise"
    chosen = representative(
        [clip for clip in clips if clip.speaker not in held_out],
        corpus,
        read_noise(noise_folder, "train"),
        noise_folder,
        front_end,
        config.seed,
    )
    module = StreamingModule(trunk, head, HOP_FRAMES)
    log.info("quantising over %d clips", len(chosen.frames))
    graph = to_int8(module, representative_samples(module, chosen.frames))
    description = Description(
        format_version=FORMAT_VERSION,
        name=name,
        front_end=config.front_end,
        front_end_hash=front_end_hash(config.front_end, filterbank),
        stream=stream_spec(module, config.model),
        calibration=Calibration({f"{w:g}": 1.0 for w in WINDOWS_S}),
        decoder=DecoderDefaults(),
        provenance=provenance(checkpoint, chosen.ids, chosen.sha256),
    )
    labels = config.data.labels
    draft = model_of_bytes(output, pack_model(graph, labels, description, filterbank))
    development = [clip for clip in clips if clip.speaker in held_out]
    temperatures, metrics, proofs = {}, {}, {}
    for window_s in WINDOWS_S:
        audio, wanted, spoken = _held_out_audio(
            development, corpus, noise_folder, window_s, config.data.labels
        )
        classifier = StreamingClassifier(draft, open_graphs(draft), [window_s])
        parity, scores = compare(trunk, head, front_end, classifier, audio, wanted)
        parity.check()
        temperature = fit_temperature(scores, wanted)
        temperatures[f"{window_s:g}"] = round(temperature, 4)
        proofs[f"{window_s:g}"] = parity
        metrics[f"{window_s:g}"] = _metrics(scores, wanted, spoken, temperature, labels)
    description = dataclasses.replace(
        description,
        calibration=Calibration(temperatures),
        metrics={
            "measured_on": "development sources",
            "accuracy_by_duration": {k: m["macro_accuracy"] for k, m in metrics.items()},
            "ece_by_duration": {k: m["ece"] for k, m in metrics.items()},
            "int8_against_float": {k: asdict(p) for k, p in proofs.items()},
        },
    )
    write_atomically(output, pack_model(graph, labels, description, filterbank))
    return description, proofs


def stream_spec(module: StreamingModule, config: ModelConfig) -> StreamSpec:
    """How the converted graphs are fed."""
    return StreamSpec(
        hop_frames=module.hop_frames,
        stride_frames=config.stride,
        receptive_field_frames=config.receptive_field_frames,
        windows_s=WINDOWS_S,
        embedding=config.embedding,
        states=tuple(module.state_shapes),
    )


def provenance(checkpoint: Checkpoint, ids: Sequence[str], sha256: str) -> dict[str, Any]:
    """Where a model comes from: hashes, versions, and the clips it was quantised on."""
    import tensorflow as tf

    config = json.dumps(asdict(checkpoint.config), sort_keys=True)
    weights = hashlib.sha256()
    for key in sorted(checkpoint.arrays):
        weights.update(checkpoint.arrays[key].tobytes())
    return {
        "training_config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "weights_sha256": weights.hexdigest(),
        "training_steps": checkpoint.step,
        "tensorflow": tf.__version__,
        "macs_per_second": round(checkpoint.config.model.macs_per_frame() * FRAMES_PER_SECOND),
        "representative_clips": list(ids),
        "representative_sha256": sha256,
    }


def _held_out_audio(
    development: list[Clip],
    corpus: Path,
    noise_folder: Path,
    duration_s: float,
    labels: tuple[str, ...],
) -> tuple[list[Float32Array], np.ndarray, np.ndarray]:
    """Cuts of held-out speech and noise: audio, classes, and which are languages."""
    found = cuts(development, duration_s=duration_s, seed=SEED)
    spoken = balanced(
        [c for c in found if c.language in labels], per_language=CUTS_PER_LANGUAGE, seed=SEED
    )
    strangers = [c for c in found if c.language not in labels]
    if strangers:
        languages = len({c.language for c in strangers})
        strangers = balanced(strangers, per_language=CUTS_OTHER // languages, seed=SEED)
    if not spoken:
        raise EdgelidError("the development sources hold no speech: calibration is impossible")
    speech: list[Cut] = [*spoken, *strangers]
    audio = [load_cut(cut, corpus) for cut in speech]
    wanted = [labels.index(c.language if c.language in labels else OTHER) for c in speech]
    for noise in read_noise(noise_folder, "train"):
        samples = read_audio(noise_folder / noise.path)
        if not noise.has_speech and len(samples) >= duration_s * 16_000:
            audio.append(samples[-int(duration_s * 16_000) :])
            wanted.append(labels.index(NONSPEECH))
    is_language = np.arange(len(audio)) < len(spoken)
    return audio, np.array(wanted), is_language


def _metrics(
    scores: np.ndarray,
    wanted: np.ndarray,
    spoken: np.ndarray,
    temperature: float,
    labels: tuple[str, ...],
) -> dict[str, float]:
    languages = [i for i, label in enumerate(labels) if label not in (OTHER, NONSPEECH)]
    answers = scores[spoken][:, languages].argmax(axis=1)
    truth = wanted[spoken]
    hit = np.array(languages)[answers] == truth
    scaled = np.exp(scores / temperature)
    return {
        "macro_accuracy": round(float(np.mean([hit[truth == k].mean() for k in set(truth)])), 4),
        "ece": round(
            expected_calibration_error(scaled / scaled.sum(axis=1, keepdims=True), wanted), 4
        ),
    }


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EdgelidError(f"cannot write {path}: {error.strerror}") from error
