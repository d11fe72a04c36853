"""What may not be read, even where the tests run as root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65_534


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Give up root's right to read everything, if it is there."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[Path]:
    """A folder in this one that nobody may read; its path is relative to this one."""
    with contextlib.chdir(folder):  # nobody may enter the folders above it, either
        mode = folder.stat().st_mode
        folder.chmod(0o755)
        private = Path("private")
        private.mkdir(0)
        try:
            with without_root():
                yield private
        finally:
            private.chmod(0o700)
            folder.chmod(mode)
