"""Checks of the rows of a manifest, without its files, for millions of rows at once."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from train.corpus.held_out import check_held_out
from train.corpus.manifest import SPLITS, TRAIN, divided_speakers, repeated_paths
from train.corpus.problems import EXAMPLES, Example, Finding

SHORT_S = 0.5
DOMINANT_SHARE = 0.5
LARGEST_TO_SMALLEST = 10.0


def check_rows(rows: pl.DataFrame) -> Iterator[Finding]:
    """Check all rows against each other.

    Parameters
    ----------
    rows
        Of a manifest, one at least.

    Yields
    ------
    Finding
        Each kind once at most. What a single language suffers from is told of targets only, as
        the others are one class together.
    """
    yield from _repeated(rows)
    yield from _divided(rows)
    short = rows.filter(pl.col("seconds") < SHORT_S)
    length = pl.format("{} s", pl.col("seconds").round(2))
    yield from clip_finding("short", short, len(rows), length)
    yield from check_held_out(rows)
    targets = rows.filter("target")
    languages = targets["language"].cast(pl.String).unique().sort()
    if len(languages):
        for code, found in _languages(targets, languages):
            if len(found):
                yield _finding(code, found, len(languages))


def clip_finding(
    code: str, found: pl.DataFrame, of: int, detail: pl.Expr | None = None
) -> Iterator[Finding]:
    """A finding about clips, if there are any.

    Parameters
    ----------
    code
        Key of `train.corpus.problems.KINDS`.
    found
        The clips, with the column ``path``.
    of
        How many were looked at.
    detail
        What to show of an example, from columns of `found`.
    """
    if len(found):
        shown = found.head(EXAMPLES)  # first: the detail of a million would be for nothing
        shown = shown.select(name="path", detail=pl.lit("") if detail is None else detail)
        yield Finding(code, len(found), of, _examples(shown))


def _examples(found: pl.DataFrame) -> tuple[Example, ...]:
    """The first rows of a table with the columns ``name`` and ``detail``."""
    return tuple(Example(*row) for row in found.head(EXAMPLES).iter_rows())


def _finding(code: str, found: pl.DataFrame, of: int) -> Finding:
    return Finding(code, len(found), of, _examples(found))


def _repeated(rows: pl.DataFrame) -> Iterator[Finding]:
    paths = repeated_paths(rows)
    yield from clip_finding("repeated-path", pl.DataFrame({"path": paths}), rows["path"].n_unique())


def _divided(rows: pl.DataFrame) -> Iterator[Finding]:
    divided = divided_speakers(rows).select(
        pl.col("speaker").cast(pl.String).alias("name"),
        pl.col("splits").cast(pl.List(pl.String)).list.join(", ").alias("detail"),
    )
    if len(divided):
        yield _finding("divided-speaker", divided, rows["speaker"].n_unique())


def _languages(targets: pl.DataFrame, languages: pl.Series) -> Iterator[tuple[str, pl.DataFrame]]:
    """Tables of ``name`` and ``detail`` of the languages that suffer from something."""
    trained = targets.filter(pl.col("split") == TRAIN)
    by_language = (
        trained.group_by("language")
        .agg(
            pl.col("seconds").sum(),
            pl.col("speaker").n_unique().alias("speakers"),
            pl.col("source").n_unique().alias("sources"),
            pl.col("source").cast(pl.String).first().alias("a_source"),
        )
        .with_columns(pl.col("language").cast(pl.String).alias("name"))
        .sort("name")
    )
    names = by_language["name"]
    absent = languages.filter(~languages.is_in(names.implode()))
    yield "untrained-language", pl.DataFrame({"name": absent, "detail": ""})
    yield "one-speaker", by_language.filter(pl.col("speakers") == 1).select("name", _hours())
    yield (
        "one-source",
        by_language.filter(pl.col("sources") == 1).select("name", detail="a_source"),
    )
    yield "dominant-speaker", _dominated(trained, by_language)
    enough_s = pl.col("seconds").max() / LARGEST_TO_SMALLEST
    few = by_language.filter(pl.col("seconds") < enough_s).sort("seconds", "name")
    yield "few-hours", few.select("name", _hours())
    yield "lacks-split", _lacking(targets, languages)


def _hours() -> pl.Expr:
    return pl.format("{} h", (pl.col("seconds") / 3600).round(2)).alias("detail")


def _dominated(trained: pl.DataFrame, by_language: pl.DataFrame) -> pl.DataFrame:
    """Languages with several speakers of whom one has more than half."""
    largest = (
        trained.group_by("language", "speaker")
        .agg(pl.col("seconds").sum().alias("most"))
        .sort("most", descending=True)
        .group_by("language")
        .first()
    )
    share = pl.col("most") / pl.col("seconds")
    return (
        by_language.join(largest, on="language")
        .filter((pl.col("speakers") > 1) & (share > DOMINANT_SHARE))
        .sort("name")
        .select("name", detail=pl.format("{}: {} %", "speaker", (share * 100).round(0)))
    )


def _lacking(targets: pl.DataFrame, languages: pl.Series) -> pl.DataFrame:
    """Languages that are not in every one of dev and test that there is."""
    there = targets.select(pl.col("language").cast(pl.String).alias("name"), "split").unique()
    used = [split for split in SPLITS if split != TRAIN and (there["split"] == split).any()]
    every = pl.DataFrame({"name": languages}).join(
        pl.DataFrame({"split": used}, {"split": pl.Enum(SPLITS)}), how="cross"
    )
    lacking = every.join(there, on=["name", "split"], how="anti")
    return (
        lacking.group_by("name")
        .agg(detail=pl.col("split").cast(pl.String).sort())
        .select("name", pl.format("no {}", pl.col("detail").list.join(", no ")).alias("detail"))
        .sort("name")
    )
