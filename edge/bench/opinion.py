"""What a second opinion costs: one answer, and a recording that is listened to with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np

from edge.bench.passes import Setup, blocks, in_real_time
from edge.bench.turns import Turn, delays
from edge.config import ListenSettings
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Listener
from edge.model.interpreter import open_model
from edge.model.modelfile import ModelFile, read_model
from edge.opinion.budget import SPAN_S
from edge.opinion.expert import ExpertFile
from edge.opinion.second import SecondOpinion

ANSWERS = 20  # as many as a 95th percentile takes
PASSES = 3
PACED_S = 60.0  # in real time
SHARE = ListenSettings.second_opinion_share


def measure_opinion(
    name: str,
    model: ModelFile,
    samples: Float32Array,
    turns: Sequence[Turn],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a large model beside a compact one: each alone, and both together.

    Parameters
    ----------
    name : str
        Of the large one, see :class:`edge.opinion.expert.ExpertFile`.
    model : ModelFile
        The compact one.
    samples : ndarray, shape (n,), float32
        To listen to.
    turns : sequence of Turn
        What is spoken there; may be empty.
    say : callable
        Told what is being done.

    Returns
    -------
    dict
        For JSON. Delays are in time of the stream: what an answer takes comes on top.

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
    needed = file.span.samples(file.span.window_s)
    for number in range(ANSWERS):
        start = number * len(samples) // (2 * ANSWERS)
        began_s = time.perf_counter()
        opinion = expert.asked(samples[start : start + needed], 0.0, None)
        wall_ms.append(1e3 * (time.perf_counter() - began_s))
        cpu_ms.append(1e3 * opinion.took_s)
    answer_ms = median_low(cpu_ms)
    return {
        "model": {"name": expert.name, "size_bytes": expert.size_bytes},
        "opening_wall_s": opening_s,
        "answer": {
            "wall_ms": {
                "p50": float(np.median(wall_ms)),
                "p95": float(np.percentile(wall_ms, 95)),
                "max": max(wall_ms),
            },
            "cpu_ms": answer_ms,
        },
        "share": SHARE,
        "affordable_a_minute": SHARE * SPAN_S / (answer_ms / 1e3),
        "listening": _listening(file, model, samples, turns, say),
        "real_time": _real_time(file, model, samples, say),
    }


def _listening(
    file: ExpertFile,
    model: ModelFile,
    samples: Float32Array,
    turns: Sequence[Turn],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Listening as fast as possible, by one model or the other, and by both."""
    large = read_model(file.path)
    # Alone it is asked what both are asked together.
    known = [language for language in model.languages if language in large.languages]
    ways: dict[str, tuple[int, Callable[[], Listener]]] = {
        "compact": (PASSES, lambda: _listener(model)),
        "large": (1, lambda: _listener(large, languages=known)),  # which takes long
        "together": (
            PASSES,
            lambda: _listener(model, SecondOpinion.of(file, model, SHARE, at_once=True)),
        ),
    }
    audio_s = len(samples) / SAMPLE_RATE_HZ
    found: dict[str, Any] = {"audio_s": audio_s, "changes": len(turns) or None}
    for name, (passes, listener) in ways.items():
        say(f"second opinion: listening, {name}")
        heard = [_heard(listener(), samples) for _ in range(passes)]
        took_s, changes, answers = sorted(heard, key=lambda each: each[0])[(passes - 1) // 2]
        found[name] = {"core_share": took_s / audio_s, **delays(turns, changes)}
        if name == "together":
            found[name]["answers_a_minute"] = answers * 60 / audio_s
    return found


@dataclass(frozen=True)
class _Asking(Setup):
    """A model that a second one is asked beside, in the background as at a microphone.

    Attributes
    ----------
    second : SecondOpinion
    """

    second: SecondOpinion

    def listener(self) -> Listener:
        """As ``edgelid listen --second-opinion`` makes it."""
        settings = self.model.description.decoder
        return Listener(self.model, self.graphs, settings, second=self.second)


def _real_time(
    file: ExpertFile, model: ModelFile, samples: Float32Array, say: Callable[[str], None]
) -> dict[str, Any]:
    """How late answers are while another thread has the large model at work.

    A hop is late if its answer is not there before the next one is due.
    """
    second = SecondOpinion.of(file, model, SHARE)
    setup = _Asking(model, open_model(model), second)
    hops = setup.hops(round(PACED_S * SAMPLE_RATE_HZ))
    say(f"second opinion: {hops * setup.hop_s:.1f} s in real time")
    try:
        paced = in_real_time(setup, blocks(samples, setup.heard_samples(hops)))
    finally:
        second.close()
    late_ns = np.asarray(paced.late_ns)
    return {
        "audio_s": len(late_ns) * setup.hop_s,
        "hops": len(late_ns),
        "deadline_misses": int((late_ns > setup.hop_s * 1e9).sum()),
        "late_ms_max": float(late_ns.max()) / 1e6,
        "answers": second.told().answers,
    }


def _listener(
    model: ModelFile,
    second: SecondOpinion | None = None,
    languages: Sequence[str] | None = None,
) -> Listener:
    settings = model.description.decoder
    return Listener(model, open_model(model), settings, languages, second=second)


def _heard(listener: Listener, samples: Float32Array) -> tuple[float, list[tuple[str, float]], int]:
    """Processor time of listening, what changed when, and how many second opinions there were."""
    blocks = np.array_split(samples, max(1, len(samples) // 1_600))
    changes, answers = [], 0
    began_s = time.process_time()
    for heard in listener.hear(blocks):
        if heard.change is not None:
            changes.append((heard.change.language, heard.change.decided_s))
        if heard.second is not None:
            answers = heard.second.answers
    return time.process_time() - began_s, changes, answers
