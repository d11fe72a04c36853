"""From published weights of Whisper to a model file that tells all of its languages apart.

Encoder, one step of the decoder and the rows of the language tokens, as a graph of whole windows
with int8 weights. What a cut context costs in accuracy is told in docs/whisper.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from convert.from_checkpoint import MIN_DEVELOPMENT_CLIP_S, versions
from convert.held_out_audio import HeldOut, held_out_audio
from convert.output import check_output, check_size, write_model
from convert.own_recordings import is_silent
from convert.parity import agreement, compare
from convert.proof import Limits, Proof
from convert.representative_audio import MAX_CLIP_S, at_a_level, of_folder
from convert.streaming_graph import float_window_to_tflite
from convert.whole_window import log_probabilities, window_scores, window_spec, windows_of_clips
from edge.classifier import StreamingClassifier, softmax
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, Float64Array, FrontEnd, front_end_hash
from edge.languages import meant
from edge.model.interpreter import WindowGraph, run_model
from edge.model.modelfile import (
    OTHER,
    WINDOW_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    ModelFile,
    model_of_bytes,
    pack_model,
)
from train.corpus.cuts import read_audio
from train.corpus.manifest import CLIPS_A_LANGUAGE, TEST, clips_of, open_manifest, thinned
from train.features.filterbank import mel_filterbank
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.waveforms.large import large_front_end
from train.waveforms.published import Arrays, read_whisper
from train.waveforms.whisper_languages import LANGUAGES, WhisperLanguages

log = logging.getLogger(__name__)

WINDOW_S = 3.0
HOP_FRAMES = 50  # alone, it answers twice a second
CUTS_PER_LANGUAGE = 10  # of many languages, and each takes a second of two processors
SEED = 0
LICENCE = "MIT, (c) 2022 OpenAI: weights of Whisper, quantised"


@dataclass(frozen=True)
class Wanted:
    """What to make of weights.

    Attributes
    ----------
    weights : Path
        CTranslate2's ``model.bin``, Hugging Face's ``model.safetensors`` or OpenAI's ``.pt``.
    output : Path
        Model file to write.
    languages : sequence of str
        Classes of their own, by code or name; empty for all.
    corpus : Path
        Manifest or folder, whose speech calibrates and proves.
    recordings : Path or None
        Folder of recordings that take the corpus's place: then nothing is calibrated.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``.
    limits : Limits
    """

    weights: Path
    output: Path
    languages: Sequence[str]
    corpus: Path
    recordings: Path | None
    sounds: Path | None
    limits: Limits


def convert_whisper(wanted: Wanted) -> Proof:
    """Convert Whisper.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged, or (as NotProven) the converted model answers
        differently; nothing is written then.
    """
    output = wanted.output
    check_output(output, [wanted.weights])
    languages = meant(wanted.languages, LANGUAGES) or LANGUAGES
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown:
        raise EdgelidError(f"Whisper does not know {', '.join(unknown)}: give ISO 639-1 codes")
    arrays = read_whisper(wanted.weights)
    model = WhisperLanguages(arrays, languages)
    config = replace(large_front_end(), mels=model.mels)
    filterbank = mel_filterbank(config)
    front_end = FrontEnd(config, filterbank)
    frames = round(WINDOW_S * FRAMES_PER_SECOND)
    windows = None
    if wanted.recordings is not None:
        windows = _windows(wanted.recordings, front_end, frames)
    log.info("converting")
    graph = float_window_to_tflite(model, (frames, config.mels))
    check_size(graph, "give a smaller Whisper, such as base or tiny")
    window = f"{WINDOW_S:g}"
    description = Description(
        format_version=WINDOW_FORMAT_VERSION,
        name=output.name.removesuffix(".tflite"),
        front_end=config,
        front_end_hash=front_end_hash(config, filterbank),
        stream=window_spec(config, frames, HOP_FRAMES),
        calibration=Calibration({window: 1.0}),
        decoder=DecoderDefaults(window_s=WINDOW_S),
        provenance={"weights_sha256": _digest(arrays), **versions()},
        licence=LICENCE,
    )
    draft = model_of_bytes(output, pack_model(graph, model.labels, description, filterbank))
    if windows is not None:
        proof = _agreement(model, draft, windows, wanted.limits)
    else:
        held = _held_out(wanted.corpus, wanted.sounds, model.labels)
        log.info("comparing before and after over %d clips", len(held.audio))
        classifier = StreamingClassifier(draft, run_model(draft, 1), [WINDOW_S])
        trained = window_scores(model, front_end, frames)
        parity, scores = compare(trained, classifier, held)
        proof = Proof({window: parity}, [], [], None, {}, wanted.limits)
        description.calibration.temperatures[window] = parity.temperature_converted
        description.metrics.update(_accuracy(scores, held, model.labels))
    proof.check()
    description.metrics["proof"] = proof.as_dict()
    contents = pack_model(graph, model.labels, description, filterbank)
    write_model(output, contents)
    return proof


def _accuracy(scores: Float64Array, held: HeldOut, labels: tuple[str, ...]) -> dict[str, Any]:
    """Share of each language that is recognised among all of them."""
    languages = [i for i, label in enumerate(labels[:-1]) if label != OTHER]
    right = scores[held.spoken][:, languages].argmax(1) == held.wanted[held.spoken]
    wanted = held.wanted[held.spoken]
    by_language = {labels[k]: round(float(right[wanted == k].mean()), 4) for k in np.unique(wanted)}
    return {
        "measured_on": "speech of the corpus but for its test split",
        "accuracy_by_duration": {
            f"{WINDOW_S:g}": round(float(np.mean(list(by_language.values()))), 4)
        },
        "accuracy_by_language": by_language,
    }


def _held_out(given: Path, sounds: Path | None, labels: tuple[str, ...]) -> HeldOut:
    """Speech of the corpus, none of which made the weights, as far as anyone knows."""
    manifest = open_manifest(given)
    chosen = (pl.col("split") != TEST) & (pl.col("kind") == "human")
    chosen &= pl.col("seconds") >= MIN_DEVELOPMENT_CLIP_S
    if OTHER not in labels:
        chosen &= pl.col("language").cast(pl.String).is_in(list(labels))
    clips = clips_of(thinned(manifest.rows.filter(chosen), CLIPS_A_LANGUAGE))
    noise = sounds_of(manifest.root, sounds) / "noise"
    noises = read_noise(noise, "train")
    return held_out_audio(
        clips, manifest.root, noises, noise, [WINDOW_S], labels, CUTS_PER_LANGUAGE
    )[WINDOW_S]


def _windows(folder: Path, front_end: FrontEnd, frames: int) -> Float32Array:
    """Windows of recordings, (windows, frames, mels), but for silent ones.

    Windows of silence are all alike, and Whisper knows nothing to say of them.

    Raises
    ------
    EdgelidError
        If there is none, or one cannot be read.
    """
    files = of_folder(folder, SEED)
    audio = [read_audio(path, MAX_CLIP_S) for path, _ in files]
    heard = [samples for samples in audio if not is_silent(samples)]
    clips = [at_a_level(samples, turn, front_end) for turn, samples in enumerate(heard)]
    windows = windows_of_clips(clips, frames, front_end.silence)
    if not windows:
        raise EdgelidError(
            f"all audio files in {folder} are silent or shorter than a frame of features: give "
            "recordings of speech"
        )
    if len(heard) < len(files):
        log.info(
            "%d of %d recordings are silent, and left out", len(files) - len(heard), len(files)
        )
    return np.stack(windows)


def _agreement(
    model: WhisperLanguages, draft: ModelFile, windows: Float32Array, limits: Limits
) -> Proof:
    """Both on recordings of which nobody says what is spoken."""
    graph = run_model(draft, 1)
    assert isinstance(graph, WindowGraph)
    converted = np.log(softmax(np.stack([graph.scores(window) for window in windows])) + 1e-30)
    found = agreement(log_probabilities(model, windows), converted)
    return Proof({f"{WINDOW_S:g}": found}, [], [], None, {}, limits)


def _digest(arrays: Arrays) -> str:
    """Of the weights, whichever kind of file they came in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if arrays[name].ndim:
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
