"""What a second opinion costs: one answer, and a recording that is listened to with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median_low
from typing import Any

import numpy as np

from edge.config import ListenSettings
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Listener
from edge.model.interpreter import open_model
from edge.model.modelfile import ModelFile
from edge.opinion.budget import SPAN_S
from edge.opinion.expert import ExpertFile
from edge.opinion.second import SecondOpinion

ANSWERS = 20  # as many as a 95th percentile takes
PASSES = 3
SHARE = ListenSettings.second_opinion_share


def measure_opinion(
    name: str, model: ModelFile, samples: Float32Array, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure a large model beside a compact one.

    Parameters
    ----------
    name : str
        Of the large one, see :class:`edge.opinion.expert.ExpertFile`.
    model : ModelFile
        The compact one.
    samples : ndarray, shape (n,), float32
        To listen to.
    say : callable
        Told what is being done.

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    EdgelidError
        If a model cannot be used.
    """
    say("second opinion: opening")
    file = ExpertFile(name, model.labels)
    began_s = time.perf_counter()
    expert = file.open()
    opening_s = time.perf_counter() - began_s
    say("second opinion: answers")
    wall_ms, cpu_ms = [], []
    for number in range(ANSWERS):
        start = number * len(samples) // (2 * ANSWERS)
        began_s = time.perf_counter()
        opinion = expert.asked(samples[start : start + file.samples], 0.0, None)
        wall_ms.append(1e3 * (time.perf_counter() - began_s))
        cpu_ms.append(1e3 * opinion.took_s)
    say("second opinion: listening with it and without")
    alone_s, _ = _listening(model, samples, None)
    together_s, answers = _listening(model, samples, file)
    audio_s = len(samples) / SAMPLE_RATE_HZ
    return {
        "model": {"name": expert.name, "size_bytes": expert.size_bytes},
        "opening_wall_s": opening_s,
        "answer": {
            "wall_ms": {
                "p50": float(np.median(wall_ms)),
                "p95": float(np.percentile(wall_ms, 95)),
                "max": max(wall_ms),
            },
            "cpu_ms": median_low(cpu_ms),
        },
        "share": SHARE,
        "affordable_a_minute": SHARE * SPAN_S / (median_low(cpu_ms) / 1e3),
        "listening": {
            "audio_s": audio_s,
            "answers_a_minute": answers * 60 / audio_s,
            "core_share_alone": alone_s / audio_s,
            "core_share_together": together_s / audio_s,
        },
    }


def _listening(
    model: ModelFile, samples: Float32Array, file: ExpertFile | None
) -> tuple[float, int]:
    """Processor time of listening as fast as possible, and how many answers there were."""
    took_s, answers = [], 0
    for _ in range(PASSES):
        second = None if file is None else SecondOpinion.of(file, model, SHARE, at_once=True)
        listener = Listener(model, open_model(model), model.description.decoder, second=second)
        blocks = np.array_split(samples, max(1, len(samples) // 1_600))
        began_s = time.process_time()
        for _ in listener.hear(blocks):
            pass
        took_s.append(time.process_time() - began_s)
        answers = 0 if second is None else second.told().answers
    return median_low(took_s), answers
