"""What to install where a package is missing, of what there is for this machine."""

from __future__ import annotations

import sys


def has_32_bits() -> bool:
    """Whether this Python has, on whatever processor and kernel."""
    return sys.maxsize < 1 << 32


def how_to_install(force: bool = False) -> str:
    """The end of a sentence on what the device needs.

    Parameters
    ----------
    force : bool
        Whether it is there, and broken.
    """
    pip = "pip install --force-reinstall" if force else "pip install"
    if not has_32_bits():
        return f'{pip} "edgelid[edge]".'
    if sys.hexversion < 0x030C0000:  # the newest that its interpreter was built for is 3.11
        return f'{pip} "edgelid[edge-legacy]".'
    return (
        "there is none for 32 bits and this Python: use 64-bit Raspberry Pi OS, or the 32-bit one "
        "called bookworm."
    )


def how_to_resample(rate_hz: int) -> str:
    """The end of a sentence on audio that is not at the rate wanted.

    Parameters
    ----------
    rate_hz : int
        The one that is wanted.
    """
    if not has_32_bits():
        return 'the package soxr that does it cannot be imported: pip install "edgelid[edge]".'
    return (
        "there is no soxr for 32 bits that does it: convert files first, as with `ffmpeg -i IN "
        f"-ar {rate_hz} OUT.wav`, and take a microphone that opens at {rate_hz} Hz (`edgelid "
        "devices`)."
    )
