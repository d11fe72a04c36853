"""Corpora that are still packed: archives as they are downloaded, and Hugging Face's tar files.

Only tables and clips of the wanted languages are taken out, and each is written below the target
under names that are checked: an archive can put nothing elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from edge.errors import EdgelidError
from train.corpus.importers.languages import from_code
from train.corpus.importers.text import is_file_name

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CLIPS = ("clips", "audios")  # of Common Voice, and of its Spontaneous Speech
SPONTANEOUS = re.compile(r"sps-corpus-[\d.]+-(?:delta-)?\d{4}-\d\d-\d\d-(.+)")
MOST_TABLE_BYTES = 8 << 30

Progress = Callable[[], object]


def archives_in(root: Path) -> list[Path]:
    """Archives that a path is, or holds at any depth, in the order of their names."""
    if root.is_file():
        return [root] if root.name.endswith(ARCHIVES) else []
    found = []
    for parent, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(parent, n) for n in sorted(names) if n.endswith(ARCHIVES) and n[0] != "."]
    return found


def unpack_release(archives: list[Path], target: Path, wanted: set[str], step: Progress) -> None:
    """Unpack archives of Common Voice, ``cv-corpus-17.0-.../LANG/{*.tsv,clips/*}``.

    Parameters
    ----------
    archives : list of Path
    target : Path
        Folder to fill.
    wanted : set of str
        Languages to take, as a manifest calls them; all if empty.
    step : callable
        Is called for every clip.

    Raises
    ------
    EdgelidError
        If an archive is damaged.
    """
    for archive in archives:
        for member, data in _members(archive):
            place = _release_place(member)
            if place is None:
                continue
            # A folder may be called cv-de; then its table tells the language.
            if wanted and (code := _language_of(place)) is not None and code not in wanted:
                continue
            _write(target / place, data, archive)
            step()


def unpack_hub(
    root: Path, archives: list[Path], target: Path, wanted: set[str], step: Progress
) -> None:
    """Unpack ``audio/LANG/SPLIT/*.tar`` with ``transcript/LANG/SPLIT.tsv`` as a release is.

    Parameters
    ----------
    root : Path
        Folder that holds ``audio`` and ``transcript``.
    archives, target, wanted, step
        As for `unpack_release`.

    Raises
    ------
    EdgelidError
        If an archive is damaged.
    """
    for table in sorted((root / "transcript").glob("*/*.tsv")):
        language = table.parent.name
        if not wanted or from_code(language) in wanted:
            (target / language).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(table, target / language / table.name)
    for archive in archives:
        parts = archive.relative_to(root).parts
        if len(parts) != 4 or parts[0] != "audio":
            continue
        language, split = parts[1], parts[2]
        # What nobody has confirmed, or somebody has denied, is in no table that is read.
        if split in ("other", "invalidated") or (wanted and from_code(language) not in wanted):
            continue
        for member, data in _members(archive):
            if is_file_name(member.name) and not member.name.startswith("."):
                _write(target / language / "clips" / member.name, data, archive)
                step()


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Regular files of an archive, one after the other: it is read once, from end to end."""
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts:
                    continue
                if member.size > MOST_TABLE_BYTES:
                    raise EdgelidError(f"{archive} has a file of {member.size} bytes, {name}")
                stream = tar.extractfile(member)
                assert stream is not None  # it is regular
                yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise EdgelidError(
            f"cannot unpack {archive} ({' '.join(str(error).split()) or 'it ends too early'}): "
            "fetch it again"
        ) from error


def _release_place(member: PurePosixPath) -> Path | None:
    """Where a file of a release goes; None if nothing needs it."""
    parts = [part for part in member.parts if part != "."]
    if any(not is_file_name(part) or part.startswith(".") for part in parts):
        return None
    if member.suffix == ".tsv" or (len(parts) > 1 and parts[-2] in CLIPS):
        return Path(*parts)
    return None


def _language_of(place: Path) -> str | None:
    """The language that the folder of a table or of clips is called as, if it is one."""
    folder = place.parent.parent if place.parent.name in CLIPS else place.parent
    spontaneous = SPONTANEOUS.fullmatch(folder.name)
    return from_code(spontaneous[1] if spontaneous else folder.name)


def _write(file: Path, data: bytes, archive: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise EdgelidError(f"cannot unpack {archive} to {file}: {error.strerror}") from error
