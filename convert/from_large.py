"""From a checkpoint of the large model to a model file of whole windows with int8 or int4 weights.

The graph takes windows of any length: what is shorter than a window is heard as it is, and what is
longer in one piece.

Its activations stay float32: the interpreter quantises them as it goes (dynamic-range
quantisation), so that no representative dataset decides what a stranger's voice may do. Only
matrices of 4 bits are rounded by what they are typically given (`convert.rounding`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from convert.four_bit_graph import with_four_bits
from convert.from_checkpoint import MIN_DEVELOPMENT_CLIP_S, versions
from convert.held_out_audio import HeldOut, held_out_audio
from convert.narrow_encoder import check_width, narrow
from convert.output import check_output, check_size, write_model
from convert.parity import Agreement, parity
from convert.proof import Proof
from convert.representative_audio import (
    Files,
    Representative,
    of_corpus,
    of_folder,
    representative,
)
from convert.settings import Settings
from convert.streaming_graph import any_window_function, any_window_to_tflite
from convert.varied_audio import Surroundings
from convert.whole_window import one_window_scores, window_spec
from edge.classifier import filled
from edge.errors import EdgelidError
from edge.frontend import (
    FRAMES_PER_SECOND,
    Float32Array,
    Float64Array,
    FrontEnd,
    front_end_hash,
)
from edge.model.interpreter import WindowGraph, run_model
from edge.model.modelfile import (
    LENGTHS_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    model_of_bytes,
    pack_model,
)
from train.corpus.manifest import (
    CLIPS_A_LANGUAGE,
    TEST,
    Clip,
    clips_of,
    open_manifest,
    thinned,
)
from train.evaluation.inference import score_whole_windows
from train.features.filterbank import mel_filterbank
from train.features.noise import NoiseClip, read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import divide
from train.waveforms.checkpoint import load_parts
from train.waveforms.large import large_front_end, large_of

log = logging.getLogger(__name__)

WINDOW_S = 3.0  # of what it hears when it listens
WINDOWS_S = (1.0, 2.0, WINDOW_S, 5.0, 10.0)  # calibrated; it takes all from the first to the last
# A second opinion is asked for now and then; alone, it answers twice a second.
HOP_FRAMES = 50
SEED = 1  # of what is representative
VARIED = 2  # times as many recordings in rooms, noise and codecs as there are as they are
LICENCE = (
    "Apache-2.0; the weights of encoder and decoder began as those of Whisper (MIT, (c) 2022 "
    "OpenAI)"
)


def convert_large(
    checkpoint: Path, corpus: Path, output: Path, name: str, settings: Settings, sounds: Path | None
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
    settings : Settings
        Of a model of whole windows; with ``int4`` the encoder's matrices have 4 bits.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged, or (as NotProven) the converted model answers
        differently; nothing is written then.
    """
    _check(settings)
    check_output(output, [checkpoint, corpus])
    arrays, told = load_parts(checkpoint)
    model, classes = large_of(arrays, told)
    labels = tuple(classes)
    config = large_front_end()
    filterbank = mel_filterbank(config)
    front_end = FrontEnd(config, filterbank)
    speech = _Speech.of(corpus, sounds, told["config"]["data"].get("development", {}))
    held = speech.held_out(labels)
    function = any_window_function(model.one, config.mels)
    chosen = None
    if settings.type == "int4":
        check_width(model.encoder)
        chosen = speech.chosen(settings.representative, front_end)
    score = one_window_scores(function, front_end, round(WINDOWS_S[0] * FRAMES_PER_SECOND))
    trained = {window_s: score(some.audio) for window_s, some in held.items()}
    provenance = _provenance(told, arrays)
    blocks = []
    if chosen is not None:
        log.info("rounding to 4 bits by %d clips", len(chosen.frames))
        provenance |= {
            "representative_sha256": chosen.sha256,
            "representative_clips": list(chosen.ids),
        }
        blocks = narrow(model.encoder, _as_heard(chosen.frames, front_end.silence))
    log.info("converting")
    graph = any_window_to_tflite(model, function)
    if blocks:
        graph = with_four_bits(graph, blocks)
    check_size(
        graph, "train a smaller one" if blocks else "add --type int4, or train a smaller one"
    )
    frames = round(WINDOWS_S[-1] * FRAMES_PER_SECOND)
    description = Description(
        format_version=LENGTHS_FORMAT_VERSION,
        name=name,
        front_end=config,
        front_end_hash=front_end_hash(config, filterbank),
        stream=replace(window_spec(config, frames, HOP_FRAMES), windows_s=WINDOWS_S),
        calibration=Calibration({f"{window_s:g}": 1.0 for window_s in WINDOWS_S}),
        decoder=DecoderDefaults(window_s=WINDOW_S),
        weights=model.count_params(),
        provenance=provenance,
        licence=LICENCE,
    )
    draft = model_of_bytes(output, pack_model(graph, labels, description, filterbank))
    run = run_model(draft, 1)
    assert isinstance(run, WindowGraph)
    usual = round(WINDOW_S * FRAMES_PER_SECOND)
    first_scores = run.scores(np.zeros((usual, config.mels), np.float32)).tolist()
    description = replace(description, first_scores=tuple(first_scores))
    description.calibration.temperatures.clear()
    parities: dict[str, Agreement] = {}
    accuracies: dict[str, dict[str, float]] = {}
    for window_s, some in held.items():
        log.info("comparing before and after over %d clips of %g s", len(some.audio), window_s)
        scores = np.stack([score_whole_windows(draft, run, clip) for clip in some.audio])
        found = parity(trained[window_s], scores, some.wanted, some.speakers)
        parities[f"{window_s:g}"] = found
        description.calibration.temperatures[f"{window_s:g}"] = found.temperature_converted
        accuracies[f"{window_s:g}"] = _by_language(scores, some, labels)
    proof = Proof(parities, [], [], None, {}, settings.limits)
    proof.check()
    description.metrics.update(
        measured_on="development sources",
        accuracy_by_duration={
            window: round(float(np.mean(list(of.values()))), 4) for window, of in accuracies.items()
        },
        accuracy_by_language=accuracies[f"{WINDOW_S:g}"],
        proof=proof.as_dict(),
    )
    contents = pack_model(graph, labels, description, filterbank)
    write_model(output, contents)
    return proof


def _check(settings: Settings) -> None:
    """Raise EdgelidError for what a large model is not converted to, or with."""
    if settings.mode != "window":
        raise EdgelidError("the large model takes whole windows: add --mode window")
    if settings.type == "float32":
        raise EdgelidError("the large model has weights of 8 or 4 bits: give another --type")
    if settings.windows_s:
        raise EdgelidError(
            f"the large model takes windows of {WINDOWS_S[0]:g} to {WINDOWS_S[-1]:g} s: leave out "
            "--windows"
        )
    if settings.hop_frames != Settings.hop_frames:
        raise EdgelidError("the large model answers twice a second: leave out --hop-ms")
    if settings.representative is not None and settings.type != "int4":
        raise EdgelidError(
            "8 bits of the large model are rounded by its weights alone: leave out "
            "--representative, or add --type int4"
        )


def _by_language(scores: Float64Array, held: HeldOut, labels: tuple[str, ...]) -> dict[str, float]:
    """Share of each language that is recognised among all of them."""
    right = scores[held.spoken][:, : len(labels) - 2].argmax(1) == held.wanted[held.spoken]
    wanted = held.wanted[held.spoken]
    return {labels[k]: round(float(right[wanted == k].mean()), 4) for k in np.unique(wanted)}


def _as_heard(clips: Sequence[Float32Array], silence: Float32Array) -> list[Float32Array]:
    """Clips, (frames, mels), as windows: short ones repeated, and two frames for each token."""
    lengths = [max(round(WINDOWS_S[0] * FRAMES_PER_SECOND), len(clip) // 2 * 2) for clip in clips]
    return [filled(clip, n, silence)[:n] for clip, n in zip(clips, lengths, strict=True)]


@dataclass(frozen=True)
class _Speech:
    """What a conversion hears of a corpus.

    Attributes
    ----------
    learnt, spoken : list of Clip
        Of training, and of development.
    root : Path
    noises : list of NoiseClip
    sounds : Path
        Folder that holds ``noise`` and ``rir``.
    """

    learnt: list[Clip]
    spoken: list[Clip]
    root: Path
    noises: list[NoiseClip]
    sounds: Path

    @classmethod
    def of(cls, given: Path, sounds: Path | None, development: dict[str, list[str]]) -> Self:
        """Of a manifest or folder.

        Raises
        ------
        EdgelidError
            If it cannot be read, or holds no development speech.
        """
        manifest = open_manifest(given)
        rows = manifest.rows.filter(pl.col("split") != TEST)
        learnt, held = divide(rows, development)
        heard = rows[held].filter(pl.col("seconds") >= MIN_DEVELOPMENT_CLIP_S)
        if heard.is_empty():
            raise EdgelidError(f"the corpus {given} holds no development speech: see docs/data.md")
        spoken = clips_of(thinned(heard, CLIPS_A_LANGUAGE))
        folder = sounds_of(manifest.root, sounds)
        noises = read_noise(folder / "noise", "train")
        return cls(clips_of(rows[learnt]), spoken, manifest.root, noises, folder)

    def held_out(self, labels: tuple[str, ...]) -> dict[float, HeldOut]:
        """Development speech by the length of its cuts."""
        found = held_out_audio(
            self.spoken, self.root, self.noises, self.sounds / "noise", WINDOWS_S, labels
        )
        if WINDOW_S not in found:
            raise EdgelidError(
                f"the corpus {self.root} holds no {WINDOW_S:g} s of development speech"
            )
        return found

    def chosen(self, recordings: Path | None, front_end: FrontEnd) -> Representative:
        """What is typically heard: training speech and noise, or somebody's own recordings.

        Once as they are, and others (of a few recordings, the same) varied.
        """
        surroundings = Surroundings.of(self.sounds, self.noises)
        found = representative(self._files(recordings, SEED), front_end)
        for seed in range(SEED + 1, SEED + 1 + VARIED):
            more = surroundings.varied(self._files(recordings, seed), front_end, seed)
            found = Representative(found.frames + more.frames, found.ids + more.ids)
        return found

    def _files(self, recordings: Path | None, seed: int) -> Files:
        if recordings is None:
            return of_corpus(self.learnt, self.root, self.noises, self.sounds / "noise", seed)
        return of_folder(recordings, seed)


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
