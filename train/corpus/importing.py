"""From a corpus as it was published to a manifest, in memory that does not grow with it.

The clips go through temporary files of some ten thousand rows each: read, thinned out and measured
one after the other, and put together at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from tqdm import tqdm

from edge.errors import EdgelidError
from train.corpus.durations import measure
from train.corpus.importers import importer
from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, LeftOut, NoLanguage, Row
from train.corpus.importers.tree import is_text, shown
from train.corpus.manifest import SCHEMA, SPLITS, TRAIN, check_output, write_parquet
from train.parallel.progress import bar

logger = logging.getLogger(__name__)

PART_ROWS = 100_000
UNPACKED = ".audio"  # ends the name of the folder of what was packed, beside the manifest
LOCK = "in-use"  # of a folder for what is under way
MARK = ".edgelid-import"  # in such a folder: it may be replaced
SHOWN_FAULTS = 20
# Dictionaries of categories would have to be reconciled between the parts.
PART_SCHEMA = pl.Schema(
    {name: pl.String() if kind == pl.Categorical else kind for name, kind in SCHEMA.items()}
)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a corpus to take.

    Attributes
    ----------
    languages
        Codes; all if None.
    hours
        Of training clips, at most, of each language: see `_drawn`. What is held out stays whole.
    min_s, max_s
        Lengths of clips, in seconds, of every split.
    seed
        Of the draw for `hours`.
    """

    languages: tuple[str, ...] | None = None
    hours: float | None = None
    min_s: float = 0.0
    max_s: float = float("inf")
    seed: int = 0

    def __post_init__(self) -> None:
        for code in self.languages or ():
            if from_code(code) is None:
                raise EdgelidError(f"--languages: {code!r} is no code of a language, such as de")
        if self.hours is not None and not self.hours > 0:
            raise EdgelidError("--hours must be above zero")
        if not 0 <= self.min_s <= self.max_s:
            raise EdgelidError("--min-s must be 0 or more, and not above --max-s")


def import_corpus(
    name: str, root: Path, output: Path, selection: Selection, *, skip_bad: bool, workers: int
) -> None:
    """Write the manifest of a corpus.

    A speaker whom the corpus has in several splits stays in the one that is held out most: test
    before dev before train. Its clips in the others are left out.

    Parameters
    ----------
    name
        One of `train.corpus.importers.NAMES`.
    root
        Folder of the corpus.
    output
        File to write, Parquet.
    selection
        What to take.
    skip_bad
        Leave out what is faulty, and list it in ``OUTPUT.faults.tsv``, instead of failing.
    workers
        Threads that measure the clips whose length the corpus does not say.

    Raises
    ------
    EdgelidError
        If anything is faulty, nothing is left, or a file cannot be written. Then there is no new
        file.
    """
    source, given = importer(name), root
    if not (root.is_dir() or (source.unpack is not None and root.is_file())):
        raise EdgelidError(f"{root} is no folder: give the one that the corpus was unpacked to")
    check_output(output)
    unpacked = output.with_suffix(UNPACKED)
    if source.unpack is not None:
        _check_replaceable(unpacked)
    wanted = {code for each in selection.languages or () if (code := from_code(each))}
    try:
        with _scratch(output) as scratch:
            faults = _Faults(Path(scratch) / "faults.tsv", skip_bad)
            loose = Path(scratch) / UNPACKED
            if source.unpack is not None and _unpack(source.unpack, root, loose, wanted):
                root = loose
            read = _read(source.rows(root), name, wanted, Path(scratch), faults)
            parts = read.parts
            faults.tell_left_out()
            faults.settle()
            if not read.languages:
                raise EdgelidError(f"{given} has no clips of {name}: it takes {source.layout}")
            if missing := sorted(wanted - read.languages):
                has = ", ".join(sorted(read.languages))
                raise EdgelidError(f"{given} has no clips in {', '.join(missing)}: it has {has}")
            languages = _languages(parts)
            _keep_apart(parts)
            _measure(parts, root, workers, faults)
            faults.settle()
            _choose(parts, selection)
            if _count(parts) == 0:
                raise EdgelidError("no clip is left: ask for more --hours, or for other lengths")
            _refuse_empty(languages, parts, selection)
            if root == loose:
                _keep_unpacked(loose, unpacked, parts)
                root = unpacked
            write_parquet(pl.scan_parquet(parts), output, root)
            faults.keep(output.with_name(f"{output.name}.faults.tsv"))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EdgelidError(f"cannot read {given} or write {output}: {reason}") from error


def summary(file: Path) -> list[str]:
    """Lines of a table of what a manifest holds, by language, and what it lacks."""
    rows = pl.scan_parquet(file)
    split_counts = [(pl.col("split") == name).sum().alias(name) for name in SPLITS]
    found = (
        rows.group_by(pl.col("language").cast(pl.String))
        .agg(pl.len(), pl.col("seconds").sum() / 3600, pl.col("speaker").n_unique(), *split_counts)
        .sort("language")
        .collect()
    )
    titles = ("language", "clips", "hours", "speakers", *SPLITS)
    lines = ["".join(f"{title:>10}" for title in titles)]
    for language, clips, hours, speakers, *splits in found.iter_rows():
        counts = "".join(f"{count:>10}" for count in splits)
        lines.append(f"{language:>10}{clips:>10}{hours:>10.2f}{speakers:>10}{counts}")
    if found["dev"].sum() == 0:
        # Over itself: it is read before it is written.
        name = shlex.quote(str(file))
        lines.append(f"no dev split: edgelid-train split {name} -o {name}")
    return lines


# --- what is faulty ---------------------------------------------------------------------------


class _Faults:
    """Counts faults, keeps the first ones to show, and writes all of them to a file."""

    def __init__(self, file: Path, skip: bool) -> None:
        self._file = file
        self._skip = skip
        self._shown: list[str] = []
        self._new = self._count = 0
        self.left_out: Counter[str] = Counter()  # of what is no recording, by kind

    def add(self, fault: Fault) -> None:
        if isinstance(fault, LeftOut):
            self.left_out[fault.reason] += 1
            return
        where, reason = (" ".join(shown(text).split()) for text in (fault.where, fault.reason))
        self._count += 1
        self._new += 1
        if self._count <= SHOWN_FAULTS:
            self._shown.append(f"{where}: {reason}")
        if self._skip:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{where}\t{reason}\n")

    def settle(self) -> None:
        """Say what has been found since the last time; fail unless it is to be skipped."""
        for text in self._shown:
            logger.error("%s", text)
        self._shown.clear()
        if self._new and self._count > SHOWN_FAULTS:
            logger.error("faults in all: %d", self._count)
        self._new = 0
        if self._count and not self._skip:
            raise EdgelidError(
                f"nothing was written, for {self._count} fault(s): mend them, or leave them out "
                "with --skip-bad, which lists them all"
            )

    def tell_left_out(self) -> None:
        """Count what is no recording, by its kind."""
        if self.left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.left_out.most_common())
            logger.info("left out, as they are no recordings of a language: %s", kinds)

    def keep(self, file: Path) -> None:
        """Put the list beside the manifest, in the place of an older one."""
        file.unlink(missing_ok=True)
        if self._count:
            os.replace(self._file, file)
            logger.info("left out for faults: %d, see %s", self._count, file)


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[str]:
    """A folder beside the output; those of imports that were killed are removed."""
    prefix = f".{output.name}."
    for old in output.parent.glob(f"{glob.escape(prefix)}*/{LOCK}"):
        with contextlib.suppress(OSError), old.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it is in use
            shutil.rmtree(old.parent, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=output.parent) as scratch,
        (Path(scratch) / LOCK).open("w") as lock,
    ):
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield scratch


# --- what is packed ---------------------------------------------------------------------------


def _unpack(
    unpack: Callable[[Path, Path, set[str], Callable[[], object]], bool],
    root: Path,
    target: Path,
    wanted: set[str],
) -> bool:
    with _progress("unpacking", " files") as progress:
        return unpack(root, target, wanted, progress.update)


def _check_replaceable(folder: Path) -> None:
    """Raise EdgelidError if a folder is there that no import has made."""
    if folder.exists() and not (folder / MARK).exists():
        raise EdgelidError(
            f"{folder}, where clips would be unpacked to, is there already: give --output another "
            "name"
        )


def _keep_unpacked(loose: Path, folder: Path, parts: list[Path]) -> None:
    """Move clips that were unpacked to their place, but for those that no row is left of."""
    kept = set(pl.scan_parquet(parts).select("path").collect()["path"])
    for parent, _, names in os.walk(loose):
        for name in names:
            path = Path(parent, name)
            if path.relative_to(loose).as_posix() not in kept:
                path.unlink()
    (loose / MARK).touch()
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(loose, folder)


# --- the steps --------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(what: str, unit: str, total: int | None = None) -> Iterator[tqdm[Any]]:
    """A bar on standard error, also while libsndfile's words are caught."""
    with (
        open(os.devnull if sys.__stderr__ is None else os.dup(2), "w") as stream,
        bar(None, what, total, file=stream, unit=unit) as progress,
    ):
        yield progress


class _Read(NamedTuple):
    """What came of reading: files of rows, and all languages there were."""

    parts: list[Path]
    languages: set[str]


def _read(
    items: Iterator[Row | Fault],
    name: str,
    wanted: set[str],
    folder: Path,
    faults: _Faults,
) -> _Read:
    """Bring rows into parts."""
    languages: set[str] = set()
    parts: list[Path] = []
    columns: dict[str, list[Any]] = {column: [] for column in PART_SCHEMA}

    def flush() -> None:
        if columns["path"]:
            parts.append(folder / f"{len(parts):06}.parquet")
            pl.DataFrame(columns, PART_SCHEMA).write_parquet(parts[-1])
            for values in columns.values():
                values.clear()

    with _progress(name, " rows") as progress:
        for item in items:
            progress.update()
            if isinstance(item, NoLanguage) and item.language in wanted:
                continue
            if isinstance(item, Fault):
                faults.add(item)
                continue
            languages.add(item.language)
            if wanted and item.language not in wanted:
                continue
            if not is_text(item.path):
                faults.add(Fault(item.path, "its name is not UTF-8 text"))
                continue
            columns["path"].append(item.path)
            columns["language"].append(item.language)
            columns["split"].append(item.split or TRAIN)
            columns["target"].append(True)
            columns["speaker"].append(item.speaker)
            columns["source"].append(item.source)
            columns["kind"].append(item.kind)
            columns["seconds"].append(item.seconds)
            columns["licence"].append(item.licence)
            columns["origin"].append(item.origin)
            if len(columns["path"]) == PART_ROWS:
                flush()
    flush()
    return _Read(parts, languages)


def _languages(parts: list[Path]) -> set[str]:
    found = pl.scan_parquet(parts).select(pl.col("language").unique()).collect()
    return set(found["language"])


def _refuse_empty(languages: set[str], parts: list[Path], selection: Selection) -> None:
    """Raise EdgelidError if a language has lost all its clips."""
    if lost := sorted(languages - _languages(parts)):
        why = "they could not be read, or are other speakers' in another split"
        if selection.min_s > 0 or selection.max_s < float("inf") or selection.hours is not None:
            why += ", or --hours, --min-s or --max-s leave none"
        raise EdgelidError(
            f"no clip is left in {', '.join(lost)} ({why}): mend that, or leave these languages "
            "out with --languages"
        )


def _count(parts: list[Path]) -> int:
    return int(pl.scan_parquet(parts).select(pl.len()).collect().item())


def _rewrite(parts: list[Path], change: Callable[[pl.DataFrame], pl.DataFrame]) -> int:
    """Change the parts one by one; returns how many rows fewer they have then."""
    lost = 0
    for part in parts:
        before = pl.read_parquet(part, memory_map=False)
        after = change(before)
        lost += len(before) - len(after)
        after.write_parquet(part)
    return lost


def _keep_apart(parts: list[Path]) -> None:
    """Leave every speaker in one split only."""
    place = pl.col("split").to_physical()  # train is the lowest
    several = (
        pl.scan_parquet(parts)
        .group_by("speaker")
        .agg(place.min().alias("lowest"), place.max().alias("highest"))
        .filter(pl.col("lowest") < pl.col("highest"))
        .select("speaker", "highest")
        .collect(engine="streaming")
    )
    if len(several) == 0:
        return
    lost = _rewrite(
        parts,
        lambda rows: (
            rows.join(several, "speaker", "left", maintain_order="left")
            .filter((place == pl.col("highest")).fill_null(value=True))
            .drop("highest")
        ),
    )
    logger.info(
        "left out: %d clips of %d speakers whom the corpus has in several splits; they stay where "
        "they are held out",
        lost,
        len(several),
    )


def _measure(parts: list[Path], root: Path, workers: int, faults: _Faults) -> None:
    """Fill in lengths that the corpus does not say, and leave out what has none."""
    unknown = pl.col("seconds").is_null()
    count = pl.scan_parquet(parts).select(unknown.sum()).collect().item()
    if count == 0:
        return

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        known = rows["seconds"].to_list()
        where = rows.select(unknown.arg_true()).to_series().to_list()
        paths = [rows["path"][row] for row in where]
        lengths = measure([root / path for path in paths], workers, progress)
        for row, path, length in zip(where, paths, lengths, strict=True):
            if isinstance(length, float):
                known[row] = length
            else:
                faults.add(Fault(path, str(length)))
        return rows.with_columns(pl.Series("seconds", known, pl.Float64)).filter(~unknown)

    with _progress("lengths", " files", count) as progress:
        _rewrite(parts, change)


def _choose(parts: list[Path], selection: Selection) -> None:
    """Leave out what is too short, too long, or over the hours."""
    if selection.min_s > 0 or selection.max_s < float("inf"):
        length = pl.col("seconds").is_between(selection.min_s, selection.max_s)
        logger.info(
            "left out for their length: %d clips", _rewrite(parts, lambda rows: rows.filter(length))
        )
    if selection.hours is not None:
        kept = _drawn(parts, selection.hours * 3600, selection.seed)
        offset = 0

        def change(rows: pl.DataFrame) -> pl.DataFrame:
            nonlocal offset
            offset += len(rows)
            return rows.filter(kept.slice(offset - len(rows), len(rows)))

        logger.info("left out for --hours: %d clips", _rewrite(parts, change))


def _drawn(parts: list[Path], budget_s: float, seed: int) -> pl.Series:
    """Which rows to keep, so that the training clips of a language last `budget_s` at most.

    Every speaker gives one clip, then every one that has another a second one, and so on until
    the time is up: so as many speakers remain as can, and none of them has more than a share. In
    which order is drawn from the path and the seed alone, whatever else is imported.
    """
    rows = (
        pl.scan_parquet(parts)
        .select("path", "language", "split", "speaker", "seconds")
        .with_row_index("row")
        .filter(pl.col("split") == TRAIN)
        .with_columns(
            pl.col("language", "speaker").cast(pl.Categorical),
            draw=pl.col("path").map_elements(lambda path: _draw(path, seed), pl.UInt64),
        )
        .drop("path", "split")
        .collect()
    )
    turn = pl.col("draw").rank("ordinal").over("language", "speaker")
    over = (
        rows.with_columns(turn=turn)
        .sort("turn", "draw", "row")
        .filter(pl.col("seconds").cum_sum().over("language") > budget_s)
    )
    kept = np.ones(_count(parts), bool)
    kept[over["row"].to_numpy()] = False
    return pl.Series(kept)


def _draw(path: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {path}".encode(), digest_size=8).digest())
