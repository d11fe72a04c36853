"""What corpora of a million clips cost: ``python -m tests.train.million``.

It makes two trees, laid out as Common Voice and VoxLingua107 are, whose clips are links to a few
files of a tenth of a second, and runs the commands of `steps` on them, each in a process of its
own. It prints the rows, the seconds on the wall and of the processor, and the most memory that each
one held.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import soundfile

LINKS = 60_000  # to one file; ext4 allows 65,000
CLIP_S = 0.1

# Common Voice: a language, and its share of the rows.
SHARES = {"en": 0.6, "de": 0.3, "sv-SE": 0.1}
CLIPS_A_SPEAKER = 50
IN_SPLITS = {"test": 0.02, "dev": 0.02, "train": 0.5}  # shares of the speakers; others in none

# VoxLingua107: some of its codes, retired ones among them.
CODES = ("ab", "ar", "de", "en", "es", "fr", "haw", "iw", "jw", "ru", "sv", "zh")
CLIPS_A_VIDEO = 25
DEV_CLIPS = 1600


class Step(NamedTuple):
    """A command to measure.

    Attributes
    ----------
    title
        For the table.
    arguments
        Of ``edgelid-train``.
    manifest
        Whose rows to count when it is done.
    """

    title: str
    arguments: list[str]
    manifest: Path


def steps(trees: Path, out: Path) -> Iterator[Step]:
    """The commands, in their order: later ones may use the manifests of earlier ones."""
    for title, name, tree, options in (
        ("import common-voice", "common-voice", "common-voice", []),
        ("import common-voice --hours 5", "common-voice", "common-voice", ["--hours", "5"]),
        ("import voxlingua107", "voxlingua107", "voxlingua107", []),
        ("import folders (measures)", "folders", "voxlingua107", []),
    ):
        manifest = out / f"{len(list(out.iterdir()))}-{name}.parquet"
        arguments = ["import", name, str(trees / tree), "-o", str(manifest), *options]
        yield Step(title, arguments, manifest)


def main() -> int:
    """Make the trees, run the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each tree")
    options = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        trees, out = Path(folder) / "trees", Path(folder) / "out"
        out.mkdir()
        start = time.monotonic()
        write_common_voice(trees / "common-voice", options.rows)
        write_voxlingua107(trees / "voxlingua107", options.rows)
        print(f"two trees of {options.rows} clips, made in {time.monotonic() - start:.0f} s")
        titles = ("rows", "seconds", "CPU, s", "MB at most", "file, MB")
        print(f"{'edgelid-train':<32}" + "".join(f"{title:>12}" for title in titles))
        for step in steps(trees, out):
            failed, wall_s, cpu_s, most_mb = measured(step.arguments)
            status = status or failed
            rows = 0 if failed else pl.scan_parquet(step.manifest).select(pl.len()).collect().item()
            size_mb = 0.0 if failed else step.manifest.stat().st_size / 1e6
            figures = f"{rows:>12}{wall_s:>12.1f}{cpu_s:>12.1f}{most_mb:>12.0f}{size_mb:>12.1f}"
            print(f"{step.title:<32}{figures}", flush=True)
    return status


def measured(arguments: list[str]) -> tuple[int, float, float, float]:
    """Run ``edgelid-train``; exit status, seconds on the wall and of the processor, MB at most."""
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "train.cli", *arguments], stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s, cpu_s = time.monotonic() - start, usage.ru_utime + usage.ru_stime
    return process.returncode, wall_s, cpu_s, usage.ru_maxrss * 1024 / 1e6


class Links:
    """Makes one tiny audio file appear under many names."""

    def __init__(self, folder: Path, suffix: str) -> None:
        folder.mkdir(parents=True)
        self._folder, self._suffix = folder, suffix
        self._made = 0
        self._file = folder

    def add(self, path: str) -> None:
        if self._made % LINKS == 0:
            self._file = self._folder / f"{self._made}{self._suffix}"
            soundfile.write(self._file, np.zeros(round(16_000 * CLIP_S), np.float32), 16_000)
        self._made += 1
        os.link(self._file, path)


def write_common_voice(root: Path, rows: int) -> None:
    """All tables that a language has, and its clips."""
    links = Links(root.with_name("mp3"), ".mp3")
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tlocale\n"
    number = 0
    for locale, share in SHARES.items():
        folder = root / "cv-corpus-0.0-2000-01-01" / locale
        (folder / "clips").mkdir(parents=True)
        tables = {
            name: (folder / f"{name}.tsv").open("w", encoding="utf-8")
            for name in (*IN_SPLITS, "validated", "clip_durations")
        }
        for name, table in tables.items():
            table.write("clip\tduration[ms]\n" if name == "clip_durations" else header)
        random_numbers = random.Random(locale)
        for place in range(round(rows * share)):
            if place % CLIPS_A_SPEAKER == 0:
                speaker = hashlib.sha512(f"{locale} {place}".encode()).hexdigest()
                split = random_numbers.choices(
                    (*IN_SPLITS, None), (*IN_SPLITS.values(), 1 - sum(IN_SPLITS.values()))
                )[0]
            number += 1
            file = f"common_voice_{locale}_{number:08}.mp3"
            line = f'{speaker}\t{file}\t{number:064x}\tSomebody says "this\t2\t0\t\t{locale}\n'
            tables["validated"].write(line)
            if split is not None:
                tables[split].write(line)
            tables["clip_durations"].write(f"{file}\t{random_numbers.randrange(1000, 10_000)}\n")
            links.add(f"{folder}/clips/{file}")
        for table in tables.values():
            table.close()


def write_voxlingua107(root: Path, rows: int) -> None:
    """Languages as their archives unpack, and the part for development."""
    links = Links(root.with_name("wav"), ".wav")
    for place in range(rows):
        dev = place < min(DEV_CLIPS, rows // 2)
        code = CODES[place // CLIPS_A_VIDEO % len(CODES)]
        folder = f"{root}/dev/{code}" if dev else f"{root}/{code}"
        if place % CLIPS_A_VIDEO == 0:
            Path(folder).mkdir(parents=True, exist_ok=True)
        video = hashlib.sha1(f"{place // CLIPS_A_VIDEO}".encode()).hexdigest()[:11]
        start = place % CLIPS_A_VIDEO * 20.0
        links.add(f"{folder}/{video}---{start:08.3f}-{start + 2 + place % 17:08.3f}.wav")


if __name__ == "__main__":
    sys.exit(main())
