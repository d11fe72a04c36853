"""Training: one loop, resumable at any step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from edge.errors import EdgelidError
from edge.frontend import Float32Array, FrontEndConfig
from train.checkpoint import Checkpoint, build_model, load_checkpoint, weights_of
from train.config import RunConfig
from train.development import DevelopmentSet, score
from train.features import CachedFeatures, prepare
from train.manifest import Clip, check_files, read_manifest
from train.model import Head, Trunk, pool
from train.noise import NoiseClip, read_noise
from train.sampling import Batch, BatchSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """All that training reads, decoded and cached.

    Attributes
    ----------
    train, development : list of int
        Clips (indices into `clips`) to learn from, and held out.
    """

    clips: list[Clip]
    features: CachedFeatures
    train: list[int]
    development: list[int]
    noises: list[NoiseClip]
    noise_features: CachedFeatures


def open_corpus(config: RunConfig, folder: Path, cache: Path, workers: int) -> Corpus:
    """Read manifests and compute, or find, the features.

    Parameters
    ----------
    folder : Path
        Of the corpus; noise and room responses lie beside it, in ``noise`` and ``rir``.
    cache : Path
        Folder for feature caches.
    workers : int
        Processes.

    Raises
    ------
    EdgelidError
        If anything is missing or does not fit.
    """
    clips = [clip for clip in read_manifest(folder) if clip.split == "train"]
    check_files(clips, folder)
    rooms = [folder.parent / "rir" / c.path for c in read_noise(folder.parent / "rir", "train")]
    noises = read_noise(folder.parent / "noise", "train")
    features = prepare(
        folder,
        [c.path for c in clips],
        cache,
        config.front_end,
        config.data.variants,
        rooms,
        workers,
    )
    noise_features = prepare(
        folder.parent / "noise", [c.path for c in noises], cache, config.front_end, 0, [], workers
    )
    held_out = held_out_speakers(clips, config.data.development)
    train = [i for i, c in enumerate(clips) if c.speaker not in held_out]
    development = [i for i, c in enumerate(clips) if c.speaker in held_out]
    missing = set(config.data.languages) - {clips[i].language for i in train}
    if missing:
        raise EdgelidError(f"no training speech in {', '.join(sorted(missing))}")
    return Corpus(clips, features, train, development, noises, noise_features)


def held_out_speakers(clips: list[Clip], development: dict[str, list[str]]) -> set[str]:
    """Speakers of the development sources; whatever else they recorded is held out with them."""
    return {c.speaker for c in clips if c.source in development.get(c.language, ())}


def band_centres_hz(config: FrontEndConfig) -> Float32Array:
    """Centre frequencies of the mel bands, shape (mels,)."""
    import librosa

    edges = librosa.mel_frequencies(config.mels + 2, fmin=config.low_hz, fmax=config.high_hz)
    return np.asarray(edges[1:-1], np.float32)


class Trainer:
    """The state of a run and the step that advances it.

    Parameters
    ----------
    config : RunConfig
    """

    def __init__(self, config: RunConfig) -> None:
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.trunk, self.head = build_model(config)
        plan = config.optimiser
        schedule = keras.optimizers.schedules.CosineDecay(
            plan.learning_rate / 100,
            plan.steps - plan.warmup_steps,
            warmup_target=plan.learning_rate,
            warmup_steps=plan.warmup_steps,
        )
        self.optimiser = keras.optimizers.AdamW(
            schedule, weight_decay=plan.weight_decay, clipnorm=5.0
        )
        self.variables = self.trunk.trainable_variables + self.head.trainable_variables
        self.optimiser.exclude_from_weight_decay(
            var_list=[v for v in self.variables if len(v.shape) == 1]
        )
        self.optimiser.build(self.variables)
        # All weights, the running statistics of the normalisation included.
        self.weights = self.trunk.weights + self.head.weights
        self.averages = [tf.Variable(w.value, trainable=False) for w in self.weights]
        self.step = tf.function(self._step, reduce_retracing=True)

    def _step(self, frames: Any, labels: Any, masks: Any) -> tuple[Any, Any]:
        """One update; masks (batch, windows, embeddings). Returns loss and accuracy."""
        windows = tf.shape(masks)[1]
        with tf.GradientTape() as tape:
            embeddings, weights, _ = self.trunk(frames[:, :, None, :], training=True)
            # Every window of a clip is pooled from the same embeddings.
            pooled = pool(
                tf.repeat(embeddings, windows, axis=0),
                tf.repeat(weights, windows, axis=0),
                tf.reshape(masks, (-1, tf.shape(masks)[2])),
            )
            scores = self.head(pooled, training=True)
            targets = tf.repeat(labels, windows)
            smooth = self.config.optimiser.label_smoothing
            classes = scores.shape[-1]
            wanted = tf.one_hot(targets, classes) * (1 - smooth) + smooth / classes
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, scores))
        gradients = tape.gradient(loss, self.variables)
        self.optimiser.apply_gradients(zip(gradients, self.variables, strict=True))
        # Early on the average follows closely, or it would remember the random start.
        steps = tf.cast(self.optimiser.iterations, tf.float32)
        decay = tf.minimum(self.config.optimiser.average_decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight.value)
        hit = tf.equal(tf.argmax(scores, -1, tf.int32), targets)
        return loss, tf.reduce_mean(tf.cast(hit, tf.float32))

    def averaged_model(self) -> tuple[Trunk, Head]:
        """Trunk and head with the averaged weights."""
        trunk, head = build_model(self.config)
        values = [average.numpy() for average in self.averages]
        trunk.set_weights(values[: len(trunk.weights)])
        head.set_weights(values[len(trunk.weights) :])
        return trunk, head

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a resumed run needs."""
        arrays = {f"raw/{i}": np.asarray(w.value) for i, w in enumerate(self.weights)}
        arrays |= {f"average/{i}": a.numpy() for i, a in enumerate(self.averages)}
        return arrays | {
            f"optimiser/{i}": np.asarray(v.value) for i, v in enumerate(self.optimiser.variables)
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on where :meth:`state` was taken."""
        for prefix, variables in (
            ("raw", self.weights),
            ("average", self.averages),
            ("optimiser", self.optimiser.variables),
        ):
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{prefix}/{i}"])


def fit(config: RunConfig, run: Path, corpus: Corpus) -> Checkpoint:
    """Train to the end of the plan, from the last checkpoint of the run if there is one.

    Parameters
    ----------
    config : RunConfig
    run : Path
        Folder of the run; gets ``last.npz`` (resumable) and ``best.npz``.
    corpus : Corpus

    Returns
    -------
    Checkpoint
        The best one on the development set.

    Raises
    ------
    EdgelidError
        If the folder holds a run of another configuration.
    """
    run.mkdir(parents=True, exist_ok=True)
    trainer, first = Trainer(config), 0
    if (run / "last.npz").exists():
        last = load_checkpoint(run / "last.npz")
        if last.config != config:
            raise EdgelidError(f"{run} holds a run of another configuration: choose a new folder")
        trainer.restore(last.arrays)
        first = last.step
        log.info("resuming at step %d", first)
    sampler = BatchSampler(
        config,
        [corpus.clips[i] for i in corpus.train],
        corpus.features.take(corpus.train),
        corpus.noises,
        corpus.noise_features,
        band_centres_hz(config.front_end),
    )
    development = DevelopmentSet.of(config, corpus.clips, corpus.development, corpus.features)
    plan = config.optimiser
    best = load_checkpoint(run / "best.npz") if (run / "best.npz").exists() else None
    progress = tqdm(sampler.batches(first, plan.steps), str(run), plan.steps, initial=first)
    for step, batch in enumerate(progress, start=first + 1):
        loss, accuracy = _update(trainer, batch)
        progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        if step % plan.evaluate_every_steps and step != plan.steps:
            continue
        trunk, head = trainer.averaged_model()
        scores = score(trunk, head, development)
        tqdm.write(f"step {step}: loss {loss:.3f}, train {accuracy:.3f}, {scores}")
        now = Checkpoint(config, step, scores, weights_of(trunk, head))
        if best is None or now.scores["select"] >= best.scores["select"]:
            best = now
            best.save(run / "best.npz")
        Checkpoint(config, step, scores, trainer.state()).save(run / "last.npz")
    assert best is not None
    return best


def _update(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    loss, accuracy = trainer.step(batch.frames, batch.labels, batch.masks)
    if not np.isfinite(loss):
        raise EdgelidError("training diverged (the loss is not finite): lower learning_rate")
    return float(loss), float(accuracy)
