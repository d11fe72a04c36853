"""What the large model learns from itself: to hear in noise and in rooms what it heard without.

Labels are of few people, who are soon known by heart. What the model itself has at each moment of
clean speech knows more than they do, so it is held to that: it hears a stretch augmented, and has
to say what it said of it clean (as Zhu et al. 2022, "A noise-robust self-supervised pre-training
model based speech representation learning", do), and within 4 s of speech: a window of one second
is taught by what the seconds around it told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras import ops

from train.waveforms.bank import Segments
from train.waveforms.draws import Draw
from train.waveforms.hearing import Hearing
from train.waveforms.large import Large
from train.waveforms.lessons import LEAST_TOKENS, cross_entropy, hits, moments, targets
from train.waveforms.listening import Listening, Student
from train.waveforms.stepper import with_values
from train.waveforms.teaching import Kept


class LargeLessons:
    """Draws windows, and scores what the model makes of them.

    Parameters
    ----------
    model : Large
        As it is before it learns: the teacher.
    student : Student
        What is common to windows of all lengths.
    lengths_s : sequence of float
        Of windows.
    segments : Segments
    hearing : Hearing
        Of these segments, by the model as it is.
    weights : mapping of str to float
        Of ``frames``, ``posteriors`` and ``classes`` in the loss.
    smooth : float
        Label smoothing.

    Attributes
    ----------
    constants : dict of float to dict of tensor
        What the loss needs besides a draw, for each length.
    bank : tensor, shape (samples,), int16
    """

    def __init__(
        self,
        model: Large,
        student: Student,
        lengths_s: Sequence[float],
        segments: Segments,
        hearing: Hearing,
        weights: Mapping[str, float],
        smooth: float,
    ) -> None:
        self._model, self._weights, self._smooth = model, weights, smooth
        self._heard: dict[float, Listening] = {}
        like, teaching = None, Kept(hearing)
        for s in sorted(set(lengths_s)):
            like = Listening(replace(student, clip_s=s), segments, teaching, like)
            self._heard[s] = like
        self.bank = self._heard[lengths_s[0]].bank
        before = {"before": [v.value + 0.0 for v in model.variables]}
        self.constants = {s: heard.constants | before for s, heard in self._heard.items()}

    def draw(self, s: float, size: int) -> Draw:
        """Draw so many windows of a length."""
        return self._heard[s].draw(size)

    def loss(self, s: float, outs: Any, draw: Any, constants: Any) -> Any:
        """Loss of a batch of windows of a length, and its figures."""
        heard = self._heard[s]
        wave = heard.wave(draw, constants)
        features = heard.features(wave, draw, constants)
        tokens, scores = outs(0, features, training=True, drop=draw["drop"], parts=True)
        told, spoken = heard.lesson(wave, draw, constants)
        with with_values(self._model, constants["before"]):
            counted = spoken[:, :, 0]
            state = self._model.told(told, counted)
            theirs = self._model.judged(self._model.pool(told, counted), state)
        _, variance = moments(told, (0, 1), spoken)
        # A few channels of a transformer are large and say nothing: each counts alike here.
        error = ops.mean(ops.square(tokens - told) / (variance + 1e-6), axis=-1, keepdims=True)
        speaks = ops.sum(spoken[:, :, 0], axis=1) >= LEAST_TOKENS
        soft, labels = targets(theirs, draw["labels"], speaks)
        figures = {
            "frames": ops.sum(error * spoken) / (ops.sum(spoken) + 1e-6),
            "posteriors": -ops.mean(ops.sum(soft * ops.log_softmax(scores), axis=-1)),
            "classes": cross_entropy(scores, labels, self._smooth),
        }
        loss = sum(self._weights[name] * value for name, value in figures.items())
        return loss, figures | {"hit": hits(scores, labels)}
