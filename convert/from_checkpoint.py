"""From a training checkpoint to a model file: quantise, calibrate, prove, and only then write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from convert.held_out_audio import HeldOut, held_out_audio
from convert.output import check_output, write_model
from convert.parity import Parity, Score, compare, features, trained_scores
from convert.proof import Proof
from convert.representative_audio import (
    Representative,
    of_corpus,
    of_folder,
    of_noise,
    representative,
)
from convert.settings import WINDOW_S, Settings, whole_embeddings
from convert.stream_vs_window import check_window
from convert.streaming_graph import (
    StreamingModule,
    WholeWindow,
    representative_samples,
    to_int8,
    window_to_tflite,
)
from convert.tensor_errors import check_streams, samples_to_compare, tensor_errors
from convert.weight_errors import weight_errors
from convert.whole_window import window_scores, window_spec, windows_of_clips
from edge import __version__
from edge.classifier import StreamingClassifier, softmax
from edge.decoder import decoder_windows_s
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, Float64Array, FrontEnd, front_end_hash
from edge.model.interpreter import Graphs, WindowGraph, run_model
from edge.model.modelfile import (
    FORMAT_VERSION,
    NONSPEECH,
    OTHER,
    WINDOW_FORMAT_VERSION,
    Calibration,
    DecoderDefaults,
    Description,
    ModelFile,
    StreamSpec,
    model_of_bytes,
    pack_model,
)
from train.architecture import ModelConfig
from train.config import RunConfig
from train.corpus.manifest import (
    CLIPS_A_LANGUAGE,
    DEV,
    TEST,
    Clip,
    clips_of,
    open_manifest,
    thinned,
)
from train.evaluation.metrics import expected_calibration_error, fit_temperature
from train.evaluation.streams import Stream, make_stream, tune_decoder
from train.features.filterbank import mel_filterbank
from train.features.noise import NoiseClip, read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import divide
from train.model.checkpoint import Checkpoint, restore_model
from train.model.network import Head, Trunk

log = logging.getLogger(__name__)

# What the decoder may listen to: lengths that are told anyway, as another one costs another head.
# Of one second less is known, but it is soon about the new language alone.
DECODER_WINDOWS_S = (1.0, 3.0)
STREAMS = 3
STREAM_S = 400.0
# Letters and syllables, read one by one, are no speech to calibrate a listener on.
MIN_DEVELOPMENT_CLIP_S = 1.0
MIN_NATURAL_S, MIN_NATURAL_CLASSES = 30.0, 3  # to make streams of natural speech alone
MIN_NATURAL_CUTS = 60  # to calibrate on it alone
CLIPS_LOOKED_INTO = 8  # of held-out speech, tensor by tensor and as streams


@dataclass(frozen=True)
class Material:
    """The audio that a conversion needs.

    Attributes
    ----------
    chosen : Representative
        To quantise with.
    sets : dict of float to HeldOut
        To calibrate and prove on, by window length.
    development : list of Clip
        To make streams of.
    """

    chosen: Representative
    sets: dict[float, HeldOut]
    development: list[Clip]
    corpus: Path
    noises: list[NoiseClip]
    noise_folder: Path

    def streams(self, labels: Sequence[str]) -> list[Stream]:
        """Streams of changing language, to tune the decoder on."""
        spoken = natural_speech(self.development, labels)
        return [
            make_stream(
                spoken,
                self.corpus,
                self.noises,
                self.noise_folder,
                labels,
                STREAM_S,
                seed,
            )
            for seed in range(STREAMS)
        ]


def natural_speech(clips: list[Clip], labels: Sequence[str]) -> list[Clip]:
    """Clips of the split ``dev`` alone, in the classes of which it has enough.

    That split is of sentences as people say them; sources that a run holds out are prompts, words
    and machines, too, which would make a decoder hesitate. All clips, if the split has less than
    `MIN_NATURAL_CLASSES`.
    """
    by_class: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == DEV:
            label = clip.language if clip.language in labels else OTHER
            by_class.setdefault(label, []).append(clip)
    enough = [
        spoken
        for spoken in by_class.values()
        if sum(clip.duration_s for clip in spoken) >= MIN_NATURAL_S
    ]
    if len(enough) < MIN_NATURAL_CLASSES:
        return clips
    return [clip for spoken in enough for clip in spoken]


@dataclass(frozen=True)
class Converted:
    """A graph, and how it is to be fed.

    Attributes
    ----------
    graph : bytes
    stream : StreamSpec
    trained : callable
        Scores of the float model that it must match.
    module : StreamingModule or None
        What was converted, where that is a model that streams.
    """

    graph: bytes
    stream: StreamSpec
    trained: Score
    module: StreamingModule | None


def convert(
    checkpoint: Checkpoint,
    corpus: Path,
    output: Path,
    name: str,
    settings: Settings | None = None,
    sounds: Path | None = None,
) -> tuple[Description, Proof]:
    """Convert a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    corpus : Path
        Manifest or folder of the training corpus: the representative dataset, the calibration and
        the proof come from it (the proof and the calibration from the development speech, which
        the model was not trained on; none from its ``test`` split).
    output : Path
        Model file to write.
    name : str
        What the model is called.
    settings : Settings, optional
    sounds : Path, optional
        Folder that holds ``noise`` and ``rir``: see `train.features.synthetic_noise`.

    Returns
    -------
    Description
        What was written into the file.
    Proof
        The trained model against the converted one.

    Raises
    ------
    EdgelidError
        If anything is missing or damaged, or (as NotProven) the converted model is not as good
        as the trained one; nothing is written then.
    """
    settings = settings or Settings()
    config = checkpoint.config
    settings.check(config.model)
    settings = settings.fitted(config.model)
    check_output(output, [corpus])  # what follows takes a minute
    source = _Source.of(checkpoint, name, output)
    log.info("reading speech and noise")
    material = gather(config, corpus, sounds, settings, source.front_end)
    log.info("converting with %d clips", len(material.chosen.frames))
    converted = source.converted(material.chosen, settings)
    description = source.description(converted, material.chosen)
    draft = source.file(converted, description)
    graphs = run_model(draft, 1)
    parities, temperatures, metrics = _compared(converted, draft, graphs, material.sets)
    proof = Proof(dict(parities), [], [], None, {}, settings.limits)
    if converted.module is not None and isinstance(graphs, Graphs):
        more = _looked_into(source, converted, converted.module, draft, graphs, material, settings)
        proof = dataclasses.replace(proof, **more)
    proof.check()
    description = dataclasses.replace(description, calibration=Calibration(temperatures))
    log.info("tuning the decoder")
    windows_s = DECODER_WINDOWS_S if settings.mode == "stream" else settings.lengths_s
    calibrated = source.file(converted, description)
    fine_s = decoder_windows_s(calibrated, max(windows_s))[1:]
    decoder, followed = tune_decoder(
        StreamingClassifier(calibrated, graphs, [*windows_s, *fine_s]),
        windows_s,
        material.streams(config.data.labels),
    )
    description = dataclasses.replace(
        description,
        decoder=decoder,
        metrics={
            "measured_on": "development sources",
            "accuracy_by_duration": {k: m["macro_accuracy"] for k, m in metrics.items()},
            "ece_by_duration": {k: m["ece"] for k, m in metrics.items()},
            "streams": followed.as_dict(),
            "proof": proof.as_dict(),
        },
    )
    data = source.packed(converted, description)
    write_model(output, data)
    return description, proof


@dataclass(frozen=True)
class _Source:
    """What is converted, and what is to become of it.

    Attributes
    ----------
    checkpoint : Checkpoint
    trunk : Trunk
    head : Head
        With the checkpoint's weights.
    front_end : FrontEnd
    filterbank : ndarray
        Of the front end.
    name : str
    output : Path
        Named in errors.
    """

    checkpoint: Checkpoint
    trunk: Trunk
    head: Head
    front_end: FrontEnd
    filterbank: Float32Array
    name: str
    output: Path

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str, output: Path) -> Self:
        """Restore the network."""
        trunk, head = restore_model(checkpoint)
        filterbank = mel_filterbank(checkpoint.config.front_end)
        front_end = FrontEnd(checkpoint.config.front_end, filterbank)
        return cls(checkpoint, trunk, head, front_end, filterbank, name, output)

    def converted(self, chosen: Representative, settings: Settings) -> Converted:
        """The graph, quantised with the chosen audio."""
        make = _streaming if settings.mode == "stream" else _whole_window
        return make(self.trunk, self.head, self.front_end, chosen, settings)

    def description(self, converted: Converted, chosen: Representative) -> Description:
        """Of a graph that nothing has been measured of yet."""
        stream, front_end = converted.stream, self.checkpoint.config.front_end
        return Description(
            format_version=WINDOW_FORMAT_VERSION if not stream.states else FORMAT_VERSION,
            name=self.name,
            front_end=front_end,
            front_end_hash=front_end_hash(front_end, self.filterbank),
            stream=stream,
            calibration=Calibration({f"{window_s:g}": 1.0 for window_s in stream.windows_s}),
            decoder=DecoderDefaults(window_s=stream.windows_s[0]),
            provenance=provenance(self.checkpoint, chosen),
        )

    def packed(self, converted: Converted, description: Description) -> bytes:
        """The bytes of the model file."""
        labels = self.checkpoint.config.data.labels
        return pack_model(converted.graph, labels, description, self.filterbank)

    def file(self, converted: Converted, description: Description) -> ModelFile:
        """The same as the device would read it; nothing is written."""
        return model_of_bytes(self.output, self.packed(converted, description))


def _compared(
    converted: Converted,
    draft: ModelFile,
    graphs: Graphs | WindowGraph,
    sets: dict[float, HeldOut],
) -> tuple[dict[str, Parity], dict[str, float], dict[str, dict[str, float]]]:
    """The trained model against the converted one, the temperature of that, and how good it is.

    Each by window length.
    """
    parities: dict[str, Parity] = {}
    temperatures: dict[str, float] = {}
    metrics: dict[str, dict[str, float]] = {}
    for window_s, held in sets.items():
        key = f"{window_s:g}"
        log.info("comparing before and after over %d clips of %s s", len(held.audio), key)
        classifier = StreamingClassifier(draft, graphs, [window_s])
        parities[key], scores = compare(converted.trained, classifier, held)
        temperatures[key] = temperature_of(scores, held)
        metrics[key] = _metrics(scores, held, temperatures[key], draft.labels)
    return parities, temperatures, metrics


def temperature_of(scores: Float64Array, held: HeldOut) -> float:
    """What calibrates a model for those who listen to people talk.

    Words by themselves are harder than a stretch of a sentence, and would make a model unsure of
    both: where the split ``dev`` has enough sentences, they and noise are what counts.

    Parameters
    ----------
    scores : ndarray, shape (items, classes)
        Log-probabilities.
    held : HeldOut
    """
    said = held.natural & held.spoken
    enough = said.sum() >= MIN_NATURAL_CUTS
    enough &= len(np.unique(held.wanted[said])) >= MIN_NATURAL_CLASSES
    noise = held.wanted == scores.shape[1] - 1
    counted = held.natural | noise if enough else np.ones(len(held.wanted), bool)
    return round(fit_temperature(scores[counted], held.wanted[counted]), 4)


def _looked_into(
    source: _Source,
    converted: Converted,
    module: StreamingModule,
    draft: ModelFile,
    graphs: Graphs,
    material: Material,
    settings: Settings,
) -> dict[str, Any]:
    """What a proof has of a model that streams: its tensors, its states, a window beside it."""
    longest = material.sets[max(material.sets)]
    some = streams_of(longest.audio, CLIPS_LOOKED_INTO, samples_to_compare(draft))
    log.info("looking into %d streams", len(some))
    tensors = tensor_errors(module, converted.graph, features(source.front_end, some))
    weights = weight_errors(source.trunk, source.head, converted.graph)
    stream = check_streams(draft, graphs, list(some))
    window_s = min(material.sets, key=lambda each: abs(each - WINDOW_S))
    log.info("comparing with a window of %g s in float", window_s)
    # In 8 bits a window that begins has ranges which a stream that goes on does not need, and its
    # own roundings may be the greater ones.
    alone = dataclasses.replace(settings, mode="window", type="float32", windows_s=(window_s,))
    apart = source.converted(material.chosen, alone)
    whole = source.file(apart, source.description(apart, material.chosen))
    graph = run_model(whole, 1)
    assert isinstance(graph, WindowGraph)
    check = check_window(draft, graphs, whole, graph, material.sets[window_s].audio)
    return {
        "tensors": tensors,
        "weights": weights,
        "stream": stream,
        "apart": {f"{window_s:g}": check},
    }


def gather(
    config: RunConfig,
    given: Path,
    sounds: Path | None,
    settings: Settings,
    front_end: FrontEnd,
) -> Material:
    """Choose and read the audio that a conversion needs.

    Raises
    ------
    EdgelidError
        If there is not enough, or a file is missing or damaged.
    """
    manifest = open_manifest(given)
    rows, corpus = manifest.rows.filter(pl.col("split") != TEST), manifest.root
    missing = sorted(set(config.data.languages) - set(rows["language"].unique().to_list()))
    if missing:
        raise EdgelidError(
            f"the corpus {given} has no training speech in {', '.join(missing)}, which the model "
            "knows: give the one it was trained on"
        )
    train, held_out = divide(rows, config.data.development)
    noise_folder = sounds_of(corpus, sounds) / "noise"
    noises = read_noise(noise_folder, "train")
    if settings.representative is None:
        learnt = clips_of(thinned(rows[train], CLIPS_A_LANGUAGE))
        files = of_corpus(learnt, corpus, noises, noise_folder, config.seed)
    else:
        files = of_folder(settings.representative, config.seed)
        files += of_noise(noises, noise_folder, config.seed)
    heard = rows[held_out].filter(pl.col("seconds") >= MIN_DEVELOPMENT_CLIP_S)
    development = clips_of(thinned(heard, CLIPS_A_LANGUAGE))
    return Material(
        chosen=representative(files, front_end),
        sets=held_out_audio(
            development, corpus, noises, noise_folder, settings.lengths_s, config.data.labels
        ),
        development=development,
        corpus=corpus,
        noises=noises,
        noise_folder=noise_folder,
    )


def _streaming(
    trunk: Trunk, head: Head, front_end: FrontEnd, chosen: Representative, settings: Settings
) -> Converted:
    module = StreamingModule(trunk, head, settings.hop_frames)
    graph = to_int8(module, representative_samples(module, chosen.frames))
    spec = stream_spec(module, trunk.config, settings.lengths_s)
    trained = trained_scores(trunk, head, front_end, settings.hop_frames)
    return Converted(graph, spec, trained, module)


def _whole_window(
    trunk: Trunk, head: Head, front_end: FrontEnd, chosen: Representative, settings: Settings
) -> Converted:
    stride, config = trunk.config.stride, front_end.config
    # The same embeddings as a window of a stream.
    frames = whole_embeddings(settings.lengths_s[0], stride)
    network = WholeWindow(trunk, head, trunk.config.late_frames(settings.hop_frames))
    windows = (
        None
        if settings.type == "float32"
        else windows_of_clips(chosen.frames, frames, front_end.silence)
    )
    graph = window_to_tflite(network, (frames, config.mels), windows)
    spec = window_spec(config, frames, settings.hop_frames)
    return Converted(graph, spec, window_scores(network, front_end, frames), None)


def stream_spec(
    module: StreamingModule, config: ModelConfig, windows_s: tuple[float, ...]
) -> StreamSpec:
    """How the converted graphs are fed."""
    return StreamSpec(
        hop_frames=module.hop_frames,
        stride_frames=config.stride,
        receptive_field_frames=config.receptive_field_frames,
        windows_s=windows_s,
        embedding=config.embedding,
        states=tuple(module.state_shapes),
        delay_frames=config.late_frames(module.hop_frames),
    )


def provenance(checkpoint: Checkpoint, chosen: Representative) -> dict[str, Any]:
    """Where a model comes from: hashes, versions, and the clips it was quantised on."""
    config = json.dumps(asdict(checkpoint.config), sort_keys=True)
    weights = hashlib.sha256()
    for key in sorted(checkpoint.arrays):
        weights.update(checkpoint.arrays[key].tobytes())
    return {
        "training_config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "weights_sha256": weights.hexdigest(),
        "training_steps": checkpoint.step,
        **versions(),
        "macs_per_second": round(checkpoint.config.model.macs_per_frame() * FRAMES_PER_SECOND),
        "representative_clips": list(chosen.ids),
        "representative_sha256": chosen.sha256,
    }


def versions() -> dict[str, str]:
    """Of what makes the bytes of a graph."""
    import keras
    import tensorflow as tf

    return {"converter": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}


def streams_of(clips: Float32Array, count: int, samples: int) -> Float32Array:
    """Clips from all over the given ones, which are in the order of their classes.

    Where one is too short, several are joined; some come again where there are too few.

    Parameters
    ----------
    clips : ndarray, shape (clips, samples of a clip)
    count : int
        Of streams, at most.
    samples : int
        Of each stream, at least.

    Returns
    -------
    ndarray, shape (streams, samples of a stream)
    """
    joined = max(1, math.ceil(samples / clips.shape[1]))
    streams = min(count, max(1, len(clips) // joined))
    chosen = np.linspace(0, len(clips) - 1, streams * joined).astype(int)
    some: Float32Array = clips[chosen].reshape(streams, -1)
    return some


def _metrics(
    scores: Float64Array, held: HeldOut, temperature: float, labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy among the languages (of a single one, all classes), calibration over all classes."""
    answers = np.array([i for i, label in enumerate(labels) if label not in (OTHER, NONSPEECH)])
    if len(answers) < 2:  # among which any answer would be right
        answers = np.arange(len(labels))
    truth = held.wanted[held.spoken]
    hit = answers[scores[held.spoken][:, answers].argmax(axis=1)] == truth
    by_language = [float(hit[truth == k].mean()) for k in np.unique(truth)]
    probabilities = softmax(scores / temperature)
    return {
        "macro_accuracy": round(float(np.mean(by_language)), 4),
        "ece": round(expected_calibration_error(probabilities, held.wanted), 4),
    }
