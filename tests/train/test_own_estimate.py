"""What the work will cost, by the sizes of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.own_estimate import estimate


def sized(file: Path, size: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.truncate(round(size))  # no disk is taken


def test_an_hour_of_each(tmp_path: Path) -> None:
    sized(tmp_path / "de" / "a.wav", 16_000 * 2 * 3600)
    sized(tmp_path / "da" / "b.MP3", 48_000 / 8 * 3600)
    sized(tmp_path / "da" / "notes.txt", 1e9)
    found = estimate(tmp_path)
    assert found.files == 2
    assert found.hours == pytest.approx(2.0, abs=0.05)
    disk = next(line for line in found.lines(1, 2) if line.startswith("disk"))
    assert disk == "disk         0.2 GB of features, in 2 variants"
    assert estimate(tmp_path, 1.0).hours == pytest.approx(1.0)


def test_archives_are_unpacked(tmp_path: Path) -> None:
    sized(tmp_path / "cv-da.tar.gz", 2.2e9)
    found = estimate(tmp_path / "cv-da.tar.gz")
    assert found.hours == pytest.approx(100)
    lines = list(found.lines(1, 2))
    assert "2.2 GB of clips, unpacked, and 9.2 GB of features" in lines[1]
    assert lines[2] == "features     about 30 min on 2 cores"


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    sized(tmp_path / "a.wav", 16_000 * 2 * 3600)
    (tmp_path / "b.wav").symlink_to("none.wav")
    assert estimate(tmp_path).files == 1
