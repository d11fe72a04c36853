"""FLEURS: ``LANG_REGION/{train,dev,test}.tsv`` and the audio that its archives unpack to.

It names no speakers, and the same voice reads many sentences of a split: nothing but the official
splits keeps voices apart. So the split of a language counts as one speaker, which nothing divides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.text import is_file_name, lines, positive
from train.corpus.importers.tree import folders

LAYOUT = "LANG_REGION/{train,dev,test}.tsv and LANG_REGION/audio/{train,dev,test}/*.wav"

NAME = "fleurs"
SPLITS = ("train", "dev", "test")
COLUMNS = 7  # id, file name, raw transcription, transcription, letters, samples, gender
FILE_COLUMN, SAMPLES_COLUMN = 1, 5
RATE_HZ = 16_000
LONGEST_S = 120.0  # what is stated above this is wrong
# Where archives were unpacked: in audio/, beside it, or without the folder that they hold.
PLACES = ("audio/{split}", "{split}", "audio", ".")


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages, or of the one whose folder `root` is."""
    for folder in (root, root / "data", *folders(root), *folders(root / "data")):
        tables = [split for split in SPLITS if (folder / f"{split}.tsv").is_file()]
        if not tables:
            continue
        name = folder.resolve().name
        language = from_code(name)
        if language is None:
            yield Fault(folder.relative_to(root).as_posix(), f"{name!r} is no code of a language")
            continue
        for split in tables:
            yield from _split(folder, split, language, f"{NAME}:{name}:{split}", root)


def _split(
    folder: Path, split: str, language: str, speaker: str, root: Path
) -> Iterator[Row | Fault]:
    place: str | None = None
    for line in lines(folder / f"{split}.tsv", root):
        if isinstance(line, Fault):
            yield line
        elif len(line.fields) != COLUMNS:
            yield Fault(line.where, f"{len(line.fields)} fields where FLEURS has {COLUMNS}")
        elif not is_file_name(file := line.fields[FILE_COLUMN]):
            yield Fault(line.where, f"{file!r} is no file name")
        else:
            if place is None:
                place = _place(folder, split, file, root)
            samples = positive(line.fields[SAMPLES_COLUMN], LONGEST_S * RATE_HZ)
            yield Row(
                path=f"{place}{file}",
                language=language,
                split=split,
                speaker=speaker,
                source=NAME,
                seconds=None if samples is None else samples / RATE_HZ,
                licence="CC-BY-4.0",
                origin="FLEURS",
            )


def _place(folder: Path, split: str, file: str, root: Path) -> str:
    """Prefix of the paths of a split: where its first file is, or ought to be."""
    candidates = [folder / place.format(split=split) for place in PLACES]
    found = next((place for place in candidates if (place / file).is_file()), candidates[0])
    prefix = found.relative_to(root).as_posix()
    return "" if prefix == "." else f"{prefix}/"
