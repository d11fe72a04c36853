"""The lesson book: statistics of speech that was taught, in one small file.

No audio: of every window, the weighted mean and deviation of its embeddings as the model's head
sees them, and of every lesson its language, when it was given and how. A file is read with
distrust, as a model file is, and is bounded: nothing in it is executed, and nothing makes it large.

Layout: `MAGIC`, the length of the header as a little-endian 32-bit number, the header (JSON), the
windows of all lessons in their order (int8), and the SHA-256 of all before it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from edge.languages import UNKNOWN
from edge.model.interpreter import Int8Array
from edge.model.modelfile import NONSPEECH, OTHER, ModelFile
from edge.system.atomic import write_atomically
from edge.system.regular import other_kind

FORMAT_VERSION = 1
MAGIC = b"edgelid lessons\n"
MAX_LESSONS = 500
MAX_WINDOWS = 2_000  # of all lessons: 100 minutes of speech
MAX_CHANNELS = 1 << 14  # of a window's statistics
MAX_HEADER_BYTES = 1 << 18
MAX_FILE_BYTES = MAX_HEADER_BYTES + (MAX_WINDOWS * MAX_CHANNELS) + 1024
LOCK_S = 10.0  # how long another writer is waited for; writing takes milliseconds
PRIVATE = 0o600  # permissions of a new file: it is about people

RECORDING, MICROPHONE, SECOND_OPINION = "recording", "microphone", "second opinion"
ORIGINS = (RECORDING, MICROPHONE, SECOND_OPINION)

_LENGTH_BYTES, _DIGEST_BYTES = 4, 32
# As BCP 47 begins: a code of two or three letters, and perhaps more for a variety.
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LATEST_S = 253_402_300_799.0  # the end of the year 9999, the last that dates know


@dataclass(frozen=True)
class Lesson:
    """What was taught at once.

    Attributes
    ----------
    language : str
    taught_s : float
        When, in seconds since 1970.
    origin : str
        One of `ORIGINS`.
    windows : ndarray, shape (windows, 2 * embedding), int8
        Mean and deviation of each, in the steps that the head of the model takes.
    """

    language: str
    taught_s: float
    origin: str
    windows: Int8Array


@dataclass(frozen=True)
class Book:
    """All lessons for one model.

    Attributes
    ----------
    graph_sha256 : str
        Of the model's graphs: numbers of other ones mean something else.
    model_name : str
    channels : int
        Of a window's statistics.
    lessons : tuple of Lesson
        In the order in which they were given.
    """

    graph_sha256: str
    model_name: str
    channels: int
    lessons: tuple[Lesson, ...] = ()

    @classmethod
    def of_model(cls, model: ModelFile) -> Book:
        """An empty one.

        Raises
        ------
        EdgelidError
            If the model takes whole windows, of which there are no statistics.
        """
        description = model.description
        if description.mode == "window":
            raise EdgelidError(
                f"the model {str(model.path)!r} takes whole windows, and only one that streams "
                "can be taught: convert it with --mode stream."
            )
        channels = 2 * description.stream.embedding
        return cls(description.graph_sha256, description.name, channels)

    @property
    def windows(self) -> int:
        """Of all lessons."""
        return sum(len(lesson.windows) for lesson in self.lessons)

    @property
    def languages(self) -> tuple[str, ...]:
        """What was taught, in alphabetical order."""
        return tuple(sorted({lesson.language for lesson in self.lessons}))

    def with_lesson(self, lesson: Lesson) -> Book:
        """With one more; where it would be too much, the oldest windows fade.

        They are taken from the language that has most, so that none crowds out another.
        """
        lessons = [*self.lessons, lesson]
        while (
            sum(len(each.windows) for each in lessons) > MAX_WINDOWS or len(lessons) > MAX_LESSONS
        ):
            counts: dict[str, int] = {}
            for each in lessons:
                counts[each.language] = counts.get(each.language, 0) + len(each.windows)
            most = max(sorted(counts), key=lambda language: counts[language])
            first = next(i for i, each in enumerate(lessons) if each.language == most)
            excess = sum(counts.values()) - MAX_WINDOWS
            old = lessons[first]
            if len(lessons) > MAX_LESSONS or len(old.windows) <= excess:
                del lessons[first]
            else:
                lessons[first] = replace(old, windows=old.windows[excess:])
        return replace(self, lessons=tuple(lessons))

    def without(self, language: str | None) -> Book:
        """Without the lessons in a language, or without any."""
        kept = [each for each in self.lessons if language is not None and each.language != language]
        return replace(self, lessons=tuple(kept))

    def undone(self) -> Book:
        """Without the newest lesson."""
        return replace(self, lessons=self.lessons[:-1])

    def check_model(self, model: ModelFile, name: str) -> None:
        """Refuse lessons for another model.

        Raises
        ------
        EdgelidError
            If these are.
        """
        own = Book.of_model(model)
        if (own.graph_sha256, own.channels) != (self.graph_sha256, self.channels):
            raise EdgelidError(
                f"the lessons {name!r} are for another model ({self.model_name!r}): teach "
                f"{model.description.name!r} anew, in another file."
            )


def check_language(language: str) -> None:
    """Refuse what cannot be taught.

    Raises
    ------
    EdgelidError
        If it is no code of a language.
    """
    if _CODE.fullmatch(language) is None or language in (OTHER, NONSPEECH, UNKNOWN):
        raise EdgelidError(
            f"{language!r:.60} is no language to teach: give its code, such as de or gsw."
        )


def read_book(path: str | os.PathLike[str], model: ModelFile) -> Book:
    """Read lessons for a model.

    Parameters
    ----------
    path : path-like
    model : ModelFile

    Raises
    ------
    EdgelidError
        If there is no such file, it is damaged, foreign, too large or of another version, or its
        lessons are for another model.
    """
    book = book_of_bytes(str(path), contents(Path(path)))
    book.check_model(model, str(path))
    return book


def contents(file: Path) -> bytes:
    """Bytes of a book, whatever they are.

    Raises
    ------
    EdgelidError
        If it is no file, cannot be read, or is too large for any.
    """
    name = repr(str(file))
    try:
        status = file.stat()
        if (kind := other_kind(status)) is not None:
            raise EdgelidError(f"the lessons {name} are {kind}: give a file.")
        if status.st_size > MAX_FILE_BYTES:
            raise EdgelidError(
                f"the file of lessons {name} is larger than {MAX_FILE_BYTES >> 20} MiB: give one "
                "that `edgelid teach` wrote."
            )
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise EdgelidError(
            f"the file of lessons {name} does not exist: `edgelid teach` writes one."
        ) from error
    except OSError as error:
        raise EdgelidError(
            f"the file of lessons {name} cannot be read ({error.strerror})."
        ) from error
    except ValueError as error:  # a zero byte in the name
        raise EdgelidError(f"the file of lessons {name} cannot be read ({error}).") from error


class _Unfit(Exception):
    """What is wrong with the contents of a book, and what to do."""


def book_of_bytes(name: str, data: bytes) -> Book:
    """Verify the contents of a book.

    Parameters
    ----------
    name : str
        Named in errors.
    data : bytes

    Raises
    ------
    EdgelidError
        As :func:`read_book`, but for the model.
    """
    try:
        return _parse(data)
    except _Unfit as error:
        raise EdgelidError(f"the lessons {name!r} cannot be used, as {error}.") from error


def _parse(data: bytes) -> Book:
    if not data:
        raise _Unfit("the file is empty (0 bytes): delete it, or copy it again")
    if not data.startswith(MAGIC):
        raise _Unfit("the file is no lesson book: give one that `edgelid teach` wrote")
    start = len(MAGIC) + _LENGTH_BYTES
    if len(data) < start + _DIGEST_BYTES or len(data) > MAX_FILE_BYTES:
        raise _Unfit("the file is truncated or too large: copy it again")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise _Unfit("the file is damaged: copy it again")
    length = int.from_bytes(data[len(MAGIC) : start], "little")
    if length > min(MAX_HEADER_BYTES, len(body) - start):
        raise _Unfit("its header is larger than the file, or than any that is written")
    try:
        values = json.loads(body[start : start + length])
        version = values["format_version"] if isinstance(values, dict) else None
    # Foreign bytes: what a parser of JSON may raise is no closed list.
    except Exception as error:
        raise _Unfit("its header is no JSON that `edgelid teach` wrote") from error
    if version != FORMAT_VERSION:
        raise _Unfit(
            f"they have format version {version!r:.40}, and this edgelid reads {FORMAT_VERSION}: "
            "take the edgelid that wrote them"
        )
    try:
        return _book(values, body[start + length :])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _Unfit("its header is incomplete or impossible: copy it again") from error


def _book(values: dict[str, Any], rows: bytes) -> Book:
    model, channels = values["model"], _whole(values["channels"], 2, MAX_CHANNELS)
    name, graph_sha256 = model["name"], model["graph_sha256"]
    if not (isinstance(name, str) and name.isprintable() and len(name) <= 1_000):
        raise ValueError("a name that cannot be printed")
    if not _SHA256.fullmatch(graph_sha256):
        raise ValueError("no hash")
    told = values["lessons"]
    if not isinstance(told, list) or len(told) > MAX_LESSONS:
        raise ValueError("too many lessons")
    counts = [_whole(lesson["windows"], 1, MAX_WINDOWS) for lesson in told]
    if sum(counts) > MAX_WINDOWS or sum(counts) * channels != len(rows):
        raise ValueError("not as many windows as the header says")
    # A copy: what was read is not to be written to.
    windows = np.frombuffer(rows, np.int8).reshape(-1, channels).copy()
    lessons, first = [], 0
    for lesson, count in zip(told, counts, strict=True):
        lessons.append(_lesson(lesson, windows[first : first + count]))
        first += count
    return Book(graph_sha256, name, channels, tuple(lessons))


def _lesson(values: dict[str, Any], windows: Int8Array) -> Lesson:
    language, taught_s, origin = values["language"], values["taught_s"], values["origin"]
    if _CODE.fullmatch(language) is None or origin not in ORIGINS:
        raise ValueError("no language, or none of the origins")
    if type(taught_s) not in (int, float) or not 0 <= taught_s <= _LATEST_S:
        raise ValueError("no time")
    return Lesson(language, float(taught_s), origin, windows)


def _whole(value: Any, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError("no such number")
    return value


def pack_book(book: Book) -> bytes:
    """The bytes of a book; equal books give equal bytes."""
    header = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "model": {"name": book.model_name, "graph_sha256": book.graph_sha256},
            "channels": book.channels,
            "lessons": [
                {
                    "language": lesson.language,
                    "taught_s": lesson.taught_s,
                    "origin": lesson.origin,
                    "windows": len(lesson.windows),
                }
                for lesson in book.lessons
            ],
        },
        sort_keys=True,
    ).encode()
    rows = b"".join(np.ascontiguousarray(each.windows).tobytes() for each in book.lessons)
    body = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "little") + header + rows
    return body + hashlib.sha256(body).digest()


def update_book(path: Path, model: ModelFile, change: Callable[[Book], Book]) -> Book:
    """Change a book on disk, with no other writer in between; one that is not there is begun.

    Parameters
    ----------
    path : Path
    model : ModelFile
    change : callable
        Gives the new book from the one that is there. What it raises leaves the file as it is.

    Returns
    -------
    Book
        As it is now.

    Raises
    ------
    EdgelidError
        If the file cannot be used or written, or another writer does not get done.
    """
    with _locked(path):
        is_there = os.path.exists(path)  # noqa: PTH110 - no error where it may not be seen
        book = read_book(path, model) if is_there else Book.of_model(model)
        changed = change(book)
        write_atomically(path, pack_book(changed), PRIVATE)
        return changed


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other writers away: of the folder, as writing replaces the file that is in it."""
    try:
        folder_path = Path(os.path.realpath(path)).parent  # a link is written where it leads to
        folder = os.open(folder_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EdgelidError(f"cannot write {path}: {error.strerror}.") from error
    try:
        _wait_for(folder, path)
        yield
    finally:
        os.close(folder)


def _wait_for(folder: int, path: Path) -> None:
    end_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if time.monotonic() >= end_s:
                raise EdgelidError(
                    f"another edgelid is writing {path}, and does not get done: end it, or try "
                    "again later."
                ) from error
        time.sleep(0.05)
