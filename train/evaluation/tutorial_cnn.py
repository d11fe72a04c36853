"""The plain 2-D network of tutorials on sound and images, to compare the shipped one with.

Five convolutions of 3x3, each normalised, rectified and halved by pooling, then two dense layers,
on a whole window of 3 s of log-mel frames as on a picture. It hears what the shipped network
hears: the same features, clips, classes, sampling and augmentation. It has no teacher, as no
tutorial does.

    python -m train.evaluation.tutorial_cnn train/configs/edgelid-9.toml --corpus CORPUS \
        --output cnn.keras

writes ``cnn.keras``, and beside it what ``edgelid-convert`` needs: ``cnn.json``, the description,
and ``cnn.recordings/``, training speech to quantise with. Stopped and given again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import soundfile
from tqdm import tqdm

from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from edge.system.atomic import atomic_file, check_writable, write_atomically
from train.command import DEFAULT_CACHE, run
from train.config import RunConfig, read_config
from train.corpus.cuts import SEED, balanced, cuts, load_cuts
from train.corpus.manifest import (
    CLIPS_A_LANGUAGE,
    Clip,
    clips_of,
    corpus_dir,
    open_manifest,
    thinned,
)
from train.fit.development import BATCH, DevelopmentSet
from train.fit.training_data import Corpus, Place, open_corpus
from train.folder import make_folder
from train.parallel.progress import bar

WINDOW_S = 3.0
CHANNELS = (16, 32, 64, 64, 128)
HIDDEN = 128
DROPOUT = 0.3
STEPS = 1500
LEARNING_RATE = 2e-3
WARMUP_SHARE = 0.05
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.1
SAVE_EVERY_STEPS = 100
INPUT_SCALE = 0.1  # features go from 0 to about 14

RECORDING_S = 4.0  # what edgelid-convert hears of a recording
RECORDINGS_PER_LANGUAGE = 5


def tutorial_network(frames: int, mels: int, classes: int) -> Any:
    """A new network from windows, (batch, frames, mels, 1), to scores, (batch, classes)."""
    layers: list[Any] = [keras.Input((frames, mels, 1)), keras.layers.Rescaling(INPUT_SCALE)]
    for channels in CHANNELS:
        layers += [
            keras.layers.Conv2D(channels, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2),
        ]
    layers += [
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(HIDDEN, activation="relu"),
        keras.layers.Dropout(DROPOUT),
        keras.layers.Dense(classes),
    ]
    return keras.Sequential(layers)


def compiled(network: Any, steps: int) -> Any:
    """The network, ready for a run of so many steps."""
    warmup = round(WARMUP_SHARE * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 100, steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, clipnorm=5.0),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
        metrics=["accuracy"],
    )
    return network


def development_accuracy(network: Any, development: DevelopmentSet) -> float:
    """Macro accuracy among the languages, on the beginnings of held-out speech."""
    spoken = development.labels < development.languages
    frames = development.frames[spoken, : round(WINDOW_S * FRAMES_PER_SECOND), :, None]
    scores = network.predict(frames.astype(np.float32), batch_size=BATCH, verbose=0)
    wanted = development.labels[spoken]
    hit = scores[:, : development.languages].argmax(axis=1) == wanted
    return float(np.mean([hit[wanted == label].mean() for label in np.unique(wanted)]))


def fit_network(config: RunConfig, corpus: Corpus, steps: int, partial: Path) -> Any:
    """Train to the end, from the state in `partial` if there is one.

    Raises
    ------
    EdgelidError
        If that state is of another plan, or cannot be read or written.
    """
    keras.utils.set_random_seed(config.seed)
    frames = round(WINDOW_S * FRAMES_PER_SECOND)
    labels = config.data.labels
    if partial.exists():
        network = _resumed(partial, steps)
    else:
        network = compiled(tutorial_network(frames, config.front_end.mels, len(labels)), steps)
    first = int(network.optimizer.iterations)
    sampler = corpus.sampler(config)
    development = DevelopmentSet.of(config, corpus.rows, corpus.development, corpus.features)
    progress = bar(sampler.batches(first, steps), "training", steps, initial=first, mininterval=5)
    for step, (batch,) in enumerate(progress, start=first + 1):
        wanted = np.eye(len(labels), dtype=np.float32)[batch.labels]
        figures = network.train_on_batch(batch.frames[..., None], wanted, return_dict=True)
        if not np.isfinite(figures["loss"]):
            raise EdgelidError("training diverged (the loss is not finite)")
        if step % SAVE_EVERY_STEPS == 0 or step == steps:
            save_network(network, partial)
            accuracy = development_accuracy(network, development)
            tqdm.write(f"step {step}: {figures}, development {accuracy:.1%}", file=sys.stderr)
    return network


def _resumed(partial: Path, steps: int) -> Any:
    try:
        network = keras.saving.load_model(partial)
    # What the parsers of ZIP, JSON, HDF5 and Keras may raise is no closed list.
    except Exception as error:
        raise EdgelidError(f"{partial} is damaged: delete it to start anew") from error
    plan = network.optimizer.get_config()["learning_rate"]["config"]
    if plan["warmup_steps"] + plan["decay_steps"] != steps:
        raise EdgelidError(f"{partial} is of a run of other --steps: delete it to start anew")
    return network


def save_network(network: Any, path: Path) -> None:
    """Write a Keras file, whole or not at all.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Keras writes to a name, and judges it by its ending.
        file = Path(folder) / "network.keras"
        try:
            network.save(file)
            contents = file.read_bytes()
        except OSError as error:
            raise EdgelidError(f"cannot save the network: {error.strerror or error}") from error
    write_atomically(path, contents)


def write_recordings(clips: Sequence[Clip], corpus: Path, folder: Path) -> None:
    """Write training speech to quantise with, balanced by language, as WAV files."""
    chosen = balanced(
        cuts(clips, duration_s=RECORDING_S, seed=SEED),
        per_language=RECORDINGS_PER_LANGUAGE,
        seed=SEED,
    )
    make_folder(folder)
    for number, (cut, samples) in enumerate(zip(chosen, load_cuts(chosen, corpus), strict=True)):
        with atomic_file(folder / f"{cut.language}-{number:03}.wav") as file:
            soundfile.write(file, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")


def make_network(
    config: RunConfig, given: Path, cache: Path, workers: int, steps: int, output: Path
) -> None:
    """Train, and write the network with what its conversion needs."""
    description, partial = output.with_suffix(".json"), output.with_suffix(".partial.keras")
    for file in (output, description, partial):
        check_writable(file)
    plain = replace(
        config, optimiser=replace(config.optimiser, clip_s=WINDOW_S, teacher_weight=0.0)
    )
    corpus = open_corpus(plain, Place((given,), cache, workers))
    network = fit_network(plain, corpus, steps, partial)
    manifest = open_manifest(given)
    learnt = thinned(corpus.rows[corpus.train].filter("target"), CLIPS_A_LANGUAGE)
    write_recordings(clips_of(learnt), manifest.root, output.with_suffix(".recordings"))
    told = {"labels": config.data.labels, "front_end": asdict(config.front_end)}
    write_atomically(description, (json.dumps(told, indent=1) + "\n").encode())
    save_network(network, output)
    partial.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.tutorial_cnn",
        description="Trains a plain 2-D network on whole windows, to compare with.",
    )
    parser.add_argument("config", type=Path, help="TOML file whose data, classes and seed to take")
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="manifest or folder")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for features")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="for features")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="NETWORK.keras")
    options = parser.parse_args(arguments)

    def work() -> None:
        if min(options.steps, options.workers) < 1:
            raise EdgelidError("--steps and --workers must be at least 1")
        if options.output.suffix != ".keras":
            raise EdgelidError("--output must end in .keras")
        make_network(
            read_config(options.config),
            options.corpus,
            options.cache.expanduser(),
            options.workers,
            options.steps,
            options.output,
        )

    return run(
        "train.evaluation.tutorial_cnn", work, "the same command goes on from its last saved step"
    )


if __name__ == "__main__":
    sys.exit(main())
