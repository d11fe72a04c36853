"""The report of a splitting, as lines of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from train.corpus.held_out import check_held_out
from train.corpus.manifest import SPLITS
from train.corpus.splitting import HELD_OUT, Wish

COLUMNS = 80
MISSED_SHARE = 0.05  # of a language's hours: a split further off its wish is told of


def table(divided: pl.DataFrame, wish: Wish) -> list[str]:
    """What each language has in each split, and where the wish could not be met."""
    by_language = (
        divided.with_columns(pl.col("language").cast(pl.String))
        .group_by("language")
        .agg(*_sums())
        .sort("language")
    )
    everything = divided.select(*_sums(), language=pl.lit("all"))
    lines = [f"{'':<10}" + "".join(f"{name:^23}" for name in SPLITS).rstrip()]
    lines.append(f"{'language':<10}" + f"{'h':>8}{'share':>7}{'spk':>8}" * len(SPLITS))
    lines += [_line(row) for row in by_language.iter_rows(named=True)]
    lines += ["", *(_line(row) for row in everything.iter_rows(named=True))]
    divided_rows = [
        row for row in by_language.to_dicts() if not wish.only or row["language"] in wish.only
    ]
    return [*lines, *_missed(divided_rows, wish), *_refused_later(divided)]


def _sums() -> Iterator[pl.Expr]:
    for split in SPLITS:
        there = pl.col("split") == split
        yield (pl.col("seconds").filter(there).sum() / 3600).alias(f"{split}_h")
        yield pl.col("speaker").filter(there).n_unique().alias(f"{split}_speakers")


def _shares(row: dict[str, Any]) -> dict[str, float]:
    hours = {split: row[f"{split}_h"] for split in SPLITS}
    return {split: value / sum(hours.values()) for split, value in hours.items()}


def _line(row: dict[str, Any]) -> str:
    return f"{row['language']:<10}" + "".join(
        f"{row[f'{split}_h']:>8,.2f}{share:>7.1%}{row[f'{split}_speakers']:>8,}"
        for split, share in _shares(row).items()
    )


def _missed(rows: Sequence[dict[str, Any]], wish: Wish) -> Iterator[str]:
    """What could not be had, and why."""
    for split in (split for split in HELD_OUT if wish.shares[split]):
        none = [row["language"] for row in rows if not row[f"{split}_speakers"]]
        far = [
            row["language"]
            for row in rows
            if row["language"] not in none
            and abs(_shares(row)[split] - wish.shares[split]) > MISSED_SHARE
        ]
        if none:
            why = f"for want of another {wish.by} to give away"
            yield from _told(f"no {split}, {why}: {', '.join(none)}")
        if far:
            why = f"a whole {wish.by} is too much, or it was so already"
            off = f"{split} is over {100 * MISSED_SHARE:.0f} % off the wish, as {why}"
            yield from _told(f"{off}: {', '.join(far)}")


def _refused_later(divided: pl.DataFrame) -> Iterator[str]:
    """What fit and convert will have against it, or leave out."""
    for finding in check_held_out(divided):
        names = [
            f"{each.name} ({each.detail})" if each.detail else each.name
            for each in finding.examples
        ]
        what = finding.kind.what
        yield from _told(f"{what}: {', '.join(names)}. {finding.kind.advice}")


def _told(text: str) -> list[str]:
    return ["", *textwrap.wrap(text, COLUMNS)]
