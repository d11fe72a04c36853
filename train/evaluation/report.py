"""Evaluation reports as lines for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge.system.atomic import write_atomically
from train.evaluation.conditions import CLEAN
from train.evaluation.open_set import POINTS


def table(report: dict[str, Any]) -> list[str]:
    """The main figures as lines, for a terminal at least 100 columns wide."""
    lines = [
        f"{report['model']} (sha256 {report['sha256'][:12]}), split {report['split']}, "
        "restricted to its languages"
    ]
    sections = (
        _durations,
        _languages,
        _pairs,
        _beside,
        _conditions,
        _open_set,
        _streams,
        _budget,
    )
    for section in sections:
        found = list(section(report))
        if found:
            lines += ["", *found]
    return lines


def share(value: float, ends: list[float] | None = None) -> str:
    """A share in per cent, and its interval if there is one."""
    text = f"{value:.1%}"
    return text if ends is None else f"{text} ({ends[0] * 100:.1f}–{ends[1] * 100:.1f})"


def divided(told: dict[str, Any], percent: Callable[[float], str] = share) -> str:
    """How recordings that change language are divided; `percent` writes a share."""
    text = f"{percent(told['error_rate'])} in error, {percent(told['unknown_share'])} unknown"
    off_s = told["median_border_error_s"]
    return text if off_s is None else f"{text}, begins and ends {off_s:.2f} s off in the median"


def shown(row: dict[str, Any], name: str, form: str) -> str:
    """A figure in some format; a dash where there is none, as Cavg and EER of one language."""
    return format(row[name], form) if name in row else "–"


def spoken(report: dict[str, Any]) -> list[str]:
    """Languages that have cuts of any duration: not all of them may have some of each."""
    durations = report["durations"].values()
    return sorted({name for entry in durations for name in entry["languages"]["by_language"]})


def yardstick_of(report: dict[str, Any]) -> str:
    """Name of the recogniser that this one is compared with; empty for none."""
    return str(report["yardstick"] or "").split(",")[0]


def _durations(report: dict[str, Any]) -> Iterator[str]:
    head = f"{'speech':>7} {'cuts':>5}  {'macro accuracy (95 %)':<22} {'micro':>6} {'F1':>6} "
    yield head + f"{'Cavg':>6} {'EER':>6} {'ECE':>6} {'open ECE':>8}"
    for duration, entry in report["durations"].items():
        row, everything = entry["languages"], entry["open"]
        yield (
            f"{duration + ' s':>7} {row['cuts']:>5}  {balanced(row):<22} {row['accuracy']:>6.1%} "
            f"{row['macro_f1']:>6.1%} {shown(row, 'cavg', '.3f'):>6} {shown(row, 'eer', '.1%'):>6} "
            f"{row['ece']:>6.3f} {everything['ece']:>8.3f}"
        )
    for duration, entry in report["durations"].items():
        if "eer" not in entry["languages"]:  # of one language any answer is right
            yield f"all classes possible, {duration} s: {balanced(entry['open'])}"
    for duration, entry in report["durations"].items():
        if "yardstick" in entry:
            both = entry["yardstick"]
            yield (
                f"on {both['cuts']} cuts of {duration} s: this model {balanced(both['model'])}, "
                f"{yardstick_of(report)} {balanced(both['yardstick'])}"
            )


def balanced(row: dict[str, Any]) -> str:
    """Balanced accuracy with its interval."""
    return share(row["balanced_accuracy"], row["intervals"]["balanced_accuracy"])


def _languages(report: dict[str, Any]) -> Iterator[str]:
    durations = report["durations"]
    languages = spoken(report)
    yield f"{'speech':>7} " + "".join(f"{language:>7}" for language in languages)
    for duration, entry in durations.items():
        yield f"{duration + ' s':>7} " + _recalls(entry["languages"], languages)
        if "yardstick" in entry:
            recalls = _recalls(entry["yardstick"]["yardstick"], languages)
            yield f"{'':8}{recalls}  {yardstick_of(report)}"


def _recalls(row: dict[str, Any], languages: list[str]) -> str:
    found = row["by_language"]
    return "".join(
        f"{found[language]['accuracy']:>7.0%}" if language in found else f"{'–':>7}"
        for language in languages
    )


def _pairs(report: dict[str, Any]) -> Iterator[str]:
    found = {s: e["pairs"] for s, e in report["durations"].items() if e.get("pairs")}
    if not found:  # of one language
        return
    yield f"{'pairs':>7}  {'right of two (95 %)':<22} {'with --languages':<22} worst"
    for duration, pairs in found.items():
        worst, least = min(pairs["by_pair"].items(), key=lambda item: item[1]["accuracy"])
        opened = share(pairs["open"], pairs["open_interval"]) if "open" in pairs else "–"
        yield (
            f"{duration + ' s':>7}  {share(pairs['accuracy'], pairs['interval']):<22} "
            f"{opened:<22} {worst} {share(least['accuracy'])}"
        )


def _beside(report: dict[str, Any]) -> Iterator[str]:
    """Synthetic speech, and what the large model knows."""
    ceiling = report.get("ceiling")
    for duration, entry in report["durations"].items():
        if "synthetic" in entry:
            made = entry["synthetic"]
            yield (
                f"synthetic speech, {made['cuts']} cuts of {duration} s: {balanced(made)}, macro"
            )
        if "recordings" in entry:
            heard = entry["recordings"]
            yield (
                f"as edgelid classify hears it, {duration} s: {balanced(heard['languages'])}; "
                f"all classes possible {balanced(heard['open'])}"
            )
        if ceiling:
            alone = ceiling["durations"][duration]
            pairs = f", pairs {share(alone['pairs']['accuracy'])}" if "pairs" in alone else ""
            yield f"{ceiling['model']} alone, {duration} s: {balanced(alone['languages'])}{pairs}"
    if ceiling and "open_set" in ceiling:
        point = ceiling["open_set"]["at_10_percent_rejected"]
        yield (
            f"{ceiling['model']} alone, 10 % of known speech rejected: accepts "
            f"{share(point['strangers_accepted'])} of other languages"
        )


def _conditions(report: dict[str, Any]) -> Iterator[str]:
    if len(report["conditions"]) == 1:
        return
    conditions = report["conditions"].values()
    heard = any("recordings" in condition for condition in conditions)
    head = f"{report['condition_duration_s']:g} s, condition   {'macro accuracy (95 %)':<22}"
    yield f"{head} as edgelid classify hears it" if heard else head.rstrip()
    for condition in conditions:
        line = f"  {condition['title']:<16} {balanced(condition)}"
        if "recordings" in condition:
            line = f"{line:<42}{balanced(condition['recordings'])}"
        yield line


def _open_set(report: dict[str, Any]) -> Iterator[str]:
    found = report.get("open_set")
    if found:
        title = f"{report['condition_duration_s']:g} s, other languages"
        yield f"{title:<34}{'at':>5}  {'accepted (95 %)':<20}known rejected (95 %)"
        yield from _operating_points(found)
        if "recordings" in found:
            yield "as edgelid classify hears them"
            yield from _operating_points(found["recordings"])
    noise = report.get("noise")
    if noise:
        called = share(noise["called_a_language"])
        yield f"noise called a language: {called} of {noise['windows']} windows"


def _operating_points(found: dict[str, Any]) -> Iterator[str]:
    for name, title in POINTS.items():
        point = found[name]
        accepted, rejected = (
            share(point[what], point["intervals"][what])
            for what in ("strangers_accepted", "known_rejected")
        )
        yield f"  {title:<32}{point['threshold']:>5.2f}  {accepted:<20}{rejected}"


def _streams(report: dict[str, Any]) -> Iterator[str]:
    for name, title in {"streams": "streams", "streams_of_two": "streams of two languages"}.items():
        if found := report.get(name):
            yield from _followed(title, found)


def _followed(title: str, found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{title}, {found['minutes']:.0f} minutes, {found['changes']:.0f} changes: "
        f"delay {found['median_delay_s']:.1f} s median, {found['p95_delay_s']:.1f} s at 95 %; "
        f"{share(found['missed'])} missed"
    )
    yield (
        f"  {found['false_changes_per_hour']:.0f} false changes per hour of speech, "
        f"{share(found['error_rate'])} of it in error, of which "
        f"{share(found['unknown_share'])} unknown"
    )
    if found["median_border_error_s"] is not None:  # some segment tells of what was spoken
        yield (
            f"  segments begin and end {found['median_border_error_s']:.2f} s from where they "
            "should, median; "
            f"{found['p95_border_error_s']:.1f} s at 95 %"
        )
    if told := found.get("recordings"):
        yield f"  divided by edgelid classify: {divided(told)}"


def _budget(report: dict[str, Any]) -> Iterator[str]:
    found = report.get("budget")
    if not found:
        return
    yield "by budget: macro accuracy (share of a Raspberry Pi 4's core while such speech goes on)"
    columns = [0.0, 0.2, 0.5, 1.0]
    heads = ["compact", *(f"{asked:.0%} asked" for asked in columns[1:-1]), "both", "large"]
    yield f"{'speech':<16}" + "".join(f"{head:>16}" for head in heads)
    rows = {f"{duration} s": row for duration, row in found["durations"].items()}
    rows |= {
        report["conditions"][name]["title"]: row
        for name, row in found["conditions"].items()
        if name != CLEAN
    }
    for title, row in rows.items():
        points = [point for point in row["curve"] if point["asked"] in columns] + [row["large"]]
        cells = [f"{point['balanced_accuracy']:.1%} ({point['share']:.0%})" for point in points]
        yield f"{title[:16]:<16}" + "".join(f"{cell:>16}" for cell in cells)
    if "streams" in found:
        yield (
            f"{'streams':<16}{'share':>8}{'a minute':>10}{'missed':>8}{'false/h':>9}{'delay':>8}"
            f"{'in error':>10}{'unknown':>9}"
        )
        for row in found["streams"]:
            yield f"{stream_title(row):<16}" + _stream_cells(row)


def stream_title(row: dict[str, Any]) -> str:
    """Who followed streams: one of the models, or both with a budget."""
    budget = row["budget"]
    if budget is None:
        return str(row["by"])
    return "both, at once" if row["at_once"] else f"both, at most {budget:.0%}"


def _stream_cells(row: dict[str, Any]) -> str:
    answers = row["answers_a_minute"]
    return (
        f"{row['share']:>8.1%}{'–' if answers is None else f'{answers:.0f}':>10}"
        f"{row['missed']:>8.0%}{row['false_changes_per_hour']:>9.0f}"
        f"{row['median_delay_s']:>6.1f} s{row['error_rate']:>10.0%}{row['unknown_share']:>9.0%}"
    )


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
