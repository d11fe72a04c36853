"""Tab-separated text as corpora publish it: quote characters are letters, and lines can be bad."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from train.corpus.importers.row import Fault

NAME_BYTES = 255  # that a file system takes at most
TAB, QUOTE = "\t", '"'
MOST_LINES = 100  # of one record, should a quotation not end


class Line(NamedTuple):
    """The fields of a line.

    Attributes
    ----------
    where
        ``FILE, line N``, for faults.
    fields
        Without the end of the line.
    """

    where: str
    fields: list[str]


def lines(file: Path, root: Path) -> Iterator[Line | Fault]:
    """Read a file line by line, in constant memory.

    Parameters
    ----------
    file
        UTF-8, with or without byte order mark.
    root
        Folder that the names in faults are relative to.

    Yields
    ------
    Line or Fault
        Empty lines are left out. A file that cannot be read is one fault, as far as it goes.
    """
    name = file.relative_to(root).as_posix()
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                where = f"{name}, line {number}"
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    yield Fault(where, "not UTF-8 text")
                    continue
                text = text.rstrip("\r\n")
                if text:
                    yield Line(where, text.split("\t"))
    except OSError as error:
        yield Fault(name, f"cannot be read ({error.strerror})")


def columns(
    file: Path,
    root: Path,
    names: Sequence[str],
    optional: Sequence[str] = (),
    *,
    quoted: bool = False,
) -> Iterator[Line | Fault]:
    """Read columns of a file by the names that its first line gives them.

    Parameters
    ----------
    file, root
        As for `lines`.
    names
        The columns, which may stand in any order and among others.
    optional
        Further columns, which are empty where the file has none.
    quoted
        Whether fields may be quoted, and then hold tabs and ends of lines, as CSV has it.

    Yields
    ------
    Line or Fault
        `Line.fields` are the columns in the order of `names` and `optional`.
    """
    header: list[str] | None = None
    places: list[int | None] = []
    for line in _records(lines(file, root)) if quoted else lines(file, root):
        if isinstance(line, Fault):
            yield line
            if header is None:
                return
        elif header is None:
            header = line.fields
            missing = [name for name in names if name not in header]
            if missing:
                yield Fault(line.where, f"no column {', '.join(missing)}")
                return
            places = [
                header.index(name) if name in header else None for name in (*names, *optional)
            ]
        elif len(line.fields) != len(header):
            yield Fault(line.where, f"{len(line.fields)} fields where {len(header)} are named")
        else:
            yield Line(line.where, ["" if i is None else line.fields[i] for i in places])


def _records(found: Iterator[Line | Fault]) -> Iterator[Line | Fault]:
    """Put together the lines that quotation marks hold together.

    A quotation mark that opens a field and that nothing closes is a letter.
    """
    waiting: deque[Line | Fault] = deque()

    def following() -> Line | Fault | None:
        return waiting.popleft() if waiting else next(found, None)

    while (line := following()) is not None:
        if isinstance(line, Fault) or not any(field.startswith(QUOTE) for field in line.fields):
            yield line
            continue
        held = [line]
        while (fields := _unquoted(held)) is None and len(held) < MOST_LINES:
            more = following()
            if isinstance(more, Fault):
                waiting.appendleft(more)
                break
            if more is None:
                break
            held.append(more)
        if not fields:
            fields = line.fields
            waiting.extendleft(reversed(held[1:]))
        yield Line(line.where, fields)


def _unquoted(held: Sequence[Line]) -> list[str] | None:
    """Fields of lines as one record; None if a quotation goes on, and none if it is no CSV."""
    text = [f"{TAB.join(line.fields)}\n" for line in held]
    try:
        return next(csv.reader(text, delimiter=TAB, strict=True))
    except csv.Error as error:
        return None if "end of data" in str(error) else []


def is_file_name(text: str) -> bool:
    """Whether a field names a file and nothing else: no folder, and nothing above it."""
    return (
        text not in ("", ".", "..")
        and not any(letter in text for letter in "/\\\0")
        and len(os.fsencode(text)) <= NAME_BYTES  # of an archive, it need not be UTF-8
    )


def positive(text: str, limit: float) -> float | None:
    """A number above zero and up to a limit; None if a field holds anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value <= limit else None


def length_s(seconds: float, limit_s: float) -> float | None:
    """The length of a clip to the millisecond; None if that is nothing, or beyond a limit."""
    rounded = round(seconds, 3) if 0 < seconds <= limit_s else 0.0
    return rounded or None
