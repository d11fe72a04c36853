"""What a large model with a decoder learns from Whisper, and from itself.

Labels are of few people, who are soon known by heart. A Whisper that is several times as large says
more, and of any voice: which of 99 languages a window sounds like. It is asked about windows of
stretches of 5 s that are clean, in whichever voice was drawn and with whoever speaks beside it; the
student hears the windows alone, in noise and in rooms. And what the student itself had at each
moment of clean speech when it began, it shall still have, and have in noise as well (as Zhu et al.
2022, "A noise-robust self-supervised pre-training model based speech representation learning", do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from train.waveforms.bank import Segments
from train.waveforms.draws import Draw
from train.waveforms.large import Large
from train.waveforms.lessons import (
    LEAST_TOKENS,
    divergence,
    hits,
    moments,
    targets,
)
from train.waveforms.listening import Listening, Student, stretch
from train.waveforms.stepper import with_values
from train.waveforms.teaching import Along
from train.waveforms.whisper_languages import WhisperLanguages

# Of Whisper's log-probabilities in the posteriors to be learnt: the rest is the model's own. On
# development speech the mean of both is right more often than either.
SHARE = 0.5
FRAMES = 2  # of the features, a token


class LargeLessons:
    """Draws clips, and scores what the model makes of windows of them.

    Parameters
    ----------
    model : Large
        As it is before it learns: it teaches itself.
    whisper : WhisperLanguages
        Who teaches it besides, with the same classes.
    student : Student
        With the stride of a token.
    windows_s : sequence of float
        Lengths of the windows of a clip.
    segments : Segments
    weights : mapping of str to float
        Of ``frames``, ``languages`` and ``posteriors`` in the loss.

    Attributes
    ----------
    constants : dict of tensor
        What the loss needs besides a draw.
    bank : tensor, shape (samples,), int16
    """

    def __init__(
        self,
        model: Large,
        whisper: WhisperLanguages,
        student: Student,
        windows_s: Sequence[float],
        segments: Segments,
        weights: Mapping[str, float],
    ) -> None:
        self._model, self._whisper, self._weights = model, whisper, weights
        self._along = Along(model, student.other_voices > 0)
        self._heard = Listening(student, segments, self._along)
        self.bank, self._count = self._heard.bank, self._heard.count
        self._windows = [min(self._count, round(s * 100) // FRAMES) for s in windows_s]
        self._names = [f"hit{s:g}" for s in windows_s]
        self.constants = self._heard.constants | {
            "teacher": [v.value + 0.0 for v in model.variables],
            "whisper": [v.value for v in whisper.variables],
        }

    def begin_at(self, step: int, seed: int) -> None:
        """Draw as a run does at a step."""
        self._heard.begin_at(step, seed)

    def draw(self, size: int) -> Draw:
        """Draw so many clips, and where in them windows begin, in tokens."""
        draw, rng = self._heard.draw(size), self._heard.rng
        starts = [rng.integers(0, self._count - n + 1, size) for n in self._windows]
        return draw | {"window": np.stack(starts, 1).astype(np.int32)}

    def loss(self, outs: Any, draw: Any, constants: Any) -> Any:
        """Loss of the windows of a batch of clips, and its figures."""
        wave = self._heard.wave(draw, constants)
        features = self._heard.features(wave, draw, constants)
        told, spoken = self._heard.lesson(wave, draw, constants)
        with with_values(self._whisper, constants["whisper"]):
            heard = self._whisper.heard(self._along.features(wave, draw))
        heard = ops.stop_gradient(heard[:, : self._count])
        _, variance = moments(told, (0, 1), spoken)
        lesson = (told, spoken[:, :, 0], heard, variance + 1e-6)
        windows = [
            self._window(outs, k, features, lesson, draw, constants)
            for k in range(len(self._windows))
        ]
        figures = {
            name: sum(window[name] for window in windows) / len(windows) for name in self._weights
        }
        loss = sum(self._weights[name] * value for name, value in figures.items())
        shares = zip(self._names, windows, strict=True)
        return loss, figures | {name: window["hit"] for name, window in shares}

    def _window(
        self, outs: Any, k: int, features: Any, lesson: Any, draw: Any, constants: Any
    ) -> dict[str, Any]:
        """Losses of a window of each clip."""
        told, spoken, heard, variance = lesson
        length, first = self._windows[k], draw["window"][:, k : k + 1]
        said, rows, scores = outs(
            0, _part(features, first * FRAMES, length * FRAMES), training=True, parts=True
        )
        counted = stretch(first, length, self._count) * spoken
        speaks = ops.sum(counted, axis=1) >= LEAST_TOKENS
        with with_values(self._whisper, constants["whisper"]):
            their_rows = self._whisper.decoded(heard, counted)
            theirs = ops.log_softmax(self._whisper.classes(their_rows))
        with with_values(self._model, constants["teacher"]):
            own = self._model.judged(
                self._model.pool(told, counted), self._model.told(told, counted)
            )
        soft, labels = targets(
            SHARE * theirs + (1 - SHARE) * ops.log_softmax(own), draw["labels"], speaks
        )
        # A few channels of a transformer are large and say nothing: each counts alike here.
        error = ops.mean(ops.square(said - _part(told, first, length)) / variance, axis=-1)
        here = _part(spoken[:, :, None], first, length)[:, :, 0]
        apart = divergence(ops.softmax(their_rows), rows) * ops.cast(speaks, "float32")
        return {
            "frames": ops.sum(error * here) / (ops.sum(here) + 1e-6),
            "languages": ops.mean(apart),
            "posteriors": ops.mean(divergence(soft, scores)),
            "hit": hits(scores, labels),
        }


def _part(x: Any, first: Any, length: int) -> Any:
    """So many moments of each clip from one on, shape (batch, length, channels)."""
    places = first + ops.arange(length, dtype="int32")[None]
    return ops.take_along_axis(x, places[:, :, None], axis=1)
