"""A graph that lies on disk while an interpreter runs it, instead of in this process's memory.

XNNPACK packs the weights anew for its kernels, and nothing reads those of the graph any more: as
bytes in memory, every weight is there twice. A file an interpreter maps, and what is mapped the
system may take back and read again when it is needed.

The model file itself is not mapped. Whoever overwrites it would change, or by cutting it short
end, a process that runs it; and it may lie there in parts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

FOLDER = "/var/tmp"  # on disk, where /tmp may be memory
_DESCRIPTORS = "/proc/self/fd"
_MAPS = "/proc/self/maps"
_MADV_DONTNEED = 4  # Linux, on every processor


class StoredGraph:
    """A file that has no name and belongs to this process alone: it goes when nobody uses it.

    In a ``with`` block an interpreter may be built from it, which keeps its own hold on it. At the
    end of the block what has been read of it leaves this process's memory.

    Parameters
    ----------
    graph : bytes

    Attributes
    ----------
    path : str
        To open within the block.

    Raises
    ------
    OSError
        If there is no place for it, or this system has no such paths.
    """

    def __init__(self, graph: bytes) -> None:
        folder = os.environ.get("TMPDIR") or FOLDER
        # Closed by `__exit__`.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            self._file.write(graph)
            self._file.flush()
            self.path = f"{_DESCRIPTORS}/{self._file.fileno()}"
            Path(self.path).stat()
        except OSError:
            with contextlib.suppress(OSError):  # closing tries to write the rest once more
                self._file.close()
            raise

    def __enter__(self) -> StoredGraph:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            libc = ctypes.CDLL(None)
            for start, end in self._places():
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
        self._file.close()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Where in memory it is mapped: addresses of the first byte, and behind the last."""
        name = str(Path(self.path).readlink())
        with open(_MAPS) as maps:
            for line in maps:
                # Addresses, permissions, offset, device, inode, name.
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] == name:
                    start, _, end = fields[0].partition("-")
                    yield int(start, 16), int(end, 16)
