"""From a checkpoint to a model file: quantise, calibrate, prove, and only then write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from convert.graph import StreamingModule, representative_samples, to_int8
from convert.heldout import HeldOut, held_out_audio
from convert.parity import Parity, compare
from convert.representative import representative
from edge.classifier import StreamingClassifier, softmax
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float64Array, FrontEnd, front_end_hash
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
from train.atomic import check_writable, write_atomically
from train.checkpoint import Checkpoint, restore_model
from train.filterbank import mel_filterbank
from train.fit import held_out_speakers
from train.manifest import read_manifest
from train.metrics import expected_calibration_error, fit_temperature
from train.model import ModelConfig
from train.noise import read_noise
from train.streams import make_stream, tune_decoder

log = logging.getLogger(__name__)

WINDOWS_S = (1.0, 3.0, 10.0)
DECODER_WINDOWS_S = (1.0, 2.0, 3.0)  # what the decoder may listen to
STREAMS = 3
STREAM_S = 400.0
# Letters and syllables, read one by one, are no speech to calibrate a listener on.
MIN_DEVELOPMENT_CLIP_S = 1.0
HOP_FRAMES = 16  # 160 ms: two decisions where the usual runtime makes one


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
    check_writable(output)  # what follows takes a minute
    config = checkpoint.config
    labels = config.data.labels
    if HOP_FRAMES % config.model.stride:
        raise EdgelidError(
            f"the model's stride of {config.model.stride} frames does not divide a hop of "
            f"{HOP_FRAMES}: train one whose stride does"
        )
    trunk, head = restore_model(checkpoint)
    filterbank = mel_filterbank(config.front_end)
    front_end = FrontEnd(config.front_end, filterbank)
    clips = [clip for clip in read_manifest(corpus) if clip.split == "train"]
    held_out = held_out_speakers(clips, config.data.development)
    noise_folder = corpus.parent / "noise"
    noises = read_noise(noise_folder, "train")
    chosen = representative(
        [clip for clip in clips if clip.speaker not in held_out],
        corpus,
        noises,
        noise_folder,
        front_end,
        config.seed,
    )
    development = [
        clip
        for clip in clips
        if clip.speaker in held_out and clip.duration_s >= MIN_DEVELOPMENT_CLIP_S
    ]
    sets = held_out_audio(
        development,
        corpus,
        noises,
        noise_folder,
        WINDOWS_S,
        labels,
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
    draft = model_of_bytes(output, pack_model(graph, labels, description, filterbank))
    graphs = open_graphs(draft)
    temperatures, metrics, proofs = {}, {}, {}
    for window_s, held in sets.items():
        key = f"{window_s:g}"
        log.info("comparing float and int8 over %d clips of %s s", len(held.audio), key)
        classifier = StreamingClassifier(draft, graphs, [window_s])
        parity, scores = compare(trunk, head, front_end, classifier, held.audio, held.wanted)
        parity.check()
        temperatures[key] = round(fit_temperature(scores, held.wanted), 4)
        proofs[key] = parity
        metrics[key] = _metrics(scores, held, temperatures[key], labels)
    description = dataclasses.replace(description, calibration=Calibration(temperatures))
    log.info("tuning the decoder")
    calibrated = model_of_bytes(output, pack_model(graph, labels, description, filterbank))
    decoder, followed = tune_decoder(
        StreamingClassifier(calibrated, graphs, DECODER_WINDOWS_S),
        DECODER_WINDOWS_S,
        [
            make_stream(development, corpus, noises, noise_folder, labels, STREAM_S, seed)
            for seed in range(STREAMS)
        ],
    )
    description = dataclasses.replace(
        description,
        decoder=decoder,
        metrics={
            "measured_on": "development sources",
            "accuracy_by_duration": {k: m["macro_accuracy"] for k, m in metrics.items()},
            "ece_by_duration": {k: m["ece"] for k, m in metrics.items()},
            "streams": followed.as_dict(),
            "int8_against_float": {k: asdict(p) for k, p in proofs.items()},
        },
    )
    data = pack_model(graph, labels, description, filterbank)
    model_of_bytes(output, data)  # what the device will check
    write_atomically(output, data)
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


def _metrics(
    scores: Float64Array, held: HeldOut, temperature: float, labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy among the languages, and calibration over all classes."""
    languages = np.array([i for i, label in enumerate(labels) if label not in (OTHER, NONSPEECH)])
    truth = held.wanted[held.spoken]
    hit = languages[scores[held.spoken][:, languages].argmax(axis=1)] == truth
    by_language = [float(hit[truth == k].mean()) for k in np.unique(truth)]
    probabilities = softmax(scores / temperature)
    return {
        "macro_accuracy": round(float(np.mean(by_language)), 4),
        "ece": round(expected_calibration_error(probabilities, held.wanted), 4),
    }
