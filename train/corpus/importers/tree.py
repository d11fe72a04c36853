"""The files of a corpus that is told by its folders, always in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge.audio.formats import is_recording
from train.corpus.importers.row import Fault, LeftOut


def folders(folder: Path) -> list[Path]:
    """Folders in a folder, hidden ones apart, by name; links to folders count."""
    try:
        found = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(found) if not name.startswith(".")]


def audio_files(folder: Path, root: Path, *, is_deep: bool = True) -> Iterator[str | Fault]:
    """Audio files at any depth of a folder, in the order of their names, hidden ones apart.

    Parameters
    ----------
    folder
        Where to look. Links to folders further down are not followed: they could go round.
    root
        Folder of the corpus.
    is_deep
        Whether to look into the folders in it.

    Yields
    ------
    str or Fault
        Path relative to `root`, with forward slashes. A folder that cannot be read is a fault,
        and what is no recording is a `LeftOut`.
    """
    errors: list[OSError] = []
    for parent, inner, names in os.walk(folder, onerror=errors.append):
        inner[:] = sorted(name for name in inner if is_deep and not name.startswith("."))
        place = Path(parent).relative_to(root).as_posix()
        prefix = "" if place == "." else f"{place}/"
        for name in sorted(names):
            if not name.startswith(".") and is_recording(Path(parent, name)):
                yield prefix + name
            else:
                yield LeftOut(prefix + name, kind_of_file(name))
    yield from unreadable(errors, root)


def kind_of_file(name: str) -> str:
    """What people call a file that is no recording: by its ending."""
    if name.startswith("."):
        return "hidden files"
    suffix = Path(name).suffix.lower()
    return f"{suffix} files" if suffix else "files without an ending"


def unreadable(errors: list[OSError], root: Path) -> Iterator[Fault]:
    """What `os.walk` could not read, as faults."""
    for error in errors:
        name = Path(error.filename).relative_to(root).as_posix()
        yield Fault(name, f"cannot be read ({error.strerror})")


def is_text(name: str) -> bool:
    """Whether a name from the file system can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name for a message, whatever bytes it has."""
    return name.encode(errors="replace").decode()
