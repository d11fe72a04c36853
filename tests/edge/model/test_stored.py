"""A graph on disk is the same graph, leaves no file, and is not in memory once it is packed."""

from __future__ import annotations

import errno
import gc
import io
import logging
import mmap
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.model import trust
from edge.model.interpreter import (
    Graphs,
    OpenedModel,
    WindowGraph,
    open_file,
    open_model,
    open_on_disk,
)
from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS, read_model
from edge.model.stored import StoredModel
from tests.fuzz.seeds import WINDOW_SEED

LARGE = SECOND_OPINIONS["large"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc")


def mapped_kib(folder: Path) -> dict[str, int]:
    """How much of mapped files that were in a folder is resident, by their names."""
    found, name = {}, ""
    for line in Path("/proc/self/smaps").read_text(errors="surrogateescape").splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            name = line.partition(str(folder))[2]
        elif name and line.startswith("Rss:"):
            found[name] = int(line.split()[1])
    return found


@on_linux
def test_the_same_answers_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: Float32Array
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    whole = open_model(read_model(LARGE))
    model, graph = open_on_disk(LARGE)
    assert isinstance(whole, WindowGraph) and isinstance(graph, WindowGraph)
    assert model.graph == b"" and model.sha256 == read_model(LARGE).sha256
    rng = np.random.default_rng(0)
    for frames in (300, 100):  # the second makes room anew
        window = rng.normal(size=(frames, model.description.front_end.mels)).astype(np.float32)
        np.testing.assert_array_equal(graph.scores(window), whole.scores(window))
    assert list(tmp_path.iterdir()) == []
    (resident,) = mapped_kib(tmp_path).values()
    assert resident < LARGE.stat().st_size / 1024 / 4
    before = len(os.listdir("/proc/self/fd"))
    open_on_disk(LARGE)
    assert len(os.listdir("/proc/self/fd")) == before


@on_linux
@pytest.mark.parametrize("name", ["plain", os.fsdecode(b"\xff\xe9"), "Jos\u00e9"])
def test_what_was_read_leaves_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tmp_path /= name  # of any bytes: not every one is UTF-8
    tmp_path.mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    contents = os.urandom(1 << 20)
    parts = tmp_path / "0", tmp_path / "1"
    for part, half in zip(parts, (contents[:1000], contents[1000:]), strict=True):
        part.write_bytes(half)
    stored = StoredModel(parts)
    with Path(stored.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert mapped[:] == contents
    assert list(mapped_kib(tmp_path).values()) == [1024]
    stored.let_go()
    assert list(mapped_kib(tmp_path).values()) == [0]
    stored.close()
    assert mapped[:] == contents  # it comes back when it is read
    mapped.close()


def test_a_strangers_graph_is_tried_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(trust, "_try", lambda model, threads: tried.append(model.graph))
    monkeypatch.setattr(trust, "_admitted", set())
    open_on_disk(SECOND_OPINIONS["xlarge"])
    assert not tried  # it comes along
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(LARGE.read_bytes())
    open_on_disk(copy)
    assert not tried  # and so does what is in this one
    open_on_disk(Path(WINDOW_SEED))
    assert tried == [read_model(WINDOW_SEED).graph]


@on_linux
def test_only_a_large_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model, _ = open_file(LARGE, 2)
    assert model.graph == b"" and mapped_kib(tmp_path)
    model, graph = open_file(DEFAULT_MODEL)
    assert model.graph and isinstance(graph, Graphs)
    for path in (LARGE, DEFAULT_MODEL):
        with pytest.raises(EdgelidError, match="65 threads are not possible"):
            open_file(path, 65)
    with pytest.raises(EdgelidError, match="does not exist"):
        open_file(tmp_path / "none.tflite")


@on_linux
def test_one_copy_serves_several_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    opened = OpenedModel(LARGE)
    assert opened.model.graph == b""
    assert len(os.listdir("/proc/self/fd")) == before + 1
    first, second = opened.run(), opened.run()
    (resident,) = mapped_kib(tmp_path).values()  # one file
    assert resident < LARGE.stat().st_size / 1024 / 4
    opened.close()
    assert len(os.listdir("/proc/self/fd")) == before + 2  # their own
    window = np.zeros((300, opened.model.description.front_end.mels), np.float32)
    assert isinstance(first, WindowGraph) and isinstance(second, WindowGraph)
    np.testing.assert_array_equal(first.scores(window), second.scores(window))


@on_linux
def test_a_copy_goes_with_whoever_forgets_to_close_it(recwarn: pytest.WarningsRecorder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    OpenedModel(LARGE)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]


def test_without_a_place_it_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="edge.model.interpreter")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    model, graph = open_on_disk(LARGE)
    assert len(model.graph) > 0
    assert isinstance(graph, WindowGraph)
    assert any(message.startswith("graph in memory") for message in caplog.messages)


class Unreadable(io.BytesIO):
    """A copy on a disk that fails once it is written."""

    fileno = staticmethod(lambda: 0)

    def read(self, count: int | None = -1) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@on_linux
@pytest.mark.parametrize("name", ["large", "xlarge"])
def test_a_copy_that_cannot_be_read_is_told_in_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Unreadable())
    with pytest.raises(EdgelidError, match=r"cannot be read \(Input/output error\)\.$"):
        open_on_disk(SECOND_OPINIONS[name])


@on_linux
def test_a_full_disk_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    full = Path("/dev/full").open("w+b")  # noqa: SIM115
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
    with pytest.raises(OSError, match="No space left"):
        StoredModel([LARGE])
    assert full.closed and len(os.listdir("/proc/self/fd")) == before
