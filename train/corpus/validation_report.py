"""The report of a validation, as lines of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from train.corpus.manifest import SPLITS

COLUMNS = 80
SHOWN = 3  # examples of a finding; the file of --json has more


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines, what was found last: there it stays on the screen."""
    lines = [*_languages(report), "", *_corpus(report), "", *_balance(report)]
    for title in ("errors", "warnings"):
        lines += ["", *_findings(title, report[title])]
    return lines


def _languages(report: dict[str, Any]) -> Iterator[str]:
    heads = "".join(f"{name + ', h':>10}" for name in SPLITS)
    yield f"{'language':<12}{'clips':>10}{heads}{'speakers':>10}{'sources':>9}{'median':>9}"
    for name, row in report["languages"].items():
        hours = "".join(f"{row['hours'][split]:>10.2f}" for split in SPLITS)
        yield (
            f"{name + ('' if row['target'] else ' *'):<12}{row['clips']:>10,}{hours}"
            f"{row['speakers']:>10,}{row['sources']:>9,}{row['median_s']:>7.1f} s"
        )
    if not all(row["target"] for row in report["languages"].values()):
        yield "* no target: of the class other"


def _corpus(report: dict[str, Any]) -> Iterator[str]:
    yield from _wrapped(
        f"{report['manifest']}: {report['clips']:,} clips, {report['hours']:,.1f} hours, "
        f"{len(report['languages'])} languages, {report['speakers']:,} speakers, "
        f"{report['sources']:,} sources"
    )
    decoded, files = report["decoded"], report["files"]
    yield from _wrapped(
        f"All rows were checked, and {files:,} files looked for; {decoded:,} of {files:,} clips "
        "decoded" + ("." if decoded == files else ": what is heard is known of these alone.")
    )


def _balance(report: dict[str, Any]) -> Iterator[str]:
    for by, row in report["balance"].items():
        if row["count"] > 1:
            ends = [f"{row[end]['name']} ({_hours(row[end]['hours'])})" for end in ENDS]
            yield from _wrapped(
                f"Train, by {by}: largest {ends[0]}, smallest {ends[1]}, {row['ratio']:,.0f} to 1"
            )


ENDS = ("largest", "smallest")


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 3600:,.0f} s"


def _findings(title: str, findings: list[dict[str, Any]]) -> Iterator[str]:
    if not findings:
        yield f"no {title}"
        return
    yield f"{title:<59}{'count':>11}{'share':>10}"
    for row in findings:
        yield f"  {row['code'] + ': ' + row['what']:<57}{row['count']:>11,}{_share(row):>10}"
        yield from _wrapped(f"{row['advice']} (of {row['of']:,} {row['unit']})", "    ")
        for example in row["examples"][:SHOWN]:
            detail = f": {example['detail']}" if example["detail"] else ""
            text = f"    - {example['name']}{detail}"
            yield text if len(text) <= COLUMNS else text[: COLUMNS - 4] + " ..."


def _share(row: dict[str, Any]) -> str:
    share = row["share"] * 100
    return f"{share:.1f} %" if share >= 0.05 else "< 0.05 %"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=indent, subsequent_indent=indent)
