"""Distillation of the large model into a compact streaming one.

The large model hears the clean stretch (`train.waveforms.teaching`), the compact one hears it
augmented. It learns what the large one has at each moment (the outputs of its last layer, and what
speaks in them for each class), the statistics and the posteriors of random windows, what its
decoder says of every language (`train.waveforms.readouts`), and, with less weight, the labels:
those are of few people, whose voices are soon known by heart.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from train.config import RunConfig, from_dict
from train.model.checkpoint import Checkpoint, load_checkpoint, restore_model, weights_of
from train.model.network import Trunk, pool
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import fingerprint, fingerprint_of
from train.waveforms.company import labels_at
from train.waveforms.draws import Draw
from train.waveforms.hearing import Hearing, teacher_of
from train.waveforms.hearing import fingerprint as bank_fingerprint
from train.waveforms.judge import Judge
from train.waveforms.large import load_large
from train.waveforms.lessons import LEAST_TOKENS, cross_entropy, hits, standardised, targets, unlike
from train.waveforms.listening import Listening, Student, stretch
from train.waveforms.readouts import Readouts, unlike_rows
from train.waveforms.settings import compact_settings
from train.waveforms.sound import filterbank
from train.waveforms.state import Course, digest
from train.waveforms.stepper import Clock, Stepper, rate_factor, with_values
from train.waveforms.teaching import Along, Kept, Teaching

# A run that starts from weights learns what is new first, and faster, as what is learnt anew must
# not undo what was learnt before. Layers that only training has are new in each run; behind layers
# that were inherited (`train.waveforms.inherit`), which are at step 0, all that reads them is, too.
# Their rate is the same whatever the batch, or a small one would leave them half learnt.
NEW_STEPS, NEW_RATE = 250, 4e-3
TRUNK, HEAD, FRAMES, STATISTICS, EVIDENCE, LANGUAGES = range(6)  # places of what learns


def run_config(config: dict[str, Any]) -> RunConfig:
    """A compact model's configuration, as every other command knows it.

    Raises
    ------
    EdgelidError
        If a key is missing, unknown or ill-typed.
    """
    settings = compact_settings(config)
    told: dict[str, Any] = {k: config[k] for k in ("seed", "data", "model") if k in config}
    told["front_end"] = config.get("front_end", {})
    told["optimiser"] = {
        "steps": settings.steps,
        "warmup_steps": 0,
        "batch_clips": settings.batch,
        "clip_s": settings.clip_s,
        "learning_rate": settings.rate,
        "weight_decay": settings.weight_decay,
        "label_smoothing": settings.label_smoothing,
        "average_decay": settings.average_decay,
    }
    return from_dict(RunConfig, told, "the configuration")


def fit_compact(config: dict[str, Any], segments: Segments, given: argparse.Namespace) -> None:
    """Distil the large model into a compact streaming one.

    Parameters
    ----------
    config : dict
        As ``train/configs/compact.toml``.
    segments : Segments
        The decoded bank.
    given : Namespace
        Options of ``python -m train.waveforms compact``.
    """
    _Distillation(config, segments, given).fit()


class _Distillation:
    """The state of a run."""

    def __init__(
        self, config: dict[str, Any], segments: Segments, given: argparse.Namespace
    ) -> None:
        self._settings, self._given = compact_settings(config), given
        self._told = run_config(config)
        segments.check_held_out(self._told.data.development)
        self._shape, self._front_end = self._told.model, self._told.front_end
        self._labels = list(self._told.data.labels)
        self._filters = ops.convert_to_tensor(filterbank(self._front_end))
        begun = self._build()
        taught = fingerprint([self._teacher]), bank_fingerprint(segments)
        self._whose = digest(config, begun, *taught, given.batch_scale)
        student = Student.of(
            self._told,
            tts_weight=self._settings.tts_weight,
            other_voices=self._settings.other_voices,
            other_spectra=self._settings.other_spectra,
            second_voices=self._settings.second_voices,
            changes=self._settings.changes,
        )
        self._heard = Listening(student, segments, self._teaching(student, segments))
        stride = self._shape.stride
        self._count, self._group = self._heard.count, self._heard.group
        self._delay = round(self._shape.delay_frames / stride)
        self._windows = [
            min(self._count, round(s * 100 / stride)) for s in self._settings.windows_s
        ]
        self._judge = Judge(segments, self._labels, given.most)
        self._constants = self._heard.constants | {
            "teacher": [v.value for v in self._teacher.variables],
            "evidence": ops.convert_to_tensor(self._teacher.evidence()),
        }

    def _build(self) -> str | None:
        """Make the teacher, what learns, and what only training has.

        Returns
        -------
        str or None
            What tells the weights that it begins with from others, if there are any.
        """
        given, shape, classes = self._given, self._shape, len(self._labels)
        keras.utils.set_random_seed(self._told.seed)
        self._teacher, labels = load_large(given.teacher, given.precision)
        if labels != self._labels:
            raise EdgelidError(f"{given.teacher} and the configuration differ in their languages")
        self._teacher.trainable = False
        keras.config.set_dtype_policy(given.precision)
        self._trunk = Trunk(shape)
        keras.config.set_dtype_policy("float32")
        self._trunk(np.zeros((1, 8 * shape.stride, 1, shape.mels), np.float32))
        self._readouts = Readouts(shape, classes, self._settings.languages_hidden)
        if self._readouts.languages is not None and self._teacher.decoder is None:
            raise EdgelidError(
                f"{given.teacher} has no decoder that speaks of languages: give one that `graft` "
                "made, or no languages_hidden"
            )
        helpers = {"frames": self._teacher.dim, "statistics": self._teacher.pooled}
        helpers["evidence"] = classes
        self._helpers = []
        for name, width in helpers.items():
            helper = keras.layers.Dense(width, name=f"{name}_helper")
            inputs = 2 * shape.embedding if name == "statistics" else shape.embedding
            helper.build((None, inputs))
            self._helpers.append(helper)
        self._new = list(self._helpers)
        if given.start:
            begun = load_checkpoint(given.start)
            trunk, head = (model.get_weights() for model in restore_model(begun))
            try:
                self._trunk.set_weights(trunk)
                self._readouts.begin(head)
            except ValueError as error:
                raise EdgelidError(
                    f"{given.start} has another network than the configuration"
                ) from error
            if self._readouts.languages is not None:
                # No checkpoint has its rows of languages.
                self._new.append(self._readouts.languages)
            if begun.step == 0:
                self._new += [self._trunk.embedding, self._trunk.weight, self._readouts.own]
            return fingerprint_of(begun.arrays)
        return None

    def _teaching(self, student: Student, segments: Segments) -> Teaching:
        if self._given.hearing is None:
            return Along(self._teacher, student.other_voices > 0)
        if student.second_voices:
            raise EdgelidError(
                "what was heard before knows of no second_voices: give no --hearing, and the "
                "teacher hears along"
            )
        whose = teacher_of(self._teacher)
        return Kept(Hearing.load(self._given.hearing, segments, whose))

    def _draw(self, size: int) -> Draw:
        draw, rng = self._heard.draw(size), self._heard.rng
        starts = [rng.integers(0, self._count - n + 1, size) for n in self._windows]
        draw["window"] = np.stack(starts, 1).astype(np.int32)
        dropout = self._shape.dropout
        hidden = self._readouts.own.hidden.units
        kept = rng.random((size, len(self._windows), hidden)) > dropout
        draw["drop"] = kept.astype(np.float32) / (1 - dropout)
        return draw

    def _loss(self, outs: Any, draw: Any, constants: Any) -> Any:
        wave = self._heard.wave(draw, constants)
        features = self._heard.features(wave, draw, constants)
        embeddings, gates, _ = outs(TRUNK, features[:, :, None, :], training=True)
        embeddings, gates = ops.cast(embeddings, "float32"), ops.cast(gates, "float32")
        lesson = self._heard.lesson(wave, draw, constants)
        moments = self._moments(outs, embeddings[:, :, 0], lesson, constants)
        windows = [
            self._window(outs, k, embeddings, gates, lesson, draw, constants)
            for k in range(len(self._windows))
        ]
        figures = moments | {
            name: sum(window[name] for window in windows) / len(windows)
            for name in windows[0]
            if name != "hit"
        }
        total = self._settings.weights.of(figures)
        shares = zip(self._settings.windows_s, windows, strict=True)
        return total, figures | {f"hit{s:g}": window["hit"] for s, window in shares}

    def _per_embedding(self, tokens: Any) -> Any:
        return self._heard.per_embedding(tokens, self._delay)

    def _moments(self, outs: Any, embeddings: Any, lesson: Any, constants: Any) -> dict[str, Any]:
        """Losses at each moment; an embedding is about the middle of what it heard."""
        tokens, spoken = lesson
        counted = self._per_embedding(spoken)
        # A few channels of a transformer are large and say nothing: each counts alike here.
        told = self._per_embedding(standardised(tokens, (0, 1), spoken))
        said = outs(FRAMES, embeddings)[:, self._delay :]
        frames = ops.mean(unlike(said, told) * counted[:, :, 0])
        theirs = self._per_embedding(ops.matmul(tokens, constants["evidence"]))
        ours = outs(EVIDENCE, embeddings)[:, self._delay :]
        error = ops.mean(ops.square(standardised(theirs, (0, 1), counted) - ours), axis=-1)
        return {"frames": frames, "evidence": ops.mean(error * counted[:, :, 0])}

    def _window(
        self,
        outs: Any,
        k: int,
        embeddings: Any,
        gates: Any,
        lesson: Any,
        draw: Any,
        constants: Any,
    ) -> dict[str, Any]:
        """Losses of a random window of each clip."""
        settings, first = self._settings, draw["window"][:, k : k + 1]
        mask = stretch(first, self._windows[k], self._count)
        pooled = pool(embeddings, gates, mask)
        logits = outs(HEAD, pooled, training=True, drop=draw["drop"][:, k])
        tokens, spoken = lesson
        # What is pooled here is about what was said so much earlier.
        heard = stretch(first - self._delay, self._windows[k], self._count)
        counted = ops.repeat(heard, self._group, axis=1) * spoken[:, :, 0]
        speaks = ops.sum(counted, axis=1) >= LEAST_TOKENS  # (batch,)
        # The teacher judges the same stretch, from tokens that know all of the clip.
        with with_values(self._teacher, constants["teacher"]):
            their_pooled = self._teacher.pool(tokens, counted)
            told = self._teacher.told(tokens, counted)
            theirs = self._teacher.judged(their_pooled, told)
            if self._readouts.languages is not None:
                rows = self._teacher.languages(told)
        temperature = settings.temperature
        middle = first[:, 0] - self._delay + self._windows[k] // 2
        soft, labels = targets(theirs, labels_at(middle, draw), speaks, temperature)
        likely = ops.log_softmax(logits / temperature)
        weight = ops.cast(speaks, "float32")[:, None]
        wanted = ops.stop_gradient(standardised(their_pooled, (0,), weight))
        found = {
            "classes": cross_entropy(logits, labels, settings.label_smoothing),
            "posteriors": -ops.mean(ops.sum(soft * likely, -1)) * temperature,
            "statistics": ops.mean(unlike(outs(STATISTICS, pooled), wanted) * weight[:, 0]),
            "hit": hits(logits, labels),
        }
        if self._readouts.languages is not None:
            said = outs(LANGUAGES, pooled, training=True)
            found["languages"] = unlike_rows(said, rows, labels, speaks, len(self._labels))
        return found

    def fit(self) -> None:
        """Distil until the steps or the time are over; a run that was stopped goes on."""
        settings, given = self._settings, self._given
        # The noise of a gradient falls with the root of the batch, and the rate may grow with it.
        rate = settings.rate * given.batch_scale**0.5
        models = [self._trunk, self._readouts.own, *self._helpers, self._readouts.languages]
        stepper = Stepper(
            [model for model in models if model is not None],
            self._loss,
            lambda _: rate,
            settings.weight_decay,
            settings.average_decay,
            [v for layer in self._new for v in layer.trainable_variables],
            given.towers,
        )
        size = max(8, int(settings.batch * given.batch_scale) // 8 * 8)
        course = Course(given.output, stepper, given.limit_s, self._whose)
        clock, steps = course.clock, given.steps or settings.steps
        if given.start and not course.begun:
            for _ in range(NEW_STEPS):
                if clock.over:
                    break
                stepper.step(self._draw(size), self._constants, 0.0, NEW_RATE / rate)

        def take(step: int) -> tuple[int, dict[str, Any]]:
            # A run that was stopped draws what it would have drawn.
            self._heard.begin_at(step, self._told.seed)
            share = rate_factor(clock.progress(step, steps))
            return (step + 1) * size, stepper.step(self._draw(size), self._constants, share)

        def look(step: int) -> None:
            self._save(step, clock)

        course.run(steps, take, look, given.log_every, given.evaluate_every_s)

    def _save(self, step: int, clock: Clock) -> None:
        models = (self._trunk, self._readouts.join())
        score = self._judge.compact(*models, self._filters, self._front_end, self._heard.bank)
        print(f"dev {step} {clock.spent_s:.0f} s", json.dumps(score), flush=True)
        Checkpoint(self._told, step, score, weights_of(*models)).save(self._given.output)
