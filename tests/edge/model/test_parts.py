"""A model file may lie there in parts."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from edge.model import trust
from edge.model.modelfile import (
    BLOCK_BYTES,
    DEFAULT_MODEL,
    MAX_MEMBERS,
    is_model_file,
    read_model,
    read_without_graph,
)
from edge.model.parts import MAX_PARTS, files_of, open_files


def split(folder: Path, sizes: list[int]) -> Path:
    """The shipped model in parts."""
    data, place = DEFAULT_MODEL.read_bytes(), 0
    for i, size in enumerate([*sizes, len(DEFAULT_MODEL.read_bytes()) - sum(sizes)]):
        (folder / f"m.tflite.{i}").write_bytes(data[place : place + size])
        place += size
    return folder / "m.tflite"


def test_parts_are_the_file(tmp_path: Path) -> None:
    model = read_model(split(tmp_path, [1_000_000, 7]))
    whole = read_model(DEFAULT_MODEL)
    assert model.sha256 == whole.sha256 and model.size_bytes == whole.size_bytes
    assert model.graph == whole.graph


def test_files_are_read_as_one(tmp_path: Path) -> None:
    contents = bytes(range(256)) * 3
    files = [tmp_path / name for name in "abcd"]
    for file, start, end in zip(files, (0, 5, 5, 700), (5, 5, 700, None), strict=True):
        file.write_bytes(contents[start:end])
    with open_files(files) as data:
        assert data.read() == contents and data.read(1) == b""
        assert data.seek(-70, os.SEEK_END) == len(contents) - 70
        assert data.read(10) == contents[-70:-60]
        assert data.seek(-10, os.SEEK_CUR) == data.tell() == len(contents) - 70
        for place in range(len(contents) + 1):  # every border, from before it, at it and behind it
            data.seek(place)
            assert data.read(7) == contents[place : place + 7]
        with pytest.raises(OSError, match="before"):
            data.seek(-1)
    with pytest.raises(FileNotFoundError):
        open_files([files[0], tmp_path / "none"])


def test_without_its_graph_it_is_verified_all_the_same(tmp_path: Path) -> None:
    path = split(tmp_path, [1_000_000, 7])
    model, whole = read_without_graph(path), read_model(path)
    assert model.graph == b"" and model.graph_bytes == whole.graph_bytes == len(whole.graph)
    assert (model.labels, model.description) == (whole.labels, whole.description)
    assert (model.sha256, model.size_bytes) == (whole.sha256, whole.size_bytes)
    part = path.with_name(f"{path.name}.1")
    part.write_bytes(bytes(7))
    with pytest.raises(EdgelidError, match="its graph is damaged"):
        read_without_graph(path)


def test_a_whole_file_comes_first(tmp_path: Path) -> None:
    path = split(tmp_path, [1_000_000])
    path.write_bytes(b"")
    assert files_of(path) == [path]
    with pytest.raises(EdgelidError, match="it is empty"):
        read_model(path)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_part_that_is_missing_before_others_is_named(tmp_path: Path, missing: int) -> None:
    path = split(tmp_path, [1_000_000, 1_000_000])
    (tmp_path / f"m.tflite.{missing}").unlink()
    with pytest.raises(EdgelidError, match=rf"lacks its part m\.tflite\.{missing}: copy it again"):
        read_model(path)


def test_a_part_is_not_taken_for_the_model(tmp_path: Path) -> None:
    path = split(tmp_path, [1_000_000])
    with pytest.raises(EdgelidError, match=r"is a part of a model: give '.*m\.tflite'\."):
        read_model(path.with_name("m.tflite.0"))


def test_a_whole_model_may_be_called_like_a_part(tmp_path: Path) -> None:
    """As copies of before are, by whoever numbers them."""
    split(tmp_path, [1_000_000])
    whole = read_model(DEFAULT_MODEL)
    for name in ("m.tflite.7", "old.tflite.1"):
        copy = tmp_path / name
        copy.write_bytes(DEFAULT_MODEL.read_bytes())
        assert read_model(copy).sha256 == whole.sha256
    with pytest.raises(EdgelidError, match="does not exist"):
        read_model(tmp_path / "none.tflite.1")


def test_a_part_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    path = split(tmp_path, [1_000_000, 1_000_000])
    (tmp_path / "m.tflite.2").unlink()
    with pytest.raises(EdgelidError, match="it is truncated"):
        read_model(path)
    for part in tmp_path.iterdir():
        part.unlink()
    with pytest.raises(EdgelidError, match="does not exist"):
        read_model(path)


def test_there_are_only_so_many(tmp_path: Path) -> None:
    path = split(tmp_path, [1000] * (MAX_PARTS + 2))
    assert len(files_of(path)) == MAX_PARTS


def test_all_parts_count_for_its_size(tmp_path: Path) -> None:
    for i in range(3):
        with (tmp_path / f"m.tflite.{i}").open("wb") as file:
            file.truncate(30 << 20)
    with pytest.raises(EdgelidError, match="larger than 64 MiB"):
        read_model(tmp_path / "m.tflite")


@pytest.mark.parametrize("size", [1, BLOCK_BYTES, 1_000_003])
def test_what_comes_along_in_parts_needs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    graph = read_model(DEFAULT_MODEL).graph
    path = split(tmp_path, [size, len(graph) - size + 2])  # the second border is in the signature
    assert trust._is_graph_of(files_of(path), graph)
    assert not trust._is_graph_of(files_of(path), graph[:-1])
    assert not trust._is_graph_of(files_of(path), graph + b"P")
    assert not trust._is_graph_of(files_of(path)[:1], graph)

    def refuse(*_: object) -> None:
        raise AssertionError("was tried")

    monkeypatch.setattr(trust, "_try", refuse)
    trust.admit(read_model(path), 1)


def test_a_pipe_that_is_called_like_a_part_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "m.tflite.0").touch()
    os.mkfifo(tmp_path / "m.tflite.1")
    for name, words in (("m.tflite.1", "is a part of a model"), ("m.tflite", "no regular file")):
        with pytest.raises(EdgelidError, match=words):
            read_model(tmp_path / name)


def test_a_part_with_a_directory_of_another_version_is_a_part(tmp_path: Path) -> None:
    (tmp_path / "m.tflite.0").touch()
    path = tmp_path / "m.tflite.1"
    data = bytearray(DEFAULT_MODEL.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99  # the version of ZIP that it takes to read it
    path.write_bytes(data)
    with pytest.raises(EdgelidError, match="is a part of a model"):
        read_model(path)


def test_a_file_with_a_huge_directory_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(DEFAULT_MODEL.read_bytes())
    assert is_model_file(path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(MAX_MEMBERS):
            archive.writestr(f"{number}", b"")
    assert not is_model_file(path)
