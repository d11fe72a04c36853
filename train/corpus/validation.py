"""Validation of a corpus: everything that would ruin a training run, found before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from train.corpus.audio_checks import check_audio, check_files, draw, hear_all
from train.corpus.clip_measurements import HEARD
from train.corpus.manifest import SPLITS, TRAIN, Manifest, file_sizes, read_rows
from train.corpus.problems import Finding, in_order
from train.corpus.row_checks import check_rows

# Lengths are counted in steps of a fifth of a decade.
LENGTH_EDGES_S = tuple(float(f"{edge:.3g}") for edge in 10 ** np.arange(-1.0, 2.01, 0.2))


def validate(path: Path, sample: int | None, seed: int, workers: int) -> dict[str, Any]:
    """Check a corpus.

    Parameters
    ----------
    path
        Its manifest, or its folder.
    sample
        How many clips to decode; None for all. Rows and the presence of files are checked for all.
    seed
        Of that draw.
    workers
        Processes that decode.

    Returns
    -------
    dict
        For JSON, `train.corpus.validation_report.table` and `train.corpus.plot.write_plot`.

    Raises
    ------
    EdgelidError
        If the manifest cannot be read, is empty, or an argument is out of its range.
    """
    if sample is not None and sample < 1:
        raise EdgelidError("--sample must be at least 1")
    if seed < 0:
        raise EdgelidError("--seed must be at least 0")
    if workers < 1:
        raise EdgelidError("--workers must be at least 1")
    manifest = read_rows(path)
    if not len(manifest.rows):
        raise EdgelidError(f"the manifest {manifest.file} lists no clip")
    findings = list(check_rows(manifest.rows))
    clips = manifest.rows.unique("path", keep="first", maintain_order=True)
    found = file_sizes(clips["path"], manifest.root)
    there = clips.filter(pl.Series(found > 0))
    chosen = there if sample is None else draw(there, sample, seed)
    heard = hear_all(manifest.root, chosen, workers)
    findings += check_files(clips, found, heard)
    findings += check_audio(heard)
    decoded = int((heard.records["outcome"] == HEARD).sum())
    return _report(manifest, len(clips), decoded, seed, in_order(findings))


def _report(
    manifest: Manifest, files: int, decoded: int, seed: int, findings: list[Finding]
) -> dict[str, Any]:
    rows = manifest.rows
    return {
        "manifest": str(manifest.file),
        "root": str(manifest.root),
        "clips": len(rows),
        "hours": rows["seconds"].sum() / 3600,
        "speakers": rows["speaker"].n_unique(),
        "sources": rows["source"].n_unique(),
        "files": files,
        "decoded": decoded,
        "seed": seed,
        "errors": [f.record() for f in findings if f.kind.severity == "error"],
        "warnings": [f.record() for f in findings if f.kind.severity != "error"],
        "balance": {by: _balance(rows, by) for by in ("language", "source", "speaker")},
        "length_edges_s": LENGTH_EDGES_S,
        "languages": _languages(rows),
    }


def _balance(rows: pl.DataFrame, by: str) -> dict[str, Any]:
    """Hours of the largest and the smallest in train."""
    trained = rows.filter(pl.col("split") == TRAIN)
    hours = (
        trained.group_by(pl.col(by).cast(pl.String))
        .agg(pl.col("seconds").sum() / 3600)
        .sort("seconds", by)
    )
    if not len(hours):
        return {"count": 0, "smallest": None, "largest": None, "ratio": None}
    (low, least), (high, most) = hours.row(0), hours.row(-1)
    return {
        "count": len(hours),
        "smallest": {"name": low, "hours": least},
        "largest": {"name": high, "hours": most},
        "ratio": most / least,
    }


def _languages(rows: pl.DataFrame) -> dict[str, Any]:
    """What there is of each language, and how long its clips are."""
    split, seconds = pl.col("split"), pl.col("seconds")
    edges = [0.0, *LENGTH_EDGES_S[1:-1]]
    bins = [
        ((seconds >= low) & (seconds < high)).sum().alias(f"bin{index}")
        for index, (low, high) in enumerate(zip(edges, [*edges[1:], np.inf], strict=True))
    ]
    table = (
        rows.group_by(pl.col("language").cast(pl.String))
        .agg(
            pl.len().alias("clips"),
            pl.col("speaker").n_unique().alias("speakers"),
            pl.col("source").n_unique().alias("sources"),
            pl.col("target").any(),
            seconds.median().alias("median_s"),
            *((seconds.filter(split == name).sum() / 3600).alias(f"{name}_h") for name in SPLITS),
            *bins,
        )
        .sort("language")
    )
    return {
        row["language"]: {
            **{key: row[key] for key in ("target", "clips", "speakers", "sources", "median_s")},
            "hours": {name: row[f"{name}_h"] for name in SPLITS},
            "lengths": [row[f"bin{index}"] for index in range(len(bins))],
        }
        for row in table.iter_rows(named=True)
    }
