"""Where the recordings in a file are, if it holds several or does not know how long it is.

Web radio is saved as Ogg streams in a chain, and files of any format are joined with ``cat``.
Decoders read the first recording and say nothing of the others. Here it is found where each
begins, from headers alone, and each is read as a file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from edge.audio import containers, mpeg
from edge.audio.formats import SYNC_BYTES, kind_of, mpeg_frame_bytes
from edge.audio.pieces import Pieces
from edge.audio.section import Section

MAX_SECTIONS = 10_000  # of a file; a stranger's could have one in every 27 bytes

OGG_HEADER_BYTES = 27
OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
FLAC_START = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # and the header of its STREAMINFO


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
    parts: list[Section] = []
    for part in _recordings(descriptor, 0, length):
        if len(parts) == MAX_SECTIONS:
            parts[-1] = Section(parts[-1].start, length, cut=True)
            break
        parts.append(part)
    return parts or [Section(0, length)]


def _recordings(descriptor: int, begin: int, length: int) -> Iterator[Section]:
    """Those from a byte of the file on."""
    while begin < length:
        start = os.pread(descriptor, 16, begin)
        if start.startswith(b"OggS"):
            yield from _ogg(descriptor, begin, length)
        elif start.startswith(b"fLaC"):
            yield from _flac(descriptor, begin, length)
        elif start.startswith(b"ID3") or mpeg_frame_bytes(start):
            yield from mpeg.recordings(descriptor, begin, length)
        elif (part := containers.recording(descriptor, begin, length)) is not None:
            yield part
            begin = part.end
            continue
        elif begin == 0 and (found := _amid_frames(descriptor)) is not None:
            yield from mpeg.recordings(descriptor, found, length)
        return


def _amid_frames(descriptor: int) -> int | None:
    """Where the first frame of MPEG audio is, of a radio that was recorded from anywhere on."""
    if kind_of(os.pread(descriptor, SYNC_BYTES, 0)) is not None:
        return None
    return mpeg.first_frame(Pieces(descriptor), 0, SYNC_BYTES)


def _ogg(descriptor: int, begin: int, length: int) -> Iterator[Section]:
    """The links of a chain: each begins with pages that begin streams."""
    at = begin
    in_header, has_end, cut = True, False, False
    data = Pieces(descriptor, length)
    while at < length:
        header = data.at(at, OGG_HEADER_BYTES)
        if len(header) < OGG_HEADER_BYTES:
            cut = True
            break
        if not header.startswith(b"OggS"):
            lost = data.find((b"OggS",), at + 1)
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
        sizes = data.at(at + OGG_HEADER_BYTES, segments)
        at += OGG_HEADER_BYTES + segments + sum(sizes)
        if at > length or len(sizes) < segments:
            cut = True
    yield Section(begin, length, cut=cut or not has_end)


def _flac(descriptor: int, begin: int, length: int) -> Iterator[Section]:
    data = Pieces(descriptor, length)
    while (next_one := data.find(FLAC_START, begin + 4)) is not None:
        yield Section(begin, next_one)
        begin = next_one
    yield Section(begin, length)
