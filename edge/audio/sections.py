"""Sections of files that hold several recordings, and headers that do not know a length.

Web radio is saved as Ogg streams in a chain, and MP3, WAV and FLAC files are joined with ``cat``.
libsndfile reads the first of them and says nothing of the others. Here it is found where each
begins, from headers alone, and each is read as a file of its own.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge.audio.formats import kind_of, mpeg_frame_bytes

MAX_SECTIONS = 10_000  # of a file; a stranger's could have one in every 27 bytes

CHUNK_BYTES = 1 << 20
GUESSED_BYTES = 1 << 40
OGG_HEADER_BYTES = 27
OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
LARGEST_SIZE = 0xFFFFFFFF
FLAC_START = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # and the header of its STREAMINFO
MP3_COUNTED = (b"Xing", b"Info")  # names of a first frame that counts those which follow
MP3_TAG_REACH = 64  # bytes into its frame, at most, where the name stands
MP3_SLACK_BYTES = 16_384  # tags of players, behind the last frame
ID3_BYTES = 10  # of its header, the last four of which hold its length, 7 bits each


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
    """

    start: int
    end: int
    patches: dict[int, bytes] = field(default_factory=dict)
    cut: bool = False
    is_guessed: bool = False

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
    """

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
        start = self._section.start + self._at
        count = max(0, min(len(view), self._section.end - start))
        data = bytearray(os.pread(self._descriptor, count, start))
        for at, new in self._section.patches.items():
            for offset, value in enumerate(new, at - self._at):
                if 0 <= offset < len(data):
                    data[offset] = value
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def sections(descriptor: int) -> list[Section]:
    """Recordings in a file, in their order.

    Parameters
    ----------
    descriptor : int
        Of a regular file.

    Returns
    -------
    list of Section
        At least one, the whole file; at most `MAX_SECTIONS`, of which the last then goes to the
        end of the file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    length = os.fstat(descriptor).st_size
    start = os.pread(descriptor, 16, 0)
    if start.startswith(b"OggS"):
        found = _ogg(descriptor, length)
    elif start.startswith(b"fLaC"):
        found = _flac(descriptor, length)
    elif start.startswith(b"RIFF") and start[8:12] == b"WAVE":
        found = _wav(descriptor, length)
    elif start.startswith(b"ID3") or mpeg_frame_bytes(start):
        found = _mp3(descriptor, length)
    else:
        found = iter(())
    parts: list[Section] = []
    for part in found:
        if len(parts) == MAX_SECTIONS:
            parts[-1] = Section(parts[-1].start, length, cut=True)
            break
        parts.append(part)
    return parts or [Section(0, length)]


def _ogg(descriptor: int, length: int) -> Iterator[Section]:
    """The links of a chain: each begins with pages that begin streams."""
    begin, at = 0, 0
    in_header, has_end, cut = True, False, False
    buffer, base = b"", 0

    def bytes_at(position: int, count: int) -> bytes:
        nonlocal buffer, base
        if not base <= position <= base + len(buffer) - count:
            buffer, base = os.pread(descriptor, CHUNK_BYTES, position), position
        return buffer[position - base : position - base + count]

    while at < length:
        header = bytes_at(at, OGG_HEADER_BYTES)
        if len(header) < OGG_HEADER_BYTES:
            cut = True
            break
        if not header.startswith(b"OggS"):
            lost = _find(descriptor, (b"OggS",), at + 1, length)
            if lost is None:
                cut = not has_end  # else it is something behind the last page, such as a tag
                break
            at = lost
            continue
        flags, segments = header[5], header[26]
        if flags & OGG_FIRST:
            if not in_header:
                yield Section(begin, at, cut=not has_end)
                begin, has_end = at, False
            in_header = True
        else:
            in_header = False
        has_end |= bool(flags & OGG_LAST)
        sizes = bytes_at(at + OGG_HEADER_BYTES, segments)
        at += OGG_HEADER_BYTES + segments + sum(sizes)
        if at > length or len(sizes) < segments:
            cut = True
    yield Section(begin, length, cut=cut or not has_end)


def _flac(descriptor: int, length: int) -> Iterator[Section]:
    begin = 0
    while (next_one := _find(descriptor, FLAC_START, begin + 4, length)) is not None:
        yield Section(begin, next_one)
        begin = next_one
    yield Section(begin, length)


def _wav(descriptor: int, length: int) -> Iterator[Section]:
    begin = 0
    while True:
        head = os.pread(descriptor, 12, begin)
        end = begin + 8 + int.from_bytes(head[4:8], "little")
        if os.pread(descriptor, 4, end) != b"RIFF" or os.pread(descriptor, 4, end + 8) != b"WAVE":
            break
        yield Section(begin, end)
        begin = end
    yield Section(begin, length, _wav_sizes(descriptor, begin, length))


def _wav_sizes(descriptor: int, begin: int, length: int) -> dict[int, bytes]:
    """The right sizes for the header of a WAV file that says 0, which recorders to a pipe do.

    They may also say that it is as long as can be, which libsndfile understands.
    """
    at = begin + 12
    for _ in range(64):  # chunks before the samples: more is no header
        name, size = _chunk(descriptor, at)
        if name == b"data":
            break
        at += 8 + size + size % 2
    else:
        return {}
    if name != b"data" or size != 0 or _are_chunks(descriptor, at + 8, length):
        return {}
    data_bytes = min(length - at - 8, LARGEST_SIZE - 8 - (at - begin))
    return {
        4: (at + data_bytes - begin).to_bytes(4, "little"),
        at - begin + 4: data_bytes.to_bytes(4, "little"),
    }


def _are_chunks(descriptor: int, at: int, length: int) -> bool:
    """Whether chunks, and nothing else, go on to the end: then there really are no samples."""
    for _ in range(64):
        if at >= length:
            return True
        name, size = _chunk(descriptor, at)
        if not name.isalnum() or at + 8 + size > length:
            return False
        at += 8 + size + size % 2
    return False


def _chunk(descriptor: int, at: int) -> tuple[bytes, int]:
    head = os.pread(descriptor, 8, at)
    return head[:4], int.from_bytes(head[4:], "little")


def _mp3(descriptor: int, length: int) -> Iterator[Section]:
    """Files whose first frame says how many bytes they have, which may not be all."""
    begin = 0
    while True:
        frame = begin + _id3_bytes(os.pread(descriptor, ID3_BYTES, begin))
        counted = _mp3_bytes(os.pread(descriptor, 256, frame))
        end = frame + counted
        if not counted or end >= length:
            break
        # Behind it there may be a tag at first, such as ID3v1.
        following = _mp3_start(os.pread(descriptor, MP3_SLACK_BYTES, end))
        if following is None:
            break
        yield Section(begin, end)
        begin = end + following
    yield Section(begin, length, is_guessed=not counts_its_frames(descriptor, begin))


def _mp3_start(data: bytes) -> int | None:
    """Where the first frame or tag of another recording is."""
    for found in re.finditer(rb"ID3|\xff[\xe0-\xff]", data):
        at = found.start()
        if found[0] == b"ID3" or kind_of(data[at:]) == "MP3":
            return at
    return None


def _mp3_bytes(frame: bytes) -> int:
    """Length of a file whose first frame is this; 0 where it does not say."""
    if not mpeg_frame_bytes(frame):
        return 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[46:50], "big")
    for name in MP3_COUNTED:
        at = frame.find(name, 4, MP3_TAG_REACH)
        if at >= 0:
            flags = int.from_bytes(frame[at + 4 : at + 8], "big")
            place = at + 8 + (4 if flags & 1 else 0)
            return int.from_bytes(frame[place : place + 4], "big") if flags & 2 else 0
    return 0


def counts_its_frames(descriptor: int, begin: int) -> bool:
    """Whether an MP3 file that begins there says how long it is, in its first frame."""
    frame = begin + _id3_bytes(os.pread(descriptor, ID3_BYTES, begin))
    data = os.pread(descriptor, MP3_TAG_REACH, frame)
    return any(name in data for name in (*MP3_COUNTED, b"VBRI"))


def _id3_bytes(start: bytes) -> int:
    """Length of an ID3 tag that begins so; 0 if none does."""
    if not start.startswith(b"ID3") or len(start) < ID3_BYTES:
        return 0
    return ID3_BYTES + sum(byte << 7 * i for i, byte in enumerate(start[9:5:-1]))


def _find(descriptor: int, marks: tuple[bytes, ...], at: int, length: int) -> int | None:
    """Position of the first of some marks from a byte on."""
    overlap = max(map(len, marks)) - 1
    while at < length:
        data = os.pread(descriptor, CHUNK_BYTES + overlap, at)
        if not data:
            return None
        places = [place for mark in marks if (place := data.find(mark)) >= 0]
        if places:
            return at + min(places)
        at += CHUNK_BYTES
    return None
