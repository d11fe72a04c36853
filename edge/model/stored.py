"""A model file that lies on disk while an interpreter runs it, instead of in this process's memory.

XNNPACK packs the weights anew for its kernels, and nothing reads those of the graph any more: as
bytes in memory, every weight is there twice. A file an interpreter maps, and what is mapped the
system may take back and read again when it is needed.

What is mapped is a copy. Whoever overwrites the model file itself would change, or by cutting it
short end, a process that runs it; and it may lie there in parts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from edge.model.parts import open_files

FOLDER = "/var/tmp"  # on disk, where /tmp may be memory
_DESCRIPTORS = "/proc/self/fd"
_MAPS = "/proc/self/maps"
_MADV_DONTNEED = 4  # Linux, on every processor


class StoredModel:
    """A copy in a file that has no name and belongs to this process alone: it goes with that.

    Interpreters may be built from it until it is closed; each keeps its own hold on it.

    Parameters
    ----------
    files : sequence of Path
        What makes up the model file.

    Attributes
    ----------
    file : file
        To read in bytes.
    path : str
        To open, until it is closed.

    Raises
    ------
    OSError
        If they cannot be read, there is no place for them, or this system has no such paths.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import tempfile  # which small models do without

        folder = os.environ.get("TMPDIR") or FOLDER
        with contextlib.ExitStack() as stack:
            self.file: BinaryIO = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            self.path = f"{_DESCRIPTORS}/{self.file.fileno()}"
            Path(self.path).stat()
            with open_files(files) as model:
                shutil.copyfileobj(model, self.file)
            self.file.flush()
            stack.pop_all()
        self._closing = weakref.finalize(self, self.file.close)

    def let_go(self) -> None:
        """Have what is mapped of it leave this process's memory; it comes back if it is read."""
        with contextlib.suppress(OSError):
            libc = ctypes.CDLL(None)
            for start, end in self._places():
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)

    def close(self) -> None:
        """Build no more from it; it is gone with the last interpreter that holds it."""
        self._closing()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Where in memory it is mapped: addresses of the first byte, and behind the last."""
        name = str(Path(self.path).readlink())
        with open(_MAPS, errors="surrogateescape") as maps:  # names as those of `readlink` are
            for line in maps:
                # Addresses, permissions, offset, device, inode, name.
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] == name:
                    start, _, end = fields[0].partition("-")
                    yield int(start, 16), int(end, 16)
