"""The manifest, a corpus's list of clips: one row a clip, as tab-separated text or Parquet.

A small corpus is a folder with a ``manifest.tsv`` that people write. ``edgelid-train import``
writes Parquet, which holds millions of rows in columns and says in its metadata which folder the
paths are relative to. Both are read into one table; rows become objects only where they are few.
"""

from __future__ import annotations

import csv
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from numpy.typing import NDArray

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file, check_writable
from edge.system.regular import other_kind

TRAIN, DEV, TEST = "train", "dev", "test"
SPLITS = (TRAIN, DEV, TEST)
SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "language": pl.Categorical(),
        "split": pl.Enum(SPLITS),
        "target": pl.Boolean(),
        "speaker": pl.Categorical(),
        "source": pl.Categorical(),
        "kind": pl.Enum(("human", "tts")),
        "seconds": pl.Float64(),
        "licence": pl.Categorical(),
        "origin": pl.Categorical(),
    }
)
COLUMNS = tuple(SCHEMA)
CHOICES = {"split": SPLITS, "target": ("yes", "no"), "kind": ("human", "tts")}
FILLED = ("path", "language", "speaker", "source")  # columns that no row leaves empty
CLIPS_A_LANGUAGE = 10_000  # that become objects: more than any choice is made from
CORPUS_VARIABLE = "EDGELID_CORPUS"
DEFAULT_CORPUS = "../shared/corpus"
MANIFEST = "manifest.tsv"  # of a corpus that is given as a folder
STATS_AT_ONCE = 16  # files that are looked for at a time
STATS_A_PART = 1000
ROOT_KEY = "edgelid.root"  # in the metadata of Parquet: the folder of the corpus


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a corpus, with the columns of a manifest.

    Attributes
    ----------
    path
        Relative to the folder of the corpus, with forward slashes.
    language
        ISO 639-1 code, or ISO 639-3 where there is no other.
    split
        ``train``, ``dev`` (held out for every decision) or ``test``. A speaker is in one of them
        only.
    target
        Whether `language` is meant to be a class of a model; if not, the clip is of class
        ``other`` in reports.
    speaker
        Key of a speaker; one key can hold several voices where the source did not say: then it is
        the smallest unit, a video say, that no voice is known to leave.
    source
        The collection the clip comes from, which is also a recording condition.
    kind
        ``human`` or ``tts``.
    duration_s
        Length in seconds.
    licence, origin
        As the source states them.
    """

    path: str
    language: str
    split: str
    target: bool
    speaker: str
    source: str
    kind: str
    duration_s: float
    licence: str
    origin: str


@dataclass(frozen=True)
class Manifest:
    """The clips of a corpus.

    Attributes
    ----------
    file
        What it was read from.
    root
        Folder that the paths are relative to.
    rows
        One row a clip, with the columns of `SCHEMA`, in the order of the file.
    """

    file: Path
    root: Path
    rows: pl.DataFrame

    def where(self, *predicates: pl.Expr) -> Manifest:
        """The clips that meet all conditions, in their order."""
        return Manifest(self.file, self.root, self.rows.filter(*predicates))

    def clips(self) -> list[Clip]:
        """The clips as objects: for some thousands of them, not for millions."""
        return clips_of(self.rows)


def clips_of(rows: pl.DataFrame) -> list[Clip]:
    """Rows as objects."""
    return [Clip(*row) for row in rows.select(COLUMNS).iter_rows()]


def thinned(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """About `most` clips of each language at most: all those of some of its speakers.

    Speakers are left out evenly, in the order of their names; none where there are not more
    clips.
    """
    number = pl.col("speaker").cast(pl.String).rank("dense").over("language") - 1
    step = (pl.len().over("language") + most - 1) // most
    return rows.filter(number % step == 0)


def corpus_dir() -> Path:
    """Where the corpus is: what ``EDGELID_CORPUS`` names in the environment, or the default."""
    return Path(os.path.expanduser(os.environ.get(CORPUS_VARIABLE) or DEFAULT_CORPUS))  # noqa: PTH111 - no error where there is no home


def open_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    path
        The manifest, ``.tsv`` or ``.parquet``, or the folder that holds a ``manifest.tsv``.

    Returns
    -------
    Manifest
        The audio files themselves are not looked at: see `check_files`.

    Raises
    ------
    EdgelidError
        If the file cannot be read, its columns are not the known ones, a field is invalid, a
        path comes twice, or a speaker is in two splits.
    """
    manifest = read_rows(path)
    _check_paths(manifest)
    _check_splits(manifest)
    return manifest


def read_rows(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest whose rows are sound one by one, whatever they are together.

    What `open_manifest` refuses besides is for ``edgelid-train validate`` to list.

    Raises
    ------
    EdgelidError
        If the file cannot be read, its columns are not the known ones, or a field is invalid.
    """
    file = Path(path)
    try:
        if file.is_dir():
            file = file / MANIFEST
        kind = other_kind(file.stat())
    except OSError as error:
        if Path(path) == Path(DEFAULT_CORPUS):  # which nobody gave
            raise EdgelidError(f"no corpus: give --corpus, or set {CORPUS_VARIABLE}") from error
        raise _unreadable(file, error.strerror) from error
    if kind is not None:  # a pipe would be waited for, and a device read for ever
        raise _unreadable(file, f"it is {kind}")
    if file.suffix == ".parquet":
        return _read_parquet(file)
    return Manifest(file, file.parent, _read_tsv(file))


def write_parquet(rows: pl.LazyFrame, file: Path, root: Path) -> None:
    """Write a manifest as Parquet, whole or not at all, without holding it in memory.

    Parameters
    ----------
    rows
        With the columns of `SCHEMA`, of any types that can be cast to its types.
    root
        Folder that the paths are relative to. Below the folder of `file` it is noted relative to
        it, so that both can be moved together.

    Raises
    ------
    EdgelidError
        If it cannot be written, or a value does not fit its column.
    """
    folder, home = root.resolve(), file.resolve().parent
    noted = folder.relative_to(home) if folder.is_relative_to(home) else folder
    try:
        with atomic_file(file) as target:
            rows.select(pl.col(n).cast(t) for n, t in SCHEMA.items()).sink_parquet(
                target, metadata={ROOT_KEY: noted.as_posix()}
            )
    except pl.exceptions.PolarsError as error:
        raise EdgelidError(f"cannot write the manifest {file}: {_first_line(error)}") from error


def check_output(file: Path) -> None:
    """Refuse to write a manifest over what is none, before the work that makes it.

    Raises
    ------
    EdgelidError
        If its name ends otherwise, or there is another file, such as data in Parquet.
    """
    if file.suffix != ".parquet":
        raise EdgelidError(f"{file} must end in .parquet, as --output is Parquet")
    if file.is_file() and file.stat().st_size and not is_manifest(file):
        raise EdgelidError(
            f"{file} exists, and is no manifest of edgelid: give --output another name, or move it "
            "away"
        )
    check_writable(file)


def is_manifest(file: Path) -> bool:
    """Whether a file is Parquet that `write_parquet` wrote."""
    try:
        return ROOT_KEY in pl.read_parquet_metadata(file)
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError):
        return False


def check_files(clips: Iterable[Clip], directory: str | os.PathLike[str]) -> None:
    """Check that every clip has its file.

    Parameters
    ----------
    clips
        Clips of the corpus in `directory`.
    directory
        Folder that the paths of the clips are relative to.

    Raises
    ------
    EdgelidError
        If files are missing; names the first one and says how many there are.
    """
    paths = [clip.path for clip in clips]
    refuse_missing(paths, file_sizes(paths, directory), directory)


def file_sizes(
    paths: Sequence[str] | pl.Series, directory: str | os.PathLike[str]
) -> NDArray[np.int64]:
    """Bytes of each file, (files,); below zero where there is none.

    Many are asked for at a time, as a file system of the network makes one wait for each.
    """
    folder = os.fspath(directory)

    def size(path: str) -> int:
        try:
            found = os.stat(f"{folder}/{path}")
        except (OSError, ValueError):  # the latter of a name with a zero byte
            return -1
        return found.st_size if stat.S_ISREG(found.st_mode) else -1

    with ThreadPoolExecutor(STATS_AT_ONCE) as pool:
        parts = (paths[i : i + STATS_A_PART] for i in range(0, len(paths), STATS_A_PART))
        sizes = [s for part in pool.map(lambda part: list(map(size, part)), parts) for s in part]
    return np.array(sizes, np.int64)


def refuse_missing(
    paths: Sequence[str] | pl.Series, sizes: np.ndarray, directory: str | os.PathLike[str]
) -> None:
    """Raise EdgelidError if `file_sizes` found files to be missing."""
    missing = np.flatnonzero(sizes < 0)
    if len(missing):
        raise EdgelidError(
            f"the audio file {paths[int(missing[0])]} is not in {os.fspath(directory)} "
            f"(files missing: {len(missing)}): fetch the whole corpus again"
        )


# --- Parquet ----------------------------------------------------------------------------------


def _read_parquet(file: Path) -> Manifest:
    try:
        metadata = pl.read_parquet_metadata(file)
        found = pl.read_parquet(file)
    except OSError as error:
        raise _unreadable(file, error.strerror or "no such file") from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise _unreadable(file, "it is no Parquet, or damaged") from error
    if ROOT_KEY not in metadata:
        raise EdgelidError(f"the manifest {file} names no folder: edgelid-train import writes one")
    _check_columns(found.columns, file)
    try:
        rows = found.select(pl.col(n).cast(t) for n, t in SCHEMA.items())
    except pl.exceptions.PolarsError as error:
        raise EdgelidError(
            f"the manifest {file} has a value that its column cannot hold: {_first_line(error)}"
        ) from error
    _check_rows(rows, file)
    return Manifest(file, file.parent / metadata[ROOT_KEY], rows)


def _check_rows(rows: pl.DataFrame, file: Path) -> None:
    """What `_checked` holds a line of text to, for all rows at once; names the first bad one."""
    path = pl.col("path")
    faults = [
        (pl.any_horizontal(pl.all().is_null()), "a field is missing"),
        *((pl.col(n).cast(pl.String) == "", f"{n} is empty") for n in FILLED),
        (
            path.str.starts_with("/") | path.str.contains(r"(^|/)\.\.(/|$)"),
            "its path leads out of the folder of the corpus",
        ),
        (
            ~(pl.col("seconds").is_finite() & (pl.col("seconds") > 0)),
            "its seconds must be a number above zero",
        ),
    ]
    for fault, reason in faults:
        bad = rows.select(fault.fill_null(value=True).arg_true()).to_series()
        if len(bad):
            raise EdgelidError(f"{file}, row {bad[0] + 1}: {reason}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


# --- tab-separated text -----------------------------------------------------------------------


def _read_tsv(file: Path) -> pl.DataFrame:
    columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            # Without quoting: a tab-separated file has none, and a lone quote would swallow lines.
            lines = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(lines, None)
            if header is None:
                raise EdgelidError(f"the manifest {file} is empty: it needs a line of column names")
            _check_columns(header, file)
            for number, line in enumerate(lines, start=2):
                if line:
                    fields = _checked(header, line, f"{file}, line {number}")
                    for name, values in columns.items():
                        values.append(fields[name])
    except OSError as error:
        raise _unreadable(file, error.strerror) from error
    except UnicodeDecodeError as error:
        raise _unreadable(file, "not UTF-8 text") from error
    except csv.Error as error:
        raise _unreadable(file, str(error)) from error
    text_columns = pl.DataFrame(columns, dict.fromkeys(COLUMNS, pl.String))
    # As they were checked: polars reads fewer numbers than Python does.
    seconds = pl.Series("seconds", map(float, columns["seconds"]), pl.Float64)
    return text_columns.with_columns(pl.col("target") == "yes", seconds).select(
        pl.col(n).cast(t) for n, t in SCHEMA.items()
    )


def _unreadable(file: Path, reason: str | None) -> EdgelidError:
    return EdgelidError(
        f"cannot read the manifest {file} ({reason}): give the folder of the corpus, "
        f"or set {CORPUS_VARIABLE}"
    )


def _check_columns(header: list[str], file: Path) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise EdgelidError(f"the manifest {file} lacks the column {', '.join(missing)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or len(header) != len(COLUMNS):
        what = f"the unknown column {', '.join(unknown)}" if unknown else "a column twice"
        raise EdgelidError(f"the manifest {file} has {what}: it takes {', '.join(COLUMNS)}")


def _checked(header: list[str], line: list[str], where: str) -> Mapping[str, str]:
    """The fields of a line by their names."""
    if len(line) != len(header):
        raise EdgelidError(f"{where}: {len(line)} fields where the header names {len(header)}")
    fields = dict(zip(header, line, strict=True))
    for name, allowed in CHOICES.items():
        if fields[name] not in allowed:
            raise EdgelidError(
                f"{where}: {name} is {fields[name]!r}, which must be {' or '.join(allowed)}"
            )
    for name in FILLED:
        if not fields[name]:
            raise EdgelidError(f"{where}: {name} is empty")
    path = PurePosixPath(fields["path"])
    if path.is_absolute() or ".." in path.parts:
        raise EdgelidError(f"{where}: path {path} leads out of the folder of the corpus")
    _check_seconds(fields["seconds"], where)
    return fields


def _check_seconds(text: str, where: str) -> None:
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise EdgelidError(f"{where}: seconds is {text!r}, which must be a number above zero")


# --- all rows together ------------------------------------------------------------------------


def repeated_paths(rows: pl.DataFrame) -> pl.Series:
    """Paths that rows share, each once, in the order of the rows."""
    return rows.filter(pl.col("path").is_duplicated())["path"].unique(maintain_order=True)


def divided_speakers(rows: pl.DataFrame) -> pl.DataFrame:
    """Speakers that are in several splits.

    Returns
    -------
    DataFrame
        Columns ``speaker`` and ``splits`` (a list of names).
    """
    found = rows.group_by("speaker", maintain_order=True).agg(
        pl.col("split").unique(maintain_order=True)
    )
    return found.rename({"split": "splits"}).filter(pl.col("splits").list.len() > 1)


def _check_paths(manifest: Manifest) -> None:
    for path in repeated_paths(manifest.rows):
        raise EdgelidError(f"the manifest {manifest.file} lists {path} twice")


def _check_splits(manifest: Manifest) -> None:
    for speaker, splits in divided_speakers(manifest.rows).iter_rows():
        raise EdgelidError(
            f"the manifest {manifest.file} has the speaker {speaker} in {splits[0]} and in "
            f"{splits[1]}: keep each speaker in one split"
        )
