"""Atomic files: they appear whole or not at all, though the disk is full or the program stopped."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge.errors import EdgelidError


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file to write, which takes its name when the block ends without an exception.

    Parameters
    ----------
    path : Path
        An older file of that name stays as it is until then. The folder must exist. Of a link,
        what it leads to is written, and the link stays.
    mode : int
        Permissions, less those of the umask.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    file_path = _led_to(path)
    partial = _partial(file_path)
    try:
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            # Or a power cut could leave the new name with nothing behind it.
            os.fsync(file.fileno())
        os.replace(partial, file_path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise EdgelidError(f"cannot write {path}: {error.strerror or error}.") from error
        raise


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file, whole or not at all; `mode` as in `atomic_file`.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    with atomic_file(path, mode) as file:
        file.write(data)


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, before the work that makes its contents.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    file_path = _led_to(path)
    import tempfile  # which takes the device some ms, and few commands come here

    try:
        with contextlib.suppress(FileNotFoundError):  # so that only the name may be at fault
            _partial(file_path).lstat()
        # Not of that name: another writer may be at work on it.
        with tempfile.TemporaryFile(dir=file_path.parent):
            pass
    except OSError as error:
        raise EdgelidError(f"cannot write {path}: {error.strerror}.") from error


def _partial(file_path: Path) -> Path:
    """Where a file is while it is written."""
    return file_path.with_name(f".{file_path.name}.partial")


def _led_to(path: Path) -> Path:
    """The file that is written at a path, which may be a link.

    Raises
    ------
    EdgelidError
        If what is there must not be replaced, or cannot be looked at.
    """
    try:
        file_path = Path(os.path.realpath(path))
        try:
            mode = file_path.stat().st_mode
        except FileNotFoundError:
            return file_path
    except OSError as error:  # of the folder that one is in, too, which may be gone
        raise EdgelidError(f"cannot write {path}: {error.strerror}.") from error
    if stat.S_ISDIR(mode):
        raise EdgelidError(f"cannot write {path}: it is a folder.")
    if not stat.S_ISREG(mode):  # a device or a pipe, which others use
        raise EdgelidError(f"cannot write {path}: it is no regular file.")
    return file_path
