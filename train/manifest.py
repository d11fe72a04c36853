"""The list of clips of a corpus: ``manifest.tsv``, one line a clip, tab-separated."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge.errors import EdgelidError

COLUMNS = (
    "path",
    "language",
    "split",
    "target",
    "speaker",
    "source",
    "kind",
    "seconds",
    "licence",
    "origin",
)
CHOICES = {
    "split": ("train", "test"),
    "target": ("yes", "no"),
    "kind": ("human", "tts"),
}
CORPUS_VARIABLE = "EDGELID_CORPUS"
DEFAULT_CORPUS = "../shared/corpus"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a corpus.

    Attributes
    ----------
    path
        Relative to the folder of the corpus, with forward slashes.
    language
        ISO 639-1 code, or ISO 639-3 where there is no other.
    target
        Whether `language` is a class of the model; if not, the clip is of class ``other``.
    split
        ``train`` or ``test``. A speaker is in one of them only.
    speaker
        Key of a speaker; one key can hold several voices where the source did not say.
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
    target: bool
    split: str
    speaker: str
    source: str
    kind: str
    duration_s: float
    licence: str
    origin: str


def corpus_dir() -> Path:
    """Folder of the corpus: the environment variable ``EDGELID_CORPUS``, or the default."""
    return Path(os.environ.get(CORPUS_VARIABLE) or DEFAULT_CORPUS)


def read_manifest(path: str | os.PathLike[str]) -> list[Clip]:
    """Read a manifest, in the order of its lines.

    Parameters
    ----------
    path
        The manifest, or the folder that holds a ``manifest.tsv``.

    Returns
    -------
    list of Clip
        The audio files themselves are not looked at: see `check_files`.

    Raises
    ------
    EdgelidError
        If the file cannot be read, its columns are not the known ones, a field is invalid, a
        path comes twice, or a speaker is in two splits.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "manifest.tsv"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgelidError(
            f"cannot read the manifest {file} ({_reason(error)}): give the folder of the corpus, "
            f"or set {CORPUS_VARIABLE}"
        ) from error
    # Without quoting: a tab-separated file has none, and a lone quote would swallow lines.
    lines = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not lines:
        raise EdgelidError(f"the manifest {file} is empty: it needs a line of column names")
    header = lines[0]
    _check_columns(header, file)
    clips = [
        _clip(_fields(header, line, f"{file}, line {number}"), f"{file}, line {number}")
        for number, line in enumerate(lines[1:], start=2)
        if line
    ]
    _check_paths(clips, file)
    _check_splits(clips, file)
    return clips


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
    folder = Path(directory)
    missing = [clip.path for clip in clips if not (folder / clip.path).is_file()]
    if missing:
        raise EdgelidError(
            f"the audio file {missing[0]} is not in {folder} (files missing: {len(missing)}): "
            "fetch the whole corpus again"
        )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "not UTF-8 text"


def _check_columns(header: list[str], file: Path) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise EdgelidError(f"the manifest {file} lacks the column {', '.join(missing)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or len(header) != len(COLUMNS):
        what = f"the unknown column {', '.join(unknown)}" if unknown else "a column twice"
        raise EdgelidError(f"the manifest {file} has {what}: it takes {', '.join(COLUMNS)}")


def _fields(header: list[str], line: list[str], where: str) -> dict[str, str]:
    if len(line) != len(header):
        raise EdgelidError(f"{where}: {len(line)} fields where the header names {len(header)}")
    return dict(zip(header, line, strict=True))


def _clip(fields: dict[str, str], where: str) -> Clip:
    for name, allowed in CHOICES.items():
        if fields[name] not in allowed:
            raise EdgelidError(
                f"{where}: {name} is {fields[name]!r}, which must be {' or '.join(allowed)}"
            )
    for name in ("path", "language", "speaker", "source"):
        if not fields[name]:
            raise EdgelidError(f"{where}: {name} is empty")
    path = PurePosixPath(fields["path"])
    if path.is_absolute() or ".." in path.parts:
        raise EdgelidError(f"{where}: path {path} leads out of the folder of the corpus")
    return Clip(
        path=fields["path"],
        language=fields["language"],
        target=fields["target"] == "yes",
        split=fields["split"],
        speaker=fields["speaker"],
        source=fields["source"],
        kind=fields["kind"],
        duration_s=_seconds(fields["seconds"], where),
        licence=fields["licence"],
        origin=fields["origin"],
    )


def _seconds(text: str, where: str) -> float:
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise EdgelidError(f"{where}: seconds is {text!r}, which must be a number above zero")
    return duration_s


def _check_paths(clips: list[Clip], file: Path) -> None:
    seen: set[str] = set()
    for clip in clips:
        if clip.path in seen:
            raise EdgelidError(f"the manifest {file} lists {clip.path} twice")
        seen.add(clip.path)


def _check_splits(clips: list[Clip], file: Path) -> None:
    split_of: dict[str, str] = {}
    for clip in clips:
        if split_of.setdefault(clip.speaker, clip.split) != clip.split:
            raise EdgelidError(
                f"the manifest {file} has the speaker {clip.speaker} in train and in test: "
                "keep each speaker in one split"
            )
