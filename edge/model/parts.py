"""A model file in parts, as repositories do not take every file.

``NAME.tflite.0``, ``NAME.tflite.1`` and so on are ``NAME.tflite``, one behind the other: what
``split -d -a 1 -b 13M NAME.tflite NAME.tflite.`` makes of it, and ``cat NAME.tflite.*`` undoes.
"""

from __future__ import annotations

import contextlib
import io
import os
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from edge.errors import EdgelidError

MAX_PARTS = 8


def files_of(path: Path) -> list[Path]:
    """Files whose contents make up a model file.

    Parameters
    ----------
    path : Path
        Of the whole file, whether it is there or not.

    Returns
    -------
    list of Path
        Itself, where there are no parts in its place.

    Raises
    ------
    EdgelidError
        If one between or before others is missing.
    """
    if path.exists():
        return [path]
    parts = [path.with_name(f"{path.name}.{number}") for number in range(MAX_PARTS)]
    there = [part.exists() for part in parts]
    count = there.index(False) if False in there else MAX_PARTS
    if any(there[count:]):
        raise EdgelidError(
            f"the model {str(path)!r} lacks its part {parts[count].name}: copy it again."
        )
    return parts[:count] or [path]


def open_files(files: Sequence[Path]) -> BinaryIO:
    """Open files to read them as one, one behind the other.

    Raises
    ------
    OSError
        If one of them cannot be opened.
    """
    return io.BufferedReader(_Joined(files))


class _Joined(io.RawIOBase):
    """What `open_files` buffers."""

    def __init__(self, files: Sequence[Path]) -> None:
        with contextlib.ExitStack() as opened:
            self._files = [opened.enter_context(file.open("rb", buffering=0)) for file in files]
            sizes = [os.fstat(file.fileno()).st_size for file in self._files]
            self._opened = opened.pop_all()
        self._starts = [0, *accumulate(sizes)]  # of the files; the last is the end
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._starts[-1]}
        self._place = origin[whence] + offset
        if self._place < 0:
            raise OSError("before the beginning")
        return self._place

    def readinto(self, buffer: Any) -> int:
        index = bisect(self._starts, self._place) - 1
        if index == len(self._files):
            return 0
        file = self._files[index]
        file.seek(self._place - self._starts[index])
        left = self._starts[index + 1] - self._place
        count = file.readinto(memoryview(buffer)[:left])
        self._place += count
        return count

    def close(self) -> None:
        self._opened.close()
        super().close()
