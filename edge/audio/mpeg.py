"""Where the recordings are in a file of MPEG audio (MP3), frame by frame.

Its frames tell all that there is to know: where a file that was joined goes on at another rate,
where it is damaged, whether its last frame is whole, and whether the first one, which may count
them, has counted well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.audio.formats import (
    FRAMES_IN_A_ROW,
    mpeg_frame_bytes,
    mpeg_frame_form,
)
from edge.audio.pieces import CHUNK_BYTES, Pieces
from edge.audio.section import Section

SLACK_BYTES = 16_384  # tags of players, behind the last frame
ID3_BYTES = 10  # of its header, the last four of which hold its length, 7 bits each
COUNTS = (b"Xing", b"Info")  # names in a first frame that counts those which follow
COUNT_AT = (36, 21, 13, 38, 23, 15)  # where they stand in it, by form; the last three with a CRC
VBRI_AT = 36


def recordings(descriptor: int, begin: int, length: int) -> Iterator[Section]:
    """The recordings from a byte of a file on, where a frame or an ID3 tag is.

    Parameters
    ----------
    descriptor : int
        Of a regular file.
    begin, length : int
        Where to begin, and how long the file is.

    Yields
    ------
    Section
        At least one.
    """
    data = Pieces(descriptor, length)
    start = at = begin
    frames = 0  # of this recording
    counted: int | None = None  # frames that it says it has
    form = -1
    tag: int | None = None  # where one is that may begin another

    def so_far(end: int, cut: bool = False) -> Section:
        return Section(start, end, cut=cut, is_guessed=counted is None)

    while at < length:
        frame = data.at(at, 4)
        size = mpeg_frame_bytes(frame)
        if size:
            new_form = mpeg_frame_form(frame)
            new_count = _count(data.at(at, 64), new_form)
            # One more, as some count the frame that counts, and some do not.
            is_over = counted is not None and frames > counted + 1
            if frames and (new_form != form or new_count is not None or is_over):
                place = at if tag is None else tag
                yield so_far(place)
                start, frames, counted = place, 0, None
            if frames == 0:
                form, counted = new_form, new_count
            tag = None
            frames += 1
            if at + size > length:
                yield so_far(at, cut=True)  # without the part of a frame, at which decoders fail
                return
            at += size
        elif (size := id3_bytes(data.at(at, ID3_BYTES))) or (size := _tag_bytes(data.at(at, 32))):
            tag = at if tag is None and frames else tag
            at += size
        else:
            found = first_frame(data, at + 1)
            if found is None:
                yield Section(
                    start,
                    at if frames else length,
                    is_guessed=bool(frames) and counted is None,
                    left_bytes=length - at if frames and length - at > SLACK_BYTES else 0,
                )
                return
            if frames:  # damaged: what comes behind is a recording to decoders that give up here
                yield so_far(at if tag is None else tag, cut=counted is None)
            start, frames, counted, tag = found, 0, None, None
            at = found
    yield so_far(length) if frames else Section(start, length)


def first_frame(data: Pieces, begin: int, reach_bytes: int | None = None) -> int | None:
    """Where frames, or a tag before some, begin, from a byte on; None if nowhere."""
    end = data.length if reach_bytes is None else min(data.length, begin + reach_bytes)
    while begin < end:
        chunk = data.at(begin, min(CHUNK_BYTES, end - begin))
        for found in re.finditer(rb"ID3[\x02-\x04]|\xff[\xe0-\xff]", chunk):
            at = begin + found.start()
            if found[0].startswith(b"ID3"):
                at += id3_bytes(data.look(at, ID3_BYTES))
            if _begins(data, at):
                return begin + found.start()
        begin += max(1, len(chunk) - 3)  # a mark may lie across the edge
    return None


def id3_bytes(start: bytes) -> int:
    """Length of an ID3 tag that begins so; 0 if none does."""
    if not start.startswith(b"ID3") or len(start) < ID3_BYTES:
        return 0
    return ID3_BYTES + sum((byte & 127) << 7 * i for i, byte in enumerate(start[9:5:-1]))


def _begins(data: Pieces, at: int) -> bool:
    """Whether frames of one form follow one another from there."""
    form = -1
    for number in range(FRAMES_IN_A_ROW):
        frame = data.look(at, 4)
        size = mpeg_frame_bytes(frame)
        if not size or (number and mpeg_frame_form(frame) != form):
            return False
        form = mpeg_frame_form(frame)
        at += size
        if at >= data.length:
            return number > 0
    return True


def _count(frame: bytes, form: int) -> int | None:
    """How many frames follow, if this one says so."""
    if frame[VBRI_AT : VBRI_AT + 4] == b"VBRI":
        return int.from_bytes(frame[VBRI_AT + 14 : VBRI_AT + 18], "big")
    if frame.find(b"n", 4, VBRI_AT + 6) < 0:  # which both names have, and most frames not: quick
        return None
    for at in COUNT_AT:
        if frame[at : at + 4] in COUNTS:
            if len(frame) < at + 12:  # the file ends there
                return None
            has_count = frame[at + 7] & 1
            return int.from_bytes(frame[at + 8 : at + 12], "big") if has_count else None
    return None


def _tag_bytes(start: bytes) -> int:
    """Length of a tag of another kind, as stand behind the last frame; 0 if none begins so."""
    if start.startswith(b"TAG"):
        return 128
    if start.startswith(b"APETAGEX") and len(start) == 32:
        is_header = start[23] & 0x20
        return 32 + (int.from_bytes(start[12:16], "little") if is_header else 0)
    return 0
