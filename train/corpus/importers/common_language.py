"""CommonLanguage of SpeechBrain: ``Chinese_China/{train,dev,test}/SPEAKER/*.wav``.

Taken from Common Voice, with other keys for the speakers: a corpus that holds both can have a
person twice, in different splits. Its keys are counted within a language.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code, from_name
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.tree import audio_files, folders

LAYOUT = "LANGUAGE/{train,dev,test}/SPEAKER/*.wav, such as Chinese_China, perhaps one level down"

NAME = "common-language"
SPLITS = ("train", "dev", "test")
# Where the name of a folder is no name of the language, or of a language that it is not.
FOLDERS = {"Mangolian": "mn", "Ukranian": "uk", "Chinese_Hongkong": "zh-HK"}


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages."""
    for folder in folders(root):
        for inner in (folder, *(folders(folder) if not _is_language(folder) else ())):
            if _is_language(inner):
                yield from _language(inner, root)


def _is_language(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLITS)


def _language(folder: Path, root: Path) -> Iterator[Row | Fault]:
    language = _code(folder.name)
    if language is None:
        where = folder.relative_to(root).as_posix()
        yield Fault(where, f"{folder.name!r} is no name of a language")
        return
    for split in SPLITS:
        for person in folders(folder / split):
            for path in audio_files(person, root):
                if isinstance(path, Fault):
                    yield path
                    continue
                yield Row(
                    path=path,
                    language=language,
                    split=split,
                    speaker=f"{NAME}:{folder.name}:{person.name}",
                    source=NAME,
                    seconds=None,
                    licence="CC-BY-4.0",
                    origin="CommonLanguage, from Common Voice",
                )


def _code(name: str) -> str | None:
    if name in FOLDERS:
        return from_code(FOLDERS[name])
    words = name.replace("_", " ")  # "Hakha Chin" is a name, "Chinese China" says where
    return from_name(words) or from_name(words.split()[0])
