"""The measurements of a bench, and how the figures of all its passes become one document.

The setups take turns, several rounds of them, so that what changes meanwhile (heat, other
programs) hits all alike; what the rounds differ by is the noise of the figures.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from edge import __version__
from edge.audio.sources import FileSource
from edge.bench.opinion import measure_opinion
from edge.bench.passes import (
    Cost,
    Paced,
    Setup,
    blocks,
    flat_out,
    in_real_time,
    recomputed,
    stream_scores,
    watched,
)
from edge.bench.recomputation import Recomputation
from edge.bench.startup import Start, installed_bytes, listen_once
from edge.bench.turns import read_turns
from edge.bench.warn import warnings
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.interpreter import Graphs, open_file
from edge.model.modelfile import ModelFile
from edge.opinion.expert import ExpertFile
from edge.outputs.stdout import now
from edge.system.machine import Times, describe_machine, processor_times, read_state

FORMAT = "edgelid bench"
FORMAT_VERSION = 1
SAMPLE = Path(__file__).parents[1] / "samples" / "languages.opus"

ROUNDS = 5  # five against five that do not overlap are no chance: 2 of 252 orders
PASS_S = 60.0  # of audio
PASS_LIMIT_S = 3.0  # of time, for the default: slow devices hear less
PACED_S = 4.0  # of audio, and of time, in each round
WARM_UP_HOPS = 30
RECOMPUTED_HOPS = 8  # in each round
HISTOGRAM_BINS = 100
MIN_SECONDS, MAX_SECONDS = 0.1, 3600.0
PERCENTILES = (50, 90, 95, 99)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Attributes
    ----------
    models : sequence of Path
    input : Path
        Recording to hear.
    seconds : float or None
        Of audio in a pass; None for a minute, or less where that takes long.
    threads : sequence of int
        Of the interpreter, each measured.
    hops_ms : sequence of int or None
        Between answers, each measured; None for each model's own.
    second_opinion : str
        Model to measure beside the first of these; empty for none.
    """

    models: Sequence[Path]
    input: Path = SAMPLE
    seconds: float | None = None
    threads: Sequence[int] = (1,)
    hops_ms: Sequence[int] | None = None
    second_opinion: str = ""


@dataclass
class _Run:
    """A setup, and what has been measured of it, round by round."""

    setup: Setup
    hops: int = 0
    warm_up: Cost = field(default_factory=Cost)
    recomputation: Recomputation | None = None
    stream: Float32Array | None = None  # what the recomputation takes its windows from
    expected: list[Any] = field(default_factory=list)
    identical: list[bool] = field(default_factory=list)
    costs: dict[str, list[Cost]] = field(default_factory=dict)
    paced: list[Paced] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)

    def add(self, name: str, cost: Cost) -> None:
        self.costs.setdefault(name, []).append(cost)


def measure(wanted: Wanted, say: Say) -> dict[str, Any]:
    """Measure all of it.

    Parameters
    ----------
    wanted : Wanted
    say : callable
        Told what is being done.

    Returns
    -------
    dict
        For JSON. What could not be read is None.

    Raises
    ------
    EdgelidError
        If a model, the recording or a setting cannot be used.
    """
    _check(wanted)
    say("opening models")
    setups, left_out = _setups(wanted)
    if wanted.second_opinion:  # what is wrong with it is told before minutes of measuring
        ExpertFile(wanted.second_opinion, setups[0].model.labels)
    samples = _audio(wanted, max(setup.samples(1) for setup in setups))
    machine = describe_machine()
    runs = [_Run(setup) for setup in setups]
    for run in runs:
        say(f"warming up, {_name(run)}")
        _warm_up(run, samples, wanted.seconds)
    before = read_state()
    clock_s, busy, own_s = time.monotonic(), processor_times(), _own_s()
    for number in range(ROUNDS):
        for run in runs:
            say(f"round {number + 1} of {ROUNDS}, {_name(run)}: flat out")
            _round(run, samples, number)
        if number == ROUNDS - 1:
            after = read_state()
        for run in runs:
            hops = min(run.hops, max(1, run.setup.hops(round(PACED_S * SAMPLE_RATE_HZ))))
            audio_s = hops * run.setup.hop_s
            say(f"round {number + 1} of {ROUNDS}, {_name(run)}: {audio_s:.1f} s in real time")
            audio = blocks(samples, run.setup.heard_samples(hops))
            run.paced.append(in_real_time(run.setup, audio))
    load = _load(clock_s, busy, own_s)
    for number in range(ROUNDS):
        for run in runs:
            say(f"starting `edgelid listen`, {number + 1} of {ROUNDS}, {_name(run)}")
            model, runtime = run.setup.model, run.setup.graphs.runtime
            start = listen_once(wanted.input, model.path, runtime.threads, runtime.name)
            run.starts.append(start)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "edgelid": __version__,
        "time": now(),
        "machine": machine,
        "state_before": before,
        "state_after": after,
        "load": load,
        "input": {"path": str(wanted.input), "duration_s": len(samples) / SAMPLE_RATE_HZ},
        "rounds": ROUNDS,
        "left_out": left_out,
        "runs": [_told(run) for run in runs],
    }
    if wanted.second_opinion:
        first = setups[0].model
        turns = read_turns(wanted.input, len(samples) / SAMPLE_RATE_HZ)
        document["second_opinion"] = measure_opinion(
            wanted.second_opinion, first, samples, turns, say
        )
    document["warnings"] = warnings(document)
    rounded: dict[str, Any] = _rounded(document)
    return rounded


def _check(wanted: Wanted) -> None:
    seconds = wanted.seconds
    if seconds is not None and not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise EdgelidError(
            f"--seconds {seconds:g} is not possible: choose {MIN_SECONDS:g} to {MAX_SECONDS:g}."
        )


def _setups(wanted: Wanted) -> tuple[list[Setup], list[str]]:
    """All combinations of models, hops and threads, and words on those that are impossible."""
    left_out: list[str] = []
    setups = []
    for path in wanted.models:
        # The hop is no matter of the graphs: one interpreter serves them all, in turn.
        opened = [open_file(Path(path), threads) for threads in wanted.threads]
        model = opened[0][0]
        hops_ms: Sequence[float] = wanted.hops_ms or [_hop_ms(model)]
        each = [_with_hop(model, hop_ms) for hop_ms in hops_ms]
        left_out += [
            _impossible(model, hop_ms)
            for hop_ms, changed in zip(hops_ms, each, strict=True)
            if changed is None
        ]
        possible = [changed for changed in each if changed is not None]
        setups += [Setup(changed, graphs) for _, graphs in opened for changed in possible]
    if not setups:
        raise EdgelidError(left_out[0])
    return setups, left_out


def _hop_ms(model: ModelFile) -> float:
    config = model.description.front_end
    return 1e3 * model.description.stream.hop_frames * config.hop_samples / config.sample_rate_hz


def _with_hop(model: ModelFile, hop_ms: float) -> ModelFile | None:
    """The model with an answer so often; None if it cannot."""
    description = model.description
    config, stream = description.front_end, description.stream
    frames = hop_ms * config.sample_rate_hz / config.hop_samples / 1e3
    if frames == stream.hop_frames:
        return model
    fits = frames.is_integer() and frames > 0 and hop_ms <= 1e3 * description.decoder.window_s
    if description.mode != "window" or not fits:
        return None
    stream = dataclasses.replace(stream, hop_frames=int(frames))
    return dataclasses.replace(model, description=dataclasses.replace(description, stream=stream))


def _impossible(model: ModelFile, hop_ms: float) -> str:
    config = model.description.front_end
    frame_ms = 1e3 * config.hop_samples / config.sample_rate_hz
    possible = (
        f"multiples of {frame_ms:g} up to {1e3 * model.description.decoder.window_s:g}"
        if model.description.mode == "window"
        else f"{_hop_ms(model):g}, which its graph fixes"
    )
    return (
        f"--hop-ms {hop_ms:g} is not possible with the model {str(model.path)!r}: choose "
        f"{possible}."
    )


def _audio(wanted: Wanted, least_samples: int) -> Float32Array:
    """The recording, as much of it as a pass needs, shape (n,)."""
    if wanted.seconds is not None and wanted.seconds * SAMPLE_RATE_HZ < least_samples:
        raise EdgelidError(
            f"--seconds {wanted.seconds:g} is shorter than one answer: choose at least "
            f"{math.ceil(least_samples / SAMPLE_RATE_HZ * 100) / 100:g}."
        )
    wanted_samples = round((wanted.seconds or PASS_S) * SAMPLE_RATE_HZ)
    parts: list[Float32Array] = []
    count = 0
    with FileSource(wanted.input) as source:
        for block in source.samples():
            parts.append(block)
            count += len(block)
            if count >= wanted_samples:
                break
    if count < least_samples:
        raise EdgelidError(
            f"{str(wanted.input)!r} lasts {count / SAMPLE_RATE_HZ:.3g} s, and one answer takes "
            f"{least_samples / SAMPLE_RATE_HZ:.3g} s: give a longer recording."
        )
    return np.concatenate(parts)[:wanted_samples]


def _warm_up(run: _Run, samples: Float32Array, seconds: float | None) -> None:
    """Go through all code once, and find out how long a pass may be."""
    setup = run.setup
    most = setup.hops(round((seconds or PASS_S) * SAMPLE_RATE_HZ))
    hops = min(most, WARM_UP_HOPS)
    run.warm_up = flat_out(setup, blocks(samples, setup.heard_samples(hops)))
    run.hops = most
    if seconds is None:
        hop_s = float(np.median(run.warm_up.wall_ns)) / 1e9
        run.hops = max(hops, min(most, int(PASS_LIMIT_S / hop_s)))
    if isinstance(setup.graphs, Graphs):
        settings = setup.model.description.decoder
        run.recomputation = Recomputation(setup.model, setup.graphs, settings.window_s)
        stream_hops = min(run.hops, setup.hops(round(PASS_S * SAMPLE_RATE_HZ)))
        run.stream = np.concatenate(list(blocks(samples, setup.samples(stream_hops))))
        run.expected = stream_scores(setup, [run.stream])


def _round(run: _Run, samples: Float32Array, number: int) -> None:
    setup, length = run.setup, run.setup.heard_samples(run.hops)
    run.add("whole", flat_out(setup, blocks(samples, length)))
    for name, cost in watched(setup, blocks(samples, length)).items():
        run.add(name, cost)
    if run.recomputation is None or run.stream is None:
        return
    total = len(run.expected)
    # Other windows in each round, all over the stream, once it has a past to hear.
    first = min(run.recomputation.context_hops, total - 1)
    spread = np.linspace(first, total - 1, RECOMPUTED_HOPS * ROUNDS).astype(int)
    hops = list(dict.fromkeys(spread[number::ROUNDS].tolist()))
    cost, scores = recomputed(run.recomputation, run.stream, hops, run.recomputation.context_hops)
    run.add("recomputed", cost)
    run.identical += [
        bool(np.array_equal(found, run.expected[hop]))
        for hop, found in zip(hops, scores, strict=True)
    ]
    cost, _ = recomputed(run.recomputation, run.stream, hops, run.recomputation.window_hops)
    run.add("window_alone", cost)


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _load(clock_s: float, before: Times | None, own_s: float) -> dict[str, Any]:
    """What others did with the processors meanwhile."""
    elapsed_s, own_s = time.monotonic() - clock_s, _own_s() - own_s
    after = processor_times()
    if before is None or after is None:
        return {"measured_s": elapsed_s, "others_cores": None, "stolen_cores": None}
    return {
        "measured_s": elapsed_s,
        "others_cores": max(0.0, after.busy_s - before.busy_s - own_s) / elapsed_s,
        "stolen_cores": max(0.0, after.stolen_s - before.stolen_s) / elapsed_s,
    }


def _name(run: _Run) -> str:
    threads = run.setup.graphs.runtime.threads
    return f"{run.setup.model.description.name}, {threads} thread{'s' if threads > 1 else ''}"


def _told(run: _Run) -> dict[str, Any]:
    setup = run.setup
    model, runtime = setup.model, setup.graphs.runtime
    special = {"whole", "all", "recomputed", "window_alone"}
    stages = {
        name: _cost(costs, setup.hop_s) for name, costs in run.costs.items() if name not in special
    }
    whole, with_watch = (_cost(run.costs[name], setup.hop_s) for name in ("whole", "all"))
    whole["histogram"] = _histogram(run.costs["whole"])
    return {
        "model": {
            "name": model.description.name,
            "path": str(model.path),
            "sha256": model.sha256,
            "size_bytes": model.size_bytes,
            "mode": model.description.mode,
            "window_s": model.description.decoder.window_s,
        },
        "interpreter": dataclasses.asdict(runtime),
        "hop_ms": setup.hop_s * 1e3,
        "audio_s": run.hops * setup.hop_s,
        "warm_up": {
            "hops": len(run.warm_up.wall_ns),
            "first_hop_wall_ms": run.warm_up.wall_ns[0] / 1e6,
            "median_hop_wall_ms": float(np.median(run.warm_up.wall_ns)) / 1e6,
        },
        "whole": whole,
        "stages": stages,
        "watched": with_watch,
        "watching_share": with_watch["cpu_ms_per_audio_s"] / whole["cpu_ms_per_audio_s"] - 1,
        "paced": _paced(run.paced, run.costs["whole"], setup.hop_s),
        "recomputation": _recomputation(run),
        "start": _start(run.starts),
    }


def _cost(rounds: Sequence[Cost], hop_s: float) -> dict[str, Any]:
    """Figures of some work over all rounds, and round by round those that `compare` looks at."""
    wall_ns = np.concatenate([cost.wall_ns for cost in rounds])
    audio_s = [len(cost.wall_ns) * hop_s for cost in rounds]
    cpu_ms = [cost.cpu_ns / 1e6 / s for cost, s in zip(rounds, audio_s, strict=True)]
    wall_ms = [sum(cost.wall_ns) / 1e6 / s for cost, s in zip(rounds, audio_s, strict=True)]
    # Per second of audio, the median of the rounds: one that something disturbed says nothing.
    return {
        "hops": len(wall_ns),
        "wall_ms_per_hop": _distribution_ms(wall_ns),
        "wall_ms_per_audio_s": median_low(wall_ms),
        "cpu_ms_per_hop": median_low(cpu_ms) * hop_s,
        "cpu_ms_per_audio_s": median_low(cpu_ms),
        "core_share": median_low(cpu_ms) / 1e3,
        "real_time_factor": median_low(wall_ms) / 1e3,
        "rounds": {
            "wall_ms_per_hop_p50": [float(np.percentile(c.wall_ns, 50)) / 1e6 for c in rounds],
            "wall_ms_per_hop_p95": [float(np.percentile(c.wall_ns, 95)) / 1e6 for c in rounds],
            "cpu_ms_per_audio_s": cpu_ms,
        },
    }


def _histogram(rounds: Sequence[Cost]) -> dict[str, Any]:
    """How many hops took how long, in bins of equal ratios."""
    values = np.concatenate([cost.wall_ns for cost in rounds]) / 1e6
    lowest, highest = float(values.min()), float(values.max())
    # The last edge is beyond the last hop.
    edges = np.geomspace(lowest, max(highest, lowest * 1.001) * 1.0001, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(values, edges)
    return {"edges_ms": edges.tolist(), "hops": counts.tolist()}


def _distribution_ms(values_ns: Any) -> dict[str, float | None]:
    """Mean, percentiles and maximum; None where there are too few values for a percentile."""
    values = np.asarray(values_ns) / 1e6
    percentiles = {
        f"p{p}": float(np.percentile(values, p)) if len(values) >= 100 / (100 - p) else None
        for p in PERCENTILES
    }
    return {"mean": float(values.mean()), **percentiles, "max": float(values.max())}


def _paced(rounds: Sequence[Paced], flat_out: Sequence[Cost], hop_s: float) -> dict[str, Any]:
    """Figures in real time, beside what the same rounds took flat out."""
    late_ns = np.concatenate([each.late_ns for each in rounds])
    audio_s = [len(each.late_ns) * hop_s for each in rounds]
    shares = [each.cpu_ns / 1e9 / s for each, s in zip(rounds, audio_s, strict=True)]
    times = [
        share / (cost.cpu_ns / 1e9 / (len(cost.wall_ns) * hop_s))
        for share, cost in zip(shares, flat_out, strict=True)
    ]
    wakeups = [each.wakeups / s for each, s in zip(rounds, audio_s, strict=True)]
    return {
        "audio_s": len(late_ns) * hop_s,
        "hops": len(late_ns),
        "deadline_ms": hop_s * 1e3,
        "deadline_misses": int((late_ns > hop_s * 1e9).sum()),
        "late_ms_per_hop": _distribution_ms(late_ns),
        "core_share": median_low(shares),
        "cpu_ms_per_audio_s": 1e3 * median_low(shares),
        "times_flat_out": median_low(times),
        "wakeups_per_audio_s": median_low(wakeups),
        "rounds": {
            "core_share": shares,
            "times_flat_out": times,
            "wakeups_per_audio_s": wakeups,
            "late_ms_per_hop_p50": [float(np.median(each.late_ns)) / 1e6 for each in rounds],
        },
    }


def _recomputation(run: _Run) -> dict[str, Any] | None:
    """What recomputing costs; None for a model that does nothing else."""
    if run.recomputation is None:
        return None
    hop_s = run.setup.hop_s
    hop_cpu_ms = float(_cost(run.costs["whole"], hop_s)["cpu_ms_per_hop"])
    told: dict[str, Any] = {
        "window_s": run.setup.model.description.decoder.window_s,
        "answers": len(run.identical),
        "identical_answers": sum(run.identical),
    }
    for name, hops in (
        ("recomputed", run.recomputation.context_hops),
        ("window_alone", run.recomputation.window_hops),
    ):
        costs = run.costs[name]
        wall_ns = np.concatenate([cost.wall_ns for cost in costs])
        each_ms = [cost.cpu_ns / 1e6 / len(cost.wall_ns) for cost in costs]
        cpu_ms = median_low(each_ms)
        told[name] = {
            "audio_s": hops * hop_s,
            "wall_ms_per_answer": _distribution_ms(wall_ns),
            "cpu_ms_per_answer": cpu_ms,
            # An answer of the stream costs the hops since the one before.
            "times_the_stream": {
                f"every_{n * hop_s * 1e3:g}_ms": cpu_ms / (n * hop_cpu_ms) for n in (1, 2)
            },
            "rounds": {"cpu_ms_per_answer": each_ms},
        }
    return told


def _start(starts: Sequence[Start]) -> dict[str, Any]:
    names = (
        "import_s",
        "first_decision_s",
        "first_decision_cpu_s",
        "first_decision_audio_s",
        "resident_bytes",
        "peak_bytes",
    )
    rounds = {name: [getattr(start, name) for start in starts] for name in names}
    installed = installed_bytes({module for start in starts for module in start.modules})
    sizes = [size for size in installed.values() if size is not None]
    return {
        **{name: _median(values) for name, values in rounds.items()},
        "install_bytes": sum(sizes) if len(sizes) == len(installed) else None,
        "installed_bytes": installed,
        "rounds": rounds,
    }


def _median(values: Sequence[float | None]) -> float | None:
    """One of the values, None if any is missing."""
    known = [value for value in values if value is not None]
    return median_low(known) if len(known) == len(values) else None


def _rounded(value: Any) -> Any:
    """Six digits of every figure: the clocks give no more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
