"""Folders that results are written in, made before the work that makes these."""

from __future__ import annotations

from pathlib import Path

from edge.errors import EdgelidError


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, where there is none.

    Raises
    ------
    EdgelidError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgelidError(f"cannot make the folder {folder}: {error.strerror}") from error
