"""How far a recording reaches, by its own header, in formats that say so.

What comes behind may be another recording: files are joined with ``cat``. A header may also not
know how long its recording is, as it went down a pipe before there was an end; then it says 0, or
as much as can be, and the recording reaches as far as the file does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from edge.audio.formats import SIGNATURE_BYTES, SYNC_BYTES, kind_of
from edge.audio.section import Section

CHUNK_BYTES = 1 << 20
SLACK_BYTES = 16_384  # padding, and tags of players, between recordings or behind the last
MAX_CHUNKS = 100_000  # of a file, a fragment of MP4 being two
# Recorders that write to a pipe promise so much, or more: no file of a recorder that could seek
# does. sox says 0x7F000000 bytes, ffmpeg 0xFFFFFFFF.
UNKNOWN_BYTES = 0x7F000000

W64_HEADER_BYTES = 24  # of its chunks: name and size, which counts both
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
EBML = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True)
class Extent:
    """What the header of a recording says of it.

    Attributes
    ----------
    end : int or None
        The byte behind it, which may lie behind that of the file; None if it does not know.
    patches : dict of int to bytes
        What has to be in the header, by position in the file, as no decoder understands it.
    is_told : bool
        Whether the decoder finds out by itself that the recording is cut.
    samples_at : int or None
        The byte where its samples begin, where that is known: no other recording begins before.
    """

    end: int | None
    patches: dict[int, bytes] = field(default_factory=dict)
    is_told: bool = True
    samples_at: int | None = None


def recording(descriptor: int, begin: int, length: int) -> Section | None:
    """The recording that begins at a byte of a file; None if its format is none of these.

    Its section reaches to where another recording begins, or to the end of the file.
    """
    start = os.pread(descriptor, SIGNATURE_BYTES, begin)
    kind = kind_of(start)
    reach = _REACH.get(kind or "")
    if reach is None:
        return None
    found = reach(descriptor, begin, length)
    # A damaged size may lead nowhere, from where there would be no end of recordings.
    if found is None or (found.end is not None and found.end <= begin):
        return Section(begin, length)
    patches = {at - begin: new for at, new in found.patches.items()}
    if found.end is None:
        following = _start_of_a_like(descriptor, begin, length, found.samples_at)
        return Section(begin, length if following is None else following, patches)
    if found.end >= length:
        return Section(begin, length, patches, cut=found.end > length and not found.is_told)
    following = _recording_behind(descriptor, found.end, length)
    if following is not None:
        return Section(begin, following, patches)
    left_bytes = length - found.end
    return Section(begin, length, patches, left_bytes=left_bytes if left_bytes > SLACK_BYTES else 0)


def _recording_behind(descriptor: int, end: int, length: int) -> int | None:
    """Where another begins, at once or behind some padding."""
    data = os.pread(descriptor, SLACK_BYTES + SYNC_BYTES, end)
    padding_bytes = len(data) - len(data.lstrip(b"\0"))
    # Of MP4 and QuickTime the kind begins with a size, and that with zeros.
    places: list[int] = [0, *range(max(0, padding_bytes - 3), padding_bytes + 1)]
    for at in places:
        if at < SLACK_BYTES and kind_of(data[at : at + SYNC_BYTES]) is not None:
            return end + at
    return None


def _start_of_a_like(
    descriptor: int, begin: int, length: int, samples_at: int | None
) -> int | None:
    """Where the next recording begins as this one does, which does not say how long it is."""
    mark = os.pread(descriptor, SIGNATURE_BYTES, begin)
    if mark[8:12] == b"WAVE":
        first, rest = mark[:4], mark[8:16]
    elif mark.startswith(EBML):
        first, rest = EBML, b""
    else:
        return None
    at = begin + SIGNATURE_BYTES if samples_at is None else samples_at
    while at < length:
        data = os.pread(descriptor, CHUNK_BYTES + SIGNATURE_BYTES, at)
        place = data.find(first)
        while 0 <= place < CHUNK_BYTES:
            if data[place + 8 : place + 8 + len(rest)] == rest:
                return at + place
            place = data.find(first, place + 1)
        at += CHUNK_BYTES
    return None


def _is_chunk_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _riff(descriptor: int, begin: int, length: int) -> Extent | None:
    """WAV, with sizes of 32 bits."""
    order: Literal["little", "big"] = "little"
    if os.pread(descriptor, 4, begin) == b"RIFX":
        order = "big"
    at, end, samples_at, is_unknown = begin + 12, None, None, False
    patches: dict[int, bytes] = {}
    for _ in range(MAX_CHUNKS):
        head = os.pread(descriptor, 8, at)
        name, size = head[:4], int.from_bytes(head[4:], order)
        if len(head) < 8 or not _is_chunk_name(name) or name in (b"RIFF", b"RIFX"):
            break
        behind = at + 8 + size
        if name == b"data" and end is None:
            is_unknown = size >= UNKNOWN_BYTES and behind > length
            # Sizes of 32 bits have to reach from the beginning on.
            reaches = at - begin < UNKNOWN_BYTES
            if size == 0 and reaches and not _are_chunks(descriptor, at + 8, length, order):
                is_unknown = True
                following = _start_of_a_like(descriptor, begin, length, at + 8)
                data_bytes = (length if following is None else following) - at - 8
                data_bytes = min(data_bytes, 0xFFFFFFFF - 8 - (at - begin))
                patches[begin + 4] = (at + data_bytes - begin).to_bytes(4, order)
                patches[at + 4] = data_bytes.to_bytes(4, order)
            end, samples_at = behind, at + 8
            if is_unknown or behind > length:
                break
        elif end is not None and behind > length:
            break
        elif behind > length:
            return None
        at = behind + size % 2
        if end is not None:
            end = at
    if end is None:
        return None
    return Extent(None if is_unknown else end, patches, samples_at=samples_at)


def _are_chunks(
    descriptor: int, at: int, length: int, order: Literal["little", "big"] = "little"
) -> bool:
    """Whether chunks, and nothing else, go on to the end: then there really are no samples."""
    for _ in range(64):
        if at >= length:
            return True
        head = os.pread(descriptor, 8, at)
        size = int.from_bytes(head[4:], order)
        if not head[:4].isalnum() or at + 8 + size > length:
            return False
        at += 8 + size + size % 2
    return False


def _rf64(descriptor: int, begin: int, length: int) -> Extent | None:
    """WAV with sizes of 64 bits, which stand in a chunk of their own."""
    sizes = os.pread(descriptor, 32, begin + 12)
    if not sizes.startswith(b"ds64") or len(sizes) < 32:
        return None
    data_size = int.from_bytes(sizes[16:24], "little")
    at = begin + 12 + 8 + int.from_bytes(sizes[4:8], "little")
    for _ in range(64):
        head = os.pread(descriptor, 8, at)
        size = int.from_bytes(head[4:], "little")
        if len(head) < 8:
            return None
        if head[:4] == b"data":
            break
        at += 8 + size + size % 2
    else:
        return None
    if size < UNKNOWN_BYTES and size > 0:
        data_size = size
    behind = at + 8 + data_size
    if 0 < data_size < 1 << 62:
        return Extent(behind + data_size % 2)
    data_bytes = length - at - 8
    block_bytes = _block_bytes(descriptor, begin + 12, at)
    patches = {
        begin + 20: (length - begin - 8).to_bytes(8, "little"),
        begin + 28: data_bytes.to_bytes(8, "little"),
        begin + 36: (data_bytes // block_bytes).to_bytes(8, "little"),
    }
    return Extent(None, patches, samples_at=at + 8)


def _block_bytes(descriptor: int, at: int, end: int) -> int:
    """Bytes of a sample of all channels, as the chunk ``fmt `` has them."""
    while at < end:
        head = os.pread(descriptor, 22, at)
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"fmt ":
            return max(1, int.from_bytes(head[20:22], "little"))
        at += 8 + size + size % 2
    return 1


def _w64(descriptor: int, begin: int, length: int) -> Extent | None:
    """WAV of Sony, whose names have 16 bytes and sizes 8."""
    size = int.from_bytes(os.pread(descriptor, 8, begin + 16), "little")
    if not W64_HEADER_BYTES < size < 1 << 62:
        return None
    return Extent(begin + size)


def _aiff(descriptor: int, begin: int, length: int) -> Extent | None:
    size = int.from_bytes(os.pread(descriptor, 4, begin + 4), "big")
    if size == 0 or size >= UNKNOWN_BYTES:
        return None
    return Extent(begin + 8 + size + size % 2)


def _au(descriptor: int, begin: int, length: int) -> Extent | None:
    head = os.pread(descriptor, 12, begin)
    order: Literal["little", "big"] = "big" if head.startswith(b".snd") else "little"
    header_bytes = int.from_bytes(head[4:8], order)
    size = int.from_bytes(head[8:12], order)
    if size == 0 and begin + header_bytes < length:
        return Extent(None, {begin + 8: b"\xff\xff\xff\xff"})
    if size >= UNKNOWN_BYTES:
        return None
    return Extent(begin + header_bytes + size)


def _caf(descriptor: int, begin: int, length: int) -> Extent | None:
    at, patches, end = begin + 8, dict[int, bytes](), None
    for _ in range(MAX_CHUNKS):
        head = os.pread(descriptor, 12, at)
        name, size = head[:4], int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or not _is_chunk_name(name) or name == b"caff":
            break
        if name == b"data" and (size <= 4 or at + 12 + size > length):
            # libsndfile refuses what is longer than the file; it is told what is there.
            patches[at + 4] = (length - at - 12).to_bytes(8, "big")
            behind = at + 12 + size if size > 4 else None
            return Extent(behind, patches, is_told=False)
        if not 0 <= size < 1 << 62:
            return None
        at = end = at + 12 + size
    return Extent(end, is_told=False)


def _boxes(descriptor: int, begin: int, length: int) -> Extent | None:
    """MP4 and QuickTime, up to where another file of these begins."""
    at = begin
    for number in range(MAX_CHUNKS):
        head = os.pread(descriptor, 16, at)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if number and name == b"ftyp":
            break
        if len(head) < 8 or not _is_chunk_name(name):
            break
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0:  # to the end of the file
            return None
        if size < 8:
            break
        at += size
        if at > length:
            return Extent(at, is_told=False)
    return Extent(at, is_told=False)


def _asf(descriptor: int, begin: int, length: int) -> Extent | None:
    """Windows Media."""
    at = begin
    for number in range(MAX_CHUNKS):
        head = os.pread(descriptor, 24, at)
        size = int.from_bytes(head[16:], "little")
        if len(head) < 24 or (number and head.startswith(ASF_HEADER)):
            break
        if not 24 <= size < 1 << 62:
            return None
        at += size
        if at > length:
            return Extent(at, is_told=False)
    return Extent(at, is_told=False)


def _ebml(descriptor: int, begin: int, length: int) -> Extent | None:
    """Matroska and WebM: a header and a segment, whose size is not known in a live stream."""
    at = begin
    for _ in range(2):
        head = os.pread(descriptor, 12, at)
        if len(head) < 12 or head[4] == 0:
            return None
        size_bytes = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        if size == (1 << 7 * size_bytes) - 1:
            return Extent(None)
        at += 4 + size_bytes + size
    return Extent(at, is_told=False)


_REACH: dict[str, Callable[[int, int, int], Extent | None]] = {
    "WAV": _riff,
    "RF64": _rf64,
    "W64": _w64,
    "AIFF": _aiff,
    "AU": _au,
    "CAF": _caf,
    "MPEG-4": _boxes,
    "QuickTime": _boxes,
    "Windows Media": _asf,
    "Matroska or WebM": _ebml,
}
