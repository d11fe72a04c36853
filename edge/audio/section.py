"""A stretch of a file that is a recording of its own, and how a library reads it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field

GUESSED_BYTES = 1 << 40
TAG_BYTES = 4_096  # at the end, where libraries look for tags before they read


@dataclass(frozen=True)
class Section:
    """A stretch of a file that is a recording of its own.

    Attributes
    ----------
    start, end : int
        Bytes of the file.
    patches : dict of int to bytes
        What to read in place of what is there, by position in the section.
    cut : bool
        Whether it is known to have no end.
    is_guessed : bool
        Whether libsndfile would guess how long it is, and read no further: an MP3 file that does
        not say has it guessed from its size and its first frame, wrong by a factor of several
        where the bit rate varies. It is told a size, then, behind which there is no guess.
    left_bytes : int
        How many bytes behind it are of nothing that is known, if there are more than tags take.
    """

    start: int
    end: int
    patches: dict[int, bytes] = field(default_factory=dict)
    cut: bool = False
    is_guessed: bool = False
    left_bytes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether a library can read it as it is in the file."""
        return not self.patches and not self.is_guessed


class Window(io.RawIOBase):
    """A section as a file, for libraries that read Python's files.

    Parameters
    ----------
    descriptor : int
        Of the whole file; where it stands is neither used nor changed.
    section : Section

    Attributes
    ----------
    failure : OSError or None
        Of a read: the library below takes it for the end, as none may come through it.
    """

    failure: OSError | None = None

    def __init__(self, descriptor: int, section: Section) -> None:
        self._descriptor = descriptor
        self._section = section
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        is_guessed = self._section.is_guessed
        length = GUESSED_BYTES if is_guessed else self._section.end - self._section.start
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if self._at >= GUESSED_BYTES - TAG_BYTES:  # looked at for a tag: an end is an error there
            view[:] = bytes(len(view))
            self._at += len(view)
            return len(view)
        start = self._section.start + self._at
        count = max(0, min(len(view), self._section.end - start))
        try:
            data = bytearray(os.pread(self._descriptor, count, start))
        except OSError as error:
            self.failure = error
            return 0
        for at, new in self._section.patches.items():
            for offset, value in enumerate(new, at - self._at):
                if 0 <= offset < len(data):
                    data[offset] = value
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
