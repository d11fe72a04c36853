"""What may be read to its end: regular files. A pipe could keep one waiting for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge.errors import EdgelidError


def other_kind(status: os.stat_result) -> str | None:
    """What something is instead of a regular file, to put behind "is"; None for such a file."""
    if stat.S_ISREG(status.st_mode):
        return None
    return "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"


def check_regular(path: Path) -> None:
    """Refuse what is no regular file, before it is opened.

    Raises
    ------
    EdgelidError
        If it is something else.
    OSError
        If it cannot be looked at, as where there is none.
    """
    if (kind := other_kind(path.stat())) is not None:
        raise EdgelidError(f"{str(path)!r} is {kind}: give a file.")
