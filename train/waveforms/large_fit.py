"""Fine-tuning of the large model: first its head alone, then all of it, gently."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import save_parts, starting_weights
from train.waveforms.draws import Draw, Drawer
from train.waveforms.judge import Judge, select
from train.waveforms.large import Large, decoder_shape, labels_of, large_front_end
from train.waveforms.lessons import (
    augmented_waves,
    clean_waves,
    cross_entropy,
    hits,
    room_constants,
)
from train.waveforms.linear import Linear
from train.waveforms.sound import filterbank, log_mel, masked, samples_of
from train.waveforms.stepper import Clock, Stepper, compiled, rate_factor, report, with_values

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
    """
    run = _Run(config, segments, given)
    if not run.is_fitted:
        run.fit_head()
        run.evaluate(0)
    run.fit()


class _Run:
    """The state of a run."""

    def __init__(
        self, config: dict[str, Any], segments: Segments, given: argparse.Namespace
    ) -> None:
        self._config, self._settings, self._given = config, config["large"], given
        labels = labels_of(config)
        self._front_end = large_front_end()
        self._filters = ops.convert_to_tensor(filterbank(self._front_end))
        dropout = self._settings.get("dropout", 0.1)
        layers, decoder = self._settings["layers"], decoder_shape(config)
        self._model = Large(layers, len(labels), dropout, given.precision, decoder=decoder)
        arrays = starting_weights(given.start)
        try:
            self._model.load_arrays(arrays)
        except (KeyError, ValueError) as error:
            raise EdgelidError(
                f"{given.start} is not of the sizes that the configuration tells"
            ) from error
        self.is_fitted = "head/kernel" in arrays or "large/0" in arrays
        tts_weight = self._settings.get("tts_weight", 0.6)
        self._drawer = Drawer(segments, labels, config["seed"], tts_weight)
        self._judge = Judge(segments, labels, given.most)
        self._bank = ops.convert_to_tensor(np.asarray(segments.samples))
        self._constants = {
            s: room_constants(segments, self._drawer, samples_of(round(s * 100)))
            | {"bank": self._bank}
            for s in set(self._settings["lengths_s"])
        }
        self._clock, self._clips = Clock(given.limit_s), 0
        self._best: dict[str, Any] | None = None

    def _draw(self, turn: int, windows_s: float | None = None) -> tuple[float, int, Draw]:
        """Length in seconds, number and draw of the windows of a turn."""
        lengths_s = self._settings["lengths_s"]
        s = lengths_s[turn % len(lengths_s)]
        audio_s = self._settings["batch_s"] * self._given.batch_scale
        size = max(8, int(audio_s / (windows_s or s)) // 8 * 8)
        frames = round(s * 100)
        mels = self._front_end.mels
        return s, size, self._drawer.batch(size, samples_of(frames), frames, mels)

    def _features(self, draw: Any, constants: Any) -> Any:
        samples = samples_of(draw["frames_like"].shape[0])
        wave = augmented_waves(clean_waves(draw, constants, samples), draw, constants)
        return log_mel(wave, self._front_end, self._filters)

    def fit_head(self) -> None:
        """Fit the linear layer to pooled statistics of the encoder as it came.

        Beginning with a random layer, the encoder would first unlearn what it brought (Kumar et
        al. 2022, "Fine-tuning can distort pretrained features").
        """

        def pure(values: Any, draw: Any, constants: Any) -> Any:
            with with_values(self._model, values):
                return self._model.pool(self._model.tokens(self._features(draw, constants)))

        pooled = compiled(pure)
        found, labels = [], []
        for turn in range(self._settings["head_batches"]):
            s, _, draw = self._draw(turn, HEAD_BATCH_S)
            draw["frames_like"] = np.zeros(round(s * 100), np.float32)
            values = [v.value for v in self._model.variables]
            found.append(np.asarray(pooled(values, draw, self._constants[s])))
            labels.append(draw["labels"])
        x, y = np.concatenate(found), np.concatenate(labels)
        head = Linear.fit(x, y, self._settings["head_penalty"])
        right = float(np.mean(head.scores(x).argmax(axis=1) == y))
        print(f"head fitted to {len(x)} windows: {right:.1%} right", flush=True)
        self._model.take_head(head)

    def _loss(self, outs: Any, draw: Any, constants: Any) -> Any:
        features = masked(self._features(draw, constants), draw["times"], draw["bands"])
        logits = outs(0, features, training=True, drop=draw["drop"])
        smooth = self._settings.get("label_smoothing", 0.05)
        loss = cross_entropy(logits, draw["labels"], smooth)
        return loss, {"loss": loss, "hit": hits(logits, draw["labels"])}

    def fit(self) -> None:
        """Fine-tune all layers until the steps or the time are over."""
        settings, given, model = self._settings, self._given, self._model
        stepper = Stepper(
            [model],
            self._loss,
            lambda path: settings["encoder_rate" if "encoder" in path else "head_rate"],
            settings.get("weight_decay", 0.01),
            settings.get("average_decay", 0.998),
        )
        steps, clock = given.steps or settings["steps"], Clock(given.limit_s)
        for step in range(steps):
            s, size, draw = self._draw(step)
            draw["frames_like"] = np.zeros(round(s * 100), np.float32)
            kept = self._drawer.rng.random((size, model.pooled)) > model.dropout
            draw["drop"] = kept.astype(np.float32) / (1 - model.dropout)
            share = rate_factor(clock.progress(step, steps))
            figures = stepper.step(draw, self._constants[s], share)
            self._clips += size
            last = step + 1 == steps or clock.over
            if step % given.log_every == 0 or last:
                report(step + 1, clock, self._clips, figures)
            if last or clock.due(given.evaluate_every_s):
                stepper.settle()
                self.evaluate(step + 1)
            if last:
                break

    def evaluate(self, step: int) -> None:
        """Score on development speech, and keep the model if it is the best so far."""
        score = self._judge.large(self._model, self._filters, self._front_end, self._bank)
        print(f"dev {step} {self._clock.spent_s:.0f} s", json.dumps(score), flush=True)
        if self._best is None or select(score) > select(self._best):
            self._best = score
            told = {"config": self._config, "steps": step, "clips": self._clips, "scores": score}
            save_parts(self._given.output, self._model.arrays(), told)
