"""Distillation of the large model into a compact streaming one.

The large model hears the clean stretch, the compact one the augmented. It learns what the large one
has at each moment (the outputs of its last layer, and what speaks in them for each class), the
statistics and the posteriors of random windows, and, with less weight, the labels: those are of few
people, whose voices are soon known by heart.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import keras
import numpy as np
from keras import ops

from train.config import RunConfig, from_dict
from train.model.checkpoint import Checkpoint, load_checkpoint, weights_of
from train.model.network import Head, Trunk, pool
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import load_parts
from train.waveforms.draws import Draw, Drawer
from train.waveforms.judge import Judge
from train.waveforms.large import Large, large_front_end
from train.waveforms.lessons import (
    cross_entropy,
    heard,
    hits,
    room_constants,
    standardised,
    unlike,
)
from train.waveforms.sound import filterbank, log_mel, masked, samples_of
from train.waveforms.stepper import Clock, Stepper, rate_factor, report, with_values

# Layers that only training has are new in each run: one that starts from weights learns them first,
# and faster, as what is learnt anew must not undo what was learnt before.
HELPER_STEPS, HELPER_FACTOR = 60, 4.0
TEACHER_PEAK = 0.5  # of what the teacher hears
ALONE = 0.05  # loudness of a second voice below which a clip's label holds
TRUNK, HEAD, FRAMES, STATISTICS, EVIDENCE = range(5)  # places of what learns


def run_config(config: dict[str, Any]) -> RunConfig:
    """A compact model's configuration, as every other command knows it.

    Raises
    ------
    EdgelidError
        If a key is missing, unknown or ill-typed.
    """
    settings = config["compact"]
    told = {name: config[name] for name in ("seed", "data", "model")}
    told["front_end"] = config.get("front_end", {})
    told["optimiser"] = {
        "steps": settings["steps"],
        "warmup_steps": 0,
        "batch_clips": settings["batch"],
        "clip_s": settings["clip_s"],
        "learning_rate": settings["rate"],
        "weight_decay": settings["weight_decay"],
        "label_smoothing": settings["label_smoothing"],
        "average_decay": settings["average_decay"],
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
        self._settings, self._given, self._told = config["compact"], given, run_config(config)
        self._shape, self._front_end = self._told.model, self._told.front_end
        self._labels = list(self._told.data.labels)
        self._filters = ops.convert_to_tensor(filterbank(self._front_end))
        self._teacher_filters = ops.convert_to_tensor(filterbank(large_front_end()))
        self._build()
        stride = self._shape.stride
        # The teacher's tokens come in pairs, and an embedding stands for whole ones.
        self._frames = round(self._settings["clip_s"] * 100) // (4 * stride) * 4 * stride
        self._count = self._frames // stride  # of embeddings
        self._group = stride // 2  # tokens of the teacher for an embedding
        self._delay = round(self._shape.delay_frames / stride)
        self._windows = [
            min(self._count, round(s * 100 / stride)) for s in self._settings["windows_s"]
        ]
        # The teacher is the dearer of the two where there is no GPU: several augmented variants of
        # a stretch of speech share its one hearing of the clean one.
        self._variants = self._settings.get("variants", 1)
        tts_weight = self._settings.get("tts_weight", 0.6)
        self._drawer = Drawer(segments, self._labels, config["seed"] + 1, tts_weight)
        self._judge = Judge(segments, self._labels, given.most)
        self._bank = ops.convert_to_tensor(np.asarray(segments.samples))
        self._constants = room_constants(segments, self._drawer, samples_of(self._frames))
        self._constants |= {
            "bank": self._bank,
            "teacher": [v.value for v in self._teacher.variables],
            "evidence": ops.convert_to_tensor(self._teacher.evidence()),
        }

    def _build(self) -> None:
        """The teacher, what learns, and what only training has."""
        given, shape, classes = self._given, self._shape, len(self._labels)
        arrays, told = load_parts(given.teacher)
        self._teacher = Large(told["config"]["large"]["layers"], classes, 0.0, given.precision)
        self._teacher.load_arrays(arrays)
        self._teacher.trainable = False
        keras.config.set_dtype_policy(given.precision)
        self._trunk = Trunk(shape)
        keras.config.set_dtype_policy("float32")
        self._head = Head(shape, classes)
        self._trunk(np.zeros((1, 8 * shape.stride, 1, shape.mels), np.float32))
        self._head(np.zeros((1, 2 * shape.embedding), np.float32))
        helpers = {"frames": self._teacher.dim, "statistics": self._teacher.pooled}
        helpers["evidence"] = classes
        self._helpers = []
        for name, width in helpers.items():
            helper = keras.layers.Dense(width, name=f"{name}_helper")
            inputs = 2 * shape.embedding if name == "statistics" else shape.embedding
            helper.build((None, inputs))
            self._helpers.append(helper)
        if given.start:
            begun = load_checkpoint(given.start).arrays
            for name, model in (("trunk", self._trunk), ("head", self._head)):
                count = len(model.get_weights())
                model.set_weights([begun[f"{name}/{i}"] for i in range(count)])

    def _draw(self, size: int) -> Draw:
        rng, variants, settings = self._drawer.rng, self._variants, self._settings
        draw = self._drawer.batch(
            size, samples_of(self._frames), self._frames, self._front_end.mels
        )
        for name in ("labels", "starts", "counts", "lead", "rate"):
            draw[name] = np.repeat(draw[name][::variants], variants)
        starts = [rng.integers(0, self._count - n + 1, size) for n in self._windows]
        draw["window"] = np.stack(starts, 1).astype(np.int32)
        second = rng.random(size) < settings.get("mixed_share", 0.2)
        mixed = np.where(second, rng.uniform(0.2, 1.0, size), 0.0)
        draw["mixed"] = np.repeat(mixed[::variants], variants).astype(np.float32)
        dropout = self._shape.dropout
        kept = rng.random((size, len(self._windows), self._shape.hidden)) > dropout
        draw["drop"] = kept.astype(np.float32) / (1 - dropout)
        return draw

    def _loss(self, outs: Any, draw: Any, constants: Any) -> Any:
        clean, wave = heard(
            draw, constants, samples_of(self._frames), draw["mixed"], self._variants
        )
        tokens = self._teacher_tokens(clean, constants)
        features = masked(
            log_mel(wave, self._front_end, self._filters), draw["times"], draw["bands"]
        )
        embeddings, gates, _ = outs(TRUNK, features[:, :, None, :], training=True)
        embeddings, gates = ops.cast(embeddings, "float32"), ops.cast(gates, "float32")
        speech = ops.cast(draw["labels"] < len(self._labels) - 1, "float32")
        moments = self._moments(outs, embeddings[:, :, 0], tokens, speech, constants)
        windows = [
            self._window(outs, k, embeddings, gates, tokens, speech, draw, constants)
            for k in range(len(self._windows))
        ]
        figures = moments | {
            name: sum(window[name] for window in windows) / len(windows)
            for name in ("classes", "posteriors", "statistics")
        }
        weights = self._settings["weights"]
        total = sum(weights[name] * value for name, value in figures.items())
        shares = zip(self._settings["windows_s"], windows, strict=True)
        return total, figures | {f"hit{s:g}": window["hit"] for s, window in shares}

    def _teacher_tokens(self, clean: Any, constants: Any) -> Any:
        """What the teacher hears in clean stretches, shape (batch, tokens, dim)."""
        peak = ops.max(ops.abs(clean), axis=1, keepdims=True)
        level = (clean / (peak + 1e-4) * TEACHER_PEAK)[:: self._variants]
        with with_values(self._teacher, constants["teacher"]):
            tokens = self._teacher.tokens(log_mel(level, large_front_end(), self._teacher_filters))
        return ops.stop_gradient(ops.repeat(tokens, self._variants, axis=0))

    def _per_embedding(self, tokens: Any) -> Any:
        """Means of the tokens that embeddings are about, as far as these say it in time."""
        shape = (-1, self._count, self._group, tokens.shape[-1])
        return ops.mean(ops.reshape(tokens, shape), axis=2)[:, : self._count - self._delay]

    def _moments(
        self, outs: Any, embeddings: Any, tokens: Any, speech: Any, constants: Any
    ) -> dict[str, Any]:
        """Losses at each moment; an embedding is about the middle of what it heard."""
        # A few channels of a transformer are large and say nothing: each counts alike here.
        told = self._per_embedding(standardised(tokens, (0, 1)))
        said = outs(FRAMES, embeddings)[:, self._delay :]
        frames = ops.mean(unlike(said, told) * speech[:, None])
        theirs = ops.matmul(self._per_embedding(tokens), constants["evidence"])
        ours = outs(EVIDENCE, embeddings)[:, self._delay :]
        error = ops.mean(ops.square(standardised(theirs, (0, 1)) - ours), axis=-1)
        return {"frames": frames, "evidence": ops.mean(error * speech[:, None])}

    def _window(
        self,
        outs: Any,
        k: int,
        embeddings: Any,
        gates: Any,
        tokens: Any,
        speech: Any,
        draw: Any,
        constants: Any,
    ) -> dict[str, Any]:
        """Losses of a random window of each clip."""
        settings, first = self._settings, draw["window"][:, k : k + 1]
        place = ops.arange(self._count)[None]
        mask = ops.cast(
            ops.logical_and(place >= first, place < first + self._windows[k]), "float32"
        )
        pooled = pool(embeddings, gates, mask)
        logits = outs(HEAD, pooled, training=True, drop=draw["drop"][:, k])
        # The teacher judges the same stretch, from tokens that know all of the clip.
        with with_values(self._teacher, constants["teacher"]):
            told = self._teacher.pool(tokens, ops.repeat(mask, self._group, axis=1))
            theirs = self._teacher.classify(told)
        temperature = settings.get("temperature", 2.0)
        soft = ops.stop_gradient(ops.softmax(theirs / temperature))
        likely = ops.log_softmax(logits / temperature)
        wanted = ops.stop_gradient(standardised(told, (0,)))
        alone = ops.cast(draw["mixed"] < ALONE, "float32")
        smooth = settings["label_smoothing"]
        return {
            "classes": cross_entropy(logits, draw["labels"], smooth, alone),
            "posteriors": -ops.mean(ops.sum(soft * likely, -1)) * temperature,
            "statistics": ops.mean(unlike(outs(STATISTICS, pooled), wanted) * speech),
            "hit": hits(logits, draw["labels"]),
        }

    def fit(self) -> None:
        """Distil until the steps or the time are over."""
        settings, given = self._settings, self._given
        stepper = Stepper(
            [self._trunk, self._head, *self._helpers],
            self._loss,
            lambda path: settings["rate"],
            settings["weight_decay"],
            settings["average_decay"],
        )
        steps, clock, clips = given.steps or settings["steps"], Clock(given.limit_s), 0
        size = max(8, int(settings["batch"] * given.batch_scale) // 8 * 8)
        for step in range(steps):
            draw = self._draw(size)
            if given.start and step < HELPER_STEPS:
                figures = stepper.step(draw, self._constants, 0.0, HELPER_FACTOR)
                clock = Clock(given.limit_s)
            else:
                share = rate_factor(clock.progress(step, steps))
                figures = stepper.step(draw, self._constants, share)
            clips += size
            last = step + 1 == steps or clock.over
            if step % given.log_every == 0 or last:
                report(step + 1, clock, clips, figures)
            if last or clock.due(given.evaluate_every_s):
                stepper.settle()
                self._save(step + 1, clock)
            if last:
                break

    def _save(self, step: int, clock: Clock) -> None:
        models = (self._trunk, self._head)
        score = self._judge.compact(*models, self._filters, self._front_end, self._bank)
        print(f"dev {step} {clock.spent_s:.0f} s", json.dumps(score), flush=True)
        Checkpoint(self._told, step, score, weights_of(*models)).save(self._given.output)
