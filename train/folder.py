"""Folders that results are written in, made before the work that makes these."""

from __future__ import annotations

from pathlib import Path

from edge.errors import EdgelidError
from edge.system.atomic import check_writable


def make_folder(folder: Path, name: str = "folder") -> None:
    """Make a folder, and those that it lies in, where there is none.

    Parameters
    ----------
    folder : Path
    name : str
        What it is, for whoever is told that it cannot be made.

    Raises
    ------
    EdgelidError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgelidError(f"cannot make the {name} {folder}: {error.strerror}") from error


def make_place(file: Path) -> None:
    """Make the folder of a result, and find out before the work whether the result can be written.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    make_folder(file.parent)
    check_writable(file)
