"""Checkpoints in parts are whole, and touch no other file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.waveforms.checkpoint import is_whole, load_parts, save_parts


def save(file: Path, count: int, value: float = 1.0) -> None:
    """A checkpoint of so many parts, all of whose numbers are the same."""
    arrays = {f"large/{i}": np.full(30, value, np.float32) for i in range(count)}
    save_parts(file, arrays, {"config": {"data": {"languages": ["de"]}}})


@pytest.fixture(autouse=True)
def one_array_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.waveforms.checkpoint.PART_BYTES", 100)


@pytest.mark.parametrize("before", [0, 3])
def test_a_file_that_only_has_a_number_at_its_end_stays(before: int, tmp_path: Path) -> None:
    """Whether or not there was a checkpoint of the name."""
    for name in ("x-2.npz", "x-9.npz", "x-12.npz"):
        (tmp_path / name).write_bytes(b"of somebody else")
    if before:
        (tmp_path / "x-2.npz").unlink()
        save(tmp_path / "x.npz", before)
        (tmp_path / "x-2.npz").write_bytes(b"of somebody else")
    save(tmp_path / "x.npz", 2, 2.0)
    names = {"x-0.npz", "x-1.npz", "x-2.npz", "x-9.npz", "x-12.npz"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert (tmp_path / "x-2.npz").read_bytes() == b"of somebody else"
    assert load_parts(tmp_path / "x.npz")[0].keys() == {"large/0", "large/1"}


def test_a_part_of_another_checkpoint_stays(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", 3)
    save(tmp_path / "y.npz", 3)
    (tmp_path / "y-2.npz").replace(tmp_path / "x-2.npz")
    save(tmp_path / "x.npz", 2)
    assert (tmp_path / "x-2.npz").exists()


def test_the_parts_of_a_larger_checkpoint_go(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", 12)
    save(tmp_path / "x.npz", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["x-0.npz"]


def test_a_stop_before_all_parts_are_written_leaves_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "x.npz", 3)
    parts, savez = iter(range(3)), np.savez

    def stopped(*given: Any, **arrays: Any) -> None:
        if next(parts) == 2:
            raise KeyboardInterrupt
        savez(*given, **arrays)

    monkeypatch.setattr("train.waveforms.checkpoint.np.savez", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "x.npz", 3, 2.0)
    assert all((value == 1.0).all() for value in load_parts(tmp_path / "x.npz")[0].values())
    assert {file.name for file in tmp_path.iterdir()} == {"x-0.npz", "x-1.npz", "x-2.npz"}


@pytest.mark.parametrize("done", [1, 2])
def test_a_stop_between_two_parts_is_noticed(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "x.npz", 3)
    parts, replace = iter(range(3)), os.replace

    def stopped(*names: Path) -> None:
        if next(parts) == done:
            raise KeyboardInterrupt
        replace(*names)

    monkeypatch.setattr("edge.system.atomic.os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "x.npz", 3, 2.0)
    with pytest.raises(EdgelidError, match="is of another checkpoint than"):
        load_parts(tmp_path / "x.npz")


def test_a_first_part_that_is_missing_is_named(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", 3)
    (tmp_path / "x-0.npz").unlink()
    with pytest.raises(EdgelidError, match=r"x-0.npz is missing: it is the first part"):
        load_parts(tmp_path / "x.npz")


def test_a_checkpoint_is_whole_or_not(tmp_path: Path) -> None:
    assert not is_whole(tmp_path / "x.npz")
    save(tmp_path / "x.npz", 3)
    assert is_whole(tmp_path / "x.npz")
    (tmp_path / "x-1.npz").write_bytes(b"torn")
    assert not is_whole(tmp_path / "x.npz")
