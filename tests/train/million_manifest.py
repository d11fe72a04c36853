"""``edgelid-train validate`` and ``split`` on a corpus of a million clips.

``python -m tests.train.million_manifest`` makes a manifest of a million rows, 107 languages and
200,000 speakers, with a file for each row, runs both commands and prints what they took. The
files are links to some thousand recordings of noise.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from edge.frontend import SAMPLE_RATE_HZ
from tests.synthetic import write_audio
from train.corpus.manifest import SPLITS, write_parquet

ROWS = 1_000_000
LANGUAGES = 107
SPEAKERS = 200_000
RECORDINGS = 2_000
SAMPLE = 2_000


def make_corpus(root: Path, count: int) -> Path:
    """Write recordings, links and manifest; returns the manifest.

    Languages are of very different sizes, as in Common Voice: the n-th has 1 / n of the first.
    Speakers are of one language, of one source, and have few clips or many.
    """
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 3, RECORDINGS).round(2)
    for number, length_s in enumerate(seconds):
        noise = rng.normal(0, 0.05, round(length_s * SAMPLE_RATE_HZ)).astype(np.float32)
        write_audio(root / f"recordings/{number}.wav", noise)
    weight = 1 / np.arange(1, LANGUAGES + 1)
    language_of = rng.choice(LANGUAGES, SPEAKERS, p=weight / weight.sum())
    many = (rng.pareto(1.2, count) * SPEAKERS / 20).astype(int) % SPEAKERS
    speaker = np.concatenate([np.arange(SPEAKERS), many])[:count]  # each once at least
    language, recording = language_of[speaker], rng.integers(0, RECORDINGS, count)
    paths = []
    for number in range(LANGUAGES):
        (root / f"l{number}").mkdir()
    for row in range(count):
        paths.append(f"l{language[row]}/common_voice_{row:08d}.wav")
        os.link(root / f"recordings/{recording[row]}.wav", root / paths[-1])
    names = pl.LazyFrame({"path": paths, "language": language, "speaker": speaker}).with_columns(
        pl.format("l{}", "language").alias("language"),
        pl.format("s{}", "speaker").alias("speaker"),
        pl.when(pl.col("speaker") % 3 == 0)
        .then(pl.lit("home"))
        .otherwise(pl.lit("web"))
        .alias("source"),
        pl.Series("seconds", seconds[recording]),
        split=pl.lit(SPLITS[0]),
        target=pl.lit(value=True),
        kind=pl.lit("human"),
        licence=pl.lit("CC0-1.0"),
        origin=pl.lit("made here"),
    )
    write_parquet(names, root / "million.parquet", root)
    return root / "million.parquet"


def measure(*arguments: object) -> None:
    """Run the command, and print its time and the memory of its largest process."""
    # In a process of its own, whose children are this command's alone.
    code = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
        "sys.exit(status)"
    )
    command = [sys.executable, "-m", "train.cli", *map(str, arguments)]
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    wall_s = time.monotonic() - start_s
    *said, peak_kib = done.stderr.splitlines()
    print("\n".join(done.stdout.splitlines()[-40:]))
    if done.returncode:
        print("\n".join(said[-1:]))
    print(f"== {arguments[0]}: {wall_s:.1f} s, {int(peak_kib) / 1024:.0f} MiB, {done.returncode=}")


def main() -> None:
    """Make the corpus in a temporary folder, run both commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.monotonic()
        manifest = make_corpus(Path(folder), rows)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{rows:,} rows made in {time.monotonic() - start_s:.0f} s, {peak_mib:.0f} MiB")
        report, plot = Path(folder) / "report.json", Path(folder) / "report.png"
        more = ("--sample", SAMPLE, "--json", report, "--plots", plot)
        measure("validate", manifest, *more)
        for by in ("speaker", "source"):
            measure("split", manifest, "-o", Path(folder) / f"{by}.parquet", "--by", by)


if __name__ == "__main__":
    main()
