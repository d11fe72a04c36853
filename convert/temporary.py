"""A folder for what only the conversion needs, and a sentence where there is no room for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.errors import EdgelidError


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards.

    Raises
    ------
    EdgelidError
        If there is no place for it, or none for what is written into it.
    """
    try:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    except OSError as error:
        raise no_room(error.strerror or str(error)) from error


def no_room(reason: str) -> EdgelidError:
    """The sentence about temporary files that cannot be written."""
    # None where no folder at all can be written into.
    where = f" in {tempfile.tempdir}" if tempfile.tempdir else ""
    return EdgelidError(
        f"the conversion cannot write its temporary files{where} ({reason}): make room there, or "
        "set TMPDIR; nothing was written"
    )
