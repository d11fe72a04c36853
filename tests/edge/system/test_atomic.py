"""Files are there whole or not at all, whatever stops the writing."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file, check_writable, write_atomically
from tests.edge.permissions import closed


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """No file of this process may grow above `free_bytes`."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_writes_and_replaces(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with full_disk(1000), pytest.raises(EdgelidError, match=r"cannot write .*: File too large"):
        write_atomically(file, bytes(100_000))
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_is_full_only_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(EdgelidError, match="No space left on device"):
        write_atomically(tmp_path / "file", b"data")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_what_stops_the_writing_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), atomic_file(tmp_path / "file") as file:
        file.write(b"half")
        raise stop
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("none/file", "No such file or directory"),
        ("file/file", "Not a directory"),
        ("folder", r"[Ii]s a (folder|directory)"),
        ("n" * 250, "File name too long"),
        ("n" * 500, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("pipe", "it is no regular file"),
        ("null", "it is no regular file"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, where: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    there = sorted(os.listdir(tmp_path))
    for write in (check_writable, lambda path: write_atomically(path, b"data")):
        with pytest.raises(EdgelidError, match=f"cannot write .*{where}: .*{why}"):
            write(tmp_path / where)
    assert sorted(os.listdir(tmp_path)) == there
    assert not Path(os.devnull).is_file()


def test_a_folder_that_is_gone_from_under_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for write in (check_writable, lambda path: write_atomically(path, b"data")):
        with pytest.raises(EdgelidError, match="cannot write file: No such file or directory"):
            write(Path("file"))


def test_the_check_leaves_things_as_they_are(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    assert not os.listdir(tmp_path)
    (tmp_path / "old").write_bytes(b"old")
    check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old"]


def test_the_check_leaves_another_writer_at_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with atomic_file(file) as opened:
        opened.write(b"half")
        check_writable(file)
        opened.write(b" and half")
    assert file.read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("old", [b"old", None])
def test_what_a_link_leads_to_is_written_and_the_link_stays(
    tmp_path: Path, old: bytes | None
) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "file", tmp_path / "link"
    if old is not None:
        file.write_bytes(old)
    link.symlink_to("there/file")
    check_writable(link)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path / "there") == ["file"]


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    with closed(tmp_path) as private:
        for write in (check_writable, lambda path: write_atomically(path, b"data")):
            with pytest.raises(EdgelidError, match=r"cannot write .*file: Permission denied\.$"):
                write(private / "file")
