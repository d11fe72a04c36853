"""Ogg files whose time stamps jump, as ffmpeg writes them."""

from __future__ import annotations

import struct


def with_a_jump(data: bytes, page: int, shift_samples: int) -> bytes:
    """An Ogg file one of whose pages has a later time stamp, at 48 kHz for Opus."""
    changed = bytearray(data)
    start, end = _pages(changed)[page]
    (stamp,) = struct.unpack_from("<q", changed, start + 6)
    struct.pack_into("<q", changed, start + 6, stamp + shift_samples)
    struct.pack_into("<I", changed, start + 22, 0)
    struct.pack_into("<I", changed, start + 22, _checksum(changed[start:end]))
    return bytes(changed)


def _pages(data: bytearray) -> list[tuple[int, int]]:
    """Start and end of every page."""
    pages = []
    start = 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        pages.append((start, end))
        start = end
    return pages


def _checksum(page: bytearray) -> int:
    remainder = 0
    for byte in page:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x104C11DB7 if remainder & 0x80000000 else 0)
    return remainder
