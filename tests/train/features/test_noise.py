"""Manifests of noise and of room responses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from train.features.noise import NoiseClip, read_noise


def write(folder: Path, *lines: str) -> Path:
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    (folder / "a.wav").touch()
    return folder


def test_reads_a_split(tmp_path: Path) -> None:
    folder = write(tmp_path, "path\tkind\tsplit", "a.wav\train\ttrain", "b.wav\tfan\ttest")
    assert read_noise(folder, "train") == [NoiseClip("a.wav", "rain", "train")]


def test_other_columns_do_not_matter(tmp_path: Path) -> None:
    folder = write(tmp_path, "split\tmood\tpath\tkind", 'train\t"good\ta.wav\tbabble_places')
    (clip,) = read_noise(folder, "train")
    assert clip == NoiseClip("a.wav", "babble_places", "train")
    assert clip.has_speech


@pytest.mark.parametrize("missing", ["path", "kind", "split"])
def test_a_missing_column(tmp_path: Path, missing: str) -> None:
    columns = [name for name in ("path", "kind", "split") if name != missing]
    write(tmp_path, "\t".join(columns), "a.wav\ttrain")
    with pytest.raises(EdgelidError, match=f"lacks the column '{missing}'"):
        read_noise(tmp_path, "train")


def test_a_line_that_ends_too_soon(tmp_path: Path) -> None:
    """Also one of another split: who can tell what it should have said."""
    write(tmp_path, "split\tkind\tpath", "train\train\ta.wav", "test\train")
    with pytest.raises(EdgelidError, match=r"line 3 of the noise manifest .* has no path$"):
        read_noise(tmp_path, "train")


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """As spreadsheets write it."""
    folder = write(tmp_path, "\ufeffpath\tkind\tsplit", "a.wav\train\ttrain")
    assert read_noise(folder, "train") == [NoiseClip("a.wav", "rain", "train")]


def test_nothing_of_a_split(tmp_path: Path) -> None:
    write(tmp_path, "path\tkind\tsplit", "a.wav\train\ttest")
    with pytest.raises(EdgelidError, match="nothing of split train"):
        read_noise(tmp_path, "train")


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="cannot read the noise manifest"):
        read_noise(tmp_path, "train")


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.tsv")  # opening one would wait for a writer, perhaps for ever
    with pytest.raises(EdgelidError, match=r"manifest\.tsv' is no regular file"):
        read_noise(tmp_path, "train")


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EdgelidError, match="not UTF-8 text"):
        read_noise(tmp_path, "train")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, "path\tkind\tsplit", "a.wav\train\ttrain", "b.wav\train\ttrain")
    with pytest.raises(EdgelidError, match=r"b\.wav is not in .*missing: 1"):
        read_noise(tmp_path, "train")
