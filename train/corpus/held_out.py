"""What fit and convert need of held-out speech, for validate and split to say first."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from train.corpus.manifest import DEV, TRAIN
from train.corpus.problems import EXAMPLES, Example, Finding

# Of one speaker, all clips together: less is no stretch of speech to decide anything by.
SHORTEST_S = 1.0
# Shorter clips are letters and words, which conversion does not calibrate on.
SHORTEST_CLIP_S = 1.0
# What checkpoints are picked on, and what the longest window is calibrated on, where they can be.
WANTED_S = 10.0


def check_held_out(rows: pl.DataFrame) -> Iterator[Finding]:
    """Findings about the split dev of a manifest, each kind once at most.

    Parameters
    ----------
    rows
        Of a manifest, one at least. Languages are told of if they are targets.
    """
    languages = rows["language"].cast(pl.String).unique()
    targets = rows.filter("target")
    names = targets["language"].cast(pl.String).unique().sort()
    if len(languages) == 1 and len(names):
        yield _finding("one-language", {names[0]: ""}, 1)
    voices = targets.group_by(pl.col("language").cast(pl.String)).agg(
        pl.col("speaker").n_unique(), (pl.col("split") == TRAIN).all()
    )
    lone = voices.filter(pl.col("split") & (pl.col("speaker") == 1))["language"].sort().to_list()
    if lone:
        yield _finding("undividable", dict.fromkeys(lone, ""), len(names))
    held_out = targets.filter(pl.col("split") == DEV)
    if not len(held_out):
        if len(names):
            yield _finding("undivided", dict.fromkeys(names.to_list(), ""), len(names))
        return
    longest_s = spoken_at_most_s(held_out)
    none = {name: f"{s:.1f} s at most" for name, s in longest_s.items() if s < SHORTEST_S}
    short = {
        name: f"{s:.1f} s at most" for name, s in longest_s.items() if SHORTEST_S <= s < WANTED_S
    }
    for code, found in (("unheard", none), ("short-held-out", short)):
        if found:
            yield _finding(code, found, len(longest_s))
    if len(none) == len(longest_s):
        yield _finding("nothing-held-out", dict.fromkeys(none, ""), len(longest_s))


def spoken_at_most_s(rows: pl.DataFrame) -> dict[str, float]:
    """How long anybody speaks in a collection, in clips that count, by language, in seconds."""
    found = (
        rows.with_columns(
            pl.when(pl.col("seconds") >= SHORTEST_CLIP_S)
            .then(pl.col("seconds"))
            .otherwise(0.0)
            .alias("seconds")
        )
        .group_by(pl.col("language").cast(pl.String), "source", "speaker")
        .agg(pl.col("seconds").sum())
        .group_by("language")
        .agg(pl.col("seconds").max())
        .sort("language")
    )
    return dict(found.iter_rows())


def _finding(code: str, found: dict[str, str], of: int) -> Finding:
    examples = tuple(Example(name, detail) for name, detail in list(found.items())[:EXAMPLES])
    return Finding(code, len(found), of, examples)
