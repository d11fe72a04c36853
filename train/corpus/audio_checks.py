"""Checks of the audio files of a corpus against its manifest."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from edge.audio.level import CLIPPED_SHARES, LOW_PEAKS, OFFSETS
from edge.frontend import SAMPLE_RATE_HZ
from train.corpus.clip_measurements import EMPTY, HEARD, MISSING, RECORD, UNDECODABLE, hear
from train.corpus.cuts import TOLERANCE_SAMPLES
from train.corpus.problems import Finding
from train.corpus.row_checks import clip_finding
from train.parallel.pool import mapped
from train.parallel.progress import bar

SILENT_PEAK = 2.0**-15  # the last bit of 16
CONSTANT_RMS_SHARE = 0.05  # of the offset: filters ring at both ends of a constant
LONGER_S, LONGER_SHARE = 0.1, 0.01  # lossy formats pad their ends
NARROW_DB = -30.0  # wide-band speech hardly falls so steeply; through 8 kHz and Opus it mostly does
REASONS = 1000  # why files could not be decoded, kept for the first of them


@dataclass(frozen=True)
class Heard:
    """Clips that were decoded, or tried.

    Attributes
    ----------
    clips
        Rows of the manifest, each path once.
    records
        `train.corpus.clip_measurements.RECORD` of each.
    reasons
        Path -> why it could not be decoded, for the first `REASONS`.
    """

    clips: pl.DataFrame
    records: np.ndarray
    reasons: dict[str, str]


def draw(clips: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Draw clips: languages, and their sources, have the share of them that they have of all.

    Each pair of language and source is there, as far as `count` goes.

    Returns
    -------
    DataFrame
        `count` rows, or all that there are, in the order of `clips`.
    """
    pairs = ["language", "source"]
    chance = np.random.default_rng(seed).random(len(clips))
    rank = pl.col("chance").rank("ordinal").over(pairs) - 1
    # The first of each pair come first; then each pair is gone through at its own even pace.
    turn = pl.when(rank == 0).then(-1.0).otherwise(rank / pl.len().over(pairs))
    drawn = (
        clips.with_row_index("row")
        .with_columns(pl.Series("chance", chance))
        .with_columns(turn.alias("turn"))
        .sort("turn", "chance")
        .head(count)
        .sort("row")
    )
    return drawn.drop("row", "chance", "turn")


def hear_all(root: Path, clips: pl.DataFrame, workers: int) -> Heard:
    """Decode clips, in processes; memory for each is a few numbers.

    Parameters
    ----------
    root
        Folder of the corpus.
    clips
        Rows of its manifest, each path once.
    workers
        Processes.

    Raises
    ------
    EdgelidError
        If a process dies.
    """
    records = np.zeros(len(clips), RECORD)
    reasons: dict[str, str] = {}
    results = mapped(functools.partial(_hear_below, root), clips["path"], workers)
    with contextlib.closing(results):
        progress = bar(results, "decoding", len(clips), unit="clip")
        for index, (record, reason) in enumerate(progress):
            records[index] = record
            if reason and len(reasons) < REASONS:
                reasons[clips["path"][index]] = reason
    return Heard(clips, records, reasons)


def _hear_below(root: Path, path: str) -> tuple[np.ndarray, str]:
    return hear(root / path)


def check_files(clips: pl.DataFrame, found: np.ndarray, heard: Heard) -> Iterator[Finding]:
    """Findings about files that are not there, or hold nothing.

    Parameters
    ----------
    clips
        Rows of the manifest, each path once.
    found
        Their `sizes`.
    heard
        Those of them that were decoded.
    """
    outcome = heard.records["outcome"]
    for code, none, failed in (("missing", found < 0, MISSING), ("empty", found == 0, EMPTY)):
        late = heard.clips.filter(pl.Series(outcome == failed))
        yield from clip_finding(code, pl.concat([clips.filter(pl.Series(none)), late]), len(clips))


def check_audio(heard: Heard) -> Iterator[Finding]:
    """Findings about what was decoded, each kind once at most."""
    columns = [pl.Series(f"heard_{name}", heard.records[name]) for name in RECORD.names or ()]
    tried = heard.clips.with_columns(columns)
    broken = tried.filter(pl.col("heard_outcome") == UNDECODABLE)
    reasons = [heard.reasons.get(path, "") for path in broken["path"]]
    broken = broken.with_columns(pl.Series("detail", reasons, pl.String))
    yield from clip_finding("undecodable", broken, len(tried), pl.col("detail"))
    clips = tried.filter(pl.col("heard_outcome") == HEARD)
    if len(clips):
        sound = _sound(clips)
        yield from _level(sound, clips)
        yield from _length(clips)
        yield from _format(sound, clips)
        yield from _copies(sound)


# --- one by one -------------------------------------------------------------------------------


def _is_constant() -> pl.Expr:
    offset = pl.col("heard_offset").abs()
    return (offset > SILENT_PEAK) & (pl.col("heard_rms") < CONSTANT_RMS_SHARE * offset)


def _is_silent() -> pl.Expr:
    return ~_is_constant() & (pl.col("heard_peak") < SILENT_PEAK)


def _sound(clips: pl.DataFrame) -> pl.DataFrame:
    """Clips in which something moves."""
    return clips.filter(~_is_constant() & ~_is_silent())


def _level(sound: pl.DataFrame, clips: pl.DataFrame) -> Iterator[Finding]:
    peak_db, offset = 20 * pl.col("heard_peak").log10(), pl.col("heard_offset")
    clipped = pl.col("heard_clipped")
    yield from clip_finding("silent", clips.filter(_is_silent()), len(clips))
    yield from clip_finding("constant", clips.filter(_is_constant()), len(clips), _number(offset))
    for code, frame, detail in (
        ("quiet", pl.col("heard_peak") < LOW_PEAKS[0], _number(peak_db, " dB")),
        ("clipped", clipped > CLIPPED_SHARES[0], _number(100 * clipped, " %")),
        ("offset", offset.abs() > OFFSETS[0], _number(offset)),
    ):
        yield from clip_finding(code, sound.filter(frame), len(clips), detail)


def _length(clips: pl.DataFrame) -> Iterator[Finding]:
    said, found = pl.col("seconds"), pl.col("heard_seconds")
    detail = pl.format("{} s instead of {} s", found.round(2), said.round(2))
    for code, wrong in (
        ("shorter", said - found > TOLERANCE_SAMPLES / SAMPLE_RATE_HZ),
        ("longer", found - said > LONGER_S + LONGER_SHARE * said),
    ):
        yield from clip_finding(code, clips.filter(wrong), len(clips), detail)


def _format(sound: pl.DataFrame, clips: pl.DataFrame) -> Iterator[Finding]:
    rate_hz = pl.col("heard_rate_hz")
    low, detail = rate_hz < SAMPLE_RATE_HZ, pl.format("{} Hz", rate_hz)
    narrow = (rate_hz >= SAMPLE_RATE_HZ) & (pl.col("heard_above_db") < NARROW_DB)
    yield from clip_finding("low-rate", clips.filter(low), len(clips), detail)
    yield from clip_finding("narrowband", sound.filter(narrow), len(clips))


def _number(value: pl.Expr, unit: str = "") -> pl.Expr:
    return pl.format("{}{}", value.cast(pl.Float64).round(3), pl.lit(unit))


# --- against each other -----------------------------------------------------------------------


def _copies(sound: pl.DataFrame) -> Iterator[Finding]:
    """Clips with the same samples; a clip across both splits and languages is told twice."""
    digest = "heard_digest"
    same = sound.filter(pl.col(digest).is_duplicated())
    others = same.group_by(digest).agg(
        pl.col("split").n_unique().alias("splits"),
        pl.col("language").n_unique().alias("languages"),
        pl.format("{} ({}, {})", "path", "language", "split").head(2).alias("two"),
    )
    # Copies stand together, and each names the first of them; the first names the second.
    same = (
        same.join(others, on=digest, maintain_order="left")
        .with_columns(pl.col("path").first().over(digest).alias("first"))
        .sort("first", maintain_order=True)
    )
    other = pl.col("two").list.get((pl.col("path") == pl.col("first")).cast(pl.UInt32))
    detail = pl.format("same as {}", other)
    across_splits, across_languages = pl.col("splits") > 1, pl.col("languages") > 1
    for code, which in (
        ("copy-across-splits", across_splits),
        ("copy-across-languages", across_languages),
        ("copy", ~across_splits & ~across_languages),
    ):
        yield from clip_finding(code, same.filter(which), len(sound), detail)
