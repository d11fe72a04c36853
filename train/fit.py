"""Training: one loop, resumable at any step."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from edge.atomic import check_writable, write_atomically
from edge.errors import EdgelidError
from edge.frontend import Float32Array, FrontEndConfig
from train.checkpoint import BEST, LAST, Checkpoint, build_model, load_checkpoint, weights_of
from train.config import OptimiserConfig, RunConfig
from train.development import DevelopmentSet, score
from train.distil import UNITS, Teacher
from train.features import CachedFeatures, prepare
from train.manifest import Clip, check_files, read_manifest
from train.model import Head, Trunk, pool
from train.noise import NoiseClip, read_noise
from train.sampling import Batch, BatchSampler

log = logging.getLogger(__name__)

DATA = "data.sha256"  # in the folder of a run: what it learns from


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
    teacher: Teacher | None

    def digest(self) -> str:
        """Changes with the clips, their lengths, the noises and the teacher's units."""
        digest = hashlib.sha256(
            repr((self.clips, self.train, self.development, self.noises)).encode()
        )
        tables = [self.features.lengths, self.features.speeds, self.noise_features.lengths]
        if self.teacher:
            tables += [self.teacher.units, self.teacher.starts, self.teacher.lengths]
        for table in tables:
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()


def open_corpus(
    config: RunConfig,
    folder: Path,
    cache: Path,
    workers: int,
    teachers: Sequence[Path] = (),
    further: Sequence[Path] = (),
) -> Corpus:
    """Read manifests and compute, or find, the features.

    Parameters
    ----------
    folder : Path
        Of the corpus; noise and room responses lie beside it, in ``noise`` and ``rir``.
    cache : Path
        Folder for feature caches.
    workers : int
        Processes.
    teachers : sequence of Path, optional
        Embeddings that ``python -m train.teacher`` wrote, one a corpus.
    further : sequence of Path, optional
        Folders of more corpora to learn from.

    Raises
    ------
    EdgelidError
        If anything is missing or does not fit.
    """
    folders = (folder, *further)
    parts = _training_clips(folders)
    clips = [clip for part in parts for clip in part]
    _check_sources(clips, config.data.development)
    held_out = held_out_speakers(clips, config.data.development)
    train = [i for i, c in enumerate(clips) if c.speaker not in held_out]
    development = [i for i, c in enumerate(clips) if c.speaker in held_out]
    missing = set(config.data.languages) - {clips[i].language for i in train}
    if missing:
        raise EdgelidError(f"no training speech in {', '.join(sorted(missing))}")
    _warn_of_lone_speakers([clips[i] for i in train], config.data.languages)
    if config.optimiser.teacher_weight and not teachers:
        raise EdgelidError("this configuration learns from a teacher: give its file (--teacher)")
    taught = Teacher.load(teachers, [clips[i] for i in train]) if teachers else None
    rooms = [folder.parent / "rir" / c.path for c in read_noise(folder.parent / "rir", "train")]
    noises = read_noise(folder.parent / "noise", "train")
    features = CachedFeatures.join(
        [
            prepare(
                each,
                [c.path for c in part],
                cache,
                config.front_end,
                config.data.variants,
                rooms,
                workers,
            )
            for each, part in zip(folders, parts, strict=True)
        ]
    )
    noise_features = prepare(
        folder.parent / "noise", [c.path for c in noises], cache, config.front_end, 0, [], workers
    )
    return Corpus(clips, features, train, development, noises, noise_features, taught)


def _training_clips(folders: Sequence[Path]) -> list[list[Clip]]:
    """What each corpus has to learn from; corpora that overlap are refused."""
    manifests = [read_manifest(folder) for folder in folders]
    tested = {clip.speaker for clips in manifests for clip in clips if clip.split == "test"}
    parts = [[clip for clip in clips if clip.split == "train"] for clips in manifests]
    seen: set[str] = set()  # a clip's path is its name everywhere
    for clip in (clip for part in parts for clip in part):
        if clip.path in seen:
            raise EdgelidError(f"two of the corpora have a clip {clip.path}: rename one's folders")
        if clip.speaker in tested:
            raise EdgelidError(
                f"the speaker {clip.speaker} is in train in one corpus and in test in another: "
                "keep each speaker in one split"
            )
        seen.add(clip.path)
    for folder, part in zip(folders, parts, strict=True):
        if not part:
            raise EdgelidError(f"the corpus {folder} has no clips in its training split")
        check_files(part, folder)
    return parts


def _warn_of_lone_speakers(clips: Sequence[Clip], languages: Sequence[str]) -> None:
    speakers = {(clip.language, clip.speaker) for clip in clips}
    voices = Counter(language for language, _ in speakers)
    lone = [language for language in languages if voices[language] == 1]
    if lone:
        log.warning("only one speaker of %s: the model may learn the voice", ", ".join(lone))


def _check_sources(clips: list[Clip], development: dict[str, list[str]]) -> None:
    """Refuse a misspelt source, which would silently be trained on."""
    for language, sources in development.items():
        known = {clip.source for clip in clips if clip.language == language}
        unknown = sorted(set(sources) - known)
        if unknown:
            raise EdgelidError(
                f"the corpus has no training clips in {language} from {', '.join(unknown)}: "
                "correct [data.development] of the configuration"
            )


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
    units : int
        Of the teacher; none without one.
    """

    def __init__(self, config: RunConfig, units: int) -> None:
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
        self.helpers: list[Any] = []
        if units:
            # Of use in training only: from what the embeddings say to the units of the teacher.
            self.imitation = keras.layers.Dense(units, name="imitation")
            self.imitation.build((None, config.model.embedding))
            self.helpers = self.imitation.weights
            self.variables += self.imitation.trainable_variables
        self.optimiser.exclude_from_weight_decay(
            var_list=[v for v in self.variables if len(v.shape) == 1]
        )
        self.optimiser.build(self.variables)
        # All weights, the running statistics of the normalisation included.
        self.weights = self.trunk.weights + self.head.weights
        self.averages = [tf.Variable(w.value, trainable=False) for w in self.weights]
        self.step = tf.function(self._step, reduce_retracing=True)

    def _step(
        self, frames: Any, labels: Any, masks: Any, targets: Any, known: Any
    ) -> tuple[Any, Any, Any]:
        """One update with a :class:`Batch`; returns both losses and the accuracy."""
        windows = tf.shape(masks)[1]
        self._seed_dropout()
        with tf.GradientTape() as tape:
            embeddings, weights, _ = self.trunk(frames[:, :, None, :], training=True)
            # Classes of few speakers are soon told apart by their voices. The teacher's units are
            # not, so the trunk listens to them more.
            share = self.config.optimiser.class_gradient
            heard = share * embeddings + (1 - share) * tf.stop_gradient(embeddings)
            # Every window of a clip is pooled from the same embeddings.
            pooled = pool(
                tf.repeat(heard, windows, axis=0),
                tf.repeat(weights, windows, axis=0),
                tf.reshape(masks, (-1, tf.shape(masks)[2])),
            )
            scores = self.head(pooled, training=True)
            truth = tf.repeat(labels, windows)
            smooth = self.config.optimiser.label_smoothing
            classes = scores.shape[-1]
            wanted = tf.one_hot(truth, classes) * (1 - smooth) + smooth / classes
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, scores))
            error = tf.constant(0.0)
            if self.helpers:
                named = self.imitation(embeddings[:, :, 0])  # (batch, embeddings, units)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, named)
                error = tf.reduce_sum(losses * known) / (tf.reduce_sum(known) + 1.0)
            total = loss + self.config.optimiser.teacher_weight * error
        gradients = tape.gradient(total, self.variables)
        self.optimiser.apply_gradients(zip(gradients, self.variables, strict=True))
        # Early on the average follows closely, or it would remember the random start.
        steps = tf.cast(self.optimiser.iterations, tf.float32)
        decay = tf.minimum(self.config.optimiser.average_decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight.value)
        hit = tf.equal(tf.argmax(scores, -1, tf.int32), truth)
        return loss, error, tf.reduce_mean(tf.cast(hit, tf.float32))

    def _seed_dropout(self) -> None:
        """Make dropout depend on the seed and the step alone, as the batches do."""
        if self.config.model.dropout:
            state = self.head.dropout.seed_generator.state
            seed = tf.stack(
                [tf.cast(self.config.seed, state.dtype), tf.cast(self.done, state.dtype)]
            )
            state.assign(seed)

    @property
    def done(self) -> Any:
        """Steps done, a scalar variable."""
        return self.optimiser.iterations

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
        arrays |= {f"helper/{i}": np.asarray(w.value) for i, w in enumerate(self.helpers)}
        return arrays | {
            f"optimiser/{i}": np.asarray(v.value) for i, v in enumerate(self.optimiser.variables)
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on where :meth:`state` was taken.

        Raises
        ------
        EdgelidError
            If it is the state of another kind of run.
        """
        parts = {
            "raw": self.weights,
            "average": self.averages,
            "helper": self.helpers,
            "optimiser": self.optimiser.variables,
        }
        variables = {f"{k}/{i}": v for k, part in parts.items() for i, v in enumerate(part)}
        wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != wanted:
            raise EdgelidError(
                "the run's last checkpoint does not fit its configuration, or was made with "
                "another teacher: choose a new folder"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])


def fit(config: RunConfig, run: Path, corpus: Corpus, start: Path | None = None) -> Checkpoint:
    """Train to the end of the plan, from the last checkpoint of the run if there is one.

    A run that was stopped and goes on ends, on the same machine, with the very bits of one that
    was not: batches and dropout depend on the seed and the step alone. If the data are not those
    that it began with, it goes on nevertheless, and says so.

    Parameters
    ----------
    config : RunConfig
    run : Path
        Folder of the run; gets ``last.npz`` (resumable), ``best.npz`` and ``data.sha256``.
    corpus : Corpus
    start : Path, optional
        Folder of another run whose last state a new run begins with, at its step: the same
        network with a longer plan or more data.

    Returns
    -------
    Checkpoint
        The best one on the development set.

    Raises
    ------
    EdgelidError
        If the folder holds a run of another configuration, or cannot be written to.
    KeyboardInterrupt
        If it is interrupted; the run can then go on from the last whole step.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgelidError(f"cannot make the folder {run}: {error.strerror}") from error
    check_writable(run / LAST)
    trainer = Trainer(config, UNITS if corpus.teacher else 0)
    last, best = _resume(trainer, run)
    _note_data(run / DATA, corpus.digest(), resuming=last is not None)
    first = last.step if last else _continue(trainer, start) if start else 0
    sampler = BatchSampler(
        config,
        [corpus.clips[i] for i in corpus.train],
        corpus.features.take(corpus.train),
        corpus.noises,
        corpus.noise_features,
        band_centres_hz(config.front_end),
        corpus.teacher,
    )
    development = DevelopmentSet.of(config, corpus.clips, corpus.development, corpus.features)
    plan = config.optimiser
    if last and not last.scores and _is_due(first, plan):
        best = _evaluate(trainer, development, run, best)
    progress = tqdm(sampler.batches(first, plan.steps), str(run), plan.steps, initial=first)
    try:
        for step, batch in enumerate(progress, start=first + 1):
            loss, imitation, accuracy = _update(trainer, batch)
            figures = {"loss": loss, "teacher": imitation, "accuracy": accuracy}
            progress.set_postfix({k: f"{v:.3f}" for k, v in figures.items()}, refresh=False)
            if _is_due(step, plan):
                tqdm.write(f"step {step}: {progress.postfix}")
                best = _evaluate(trainer, development, run, best)
    except KeyboardInterrupt:
        # By the optimiser's count: the interrupt may have come between a step and this loop's.
        Checkpoint(config, int(trainer.done), {}, trainer.state()).save(run / LAST)
        raise
    return best if best else _evaluate(trainer, development, run, best)


def _note_data(file: Path, digest: str, resuming: bool) -> None:
    """Keep what a run began with; warn if one that goes on has something else."""
    if not resuming:
        write_atomically(file, digest.encode())
    elif file.exists() and file.read_text() != digest:
        log.warning(
            "%s began with another corpus, noise or teacher: it goes on, but not as it would have",
            file.parent,
        )


def _is_due(step: int, plan: OptimiserConfig) -> bool:
    """Whether the model is evaluated after so many steps."""
    return step > 0 and (step % plan.evaluate_every_steps == 0 or step == plan.steps)


def _resume(trainer: Trainer, run: Path) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The last (restored) and the best checkpoint of a run, where there are any."""
    found = []
    for file in (run / LAST, run / BEST):
        found.append(load_checkpoint(file) if file.exists() else None)
        if found[-1] and found[-1].config != trainer.config:
            raise EdgelidError(f"{run} holds a run of another configuration: choose a new folder")
    last, best = found
    if last:
        trainer.restore(last.arrays)
        log.info("resuming at step %d", last.step)
    return last, best


def _continue(trainer: Trainer, start: Path) -> int:
    """Take over the last state of another run; returns the steps it had done."""
    other = load_checkpoint(start / LAST)
    done, planned = other.step, trainer.config.optimiser.steps
    if other.config.model != trainer.config.model or done >= planned:
        raise EdgelidError(
            f"the run {start} cannot be continued: it needs the same [model], and a plan of more "
            f"than its {done} steps"
        )
    trainer.restore(other.arrays)
    log.info("continuing %s at step %d", start, done)
    return done


def _evaluate(
    trainer: Trainer, development: DevelopmentSet, run: Path, best: Checkpoint | None
) -> Checkpoint:
    """Score the averaged model and save the run; returns the best checkpoint so far."""
    config, step = trainer.config, int(trainer.done)
    trunk, head = trainer.averaged_model()
    scores = score(trunk, head, development)
    tqdm.write(f"step {step}: {scores}")
    if best is None or scores["select"] >= best.scores["select"]:
        best = Checkpoint(config, step, scores, weights_of(trunk, head))
        best.save(run / BEST)
    Checkpoint(config, step, scores, trainer.state()).save(run / LAST)
    return best


def _update(trainer: Trainer, batch: Batch) -> tuple[float, float, float]:
    figures = trainer.step(batch.frames, batch.labels, batch.masks, batch.targets, batch.known)
    loss, error, accuracy = (float(figure) for figure in figures)
    if not np.isfinite(loss + error):
        raise EdgelidError("training diverged (the loss is not finite): lower learning_rate")
    return loss, error, accuracy
