"""Data sets of Hugging Face in Parquet: ``LANG/SPLIT-*.parquet`` or ``LANG/SPLIT/*.parquet``.

A row has ``audio``, a structure of ``bytes`` and ``path``. Its language is in a column, or else
the name of a folder above it; its split begins the name of the file, or else is the nearest folder
that is called as one; who speaks is in ``client_id`` or ``speaker_id``, else each clip is a
person of its own. The clips are unpacked beside the manifest. For Common Voice's tar files see
`train.corpus.importers.common_voice`.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from edge.errors import EdgelidError
from train.corpus.importers.folders import SPLITS
from train.corpus.importers.languages import from_code, from_name
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.text import columns
from train.corpus.importers.tree import shown

LAYOUT = (
    "LANG/SPLIT-*.parquet or LANG/SPLIT/*.parquet, each row with a column audio of bytes and path"
)

AUDIO = "audio"
SPEAKERS = ("client_id", "speaker_id", "speaker", "user_id")
LANGUAGES = ("locale", "language", "lang", "lang_id")
TABLE = "clips.tsv"
COLUMNS = ("path", "language", "split", "speaker")
ROWS_AT_ONCE = 200


def unpack(root: Path, target: Path, wanted: set[str], step: Callable[[], object]) -> bool:
    """Write the clips of all Parquet files below a root, and a table of them.

    Parameters
    ----------
    root : Path
        A file or a folder.
    target : Path
        Folder to fill.
    wanted : set of str
        Languages to take, as a manifest calls them; all if empty.
    step : callable
        Is called for every clip.

    Returns
    -------
    bool
        Whether there was anything.

    Raises
    ------
    EdgelidError
        If a file is damaged, has no audio in it, or nothing tells its language.
    """
    files = [root] if root.suffix == ".parquet" else sorted(root.rglob("*.parquet"))
    if not files:
        return False
    target.mkdir(parents=True, exist_ok=True)
    with (target / TABLE).open("w", encoding="utf-8", newline="") as table:
        lines = csv.writer(table, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
        lines.writerow(COLUMNS)
        for file in files:
            for path, language, split, speaker, data in _clips(file, root):
                if wanted and language not in wanted:
                    continue
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(data)
                lines.writerow((path, language, split, speaker))
                step()
    return True


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips that `unpack` has written."""
    table = root / TABLE
    if not table.is_file():
        return
    for line in columns(table, root, COLUMNS):
        if isinstance(line, Fault):
            yield line
            continue
        path, language, split, speaker = line.fields
        yield Row(
            path=path,
            language=language,
            split=split or None,
            speaker=speaker,
            source=speaker.partition(":")[0],
            seconds=None,
            licence="not stated",
            origin=f"Hugging Face, {speaker.partition(':')[0]}",
        )


def _clips(file: Path, root: Path) -> Iterator[tuple[str, str, str, str, bytes]]:
    """Path, language, split, speaker and bytes of each clip of a file."""
    base = root.parent if root.is_file() else root
    place = file.relative_to(base)
    source = shown(root.resolve().name.removesuffix(".parquet"))
    # What is most about the clips comes first: the name of the file, then the folder it lies in.
    names = (file.stem.partition("-")[0], *reversed(place.parts[:-1]))
    split = next((SPLITS[name.lower()] for name in names if name.lower() in SPLITS), "")
    try:
        lazy = pl.scan_parquet(file)
        schema = lazy.collect_schema()
        if not isinstance(schema.get(AUDIO), pl.Struct):
            raise EdgelidError(f"{file} has no column audio with bytes and path")
        count = int(lazy.select(pl.len()).collect().item())
        kept = [name for name in (AUDIO, *SPEAKERS, *LANGUAGES) if name in schema]
        for start in range(0, count, ROWS_AT_ONCE):
            part = lazy.slice(start, ROWS_AT_ONCE).select(kept).collect()
            for number, row in enumerate(part.iter_rows(named=True), start):
                yield _clip(row, place, number, split, source, file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise EdgelidError(f"cannot read {file}: it is no Parquet, or damaged") from error


def _clip(
    row: dict[str, Any], place: Path, number: int, split: str, source: str, file: Path
) -> tuple[str, str, str, str, bytes]:
    audio = row[AUDIO] or {}
    data = audio.get("bytes")
    if not data:
        raise EdgelidError(f"{file}, row {number + 1}: its audio has no bytes")
    language = _language(row, place)
    if language is None:
        raise EdgelidError(
            f"{file}, row {number + 1}: no column ({', '.join(LANGUAGES)}) and no folder tells "
            "its language: put the file into a folder that is called as its code, such as da"
        )
    suffix = Path(str(audio.get("path") or "")).suffix[:8]
    digest = hashlib.blake2b(place.as_posix().encode(errors="replace"), digest_size=4).hexdigest()
    path = f"{language}/{digest}-{number:07}{suffix if suffix[1:].isalnum() else ''}"
    return path, language, split, f"{source}:{_speaker(row) or path}", data


def _speaker(row: dict[str, Any]) -> str:
    """Who speaks, of whom the number may be 0; nothing where no column says it."""
    found = (row[name] for name in SPEAKERS if row.get(name) is not None)
    return next((text for each in found if (text := " ".join(str(each).split()))), "")


def _language(row: dict[str, Any], place: Path) -> str | None:
    for name in LANGUAGES:
        value = row.get(name)
        found = (from_code(value) or from_name(value)) if isinstance(value, str) and value else None
        if found:
            return found
    for part in reversed(place.parts[:-1]):
        if part.lower() not in SPLITS and (found := from_code(part)):
            return found
    return None
