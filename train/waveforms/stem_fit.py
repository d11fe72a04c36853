"""The convolutions before inherited layers: they learn what the teacher has behind its first one.

The first layers of a transformer over sound are the ones that convolutions can stand for: they hear
little more than what is near. The rest of the trunk is inherited (`train.waveforms.inheriting`) and
reads exactly these coordinates, so they are learnt as they are, by squared error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from edge.errors import EdgelidError
from train.config import RunConfig
from train.model.checkpoint import Checkpoint, restore_model
from train.model.network import Trunk
from train.waveforms.bank import Segments
from train.waveforms.hearing import SAVE_EVERY_S, Hearing
from train.waveforms.lessons import unlike
from train.waveforms.listening import Listening, Student
from train.waveforms.state import Course
from train.waveforms.stepper import Stepper, rate_factor
from train.waveforms.teaching import Kept

BATCH = 64  # clips a step
RATE, WEIGHT_DECAY, AVERAGE_DECAY = 1e-3, 0.01, 0.995
# Fewer clips have other voices than later: the teacher heard what was said by the one there was.
OTHER_VOICES = 0.25
LOG_EVERY = 50  # steps


class Stem(keras.Model):  # type: ignore[misc]
    """The convolutions of a trunk, and what leads to its first layer of attention.

    Parameters
    ----------
    trunk : Trunk
        Whose layers these are.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(name="stem")
        pointwise = [layer for pair in trunk.pointwise if pair is not None for layer in pair]
        self.parts = [*trunk.temporal, *pointwise, trunk.enter]
        self._convolve, self._zero_states = trunk.convolve, trunk.zero_states
        self.norms = trunk.norms
        self.built = True

    def call(self, frames: Any, training: bool = False) -> Any:
        """From frames, (batch, n * stride, 1, mels), to coordinates, (batch, n, 1, width)."""
        states = self._zero_states(ops.shape(frames)[0])
        return self._convolve(frames, states, training)[0]


def begin_stem(trunk: Trunk, start: Checkpoint) -> int:
    """Take over those convolutions of a trained trunk that have the same shapes, in their order.

    Returns
    -------
    int
        How many.

    Raises
    ------
    EdgelidError
        If there are none, or the checkpoint holds no model.
    """
    before, _ = restore_model(start)
    theirs = [*zip(before.temporal, before.pointwise, strict=True)]
    taken = 0
    for temporal, pointwise in zip(trunk.temporal, trunk.pointwise, strict=True):
        if not theirs:
            break
        layers = [temporal, *(pointwise or ())]
        sources = [theirs[0][0], *(theirs[0][1] or ())]
        values = [layer.get_weights() for layer in sources]
        if _shapes(values) == _shapes([layer.get_weights() for layer in layers]):
            for layer, value in zip(layers, values, strict=True):
                layer.set_weights(value)
            taken += 1
        theirs = theirs[1:]
    if not taken:
        raise EdgelidError(
            "no convolution of --start has the shape that the configuration gives it"
        )
    return taken


def _shapes(layers: list[list[np.ndarray]]) -> list[list[tuple[int, ...]]]:
    return [[value.shape for value in values] for values in layers]


def fit_stem(
    trunk: Trunk,
    config: RunConfig,
    segments: Segments,
    hearing: Hearing,
    tts_weight: float,
    limit_s: float,
    output: Path,
    towers: int,
    run: str,
) -> None:
    """Teach the convolutions; a run that was stopped goes on.

    Parameters
    ----------
    trunk : Trunk
    config : RunConfig
    segments : Segments
    hearing : Hearing
        Of coordinates, see `train.waveforms.stream_basis`.
    tts_weight : float
        See `train.waveforms.draws.Drawer`.
    limit_s : float
        Length of the run.
    output : Path
        Checkpoint beside which the state of the run is kept.
    towers : int
        See `train.waveforms.stepper.Stepper`.
    run : str
        See `train.waveforms.state.Course`.
    """
    student = Student.of(config, tts_weight=tts_weight, other_voices=OTHER_VOICES)
    heard = Listening(student, segments, Kept(hearing))
    convolutions = replace(config.model, attention=None)
    delay = round(convolutions.delay_frames / convolutions.stride)

    def loss(outs: Any, draw: Any, constants: Any) -> Any:
        wave = heard.wave(draw, constants)
        features = heard.features(wave, draw, constants)
        said = outs(0, features[:, :, None, :], training=True)[:, delay:, 0]
        tokens, spoken = heard.lesson(wave, draw, constants)
        told, counted = (heard.per_embedding(x, delay) for x in (tokens, spoken))
        counted = counted[:, :, 0]
        total = ops.sum(counted) + 1e-6
        error = ops.sum(ops.mean(ops.square(said - told), axis=-1) * counted) / total
        power = ops.sum(ops.mean(ops.square(told), axis=-1) * counted) / total
        cosine = ops.sum(unlike(said, told) * counted) / total
        return error, {"error": error / (power + 1e-6), "unlike": cosine}

    stepper = Stepper(
        [Stem(trunk)], loss, lambda _: RATE, WEIGHT_DECAY, AVERAGE_DECAY, towers=towers
    )
    course = Course(output, stepper, limit_s, run, SAVE_EVERY_S)

    def take(step: int) -> tuple[int, dict[str, Any]]:
        # A run that was stopped draws what it would have drawn.
        heard.begin_at(step, config.seed)
        share = rate_factor(course.clock.progress(step, math.inf))
        return (step + 1) * BATCH, stepper.step(heard.draw(BATCH), heard.constants, share)

    course.run(math.inf, take, lambda _: None, LOG_EVERY)
