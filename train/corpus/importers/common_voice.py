"""Mozilla Common Voice, from the second release (2019) on: tables and ``clips/`` a language.

The splits of the corpus are kept, and a clip counts once, in the first table of `SPLITS` that has
it. Clips of ``validated.tsv`` that are in none of them, often the larger part, become training
clips; those whose speaker is held out are dropped by `train.corpus.importing`, as are all others of
a speaker that two splits, maybe of two languages, share. ``other.tsv`` and ``invalidated.tsv`` are
left alone: nobody has confirmed that their clips hold the language, or somebody has denied it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.text import Line, columns, is_file_name, lines, positive
from train.corpus.importers.tree import shown, unreadable

LAYOUT = "LANG/{validated,train,dev,test}.tsv beside LANG/clips/, at any depth"

NAME = "common-voice"
SPLITS = ("test", "dev", "train")
VALIDATED = "validated"
TABLES = tuple(f"{name}.tsv" for name in (*SPLITS, VALIDATED))
CLIPS = "clips"
LENGTHS = "clip_durations.tsv"  # columns: clip, duration[ms]
LONGEST_S = 60.0  # recordings end after some 15 s; what is stated above this is wrong


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of one release: of all its languages, or of the one whose folder `root` is."""
    taken: dict[str, Path] = {}
    errors: list[OSError] = []
    for folder in _language_folders(root, errors):
        name = folder.resolve().name
        if name in taken:
            yield Fault(
                folder.relative_to(root).as_posix(),
                f"a second release of {name} beside {taken[name].relative_to(root)}, which holds "
                "the same clips: import one",
            )
            continue
        taken[name] = folder
        yield from _language(folder, name, root)
    yield from unreadable(errors, root)


def _language_folders(root: Path, errors: list[OSError]) -> Iterator[Path]:
    for parent, inner, names in os.walk(root, onerror=errors.append):
        if any(table in names for table in TABLES):
            inner[:] = []
            yield Path(parent)
        else:
            inner[:] = sorted(name for name in inner if name != CLIPS and not name.startswith("."))


def _language(folder: Path, name: str, root: Path) -> Iterator[Row | Fault]:
    # Of the largest language some millions: each leaves when its clip has been seen, so that
    # the names of clips, which are kept from there on, take no memory besides.
    lengths_s = dict(_lengths(folder, root))
    seen: set[str] = set()
    clips = (folder / CLIPS).relative_to(root).as_posix()
    origin = f"Common Voice, {_release(folder)}"
    for split in (*SPLITS, VALIDATED):
        table = folder / f"{split}.tsv"
        if not table.is_file():
            continue
        for line in columns(table, root, ("client_id", "path"), optional=("locale",)):
            if isinstance(line, Fault):
                yield line
                continue
            speaker, file, locale = line.fields
            # A folder can be called cv-de, which is Chuvash: newer tables know better.
            language = from_code(locale or name)
            if not speaker:
                yield Fault(line.where, "client_id is empty")
            elif not is_file_name(file):
                yield Fault(line.where, f"path {file!r} is no file name")
            elif language is None:
                yield Fault(line.where, f"{locale or name!r} is no code of a language")
            else:
                if not file.endswith(".mp3"):  # so in the first tables
                    file += ".mp3"
                if file in seen:
                    continue
                seen.add(file)
                yield Row(
                    path=f"{clips}/{file}",
                    language=language,
                    split="train" if split == VALIDATED else split,
                    speaker=f"{NAME}:{speaker}",
                    source=NAME,
                    seconds=lengths_s.pop(file, None),
                    licence="CC0-1.0",
                    origin=origin,
                )


def _lengths(folder: Path, root: Path) -> Iterator[tuple[str, float]]:
    """Lengths in seconds by file name, those that can be right; others will be measured."""
    table = folder / LENGTHS
    for line in lines(table, root) if table.is_file() else ():
        if isinstance(line, Line) and len(line.fields) > 1:
            milliseconds = positive(line.fields[1], 1000 * LONGEST_S)
            if milliseconds is not None:  # in the first line it is the name of the column
                yield line.fields[0], milliseconds / 1000


def _release(folder: Path) -> str:
    parent = folder.resolve().parent.name
    return shown(parent) if parent.startswith("cv-corpus-") else "release not known"
