"""Comparison of two benches: which differences are more than noise."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.bench.measure import FORMAT, FORMAT_VERSION
from edge.bench.table import STAGES, UNKNOWN, WIDTH, figure, run_name, table
from edge.errors import EdgelidError
from edge.system.regular import check_regular

MAX_FILE_BYTES = 16 << 20
NAME = 34  # columns of a figure's name
LEGEND = (
    "more, less: every round of B is beyond every round of A; noise: they overlap. What has no "
    "such word was not taken round by round."
)


# What looking at a file of any contents may raise.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Row:
    """A figure of both.

    Attributes
    ----------
    name : str
    one, other : float or None
    ratio : float or None
        The other one's against the first.
    beyond_noise : bool or None
        Whether every round of one is beyond every round of the other; None if there are not
        several rounds to tell.
    """

    name: str
    one: float | None
    other: float | None
    ratio: float | None
    beyond_noise: bool | None


def read_bench(path: Path) -> dict[str, Any]:
    """Read what ``edgelid bench --json`` printed.

    Raises
    ------
    EdgelidError
        If it cannot be read, or is something else.
    """
    name = repr(str(path))
    try:
        check_regular(path)
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise EdgelidError(f"{name} does not exist: check the path.") from error
    except OSError as error:
        raise EdgelidError(f"{name} cannot be read ({error.strerror}).") from error
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("too large")
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError("another format")
        if document["format_version"] != FORMAT_VERSION:
            raise EdgelidError(
                f"{name} has format version {document['format_version']!r:.40}, and this edgelid "
                f"reads {FORMAT_VERSION}: measure again."
            )
        # Whatever is looked at later is looked at once: a damaged file is found out here.
        table(document)
        comparison_table(compare(document, document), (name, name))
    except _DAMAGE as error:
        raise EdgelidError(
            f"{name} is no output of a bench: make one with `edgelid bench --json > FILE`."
        ) from error
    return dict(document)


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What differs between two benches.

    Parameters
    ----------
    one, other : dict
        Of :func:`read_bench`.

    Returns
    -------
    dict
        ``differences`` of machines and settings, name to both values; ``pairs`` of runs with
        their ``figures``; ``unpaired`` runs of either.
    """
    facts, others = _facts(one), _facts(other)
    pairs, unpaired = _paired(one["runs"], other["runs"])
    return {
        "differences": {
            name: [facts[name], others[name]] for name in facts if facts[name] != others[name]
        },
        "pairs": [
            {
                "runs": [run_name(first), run_name(second)],
                "differences": _run_differences(first, second),
                "figures": [vars(row) for row in rows(first, second)],
            }
            for first, second in pairs
        ],
        "unpaired": [[run_name(run) for run in runs] for runs in unpaired],
        "warnings": [one["warnings"], other["warnings"]],
    }


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    return {
        **document["machine"],
        "edgelid": document["edgelid"],
        "input": Path(document["input"]["path"]).name,
        "input_s": document["input"]["duration_s"],
    }


def _run_differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    def facts(run: dict[str, Any]) -> dict[str, Any]:
        model, interpreter = run["model"], run["interpreter"]
        return {
            "model": model["name"],
            "model SHA-256": model["sha256"][:16],
            "mode": model["mode"],
            "hop": f"{run['hop_ms']:g} ms",
            "interpreter": f"{interpreter['name']} {interpreter['version']}",
            "delegate": interpreter["delegate"],
            "threads": interpreter["threads"],
        }

    first, second = facts(one), facts(other)
    return {name: [first[name], second[name]] for name in first if first[name] != second[name]}


def _paired(
    ones: list[dict[str, Any]], others: list[dict[str, Any]]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[list[dict[str, Any]]]]:
    """Runs of the same name, hop and threads; then what is left, in order."""
    left, pairs = list(others), []
    alone = []
    for run in ones:
        same = next((each for each in left if run_name(each) == run_name(run)), None)
        if same is None:
            alone.append(run)
        else:
            left.remove(same)
            pairs.append((run, same))
    both = min(len(alone), len(left))
    pairs += zip(alone, left, strict=False)
    return pairs, [alone[both:], left[both:]]


def rows(one: dict[str, Any], other: dict[str, Any]) -> list[Row]:
    """Figures of two runs; None where one of them does not have it."""
    ones, others = _figures(one), _figures(other)
    found = []
    for name in {**ones, **others}:
        (first, firsts), (second, seconds) = (
            figures.get(name, (None, [])) for figures in (ones, others)
        )
        beyond = None
        if len(firsts) > 1 and len(seconds) > 1:
            beyond = max(firsts) < min(seconds) or max(seconds) < min(firsts)
        ratio = second / first if first and second is not None else None
        if ratio is not None and not math.isfinite(ratio):  # of a figure next to nothing
            ratio = None
        found.append(Row(name, first, second, ratio, beyond))
    return found


Figure = tuple[float | None, list[float]]  # and what it was in each round, where that is known


def _figures(run: dict[str, Any]) -> dict[str, Figure]:
    """All of a run, by name."""
    whole, paced, start = run["whole"], run["paced"], run["start"]
    wall, late = whole["wall_ms_per_hop"], paced["late_ms_per_hop"]
    rounds, paced_rounds = whole["rounds"], paced["rounds"]
    found = {
        "a hop, p50, ms": _figure(wall["p50"], rounds["wall_ms_per_hop_p50"]),
        "  p95": _figure(wall["p95"], rounds["wall_ms_per_hop_p95"]),
        "  p99": _figure(wall["p99"]),
        "processor, ms a second of audio": _processor(whole),
    }
    found |= {f"  {STAGES[name]}": _processor(cost) for name, cost in run["stages"].items()}
    found |= {
        "in real time, % of a core": _figure(
            paced["core_share"], paced_rounds["core_share"], unit=0.01
        ),
        "  times flat out": _figure(
            paced.get("times_flat_out"), paced_rounds.get("times_flat_out", ())
        ),
        "  wake-ups a second": _figure(
            paced.get("wakeups_per_audio_s"), paced_rounds.get("wakeups_per_audio_s", ())
        ),
        "  wake-up to answer, p50, ms": _figure(late["p50"], paced_rounds["late_ms_per_hop_p50"]),
        "  deadlines missed": _figure(paced["deadline_misses"]),
    }
    if run["recomputation"] is not None:
        recomputed = run["recomputation"]["recomputed"]
        each = recomputed["rounds"]["cpu_ms_per_answer"]
        found["recomputing a window, ms"] = _figure(recomputed["cpu_ms_per_answer"], each)
    for name, label, unit in (
        ("first_decision_s", "start to first decision, s", 1.0),
        ("first_decision_cpu_s", "  processor time, s", 1.0),
        ("resident_bytes", "memory resident, MB", 1e6),
        ("peak_bytes", "  at most, MB", 1e6),
    ):
        found[label] = _figure(start[name], start["rounds"][name], unit)
    found["on disk, MB"] = _figure(start["install_bytes"], unit=1e6)
    return found


def _processor(cost: dict[str, Any]) -> Figure:
    return _figure(cost["cpu_ms_per_audio_s"], cost["rounds"]["cpu_ms_per_audio_s"])


def _figure(value: float | None, rounds: Iterable[float | None] = (), unit: float = 1.0) -> Figure:
    told = [float(each) / unit for each in rounds if each is not None]
    return None if value is None else float(value) / unit, told


def comparison_table(found: dict[str, Any], names: tuple[str, str]) -> list[str]:
    """What :func:`compare` found, for people.

    Parameters
    ----------
    found : dict
    names : (str, str)
        Of the two files.
    """
    lines = [f"A  {names[0]}", f"B  {names[1]}"]
    lines += _differences(found["differences"])
    for pair in found["pairs"]:
        first, second = pair["runs"]
        lines += ["", first if first == second else f"A: {first}; B: {second}"]
        lines += _differences(pair["differences"])
        lines += ["", f"{'':<{NAME}}{'A':>9}{'B':>9}{'B / A':>8}"]
        lines += [_row(row) for row in pair["figures"]]
    for letter, runs in zip("AB", found["unpaired"], strict=True):
        lines += [f"only {letter} has {name}" for name in runs]
    for letter, sentences in zip("AB", found["warnings"], strict=True):
        for sentence in sentences:
            lines += _wrapped(f"warning: of {letter}, {sentence}")
    lines += ["", *_wrapped(LEGEND)]
    return lines


def _differences(differences: dict[str, list[Any]]) -> list[str]:
    return [
        line
        for name, (one, other) in differences.items()
        for line in _wrapped(
            f"   {name}: {UNKNOWN if one is None else one} in A, "
            f"{UNKNOWN if other is None else other} in B"
        )
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="   ", break_on_hyphens=False)


def _row(row: dict[str, Any]) -> str:
    verdict = {True: "more", False: "noise", None: ""}[row["beyond_noise"]]
    if row["beyond_noise"] and (row["ratio"] or 1) < 1:
        verdict = "less"
    return (
        f"{row['name']:<{NAME}}{figure(row['one']):>9}{figure(row['other']):>9}"
        f"{figure(row['ratio'], 3):>8}  {verdict}"
    ).rstrip()
