"""The command ``teach``: a large model learns from Whisper, and from itself, in noise and in rooms.

See `train.waveforms.large_lessons`. The decoder learns first, alone: what it does not know yet is
no reason for the encoder to change (Kumar et al. 2022, "Fine-tuning can distort pretrained
features"). The head on pooled statistics stays as it is: it was fitted to labels.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from keras import ops

from edge.errors import EdgelidError
from train.config import held_out_sources
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import (
    fingerprint,
    fingerprint_of,
    is_whole,
    load_parts,
    save_parts,
)
from train.waveforms.hearing import fingerprint as bank_fingerprint
from train.waveforms.judge import Judge, select
from train.waveforms.large import large_front_end, large_of
from train.waveforms.large_lessons import FRAMES, LargeLessons
from train.waveforms.listening import Student
from train.waveforms.published import read_whisper
from train.waveforms.settings import teach_settings
from train.waveforms.sound import filterbank
from train.waveforms.state import Course, digest
from train.waveforms.stepper import Stepper, rate_factor
from train.waveforms.whisper_languages import WhisperLanguages


def teach(config: dict[str, Any], segments: Segments, given: argparse.Namespace) -> None:
    """Write the checkpoint of a large model that Whisper has taught.

    A run that was stopped goes on.

    Parameters
    ----------
    config : dict
        As ``train/configs/edgelid-9-large.toml``.
    segments : Segments
        The decoded bank.
    given : Namespace
        Options of ``python -m train.waveforms teach``.

    Raises
    ------
    EdgelidError
        If the configuration, the checkpoint and the weights do not fit each other.
    """
    settings = teach_settings(config)
    rates, waits = (settings.encoder_rate, settings.decoder_rate), settings.encoder_waits
    segments.check_held_out(held_out_sources(config, "the configuration"))
    arrays, told = load_parts(given.start)
    if "large/0" not in arrays or "decoder" not in told["config"]["large"]:
        raise EdgelidError(
            f"{given.start} is no large model with a decoder: give what `graft` made"
        )
    model, labels = large_of(arrays, told, given.precision)
    model.rows.trainable = True  # who learns from another Whisper says its languages anew
    model.gate.trainable = model.scores.trainable = False
    front_end = large_front_end()
    student = Student(
        FRAMES,
        settings.clip_s,
        front_end,
        tuple(labels),
        config["seed"] + 1,
        other_voices=settings.other_voices,
        second_voices=settings.second_voices,
    )
    whisper = WhisperLanguages(read_whisper(given.weights), labels[:-2], given.precision)
    lessons = LargeLessons(
        model, whisper, student, settings.windows_s, segments, settings.weights.as_dict()
    )
    judge = Judge(segments, labels, given.most)
    filters = ops.convert_to_tensor(filterbank(front_end))
    encoder = {id(v) for v in model.encoder.variables}
    stepper = Stepper(
        [model],
        lessons.loss,
        lambda v: rates[id(v) not in encoder],
        settings.weight_decay,
        settings.average_decay,
        [v for v in model.trainable_variables if id(v) not in encoder],
    )
    size = max(8, int(settings.batch * given.batch_scale) // 8 * 8)
    stepper.step(lessons.draw(size), lessons.constants, 0.0)  # compiles before the clock runs
    learnt = fingerprint_of(arrays), fingerprint([whisper]), bank_fingerprint(segments)
    whose = digest(config, *learnt, given.batch_scale)
    course = Course(given.output, stepper, given.limit_s, whose)
    if not is_whole(given.output):
        course.best = -math.inf  # whatever was best is gone
    steps, clock = given.steps or settings.steps, course.clock

    def take(step: int) -> tuple[int, dict[str, Any]]:
        # A run that was stopped draws what it would have drawn.
        lessons.begin_at(step, config["seed"])
        progress = clock.progress(step, steps)
        late = (progress - waits) / (1 - waits)
        shares = rate_factor(late) if late > 0 else 0.0, rate_factor(progress)
        return (step + 1) * size, stepper.step(lessons.draw(size), lessons.constants, *shares)

    def look(step: int) -> None:
        score = judge.large(model, filters, front_end, lessons.bank)
        print(f"dev {step} {clock.spent_s:.0f} s", json.dumps(score), flush=True)
        if select(score) > course.best:
            kept = {"steps": step, "clips": step * size, "scores": score}
            kept["config"] = told["config"] | {"teach": config["teach"]}
            save_parts(given.output, model.arrays(), told | kept)
            course.best = select(score)  # now that it is kept

    course.run(steps, take, look, given.log_every, given.evaluate_every_s)
