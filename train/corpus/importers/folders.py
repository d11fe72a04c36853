"""Recordings of one's own: ``LANG/SPEAKER/...`` or ``LANG/*``, perhaps below ``train``, ``test``.

A folder in the folder of a language is a person, whatever is below it; of the same name in two
languages, the same person. A file that lies in the folder of a language itself counts as a person
of its own: give a folder to who has spoken several. Folders called as splits are, above or below
those of the languages, are these splits; in a language, either all of its folders or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code, is_likely, name_of
from train.corpus.importers.row import Fault, LeftOut, NoLanguage, Row
from train.corpus.importers.tree import audio_files, folders, shown

LAYOUT = (
    "LANG/SPEAKER/... or LANG/*, where LANG is a code such as de or zh-CN, perhaps within "
    "train/, dev/ and test/"
)
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "validation", "val"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages; the name of the root is the source."""
    source = shown(root.resolve().name) or "folders"
    yield from _strays(root, root)
    for folder in folders(root):
        if _split_of_languages(folder):
            yield from _strays(folder, root)
    for folder, split in _languages(root):
        yield from _language(folder, split, source, root)


def languages_in(root: Path) -> list[str]:
    """Languages that folders are called as, without a look into them.

    Parameters
    ----------
    root
        Folder of the recordings.

    Returns
    -------
    list of str
        As a manifest calls them. What is hardly meant as a code, such as ``tmp``, is left out.
    """
    names = (folder.name for folder, _ in _languages(root))
    return sorted({code for name in names if (code := from_code(name)) and is_likely(name)})


def _languages(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Folders that are to be of languages, and the split that each is in."""
    for folder in folders(root):
        if split := _split_of_languages(folder):
            yield from ((inner, split) for inner in folders(folder))
        else:
            yield folder, None


def _strays(folder: Path, root: Path) -> Iterator[Fault]:
    """What lies outside of the languages' folders."""
    for found in audio_files(folder, root, is_deep=False):
        if isinstance(found, Fault):
            yield found
        else:
            yield LeftOut(found, "recordings in no folder of a language")


def _split_of_languages(folder: Path) -> str | None:
    """The split that a folder of languages is called as; None for any other folder."""
    split = SPLITS.get(folder.name.lower())
    if split and any(from_code(inner.name) for inner in folders(folder)):
        return split
    return None


def _language(folder: Path, split: str | None, source: str, root: Path) -> Iterator[Row | Fault]:
    where = folder.relative_to(root).as_posix()
    language = from_code(folder.name)
    if language is None:
        yield Fault(where, f"{folder.name!r} is no code of a language")
        return
    if not is_likely(folder.name):
        yield NoLanguage(
            where,
            f"{folder.name!r} is the code of {name_of(language)}: if that is meant, name it with "
            "--languages, else rename the folder",
            language,
        )
    if split is None and (reason := _half_divided(folder)):
        yield Fault(where, reason)
        return
    is_empty = True
    for found in _recordings(folder, split, root):
        if isinstance(found, Fault):
            yield found
            continue
        is_empty = False
        path, person, its_split = found
        yield Row(
            path=path,
            language=language,
            split=its_split,
            speaker=f"{source}:{person}",
            source=source,
            seconds=None,
            licence="not stated",
            origin=source,
        )
    if is_empty:
        yield Fault(where, "holds no recording")


def _half_divided(folder: Path) -> str | None:
    """What to ask where some folders of a language are called as splits, and others are not.

    Splits taken for people would train with what is to be tested with, and say nothing of it.
    """
    names = [inner.name for inner in folders(folder)]
    splits = [shown(name) for name in names if name.lower() in SPLITS]
    other = next((shown(name) for name in names if name.lower() not in SPLITS), None)
    if not splits or other is None:
        return None
    return (
        f"has folders called as splits ({', '.join(splits)}) beside others, such as {other}: move "
        "the others into a split, or rename those called as splits if they are of people"
    )


def _recordings(
    folder: Path, split: str | None, root: Path
) -> Iterator[tuple[str, str, str | None] | Fault]:
    """Paths in the folder of a language, who speaks there, and the split."""
    inner = folders(folder)
    is_divided = split is None and inner and all(each.name.lower() in SPLITS for each in inner)
    parts = [(each, SPLITS[each.name.lower()]) for each in inner] if is_divided else []
    for part, its_split in (*parts, (folder, split)):
        depth = len(part.relative_to(root).parts)
        for path in audio_files(part, root, is_deep=part != folder or not is_divided):
            if isinstance(path, Fault):
                yield path
                continue
            names = path.split("/")
            yield path, names[depth] if len(names) > depth + 1 else path, its_split
