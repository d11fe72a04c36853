"""A file that is asked for in small pieces, and read in large ones.

What is in it may be a stranger's: no contents may have the same bytes read again and again.
"""

from __future__ import annotations

import os

CHUNK_BYTES = 1 << 20


class Pieces:
    """A regular file.

    Parameters
    ----------
    descriptor : int
        Where it stands is neither used nor changed.
    length : int, optional
        Of the file, in bytes.

    Attributes
    ----------
    length : int
    """

    def __init__(self, descriptor: int, length: int | None = None) -> None:
        self.length = os.fstat(descriptor).st_size if length is None else length
        self._descriptor = descriptor
        self._base = 0
        self._piece = b""

    def at(self, position: int, count: int) -> bytes:
        """So many bytes from a position on, or as many as there are; the next lie behind them."""
        if not self._has(position, count):
            self._piece = os.pread(self._descriptor, max(CHUNK_BYTES, count), position)
            self._base = position
        return self._piece[position - self._base : position - self._base + count]

    def look(self, position: int, count: int) -> bytes:
        """The same, to go on where one was: what is at hand stays there."""
        if self._has(position, count):
            return self._piece[position - self._base : position - self._base + count]
        return os.pread(self._descriptor, count, position)

    def find(self, marks: tuple[bytes, ...], position: int) -> int | None:
        """Position of the first of some marks from a byte on; None if there is none."""
        longest = max(map(len, marks))
        while position < self.length:
            self.at(position, longest)
            start = position - self._base
            places = [place for mark in marks if (place := self._piece.find(mark, start)) >= 0]
            if places:
                return self._base + min(places)
            if len(self._piece) < CHUNK_BYTES:  # the end of the file
                return None
            position = self._base + len(self._piece) - longest + 1
        return None

    def _has(self, position: int, count: int) -> bool:
        return self._base <= position <= self._base + len(self._piece) - count
