"""Evaluation reports, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.atomic import write_atomically


def table(report: dict[str, Any]) -> list[str]:
    """The main figures as lines: one a duration, then accuracy by language."""
    lines = [
        f"{report['model']}, split {report['split']}, restricted to its languages",
        f"{'speech':>7} {'cuts':>6} {'accuracy':>9} {'macro':>7} {'ECE':>6}   open set: macro",
    ]
    for duration, entry in report["durations"].items():
        closed, everything = entry["languages"], entry["open"]
        lines.append(
            f"{duration + ' s':>7} {closed['cuts']:>6} {closed['accuracy']:>9.1%} "
            f"{closed['macro_accuracy']:>7.1%} {everything['ece']:>6.3f}   "
            f"{everything['macro_accuracy']:>15.1%}"
        )
    languages = list(next(iter(report["durations"].values()))["languages"]["by_language"])
    lines.append("".join(["\nspeech  ", *(f"{language:>7}" for language in languages)]))
    for duration, entry in report["durations"].items():
        by_language = entry["languages"]["by_language"]
        cells = (f"{by_language.get(language, float('nan')):>7.0%}" for language in languages)
        lines.append(f"{duration + ' s':<8}" + "".join(cells))
    for duration, entry in report["durations"].items():
        if "other" in entry:
            other = entry["other"]
            lines.append(
                f"{duration} s of other languages taken for one of these: "
                f"{other['taken_for_a_language']:.1%}, confidently {other['taken_confidently']:.1%}"
            )
    return lines


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
