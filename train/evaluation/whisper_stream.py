"""Whisper base beside a second opinion, on speech that changes language.

Run as ``python -m train.evaluation.whisper_stream [--input FILE] [--second-opinion MODEL]``.
Whisper runs as faster-whisper runs it, and is asked about the last 3 s every 3 s, restricted to
the languages of the compact model; what changes from one answer to the next is a change. Beside it
stands what `edgelid bench --second-opinion` measures: the compact model, the large one, and both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

from edge.bench.measure import SAMPLE
from edge.bench.opinion import measure_opinion
from edge.bench.turns import Turn, delays, read_turns
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, read_model
from edge.system.atomic import check_writable
from train.command import run
from train.corpus.cuts import read_audio
from train.evaluation.report import write_json
from train.fit.teacher import load_whisper, weights_dir

EVERY_S = 3.0
WHISPER = "Whisper base"

Ask = Callable[[Float32Array], str]  # samples, shape (n,) -> language


def whisper(weights: Path, languages: Sequence[str]) -> Ask:
    """What Whisper hears in a stretch, among some languages.

    Parameters
    ----------
    weights : Path
        Folder of its joined weights.
    languages : sequence of str

    Raises
    ------
    EdgelidError
        If a package is missing.
    """
    model = load_whisper(weights)

    def ask(samples: Float32Array) -> str:
        _, _, found = model.detect_language(audio=samples)
        among = {str(language): float(p) for language, p in found if language in languages}
        return max(among, key=lambda language: among[language])

    return ask


def follow(ask: Ask, samples: Float32Array, turns: Sequence[Turn]) -> dict[str, Any]:
    """Ask about the last stretch every so often, and tell what that costs.

    Parameters
    ----------
    ask : callable
    samples : ndarray, shape (n,), float32
    turns : sequence of Turn
        What is spoken there.

    Returns
    -------
    dict
        For JSON: ``core_share``, ``answer_cpu_ms``, ``answer_wall_ms``, ``median_delay_s`` and
        ``missed``.
    """
    stretch = round(EVERY_S * SAMPLE_RATE_HZ)
    ask(samples[:stretch])  # the first time is another one
    changes: list[tuple[str, float]] = []
    cpu_s: list[float] = []
    wall_s: list[float] = []
    for end in range(stretch, len(samples) + 1, stretch):
        cpu, wall = time.process_time(), time.perf_counter()
        language = ask(samples[end - stretch : end])
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
        if not changes or changes[-1][0] != language:
            changes.append((language, end / SAMPLE_RATE_HZ))
    return {
        "core_share": sum(cpu_s) / (len(cpu_s) * EVERY_S),
        "answer_cpu_ms": 1e3 * median_low(cpu_s),
        "answer_wall_ms": 1e3 * median_low(wall_s),
        **delays(turns, changes),
    }


def side_by_side(
    recording: Path, second_opinion: str, ask: Ask, say: Callable[[str], None]
) -> dict[str, Any]:
    """All of them on one recording.

    Parameters
    ----------
    recording : Path
        With ``NAME.json`` beside it, see :func:`edge.bench.turns.read_turns`.
    second_opinion : str
        See :class:`edge.opinion.expert.ExpertFile`.
    ask : callable
        From :func:`whisper`.
    say : callable
        Told what is being done.

    Returns
    -------
    dict
        As :func:`edge.bench.opinion.measure_opinion` gives it; ``listening`` has Whisper, too.

    Raises
    ------
    EdgelidError
        If a file cannot be used, or nothing tells what is spoken.
    """
    samples = read_audio(recording)
    turns = read_turns(recording, len(samples) / SAMPLE_RATE_HZ)
    if not turns or len(samples) < EVERY_S * SAMPLE_RATE_HZ:
        raise EdgelidError(
            f"{recording} needs at least {EVERY_S:g} s of audio, and {recording.stem}.json beside "
            "it, a list of spans with start_s, end_s and language"
        )
    found = measure_opinion(second_opinion, read_model(DEFAULT_MODEL), samples, turns, say)
    say(f"{WHISPER}, every {EVERY_S:g} s")
    found["listening"]["whisper"] = follow(ask, samples, turns)
    return found


def table(found: dict[str, Any]) -> Iterator[str]:
    """The figures as lines."""
    listening = found["listening"]
    names = {
        "compact": "the compact model",
        "large": found["model"]["name"],
        "together": "both, as a second opinion",
        "whisper": f"{WHISPER}, every {EVERY_S:g} s",
    }
    yield f"{'':<28}{'of a core':>12}{'median delay':>15}{'missed':>12}"
    for name, title in names.items():
        row = listening[name]
        missed = f"{row['missed']} of {listening['changes']}"
        yield (f"{title:<28}{row['core_share']:>12.2%}{row['median_delay_s']:>13.1f} s{missed:>12}")
    yield (
        f"processor time of an answer: {found['answer']['cpu_ms']:.0f} ms of "
        f"{found['model']['name']}, {listening['whisper']['answer_cpu_ms']:.0f} ms of {WHISPER}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.whisper_stream",
        description="Whisper base beside a second opinion, on speech that changes language.",
    )
    parser.add_argument("--input", type=Path, default=SAMPLE, help="recording (the sample)")
    parser.add_argument("--second-opinion", default="large", metavar="MODEL", help="(large)")
    parser.add_argument("--weights", type=Path, default=weights_dir(), help="Whisper base, joined")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    if options.json is not None:
        check_writable(options.json)
    languages = read_model(DEFAULT_MODEL).languages
    found = side_by_side(
        options.input,
        options.second_opinion,
        whisper(options.weights, languages),
        lambda what: print(what, file=sys.stderr),
    )
    for line in table(found):
        print(line)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    sys.exit(run("train.evaluation.whisper_stream", main, "nothing has been written"))
