"""Multilingual LibriSpeech: ``mls_german/{train,dev,test}/segments.txt`` and ``audio/``.

A reader of LibriVox has one number in all languages, and is one speaker here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_name
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.text import Line, length_s, lines
from train.corpus.importers.tree import folders

LAYOUT = "mls_LANGUAGE[_opus]/{train,dev,test}/segments.txt and .../audio/SPEAKER/BOOK/*.flac"

NAME = "mls"
SPLITS = ("train", "dev", "test")
FOLDER = re.compile(r"mls_(?P<language>[a-z]+)(_opus)?")
CLIP = re.compile(r"(?P<speaker>[0-9]{1,20})_(?P<book>[0-9]{1,20})_[0-9]{1,20}")
COLUMNS = 4  # clip, address of the recording, start and end in it, seconds
SUFFIXES = (".flac", ".opus")
LONGEST_S = 60.0  # it was cut into 10 to 20 s; what is stated above this is wrong


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages, or of the one whose folder `root` is."""
    for folder in (root, *folders(root)):
        found = FOLDER.fullmatch(folder.resolve().name)
        if found is None:
            continue
        language = from_name(found["language"])
        if language is None:
            where = folder.relative_to(root).as_posix()
            yield Fault(where, f"{found['language']!r} is no name of a language")
            continue
        for split in SPLITS:
            if (folder / split / "segments.txt").is_file():
                yield from _split(folder / split, split, language, root)


def _split(folder: Path, split: str, language: str, root: Path) -> Iterator[Row | Fault]:
    suffix: str | None = None
    audio = (folder / "audio").relative_to(root).as_posix()
    for line in lines(folder / "segments.txt", root):
        if isinstance(line, Fault):
            yield line
            continue
        found = CLIP.fullmatch(line.fields[0])
        if len(line.fields) != COLUMNS or found is None:
            yield Fault(line.where, "not the number of a clip, an address, a start and an end")
            continue
        path = f"{audio}/{found['speaker']}/{found['book']}/{line.fields[0]}"
        if suffix is None:
            suffix = next((s for s in SUFFIXES if (root / (path + s)).is_file()), SUFFIXES[0])
        yield Row(
            path=path + suffix,
            language=language,
            split=split,
            speaker=f"{NAME}:{found['speaker']}",
            source=NAME,
            seconds=_seconds(line),
            licence="CC-BY-4.0",
            origin=line.fields[1],
        )


def _seconds(line: Line) -> float | None:
    try:
        start, end = (float(field) for field in line.fields[2:])
    except ValueError:
        return None
    return length_s(end - start, LONGEST_S)
