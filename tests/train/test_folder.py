"""Folders for results are made before the work, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import EdgelidError
from train.folder import make_folder, make_place


def test_a_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("name", "words"), [("file", "File exists"), ("file/more", "Not a directory")]
)
def test_a_folder_that_cannot_be_made(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match=f"cannot make the folder .*{name}: {words}"):
        make_folder(tmp_path / name)


def test_the_place_of_a_result(tmp_path: Path) -> None:
    make_place(tmp_path / "a" / "b" / "result.npz")
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(EdgelidError, match=r"folder\.npz"):
        make_place(tmp_path / "folder.npz")
