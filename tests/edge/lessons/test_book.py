"""The lesson book: what is written is read again, and what is not right is refused."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import multiprocessing
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.lessons import book as book_module
from edge.lessons.book import (
    MAGIC,
    MAX_WINDOWS,
    RECORDING,
    Book,
    Lesson,
    book_of_bytes,
    check_language,
    pack_book,
    read_book,
    update_book,
)
from edge.model.modelfile import SECOND_OPINIONS, ModelFile, read_model


def lesson(language: str, windows: int, channels: int, seed: int = 0) -> Lesson:
    values = np.random.default_rng(seed).integers(-128, 128, (windows, channels)).astype(np.int8)
    return Lesson(language, 1_700_000_000.0 + seed, RECORDING, values)


@pytest.fixture
def book(model: ModelFile) -> Book:
    empty = Book.of_model(model)
    taught = empty.with_lesson(lesson("de", 5, empty.channels, 1))
    return taught.with_lesson(lesson("gsw", 3, empty.channels, 2))


def with_header(book: Book, change: dict[str, Any]) -> bytes:
    """The bytes of a book with another header, and a digest that fits."""
    data = pack_book(book)
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    header = json.dumps({**json.loads(data[start : start + length]), **change}).encode()
    body = MAGIC + len(header).to_bytes(4, "little") + header + data[start + length : -32]
    return body + hashlib.sha256(body).digest()


def same(first: Book, second: Book) -> bool:
    return pack_book(first) == pack_book(second)


def test_round_trip(book: Book, model: ModelFile, tmp_path: Path) -> None:
    file = tmp_path / "my-voices.edgelid"
    file.write_bytes(pack_book(book))
    again = read_book(file, model)
    assert same(again, book)
    assert [each.language for each in again.lessons] == ["de", "gsw"]
    np.testing.assert_array_equal(again.lessons[1].windows, book.lessons[1].windows)


def test_undo_and_forget(book: Book) -> None:
    assert [each.language for each in book.undone().lessons] == ["de"]
    assert [each.language for each in book.without("de").lessons] == ["gsw"]
    assert book.without(None).lessons == ()


def test_it_stays_bounded_and_no_language_crowds_out_another(model: ModelFile) -> None:
    book = Book.of_model(model)
    book = book.with_lesson(lesson("nl", 40, book.channels))
    for seed in range(30):
        book = book.with_lesson(lesson("de", 100, book.channels, seed))
    assert book.windows == MAX_WINDOWS
    assert len(book.lessons[0].windows) == 40
    assert len(pack_book(book)) < 3_000_000
    # The oldest have faded, and the newest are whole.
    assert book.lessons[-1].taught_s == 1_700_000_029.0
    assert len(book.lessons[-1].windows) == 100
    for seed in range(book_module.MAX_LESSONS + 20):
        book = book.with_lesson(lesson("fr", 1, book.channels, seed))
    assert len(book.lessons) == book_module.MAX_LESSONS
    assert same(book_of_bytes("x", pack_book(book)), book)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: b"", "empty"),
        (lambda data: b"PK\x03\x04" + data, "no lesson book"),
        (lambda data: data[:30], "truncated"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "damaged"),
    ],
)
def test_damage_is_refused(book: Book, spoil: Any, said: str) -> None:
    with pytest.raises(EdgelidError, match=said) as refused:
        book_of_bytes("x", spoil(pack_book(book)))
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 1 << 40},
        {"channels": True},
        {"channels": "512"},
        {"model": {"name": "a\nb", "graph_sha256": "0" * 64}},
        {"model": {"name": "a", "graph_sha256": "../" * 21 + "0"}},
        {"model": []},
        {"lessons": {}},
        {"lessons": [{"language": "de", "taught_s": 0, "origin": "recording", "windows": 8}] * 600},
        {"lessons": [{"language": "de", "taught_s": 0, "origin": "recording", "windows": -8}]},
        {"lessons": [{"language": "de", "taught_s": 0, "origin": "recording", "windows": 1 << 60}]},
        {"lessons": [{"language": "../x", "taught_s": 0, "origin": "recording", "windows": 8}]},
        {"lessons": [{"language": 7, "taught_s": 0, "origin": "recording", "windows": 8}]},
        {"lessons": [{"language": "de", "taught_s": 1e300, "origin": "recording", "windows": 8}]},
        {"lessons": [{"language": "de", "taught_s": None, "origin": "recording", "windows": 8}]},
        {"lessons": [{"language": "de", "taught_s": 0, "origin": "elsewhere", "windows": 8}]},
        {"lessons": [None]},
    ],
)
def test_headers_that_lie_are_refused(book: Book, change: dict[str, Any]) -> None:
    with pytest.raises(EdgelidError, match="incomplete or impossible"):
        book_of_bytes("x", with_header(book, change))


def test_another_version_is_refused(book: Book) -> None:
    with pytest.raises(EdgelidError, match="format version 2, and this edgelid reads 1"):
        book_of_bytes("x", with_header(book, {"format_version": 2}))


def test_hostile_bytes_behind_a_digest_that_fits(book: Book) -> None:
    """What fuzzing would find, without the digest in its way."""
    chance = random.Random(1)
    body = pack_book(book)[:-32]
    outcomes = set()
    for _ in range(3_000):
        new = bytearray(body)
        for _ in range(chance.choice((1, 1, 2, 5))):
            reach = min(len(new), chance.choice((24, 300, 500, len(new))))
            at = chance.randrange(len(MAGIC), max(reach, len(MAGIC) + 1))
            action = chance.randrange(4)
            if action == 0:
                new[at] = chance.randrange(256)
            elif action == 1:
                del new[at : at + chance.choice((1, 4, 64))]
            elif action == 2:
                new[at:at] = new[at : at + chance.choice((1, 8, 200))] * chance.choice((1, 30))
            else:
                new[at:at] = chance.choice((b"[" * 3000, b"9" * 5000, b"NaN", b"1e999", b"\0"))
        data = bytes(new)
        try:
            read = book_of_bytes("x", data + hashlib.sha256(data).digest())
        except EdgelidError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
        else:
            assert read.windows <= MAX_WINDOWS
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


def test_another_models_lessons(book: Book, model: ModelFile, tmp_path: Path) -> None:
    file = tmp_path / "voices"
    file.write_bytes(pack_book(dataclasses.replace(book, graph_sha256="0" * 64)))
    with pytest.raises(EdgelidError, match="are for another model"):
        read_book(file, model)
    with pytest.raises(EdgelidError, match="takes whole windows"):
        Book.of_model(read_model(SECOND_OPINIONS["large"]))


def test_what_is_no_file(model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="does not exist"):
        read_book(tmp_path / "none", model)
    with pytest.raises(EdgelidError, match="a folder"):
        read_book(tmp_path, model)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EdgelidError, match="no regular file"):
        read_book(tmp_path / "pipe", model)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(book_module.MAX_FILE_BYTES + 1)
    with pytest.raises(EdgelidError, match="larger than"):
        read_book(tmp_path / "huge", model)
    with pytest.raises(EdgelidError, match="cannot write"):
        update_book(tmp_path / "no folder" / "voices", model, lambda book: book)


@pytest.mark.parametrize("word", ["other", "nonspeech", "unknown", "", "DE", "d", "../x", "de\n"])
def test_what_is_no_language(word: str) -> None:
    with pytest.raises(EdgelidError, match="no language to teach"):
        check_language(word)


def test_a_full_disk_loses_nothing(
    model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voices"
    first = update_book(file, model, lambda b: b.with_lesson(lesson("de", 4, b.channels)))
    assert file.stat().st_mode & 0o777 == 0o600

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(EdgelidError, match="No space left on device"):
            update_book(file, model, lambda b: b.with_lesson(lesson("fr", 4, b.channels)))
    assert same(read_book(file, model), first)
    assert [path.name for path in tmp_path.iterdir()] == ["voices"]


def _teach(file: Path, model: ModelFile, language: str, times: int) -> None:
    for seed in range(times):
        new = lesson(language, 2, 2 * model.description.stream.embedding, seed)
        update_book(file, model, functools.partial(Book.with_lesson, lesson=new))


def test_two_writers_lose_nothing(model: ModelFile, tmp_path: Path) -> None:
    file = tmp_path / "voices"
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_teach, args=(file, model, language, 15))
        for language in ("de", "fr")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    languages = [each.language for each in read_book(file, model).lessons]
    assert (languages.count("de"), languages.count("fr")) == (15, 15)


def test_what_is_forgotten_through_a_link_is_gone(model: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "voices", tmp_path / "link"
    link.symlink_to(file)
    update_book(link, model, lambda book: book.with_lesson(lesson("de", 4, book.channels)))
    assert len(read_book(file, model).lessons) == 1
    update_book(link, model, lambda book: book.without(None))
    assert link.is_symlink()
    assert not read_book(file, model).lessons


def test_a_writer_that_does_not_get_done(
    model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "LOCK_S", 0.1)
    (tmp_path / "links").mkdir()
    file, link = tmp_path / "voices", tmp_path / "links" / "voices"
    link.symlink_to(file)

    def meanwhile(book: Book) -> Book:
        for name in (file, link):
            with pytest.raises(EdgelidError, match="another edgelid is writing"):
                update_book(name, model, lambda inner: inner)
        return book

    update_book(file, model, meanwhile)
