"""Several recognisers on the same clips, in one run: how right each is, and what it costs.

    python -m tests.side_by_side cnn-float.tflite cnn-int8.tflite --json OUT.json

compares the model that comes along, the model files that are given (the plain 2-D network of
`train.evaluation.tutorial_cnn`, say) and Whisper base on 3 s cuts of the test split. Each runs in a
process of its own, on the code that `edgelid` itself runs. For the costs they take turns clip by
clip, so that whatever else the machine does hits all of them alike; what is told is processor time,
of all threads. Whisper's answers take minutes and never change: they stay in ``OUT.json.scores``,
and another run only measures anew what it costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from convert.inspection import inspect
from edge import __version__
from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.model.interpreter import open_model
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, read_model
from edge.system.atomic import check_writable
from edge.system.machine import describe_machine
from train.command import run
from train.config import LANGUAGES
from train.corpus.cuts import SEED, Cut, balanced, cuts, load_cuts
from train.corpus.manifest import corpus_dir, open_manifest
from train.evaluation.inference import score_audio
from train.evaluation.report import balanced as accuracy_text
from train.evaluation.report import write_json
from train.evaluation.scores import Scored, among, difference
from train.evaluation.scores import summary as accuracy_of
from train.evaluation.yardstick import (
    cut_key,
    human_speech,
    restricted_log_posteriors,
    score_cuts,
    scores_file,
)
from train.fit.teacher import join_weights, load_whisper, weights_dir

T = TypeVar("T")

WINDOW_S = 3.0
SPLIT = "test"
PER_LANGUAGE = 30
TIMED_CUTS = 30
# What an answer costs is asked of each where it is one in 3 s, and where it is one a hop.
HOP_S = 0.16

WHISPER = "Whisper base"
WHISPER_PARAMETERS = 74_000_000  # Radford et al. 2022, table 1
# The same table, and the paper's section 2.2: layers, width, mel bands and frames of its 30 s.
WHISPER_LAYERS, WHISPER_WIDTH, WHISPER_MELS, WHISPER_FRAMES = 6, 512, 80, 3000


@dataclass(frozen=True)
class Costs:
    """Processor time of one clip.

    Attributes
    ----------
    alone_ms : float
        Of the one answer for the clip, from its samples on.
    hops_ms : list of float
        Of each answer while the clip streams by; empty where the recogniser cannot stream.
    """

    alone_ms: float
    hops_ms: list[float]


class Recogniser(Protocol):
    """What is compared."""

    def facts(self) -> dict[str, Any]:
        """Name, size and arithmetic, for JSON; None for what is not known."""

    def log_probabilities(self, samples: Float32Array) -> Float64Array:
        """Of a clip of 3 s, for the ``labels`` of the facts, shape (labels,)."""

    def costs(self, samples: Float32Array) -> Costs:
        """What answers for a clip of 3 s take."""


class ModelRecogniser:
    """A model file, as `edgelid` runs it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    EdgelidError
        If it cannot be used, has no window of 3 s, or does not answer every 160 ms.
    """

    def __init__(self, path: Path) -> None:
        self._model = read_model(path)
        graphs = open_model(self._model)
        self._alone = StreamingClassifier(_asked_once(self._model), graphs, [WINDOW_S])
        self._streaming = StreamingClassifier(self._model, graphs, [WINDOW_S])
        if round(self._streaming.hop_s, 6) != HOP_S:
            raise EdgelidError(
                f"{path} answers every {self._streaming.hop_s:g} s: convert it anew "
                f"with --hop-ms {HOP_S * 1000:g}"
            )
        self._runtime = str(graphs.runtime)

    def facts(self) -> dict[str, Any]:
        told = inspect(self._model)
        return {
            "name": told["name"],
            "mode": told["mode"],
            "labels": told["labels"],
            "sha256": told["sha256"],
            "runtime": self._runtime,
            "size_bytes": told["size_bytes"],
            "parameters": told["parameters"],
            "macs_per_answer": sum(told["macs"].values()),
        }

    def log_probabilities(self, samples: Float32Array) -> Float64Array:
        return score_audio(self._alone, samples)

    def costs(self, samples: Float32Array) -> Costs:
        alone_ms, _ = processor_ms(lambda: score_audio(self._alone, samples))
        return Costs(alone_ms, list(self._hops_ms(samples)))

    def _hops_ms(self, samples: Float32Array) -> Iterator[float]:
        self._streaming.reset()
        hop_samples = round(HOP_S * SAMPLE_RATE_HZ)
        for start in range(0, len(samples) - hop_samples + 1, hop_samples):
            block = samples[start : start + hop_samples]
            took_ms, answers = processor_ms(partial(self._count_answers, block))
            if start and answers == 1:  # the first block lacks 15 ms of an answer
                yield took_ms

    def _count_answers(self, block: Float32Array) -> int:
        return sum(1 for _ in self._streaming.process(block))


def _asked_once(model: ModelFile) -> ModelFile:
    """The same model, answering only at the end of a clip, where its graph can.

    One that streams has to step through the clip in any case.
    """
    description = model.description
    if description.mode == "stream":
        return model
    stream = description.stream
    once = replace(stream, hop_frames=stream.receptive_field_frames)
    return replace(model, description=replace(description, stream=once))


class WhisperRecogniser:
    """Whisper base, restricted to our languages.

    Raises
    ------
    EdgelidError
        If it is not installed.
    """

    def __init__(self) -> None:
        self._folder = join_weights(weights_dir())
        self._model = load_whisper(self._folder)

    def facts(self) -> dict[str, Any]:
        return {
            "name": WHISPER,
            "mode": "window",
            "labels": list(LANGUAGES),
            "sha256": None,
            "runtime": f"faster-whisper {version('faster-whisper')}, int8, 2 threads",
            "size_bytes": sum(file.stat().st_size for file in self._folder.iterdir()),
            "parameters": WHISPER_PARAMETERS,
            "macs_per_answer": whisper_macs(),
        }

    def log_probabilities(self, samples: Float32Array) -> Float64Array:
        return restricted_log_posteriors(self._model, samples)

    def costs(self, samples: Float32Array) -> Costs:
        alone_ms, _ = processor_ms(lambda: self.log_probabilities(samples))
        return Costs(alone_ms, [])


def whisper_macs() -> int:
    """Multiply-accumulates of one answer of Whisper base, counted from its architecture.

    The encoder, and what its decoder makes of the encoder's output to attend to; the decoder's
    single step is nothing beside them.
    """
    width, positions = WHISPER_WIDTH, WHISPER_FRAMES // 2
    entry = 3 * WHISPER_MELS * width * WHISPER_FRAMES + 3 * width**2 * positions
    # Four projections, scores and sums of attention, and two dense layers of four times the width.
    layer = positions * (4 * width**2 + 2 * positions * width + 8 * width**2)
    cross = positions * 2 * width**2
    return entry + WHISPER_LAYERS * (layer + cross)


def processor_ms(call: Callable[[], T]) -> tuple[float, T]:
    """Processor time of a call, of all threads, and what it returned."""
    start_ns = time.process_time_ns()
    answer = call()
    return (time.process_time_ns() - start_ns) / 1e6, answer


def peak_memory_bytes() -> int | None:
    """The most memory that this process had resident; None where the system does not tell.

    Not by `resource`: the kernel's account of a child begins with its parent's peak.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * peaks[0] if peaks else None


class _Child:
    """What a process of its own has been started with."""

    recogniser: Recogniser

    @classmethod
    def start(cls) -> None:
        # Ctrl-C reaches all processes of a terminal: the one that started this one will end it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    @classmethod
    def open(cls, make: Callable[[], Recogniser]) -> dict[str, Any]:
        cls.recogniser = make()
        return cls.recogniser.facts()

    @classmethod
    def log_probabilities(cls, samples: Float32Array) -> Float64Array:
        return cls.recogniser.log_probabilities(samples)

    @classmethod
    def costs(cls, samples: Float32Array) -> Costs:
        return cls.recogniser.costs(samples)


class Apart:
    """A recogniser in a process of its own.

    Parameters
    ----------
    make : callable
        Makes it there, so it must be picklable.

    Raises
    ------
    EdgelidError
        If it cannot be used.
    """

    def __init__(self, make: Callable[[], Recogniser]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, _Child.start)
        self.memory_before_bytes = self._call(peak_memory_bytes)
        self.facts: dict[str, Any] = self._call(_Child.open, make)

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def log_probabilities(self, samples: Float32Array) -> Float64Array:
        """As `Recogniser`."""
        return self._call(_Child.log_probabilities, samples)

    def costs(self, samples: Float32Array) -> Costs:
        """As `Recogniser`."""
        return self._call(_Child.costs, samples)

    def peak_memory_bytes(self) -> int | None:
        """The most memory its process had resident."""
        return self._call(peak_memory_bytes)

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise EdgelidError("a recogniser's process died, perhaps for want of memory") from error


@dataclass(frozen=True)
class Entry:
    """What to compare.

    Attributes
    ----------
    make : callable
        Makes the recogniser, in its own process.
    kept : Path or None
        Where its answers are kept from one run to the next.
    """

    make: Callable[[], Recogniser]
    kept: Path | None = None


def side_by_side(
    entries: Sequence[Entry], corpus: Path, per_language: int, timed_cuts: int
) -> dict[str, Any]:
    """Compare recognisers on the same cuts, those of `train.evaluation.yardstick`.

    Parameters
    ----------
    entries : sequence of Entry
        The others are compared with the first.
    corpus : Path
    per_language : int
        Cuts of each language at most.
    timed_cuts : int
        On how many of them the costs are measured.

    Returns
    -------
    dict
        For JSON. What is not known is None.

    Raises
    ------
    EdgelidError
        If the corpus or a recogniser cannot be used.
    """
    manifest = open_manifest(corpus)
    clips, folder = human_speech(manifest, SPLIT), manifest.root
    found = balanced(
        cuts(clips, duration_s=WINDOW_S, seed=SEED), per_language=per_language, seed=SEED
    )
    if not found:
        raise EdgelidError(f"the {SPLIT} split of {corpus} has no cut of {WINDOW_S:g} s")
    audio = load_cuts(found, folder)
    # Evenly among the cuts, which are in the order of their languages.
    timed = [audio[int(i)] for i in np.linspace(0, len(audio) - 1, min(timed_cuts, len(audio)))]
    with ExitStack() as stack:
        processes = [stack.enter_context(Apart(entry.make)) for entry in entries]
        answered = [
            answers(process, found, audio, folder, entry.kept)
            for process, entry in zip(processes, entries, strict=True)
        ]
        costs = take_turns(processes, timed)
        rows = [
            {
                **process.facts,
                **accuracy_of(scored),
                "difference": difference(scored, answered[0]),
                **prices(each),
                "memory_before_bytes": process.memory_before_bytes,
                "peak_memory_bytes": process.peak_memory_bytes(),
            }
            for process, scored, each in zip(processes, answered, costs, strict=True)
        ]
    # The first listens all the time: it costs no less where answers are wanted less often.
    listening = rows[0]["every_hop_ms_per_s"]
    for row in rows:
        row["times_the_first"] = {
            name: round(row[name] / listening, 2) for name in row if name.endswith("_ms_per_s")
        }
    return {
        **describe_machine(),
        "edgelid": __version__,
        "split": SPLIT,
        "cuts": len(found),
        "timed_cuts": len(timed),
        "window_s": WINDOW_S,
        "hop_s": HOP_S,
        "recognisers": rows,
    }


def answers(
    process: Apart,
    found: list[Cut],
    audio: Sequence[Float32Array],
    corpus: Path,
    kept: Path | None,
) -> Scored:
    """Answers of a recogniser for all cuts, restricted to their languages."""
    labels = process.facts["labels"]
    languages = sorted({cut.language for cut in found})
    missing = [language for language in languages if language not in labels]
    if missing:
        name = process.facts["name"]
        raise EdgelidError(f"{name} does not know {', '.join(missing)}: leave it out")
    if kept:
        scores = score_cuts(process.log_probabilities, found, corpus, kept)
        table = [scores[cut_key(cut, corpus)] for cut in found]
    else:
        what = f"answers, {process.facts['name']}"
        table = [process.log_probabilities(samples).tolist() for samples in tqdm(audio, what)]
    return among(Scored(found, np.array(table), tuple(labels)), languages)


def take_turns(processes: Sequence[Apart], clips: Sequence[Float32Array]) -> list[list[Costs]]:
    """Costs of each recogniser for each clip, after one that is not counted."""
    for process in processes:
        process.costs(clips[0])
    turns = [[process.costs(samples) for process in processes] for samples in tqdm(clips, "costs")]
    return [list(costs) for costs in zip(*turns, strict=True)]


def prices(costs: Sequence[Costs]) -> dict[str, Any]:
    """What an answer costs, and a second of audio, in milliseconds of processor time.

    Returns
    -------
    dict
        ``alone_ms`` and ``hop_ms`` of an answer, the latter None where there is no streaming;
        per second of audio, with an answer every window, and every hop: as it is done where it
        can stream, and anew from the samples of the window.
    """
    alone = _median_and_tail([each.alone_ms for each in costs])
    hops_ms = [hop_ms for each in costs for hop_ms in each.hops_ms]
    hop = _median_and_tail(hops_ms) if hops_ms else None
    return {
        "alone_ms": alone,
        "hop_ms": hop,
        "every_window_ms_per_s": round(alone["median_ms"] / WINDOW_S, 4),
        "every_hop_ms_per_s": round((hop or alone)["median_ms"] / HOP_S, 4),
        "every_hop_anew_ms_per_s": round(alone["median_ms"] / HOP_S, 4),
    }


def _median_and_tail(times_ms: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(float(np.median(times_ms)), 3),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 3),
    }


HEAD = (
    "recogniser",
    "macro accuracy (95 %)",
    "file",
    "parameters",
    "multiply-adds an answer",
    "peak memory",
    "an answer, alone",
    "an answer, every 160 ms",
    "a second of audio, answer every 3 s",
    "a second of audio, answer every 160 ms",
)


def table(report: dict[str, Any]) -> list[str]:
    """The report for a person, as Markdown."""
    lines = [
        f"{report['cpu']}, {report['architecture']}, Python {report['python']}, "
        f"numpy {report['numpy']}, edgelid {report['edgelid']}",
        "",
        f"{report['cuts']} cuts of {report['window_s']:g} s of the {report['split']} split, costs "
        f"on {report['timed_cuts']} of them: processor time, medians; in brackets, how many times "
        "what the first costs as it listens.",
        "",
        _line(HEAD),
        _line(["---"] + ["---:"] * (len(HEAD) - 1)),
    ]
    for row in report["recognisers"]:
        lines.append(_line(_cells(row, "every_hop_ms_per_s")))
        if row["mode"] == "stream":
            anew = _cells(row, "every_hop_anew_ms_per_s")
            anew[0] += ", window computed anew at every hop"
            anew[7] = anew[6]
            lines.append(_line(anew))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: dict[str, Any], every_hop: str) -> list[str]:
    peak = row["peak_memory_bytes"]
    return [
        row["name"],
        accuracy_text(row),
        f"{row['size_bytes'] / 1e6:.2f} MB",
        f"{row['parameters']:,}",
        f"{row['macs_per_answer'] / 1e6:,.1f} M",
        "?" if peak is None else f"{peak / 1e6:.0f} MB",
        _milliseconds(row["alone_ms"]["median_ms"]),
        _milliseconds((row["hop_ms"] or row["alone_ms"])["median_ms"]),
        _per_second(row, "every_window_ms_per_s"),
        _per_second(row, every_hop),
    ]


def _milliseconds(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 2}f} ms"


def _per_second(row: dict[str, Any], name: str) -> str:
    times = row["times_the_first"][name]
    return f"{_milliseconds(row[name])} ({times:,.{0 if times >= 20 else 1}f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.side_by_side",
        description="Compares model files and Whisper base with the model that comes along.",
    )
    parser.add_argument("models", type=Path, nargs="*", help="model files besides that one")
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="folder of the corpus")
    parser.add_argument(
        "--per-language", type=int, default=PER_LANGUAGE, help="cuts at most (%(default)s)"
    )
    parser.add_argument(
        "--timed", type=int, default=TIMED_CUTS, help="cuts to measure costs on (%(default)s)"
    )
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        if min(options.per_language, options.timed) < 1:
            raise EdgelidError("--per-language and --timed must be at least 1")
        check_writable(options.json)
        models = (DEFAULT_MODEL, *options.models)
        entries = [Entry(partial(ModelRecogniser, path)) for path in models]
        entries.append(Entry(WhisperRecogniser, scores_file(options.json)))
        report = side_by_side(entries, options.corpus, options.per_language, options.timed)
        write_json(options.json, report)
        print("\n".join(table(report)))

    return run("tests.side_by_side", work, "the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
