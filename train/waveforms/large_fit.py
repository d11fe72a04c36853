"""Fine-tuning of the large model: first its head alone, then all of it, gently."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from train.config import held_out_sources
from train.waveforms.adapters import adapt, learnt_beside
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import (
    fingerprint,
    fingerprint_of,
    is_whole,
    save_parts,
    starting_weights,
)
from train.waveforms.detached import halved
from train.waveforms.draws import Draw, Drawer
from train.waveforms.hearing import fingerprint as bank_fingerprint
from train.waveforms.judge import Judge, select
from train.waveforms.large import (
    empty_large,
    labels_of,
    large_front_end,
    width_of,
)
from train.waveforms.lessons import (
    augmented_waves,
    clean_waves,
    cross_entropy,
    hits,
    room_constants,
)
from train.waveforms.linear import Linear
from train.waveforms.settings import LargeCourse, LargeHead, LargeSizes, large_settings
from train.waveforms.sound import filterbank, log_mel, masked, samples_of
from train.waveforms.state import Course, digest, state_file
from train.waveforms.stepper import Clock, Stepper, compiled, rate_factor, with_values
from train.waveforms.voices import draw_voices, voice_maps, voiced

HEAD_BATCH_S = 3.0  # a batch for the head has as many windows of any length as a step has of this


def fit_large(config: dict[str, Any], segments: Segments, given: argparse.Namespace) -> None:
    """Fine-tune Whisper's first layers and a head.

    Parameters
    ----------
    config : dict
        As ``train/configs/large.toml``.
    segments : Segments
        The decoded bank.
    given : Namespace
        Options of ``python -m train.waveforms large``.

    Raises
    ------
    EdgelidError
        If the configuration lacks something, or the weights do not fit it.
    """
    run = _Run(config, segments, given)
    if not run.is_fitted and not state_file(given.output).exists():
        run.fit_head()
        run.evaluate(0)
    run.fit()


class _Run:
    """The state of a run."""

    def __init__(
        self, config: dict[str, Any], segments: Segments, given: argparse.Namespace
    ) -> None:
        self._settings = large_settings(LargeCourse, config)
        self._config, self._given, sizes = config, given, large_settings(LargeSizes, config)
        keras.utils.set_random_seed(config["seed"])
        labels = labels_of(config)
        segments.check_held_out(held_out_sources(config, "the configuration"))
        self._front_end = large_front_end()
        self._filters = ops.convert_to_tensor(filterbank(self._front_end))
        arrays = starting_weights(given.start)
        begun = fingerprint_of(arrays)
        self._whose = digest(config, begun, bank_fingerprint(segments), given.batch_scale)
        try:
            self._model = empty_large(
                config, width_of(arrays), sizes.decoder, given.precision, self._settings.dropout
            )
            self._model.load_arrays(arrays)
        except (KeyError, ValueError) as error:
            raise EdgelidError(
                f"{given.start} is not of the sizes that the configuration tells"
            ) from error
        self.is_fitted = "head/kernel" in arrays or "large/0" in arrays
        self._head = None if self.is_fitted else large_settings(LargeHead, config)
        self._told: dict[str, Any] = {"config": config}
        if sizes.adapters is not None:
            if learnt_beside(arrays):
                raise EdgelidError(
                    f"{given.start} has learnt beside its matrices already: start with what that "
                    "run began with"
                )
            # By which `attach` knows what these belong to: Whisper in half precision.
            encoder = self._model.encoder
            encoder.set_weights([halved(weight) for weight in encoder.get_weights()])
            self._told["adapted"] = fingerprint([encoder])
            adapt(encoder, sizes.adapters.rank, sizes.adapters.first, config["seed"])
        self._drawer = Drawer(segments, labels, config["seed"], self._settings.tts_weight)
        self._drawer.check(labels)
        self._judge = Judge(segments, labels, given.most)
        self._bank = ops.convert_to_tensor(np.asarray(segments.samples))
        self._constants = {
            s: room_constants(segments, self._drawer, samples_of(round(s * 100)))
            | {"bank": self._bank, "frames_like": np.zeros(round(s * 100), np.float32)}
            for s in set(self._settings.lengths_s)
        }
        self._other_voices = self._settings.other_voices
        self._maps = voice_maps(self._front_end) if self._other_voices else None
        self._clock, self._clips = Clock(given.limit_s), 0
        self._best = -math.inf  # score of what is kept

    def _length_s(self, turn: int) -> float:
        lengths_s = self._settings.lengths_s
        return lengths_s[turn % len(lengths_s)]

    def _size(self, windows_s: float) -> int:
        audio_s = self._settings.batch_s * self._given.batch_scale
        return max(8, int(audio_s / windows_s) // 8 * 8)

    def _draw(self, turn: int, windows_s: float | None = None) -> tuple[float, int, Draw]:
        """Length in seconds, number and draw of the windows of a turn."""
        s = self._length_s(turn)
        size = self._size(windows_s or s)
        frames = round(s * 100)
        mels = self._front_end.mels
        draw = self._drawer.batch(size, samples_of(frames), frames, mels)
        if self._maps:
            draw |= draw_voices(self._drawer.rng, draw["rate"], self._other_voices)
        return s, size, draw

    def _features(self, draw: Any, constants: Any) -> Any:
        samples = samples_of(constants["frames_like"].shape[0])
        wave = augmented_waves(clean_waves(draw, constants, samples), draw, constants)
        features = log_mel(wave, self._front_end, self._filters)
        return voiced(features, draw, self._maps) if self._maps else features

    def fit_head(self) -> None:
        """Fit the linear layer to pooled statistics of the encoder as it came.

        Beginning with a random layer, the encoder would first unlearn what it brought (Kumar et
        al. 2022, "Fine-tuning can distort pretrained features").
        """

        def pure(values: Any, draw: Any, constants: Any) -> Any:
            with with_values(self._model, values):
                return self._model.pool(self._model.tokens(self._features(draw, constants)))

        assert self._head is not None
        pooled = compiled(pure)
        found, labels = [], []
        for turn in range(self._head.head_batches):
            s, _, draw = self._draw(turn, HEAD_BATCH_S)
            values = [v.value for v in self._model.variables]
            found.append(np.asarray(pooled(values, draw, self._constants[s])))
            labels.append(draw["labels"])
        x, y = np.concatenate(found), np.concatenate(labels)
        head = Linear.fit(x, y, self._head.head_penalty)
        right = float(np.mean(head.scores(x).argmax(axis=1) == y))
        print(f"head fitted to {len(x)} windows: {right:.1%} right", flush=True)
        self._model.take_head(head)

    def _loss(self, outs: Any, draw: Any, constants: Any) -> Any:
        features = masked(self._features(draw, constants), draw["times"], draw["bands"])
        logits = outs(0, features, training=True, drop=draw["drop"])
        smooth = self._settings.label_smoothing
        loss = cross_entropy(logits, draw["labels"], smooth)
        return loss, {"loss": loss, "hit": hits(logits, draw["labels"])}

    def fit(self) -> None:
        """Fine-tune until the steps or the time are over; a run that was stopped goes on."""
        settings, given, model = self._settings, self._given, self._model
        encoder = {id(v) for v in model.encoder.variables}
        stepper = Stepper(
            [model],
            self._loss,
            lambda v: settings.encoder_rate if id(v) in encoder else settings.head_rate,
            settings.weight_decay,
            settings.average_decay,
            towers=given.towers,
        )
        course = Course(given.output, stepper, given.limit_s, self._whose)
        if course.begun:
            # What was best may be gone.
            self._best = course.best if is_whole(given.output) else -math.inf
            self._clips = sum(self._size(self._length_s(turn)) for turn in range(course.begun))
        course.best = self._best
        steps = given.steps or settings.steps
        self._clock = clock = course.clock

        def take(step: int) -> tuple[int, dict[str, Any]]:
            # A run that was stopped draws what it would have drawn.
            self._drawer.rng = np.random.default_rng([self._config["seed"], step])
            s, size, draw = self._draw(step)
            kept = self._drawer.rng.random((size, model.pooled)) > model.dropout
            draw["drop"] = kept.astype(np.float32) / (1 - model.dropout)
            share = rate_factor(clock.progress(step, steps))
            figures = stepper.step(draw, self._constants[s], share)
            self._clips += size
            return self._clips, {f"{name}{s:g}": v for name, v in figures.items()}

        def look(step: int) -> None:
            self.evaluate(step)
            course.best = self._best

        course.run(steps, take, look, given.log_every, given.evaluate_every_s)

    def evaluate(self, step: int) -> None:
        """Score on development speech, and keep the model: what learns little as it is now, to be
        averaged with what it began with, and what learns all if it is the best so far.
        """
        score = self._judge.large(self._model, self._filters, self._front_end, self._bank)
        print(f"dev {step} {self._clock.spent_s:.0f} s", json.dumps(score), flush=True)
        adapted = "adapted" in self._told
        if adapted or select(score) > self._best:
            told = self._told | {"steps": step, "clips": self._clips, "scores": score}
            save_parts(self._given.output, self._model.arrays(), told)
            self._best = select(score)  # now that it is kept
