"""The tables of a model card: ``python -m train.evaluation.model_card REPORT.json``, as Markdown.

They are printed from what ``edgelid-train evaluate --json`` wrote, so that no figure of a card is
typed by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.errors import EdgelidError
from train.command import run
from train.evaluation.open_set import POINTS
from train.evaluation.report import divided, spoken, yardstick_of

Report = dict[str, Any]


def tables(report: Report) -> Iterator[str]:
    """Lines of Markdown.

    Parameters
    ----------
    report : dict
        As ``edgelid-train evaluate --json`` writes it.
    """
    yield from _by_duration(report)
    yield ""
    yield from _by_language(report)
    yield ""
    if any(row.get("yardstick") for row in report["durations"].values()):
        yield from _yardstick(report)
        yield ""
    for section in (_pairs, _synthetic, _ceiling):
        lines = list(section(report))  # older reports have none of them
        if lines:
            yield from lines
            yield ""
    yield from _conditions(report)
    yield ""
    yield from _rejection(report)


def _by_duration(report: Report) -> Iterator[str]:
    yield (
        "| speech | cuts | macro accuracy (95 %) | micro | macro F1 | Cavg | EER | ECE "
        "| macro, open | ECE, open |"
    )
    yield "|---|" + "---:|" * 9
    for duration_s, row in report["durations"].items():
        told, others = row["languages"], row["open"]
        yield _row(
            f"{duration_s} s",
            str(told["cuts"]),
            f"**{_percent(told['balanced_accuracy'])}** {_interval(told)}",
            _percent(told["accuracy"]),
            _percent(told["macro_f1"]),
            # Of one language there are none.
            f"{told['cavg']:.3f}" if "cavg" in told else "–",
            _percent(told["eer"]) if "eer" in told else "–",
            f"{told['ece']:.3f}",
            _percent(others["balanced_accuracy"]),
            f"{others['ece']:.3f}",
        )


def _by_language(report: Report) -> Iterator[str]:
    languages = spoken(report)
    yield _row("speech", *languages)
    yield "|---|" + "---:|" * len(languages)
    told = [(f"{s} s", row["languages"]) for s, row in report["durations"].items()]
    told += [
        (f"{s} s, {yardstick_of(report)}", row["yardstick"]["yardstick"])
        for s, row in report["durations"].items()
        if row.get("yardstick")
    ]
    for name, scores in told:
        # Of some languages there may be no speech of that length.
        found = (scores["by_language"].get(language) for language in languages)
        yield _row(name, *(f"{100 * each['accuracy']:.0f} %" if each else "–" for each in found))


def _yardstick(report: Report) -> Iterator[str]:
    yield _row("speech", "cuts", "this model", yardstick_of(report))
    yield "|---|---:|---:|---:|"
    for duration_s, row in report["durations"].items():
        if row.get("yardstick"):
            sides = (row["yardstick"][side] for side in ("model", "yardstick"))
            cells = (f"{_percent(side['balanced_accuracy'])} {_interval(side)}" for side in sides)
            yield _row(f"{duration_s} s", str(row["yardstick"]["cuts"]), *cells)


def _pairs(report: Report) -> Iterator[str]:
    found = {s: row["pairs"] for s, row in report["durations"].items() if row.get("pairs")}
    if not found:
        return
    yield "| speech | mean over pairs of languages (95 %) | as `--languages` answers | worst pair |"
    yield "|---|---:|---:|---|"
    for duration_s, pairs in found.items():
        name, worst = min(pairs["by_pair"].items(), key=lambda item: item[1]["accuracy"])
        yield _row(
            f"{duration_s} s",
            f"{_percent(pairs['accuracy'])} {_ends(pairs['interval'])}",
            f"{_percent(pairs['open'])} {_ends(pairs['open_interval'])}" if "open" in pairs else "",
            f"{name}: {_percent(worst['accuracy'])}",
        )
    base = f"{report['condition_duration_s']:g}"
    if base in found:
        yield ""
        by_pair = found[base]["by_pair"]
        languages = list(dict.fromkeys(name for pair in by_pair for name in pair.split(",")))
        yield _row(f"pairs, {base} s", *languages[1:])
        yield "|---|" + "---:|" * (len(languages) - 1)
        for one in languages[:-1]:
            shares = (by_pair.get(f"{one},{other}") for other in languages[1:])
            yield _row(one, *(f"{100 * s['accuracy']:.0f} %" if s else "" for s in shares))


def _synthetic(report: Report) -> Iterator[str]:
    found = {s: row["synthetic"] for s, row in report["durations"].items() if row.get("synthetic")}
    if not found:
        return
    yield "| speech | natural (95 %) | synthetic (95 %) | cuts | speakers |"
    yield "|---|---:|---:|---:|---:|"
    for duration_s, made in found.items():
        natural = report["durations"][duration_s]["languages"]
        yield _row(
            f"{duration_s} s",
            *(f"{_percent(r['balanced_accuracy'])} {_interval(r)}" for r in (natural, made)),
            *(f"{natural[what]}, {made[what]}" for what in ("cuts", "speakers")),
        )


def _ceiling(report: Report) -> Iterator[str]:
    ceiling = report.get("ceiling")
    if not ceiling:
        return
    yield f"| speech | both | {ceiling['model']} alone (95 %) | pairs, both | pairs, alone |"
    yield "|---|---:|---:|---:|---:|"
    for duration_s, alone in ceiling["durations"].items():
        both = report["durations"][duration_s]
        yield _row(
            f"{duration_s} s",
            _percent(both["languages"]["balanced_accuracy"]),
            f"{_percent(alone['languages']['balanced_accuracy'])} {_interval(alone['languages'])}",
            *(
                _percent(row["pairs"]["accuracy"]) if row.get("pairs") else ""
                for row in (both, alone)
            ),
        )
    if "open_set" in ceiling:
        point = ceiling["open_set"]["at_10_percent_rejected"]
        yield ""
        yield (
            f"- {ceiling['model']} alone, at {point['threshold']:.2f}: "
            f"{_percent(point['strangers_accepted'])} of strangers accepted, "
            f"{_percent(point['known_rejected'])} of known speech rejected"
        )


def _conditions(report: Report) -> Iterator[str]:
    heard = any("recordings" in row for row in report["conditions"].values())
    head = [f"{report['condition_duration_s']:g} s of speech", "macro accuracy (95 %)", "paired"]
    yield _row(*head, *(["`edgelid classify`"] if heard else []))
    yield "|---|" + "---:|" * (3 if heard else 2)
    for name, row in report["conditions"].items():
        paired = ""
        if name != "clean":
            lost = row["from_clean"]
            low, high = (f"{100 * end:.1f}" for end in lost["interval"])
            paired = f"{100 * lost['difference']:.1f} ({low} to {high})"
        cells = [row["title"], f"{_percent(row['balanced_accuracy'])} {_interval(row)}", paired]
        if heard:
            cells.append(_percent(row["recordings"]["balanced_accuracy"]))
        yield _row(*cells)


def _rejection(report: Report) -> Iterator[str]:
    found = report.get("open_set") or {}  # where the corpus has strangers
    yield from _operating_points(found, "")
    yield from _operating_points(found.get("recordings") or {}, "`edgelid classify`: ")
    if noise := report.get("noise"):
        accepted = _percent(noise["called_a_language"])
        yield f"- {accepted} of {noise['windows']} windows of noise accepted"
    for name, what in {
        "streams": "changes",
        "streams_of_two": "changes in streams of two languages each",
    }.items():
        if found := report.get(name):
            yield _streams(what, found)
            if told := found.get("recordings"):
                yield f"- the same divided by `edgelid classify`: {divided(told, _percent)}"


def _operating_points(found: Report, heard: str) -> Iterator[str]:
    for name, title in POINTS.items():
        point = found.get(name)
        if not point:
            continue
        yield (
            f"- {heard}{title}, at {point['threshold']:.2f}: "
            f"{_percent(point['strangers_accepted'])} of strangers accepted, "
            f"{_percent(point['known_rejected'])} of known speech rejected"
        )


def _streams(what: str, streams: Report) -> str:
    return (
        f"- {streams['changes']:.0f} {what}: {streams['median_delay_s']:.1f} s median delay, "
        f"{streams['p95_delay_s']:.1f} s at 95 %, {_percent(streams['missed'])} missed, "
        f"{streams['false_changes_per_hour']:.0f} false an hour, "
        f"{_percent(streams['error_rate'])} in error, {_percent(streams['unknown_share'])} unknown"
        + (
            f", begins and ends {streams['median_border_error_s']:.2f} s off in the median"
            if streams.get("median_border_error_s") is not None
            else ""
        )
    )


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(scores: Report) -> str:
    return _ends(scores["intervals"]["balanced_accuracy"])


def _ends(ends: Sequence[float]) -> str:
    low, high = ends
    return f"({100 * low:.1f} to {100 * high:.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.model_card", description=__doc__
    )
    parser.add_argument("report", type=Path, help="of edgelid-train evaluate --json")
    options = parser.parse_args(arguments)

    def work() -> None:
        try:
            report = json.loads(options.report.read_text())
            lines = list(tables(report))
        except OSError as error:
            raise EdgelidError(f"{options.report} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EdgelidError(
                f"{options.report} is no report of edgelid-train evaluate --json"
            ) from error
        print("\n".join(lines))

    return run("train.evaluation.model_card", work, "nothing was written")


if __name__ == "__main__":
    raise SystemExit(main())
