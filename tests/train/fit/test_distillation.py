"""The teacher's units: read with their clips, found at the right moments, refused if unfit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from edge.errors import EdgelidError
from tests.synthetic import rows_of
from train.corpus.manifest import Clip
from train.fit.distillation import FRAMES_PER_TEACHER_FRAME, UNITS, Origin, Teacher
from train.fit.teacher import VERSION

SCALE = np.array([0.5, 2.0], np.float32)
GAIN = np.array([2.0, 0.25], np.float32)
FRAME_S = 0.04


def clip(path: str, frames: int) -> Clip:
    """A clip of so many teacher's frames and a half."""
    duration_s = (frames + 0.5) * FRAME_S
    return Clip(path, "de", "train", True, "anna", "home", "human", duration_s, "CC0-1.0", "")


def write(path: Path, values: dict[str, list[int]], **changes: Any) -> Path:
    """An archive in which the frames of a clip are, as int8, pairs that name the units."""
    frames = [pair(value) for clip_values in values.values() for value in clip_values]
    lengths = [len(clip_values) for clip_values in values.values()]
    arrays = {
        "version": np.array(VERSION),
        "frames": np.array(frames, np.int8).reshape(-1, 2),
        "scale": SCALE,
        "gain": GAIN,
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "paths": np.array(list(values)),
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def pair(value: int) -> tuple[int, int]:
    """A point of a grid of 16 by 16, far from the others."""
    return 15 * (value // 16) - 112, 15 * (value % 16) - 112


# Every unit once, so that each point of the grid becomes a cluster of its own.
FIRST = {"a.wav": [7, 7, 9], "b.wav": list(range(UNITS)), "c.wav": [9]}
SECOND = {"d.wav": [200, 7], "e.wav": [9, 9, 200, 31]}
CLIPS = {path: clip(path, len(values)) for path, values in (FIRST | SECOND).items()}


def rows(*paths: str) -> pl.DataFrame:
    return rows_of(CLIPS[path] for path in paths)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("teacher")
    return [write(folder / "first.npz", FIRST), write(folder / "second.npz", SECOND)]


def units(teacher: Teacher, index: int) -> list[int]:
    start, length = teacher.starts[index], teacher.lengths[index]
    return [int(unit) for unit in teacher.units[start : start + length]]


def test_one_archive(archives: list[Path]) -> None:
    teacher = Teacher.load(archives[:1], rows("c.wav", "a.wav", "b.wav"))
    assert teacher.units.dtype == np.uint16
    assert teacher.lengths.tolist() == [1, 3, UNITS]
    known = units(teacher, 2)
    assert len(set(known)) > UNITS * 0.8  # clusters, each of a point or of neighbours
    assert max(known) < UNITS
    assert units(teacher, 0) == [known[9]]
    assert units(teacher, 1) == [known[7], known[7], known[9]]


def test_the_units_of_a_further_archive_are_those_of_the_first(archives: list[Path]) -> None:
    alone = Teacher.load(archives[:1], rows("b.wav"))
    known = units(alone, 0)
    order = ["e.wav", "b.wav", "d.wav", "a.wav"]
    both = Teacher.load(archives, rows(*order))
    assert len(both.units) == 4 + UNITS + 6
    for index, path in enumerate(order):
        assert units(both, index) == [known[value] for value in (FIRST | SECOND)[path]]


def test_a_clip_that_is_shorter_than_a_frame(archives: list[Path]) -> None:
    """The teacher hears nothing in it, which is no reason to refuse it."""
    short = clip("short.wav", 0)
    teacher = Teacher.load(archives, rows_of([short, CLIPS["a.wav"]]))
    assert teacher.lengths.tolist() == [0, 3]
    _, known = teacher.targets(Origin(np.array([0, 1]), np.zeros(2)), np.arange(2))
    assert known.tolist() == [0, 1]


def test_a_clip_that_is_missing(archives: list[Path]) -> None:
    other = clip("new/z.wav", 3)
    with pytest.raises(EdgelidError, match=r"no teacher's embeddings of 'new/z.wav' in .*first"):
        Teacher.load(archives, rows_of([CLIPS["a.wav"], other]))
    with pytest.raises(EdgelidError, match=r"of 'd.wav' in [^,]*first.npz: run python -m train"):
        Teacher.load(archives[:1], rows("d.wav"))


@pytest.mark.parametrize("name", ["scale", "gain"])
def test_projections_that_differ(archives: list[Path], tmp_path: Path, name: str) -> None:
    changed = {name: {"scale": SCALE, "gain": GAIN}[name] * np.float32(1.01)}
    other = write(tmp_path / "other.npz", SECOND, **changed)
    message = f"have different projections: .* python -m train.fit.teacher --like {archives[0]}"
    with pytest.raises(EdgelidError, match=message) as failure:
        Teacher.load([archives[0], other], rows("a.wav"))
    assert "\n" not in str(failure.value)


def test_too_little_speech(tmp_path: Path) -> None:
    path = write(tmp_path / "few.npz", SECOND)
    with pytest.raises(EdgelidError, match=r"few.npz has fewer than 256 frames"):
        Teacher.load([path], rows("d.wav"))


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "text", "array", "lacks paths"])
def test_a_damaged_file(archives: list[Path], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.npz"
    data = archives[1].read_bytes()
    if damage == "lacks paths":
        write(path, SECOND, paths=None)
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage != "gone":
        path.write_bytes({"empty": b"", "cut": data[:-40], "text": b"no archive"}[damage])
    with pytest.raises(EdgelidError, match=r"cannot read the teacher's embeddings .*damaged"):
        Teacher.load([archives[0], path], rows("a.wav"))


def test_a_pipe(archives: list[Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")  # opening one would wait for a writer, perhaps for ever
    with pytest.raises(EdgelidError, match=r"pipe\.npz' is no regular file"):
        Teacher.load([archives[0], tmp_path / "pipe.npz"], rows("a.wav"))


def test_a_file_that_was_made_in_packs(archives: list[Path], tmp_path: Path) -> None:
    path = write(tmp_path / "packs.npz", SECOND, version=None)
    message = r"packs.npz were made in packs of 30 s.*: make them again with python -m train"
    with pytest.raises(EdgelidError, match=message) as failure:
        Teacher.load([archives[0], path], rows("a.wav"))
    assert "\n" not in str(failure.value)


def test_targets() -> None:
    """Of two clips with a pause between, the second of them played from its third frame on."""
    teacher = Teacher(
        np.array([10, 11, 12, 20, 21, 22], np.uint16), np.array([3, 0]), np.array([3, 3])
    )
    assert FRAMES_PER_TEACHER_FRAME == 4
    origin = Origin(
        np.array([0] * 6 + [-1] * 2 + [1] * 4), np.array([*range(6), 0, 0, 2, 3, 4, 30.0])
    )
    centres = np.array([-5, -1, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    targets, known = teacher.targets(origin, centres)
    assert (targets.dtype, known.dtype) == (np.int32, np.float32)
    assert known.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    # The last one is beyond the clip's end: what the teacher heard last.
    assert targets[known > 0].tolist() == [20, 20, 21, 21, 10, 10, 11, 12]


def test_targets_of_a_clip_that_was_played_faster() -> None:
    teacher = Teacher(np.arange(8, dtype=np.uint16), np.array([0]), np.array([8]))
    origin = Origin(np.zeros(20, int), np.arange(20) * 1.5)
    targets, known = teacher.targets(origin, np.arange(20))
    assert known.all()
    assert targets.tolist() == [int(i * 1.5) // 4 for i in range(20)]


def test_some_of_the_clips(archives: list[Path]) -> None:
    teacher = Teacher.load(archives, rows("a.wav", "b.wav", "d.wav"))
    taken = teacher.take(np.array([2, 0]))
    assert [units(taken, i) for i in (0, 1)] == [units(teacher, i) for i in (2, 0)]


def test_nothing_is_known_of_noise() -> None:
    teacher = Teacher(np.arange(8, dtype=np.uint16), np.array([0]), np.array([8]))
    _, known = teacher.targets(Origin.nothing(10), np.arange(-2, 8))
    assert known.tolist() == [0] * 10


def test_a_teacher_is_what_it_was_made_of(archives: list[Path]) -> None:
    """The same archives give the same units: a run that goes on needs them so."""
    clips = rows("b.wav", "e.wav")
    one, other = Teacher.load(archives, clips), Teacher.load(archives, clips)
    for field in dataclasses.fields(Teacher):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
