"""What to install is what there is for this machine."""

from __future__ import annotations

import sys

import pytest

from edge.audio.resample import Resampler
from edge.errors import EdgelidError
from edge.system.install import how_to_install


@pytest.mark.parametrize(
    ("bits", "version", "words"),
    [
        (64, 0x030D0000, 'pip install "edgelid[edge]".'),
        (32, 0x030B0200, 'pip install "edgelid[edge-legacy]".'),
        (32, 0x030D0000, "use 64-bit Raspberry Pi OS"),
    ],
)
def test_by_bits_and_python(
    bits: int, version: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    monkeypatch.setattr(sys, "hexversion", version)
    assert words in how_to_install()


def test_no_resampler_for_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(EdgelidError, match=r'pip install "edgelid\[edge\]"'):
        Resampler(44_100)
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    with pytest.raises(EdgelidError, match="ffmpeg -i IN -ar 16000") as failure:
        Resampler(44_100)
    assert "pip install" not in str(failure.value)
