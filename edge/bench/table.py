"""The table of a bench for people, in 80 columns."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from edge.audio.wakeup import WAKE_S

WIDTH = 80
LABEL = 13  # columns before the text or the figures of a row
UNKNOWN = "–"
COLUMNS = ("p50", "p90", "p95", "p99", "max")
LEGEND = (
    "ms/s: processor time of all threads, a second of audio; core: the same as a share of one "
    "core; RTF: time on the wall, a second of audio. Flat out, caches stay warm; left on, it costs "
    "what it does in real time."
)
STAGES = {
    "front_end": "front end",
    "step": "step",
    "head": "head",
    "window": "window",
    "decoder": "decoder",
    "rest": "rest",
}


def table(document: dict[str, Any]) -> list[str]:
    """The document of :func:`edge.bench.measure.measure` as lines.

    Parameters
    ----------
    document : dict
        Read from JSON, or as it was measured.
    """
    lines = _machine(document)
    for run in document["runs"]:
        lines += ["", *_run(run)]
    if len(document["runs"]) > 1:
        lines += ["", *_side_by_side(document["runs"])]
    if "second_opinion" in document:
        lines += ["", *_second_opinion(document["second_opinion"])]
    lines += ["", *textwrap.wrap(LEGEND, WIDTH)]
    for sentence in (*document["left_out"], *document["warnings"]):
        lines += ["", *_row("warning", sentence)]
    return lines


def figure(value: float | None, most_decimals: int = 4) -> str:
    """Three digits of a figure: more where it is large, fewer where it is tiny."""
    if value is None:
        return UNKNOWN
    # Of what three digits leave: 9.999 has the size of 10.0.
    size = math.floor(math.log10(abs(float(f"{value:.2e}")))) if value else 0
    return f"{value:.{min(max(0, 2 - size), most_decimals)}f}"


def share(value: float | None) -> str:
    """A share in per cent."""
    return UNKNOWN if value is None else f"{figure(100 * value, 3)} %"


def megabytes(value: float | None) -> str:
    """Of 1000 x 1000 bytes."""
    return UNKNOWN if value is None else f"{value / 1e6:.1f} MB"


def run_name(run: dict[str, Any]) -> str:
    """Model, hop and threads of a run."""
    threads = run["interpreter"]["threads"]
    return (
        f"{run['model']['name']}, {run['hop_ms']:g} ms, "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )


def machine_name(machine: dict[str, Any]) -> str:
    """Board and processor."""
    cores = f"{machine['cores'] or UNKNOWN} x {machine['cpu'] or 'unknown processor'}"
    parts = [machine["board"], cores, machine["architecture"]]
    return ", ".join(part for part in parts if part)


def _row(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label.ljust(LABEL),
        subsequent_indent=" " * LABEL,
        break_on_hyphens=False,
    )


def _machine(document: dict[str, Any]) -> list[str]:
    machine, load = document["machine"], document["load"]
    before, after = document["state_before"], document["state_after"]
    kind = {True: "virtual machine", False: "", None: ""}[machine["virtual"]]
    memory_bytes = machine["memory_bytes"]
    memory = UNKNOWN if memory_bytes is None else f"{memory_bytes / 1e9:.1f} GB"
    range_hz = [machine["min_frequency_hz"], machine["max_frequency_hz"]]
    known = None not in range_hz
    limits = f"{_megahertz(range_hz[:1])} to {_megahertz(range_hz[1:])}" if known else UNKNOWN
    rows = {
        "machine": ", ".join(filter(None, [machine_name(machine), f"{memory} of memory", kind])),
        "system": f"{machine['os'] or UNKNOWN}, kernel {machine['kernel']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}, edgelid {document['edgelid']}",
        "frequency": f"{_megahertz(before['frequencies_hz'])} before, "
        f"{_megahertz(after['frequencies_hz'])} after; governor "
        f"{machine['governor'] or UNKNOWN}, range {limits}",
        "temperature": f"{figure(before['temperature_c'])} °C before, "
        f"{figure(after['temperature_c'])} °C after",
        "held back": f"{_flags(after['throttling'])}; since switched on: "
        f"{_flags(after['throttling_since_start'])}",
        "other load": f"{figure(load['others_cores'])} cores busy with other programs, "
        f"{figure(load['stolen_cores'])} withheld by a host",
        "audio": f"{Path(document['input']['path']).name}, in {document['rounds']} rounds",
    }
    return [line for label, text in rows.items() for line in _row(label, text)]


def _second_opinion(found: dict[str, Any]) -> list[str]:
    """A large model beside the first."""
    answer, listening = found["answer"], found["listening"]
    changes = listening["changes"]
    rows = {
        "second": f"{found['model']['name']}, {megabytes(found['model']['size_bytes'])}, opened in "
        f"{figure(found['opening_wall_s'])} s",
        "one answer": f"{figure(answer['cpu_ms'])} ms of a core; after "
        f"{figure(answer['wall_ms']['p50'])} ms (p95 {figure(answer['wall_ms']['p95'])} ms); "
        f"{share(found['share'])} of a core is for {found['affordable_a_minute']:.0f} a minute",
    }
    lines = [line for label, text in rows.items() for line in _row(label, text)]
    lines += ["", f"{'listening':<{LABEL}}{'core':>10}{'delay, s':>10}{'missed':>12}"]
    for name in ("compact", "large", "together"):
        way = listening[name]
        missed = UNKNOWN if changes is None else f"{way['missed']} of {changes}"
        lines.append(
            f"{name:<{LABEL}}{share(way['core_share']):>10}"
            f"{figure(way['median_delay_s']):>10}{missed:>12}"
        )
    answers = figure(listening["together"]["answers_a_minute"])
    lines[-1] += f"  {answers} answers a minute"
    paced = found["real_time"]
    text = (
        f"{paced['deadline_misses']} of {paced['hops']} answers late with {paced['answers']} "
        f"second opinions, at most {figure(paced['late_ms_max'])} ms"
    )
    return [*lines, *_row("real time", text)]


def _megahertz(values_hz: list[int | None] | None) -> str:
    known = [value for value in values_hz or () if value is not None]
    return " and ".join(f"{v / 1e6:.0f}" for v in dict.fromkeys(known)) + " MHz" if known else "–"


def _flags(names: list[str] | None) -> str:
    if names is None:
        return UNKNOWN
    return ", ".join(name.replace("_", " ") for name in names) or "no"


def _run(run: dict[str, Any]) -> list[str]:
    model, runtime = run["model"], run["interpreter"]
    plural = "s" if runtime["threads"] > 1 else ""
    lines = [
        *textwrap.wrap(
            f"{model['name']} ({Path(model['path']).name}), mode {model['mode']}, an answer every "
            f"{run['hop_ms']:g} ms",
            WIDTH,
        ),
        f"{runtime['name']} {runtime['version']}, delegate {runtime['delegate']}, "
        f"{runtime['threads']} thread{plural}; SHA-256 {model['sha256'][:16]}",
        "",
        f"{'flat out':<{LABEL}}{'wall clock, ms a hop':>40}{'processor':>17}{'':>10}".rstrip(),
        " " * LABEL
        + "".join(f"{name:>8}" for name in COLUMNS)
        + f"{'ms/s':>8}{'core':>9}{'RTF':>10}",
    ]
    stages = [(STAGES[name], cost) for name, cost in run["stages"].items()]
    for name, cost in (*stages, ("all, watched", run["watched"]), ("all", run["whole"])):
        lines.append(
            _figures(name, cost["wall_ms_per_hop"])
            + f"{figure(cost['cpu_ms_per_audio_s']):>8}{share(cost['core_share']):>9}"
            + f"{figure(cost['real_time_factor'], 6):>10}"
        )
    paced = run["paced"]
    lines += [
        "",
        f"{'in real time':<{LABEL}}{'ms from wake-up to answer':>40}{'processor':>17}",
        _figures("all", paced["late_ms_per_hop"])
        + f"{figure(1e3 * paced['core_share']):>8}{share(paced['core_share']):>9}",
        "",
    ]
    for label, text in _rows(run).items():
        lines += _row(label, text)
    return lines


def _figures(name: str, distribution: dict[str, Any]) -> str:
    return name.ljust(LABEL) + "".join(f"{figure(distribution[c]):>8}" for c in COLUMNS)


def _rows(run: dict[str, Any]) -> dict[str, str]:
    paced, start, warm_up = run["paced"], run["start"], run["warm_up"]
    flat_out_ms = run["whole"]["cpu_ms_per_audio_s"]
    spread = run["whole"]["rounds"]["cpu_ms_per_audio_s"]
    rows = {
        "left on": f"{figure(1e3 * paced['core_share'])} ms/s in real time and "
        f"{figure(flat_out_ms)} ms/s flat out: in the same rounds, "
        f"{figure(paced.get('times_flat_out'), 2)} times as much; "
        f"{figure(paced.get('wakeups_per_audio_s'), 2)} wake-ups a second, to hear up to "
        f"{1e3 * WAKE_S:g} ms at once",
        "deadlines": f"{paced['deadline_misses']} of {paced['hops']} answers in real time came "
        f"later than {paced['deadline_ms']:g} ms after the wake-up for their audio; on average "
        f"{figure(paced['late_ms_per_hop']['mean'])} ms after it",
        "measured": f"{run['whole']['hops']} hops, {run['audio_s']:.1f} s of audio a round; "
        f"rounds took {figure(min(spread))} to {figure(max(spread))} ms/s; watching the stages "
        f"cost {share(run['watching_share'])}",
        "warm-up": f"apart; its first hop took {figure(warm_up['first_hop_wall_ms'])} ms",
    }
    recomputation = run["recomputation"]
    if recomputation is not None:
        rows["recomputing"] = _recomputing(recomputation)
    rows["start"] = (
        f"{figure(start['first_decision_s'])} s to the first decision of `edgelid listen` on this "
        f"file (imports {figure(start['import_s'])} s; in all "
        f"{figure(start['first_decision_cpu_s'])} s of processor time); a microphone would have "
        f"to hear {figure(start['first_decision_audio_s'])} s first"
    )
    rows["memory"] = (
        f"{megabytes(start['resident_bytes'])} resident, {megabytes(start['peak_bytes'])} at most"
    )
    sizes = sorted(start["installed_bytes"].items(), key=lambda item: -(item[1] or 0))
    parts = ", ".join(f"{name} {megabytes(size)}" for name, size in sizes)
    rows["on disk"] = f"{megabytes(start['install_bytes'])} of what was imported: {parts}"
    return rows


def _recomputing(found: dict[str, Any]) -> str:
    whole, alone = found["recomputed"], found["window_alone"]
    times = [
        f"{figure(value)} times what hops of {name.removeprefix('every_').replace('_', ' ')} cost"
        for name, value in whole["times_the_stream"].items()
    ]
    first = next(iter(alone["times_the_stream"].values()))
    same = found["identical_answers"] == found["answers"]
    return (
        f"{figure(whole['cpu_ms_per_answer'])} ms of processor time for the {found['window_s']:g} "
        f"s window, at every answer: {', '.join(times)}; posteriors "
        f"{'identical' if same else 'NOT identical'} in {found['identical_answers']} of "
        f"{found['answers']}. Without the sound before it that its first embeddings hear: "
        f"{figure(alone['cpu_ms_per_answer'])} ms, {figure(first)} times, not identical"
    )


def _side_by_side(runs: list[dict[str, Any]]) -> list[str]:
    width = min(max(5, *(len(run["model"]["name"]) for run in runs)), 18)
    lines = [
        f"{'':<{width}}  {'':<16}{'ms a hop':>14}{'share of a core':>17}{'':>7}{'peak':>6}",
        f"{'model':<{width}}  {'mode':<7}{'hop':>5}{'thr':>4}{'p50':>7}{'p99':>7}{'flat out':>9}"
        f"{'paced':>8}{'missed':>7}{'MB':>6}",
    ]
    for run in runs:
        model, whole, paced = run["model"], run["whole"], run["paced"]
        wall, peak_bytes = whole["wall_ms_per_hop"], run["start"]["peak_bytes"]
        lines.append(
            f"{model['name'][:width]:<{width}}  {model['mode']:<7}{run['hop_ms']:>5g}"
            f"{run['interpreter']['threads']:>4}"
            f"{figure(wall['p50'], 3):>7}{figure(wall['p99'], 3):>7}"
            f"{share(whole['core_share']):>9}{share(paced['core_share']):>8}"
            f"{paced['deadline_misses']:>7}"
            f"{figure(None if peak_bytes is None else peak_bytes / 1e6, 1):>6}"
        )
    return lines
