"""Mozilla Common Voice, from the second release (2019) on: tables and ``clips/`` a language.

The splits of the corpus are kept, and a clip counts once, in the first table of `SPLITS` that has
it. Clips of ``validated.tsv`` that are in none of them, often the larger part, become training
clips; those whose speaker is held out are dropped by `train.corpus.importing`, as are all others of
a speaker that two splits, maybe of two languages, share. ``other.tsv`` and ``invalidated.tsv`` are
left alone: nobody has confirmed that their clips hold the language, or somebody has denied it.

A delta release has what has come since the last one, and adds to it. All may still be packed, as
downloaded or as Hugging Face has them.

Spontaneous Speech is read as well, `sps-corpus-VERSION-DATE-LANG/`. Its table has the answers that
nobody has reported; most are ``unassigned`` to a split, and become training clips. Those that its
publishers heard another language in are left out. The columns are those that its releases describe
(github.com/common-voice/cv-dataset, datasets/spontaneous-speech).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.packed import archives_in, unpack_hub, unpack_release
from train.corpus.importers.row import Fault, LeftOut, Row
from train.corpus.importers.text import Line, columns, is_file_name, lines, positive
from train.corpus.importers.tree import shown, unreadable

LAYOUT = (
    "LANG/{validated,train,dev,test}.tsv beside LANG/clips/, or ss-corpus-LANG.tsv beside audios/, "
    "at any depth; archives of these; or audio/LANG/SPLIT/*.tar with transcript/LANG/SPLIT.tsv"
)

NAME = "common-voice"
SPLITS = ("test", "dev", "train")
VALIDATED = "validated"
TABLES = tuple(f"{name}.tsv" for name in (*SPLITS, VALIDATED))
CLIPS = "clips"
DELTA = "-delta-"
SPONTANEOUS, AUDIOS = "ss-corpus-", "audios"  # the table's name begins so; folder of its clips
LENGTHS = "clip_durations.tsv"  # columns: clip, duration[ms]
LONGEST_ANSWER_S = 600.0
MISMATCH = "dataset-language-audio-mismatch"  # among its quality_tags, between bars
LONGEST_S = 60.0  # recordings end after some 15 s; what is stated above this is wrong


def unpack(root: Path, target: Path, wanted: set[str], step: Callable[[], object]) -> bool:
    """Unpack what is packed: see `train.corpus.importers.packed`.

    Returns
    -------
    bool
        Whether there was anything.
    """
    archives = archives_in(root)
    if archives and (root / "transcript").is_dir():
        unpack_hub(root, archives, target, wanted, step)
    else:
        unpack_release(archives, target, wanted, step)
    return bool(archives)


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of one release: of all its languages, or of the one whose folder `root` is."""
    taken: dict[str, Path] = {}
    seen: dict[str, set[str]] = {}  # clips by language, where further folders may have them again
    errors: list[OSError] = []
    found = list(_language_folders(root, errors))
    has_deltas = any(map(_is_delta, found))
    answers: set[str] = set()
    for folder in sorted(found, key=_is_delta):
        name = folder.resolve().name
        if any(_is_spontaneous(table.name) for table in folder.glob(f"{SPONTANEOUS}*.tsv")):
            yield from _spontaneous(folder, root, answers)
            continue
        if name in taken and not _is_delta(folder):
            yield Fault(
                folder.relative_to(root).as_posix(),
                f"a second release of {name} beside {taken[name].relative_to(root)}, which holds "
                "the same clips: import one",
            )
            continue
        taken.setdefault(name, folder)
        yield from _language(folder, name, root, seen.setdefault(name, set()))
        if not has_deltas:
            seen.clear()  # which takes memory
    yield from unreadable(errors, root)


def _is_delta(folder: Path) -> bool:
    place = folder.resolve()  # a release has folders of languages, or, if spontaneous, is one
    return DELTA in place.parent.name or DELTA in place.name


def _is_spontaneous(name: str) -> bool:
    return name.startswith(SPONTANEOUS) and name.endswith(".tsv")


def _language_folders(root: Path, errors: list[OSError]) -> Iterator[Path]:
    for parent, inner, names in os.walk(root, onerror=errors.append):
        if any(table in names for table in TABLES) or any(map(_is_spontaneous, names)):
            inner[:] = []
            yield Path(parent)
        else:
            inner[:] = sorted(name for name in inner if name != CLIPS and not name.startswith("."))


def _spontaneous(folder: Path, root: Path, seen: set[str]) -> Iterator[Row | Fault]:
    """Clips of a folder of Spontaneous Speech, but for those of another release."""
    audios = (folder / AUDIOS).relative_to(root).as_posix()
    for table in sorted(folder.glob(f"{SPONTANEOUS}*.tsv")):
        name = table.stem.removeprefix(SPONTANEOUS)
        language = from_code(name)
        if language is None:
            yield Fault(table.relative_to(root).as_posix(), f"{name!r} is no code of a language")
            continue
        optional = ("duration_ms", "split", "quality_tags")
        for line in columns(table, root, ("client_id", "audio_file"), optional, quoted=True):
            if isinstance(line, Fault):
                yield line
                continue
            speaker, file, length_ms, split, tags = line.fields
            milliseconds = positive(length_ms, 1000 * LONGEST_ANSWER_S)
            if wrong := _wrong(speaker, "audio_file", file):
                yield Fault(line.where, wrong)
            elif MISMATCH in tags.split("|"):
                yield LeftOut(line.where, f"clips that were tagged {MISMATCH}")
            elif file not in seen:  # the names have the language, and a number for good
                seen.add(file)
                yield Row(
                    path=f"{audios}/{file}",
                    language=language,
                    split=split if split in SPLITS else "train",
                    speaker=f"{NAME}:{speaker}",
                    source=f"{NAME}-spontaneous",
                    seconds=None if milliseconds is None else milliseconds / 1000,
                    licence="CC0-1.0",
                    origin=f"Common Voice Spontaneous Speech, {shown(folder.resolve().name)}",
                )


def _wrong(speaker: str, column: str, file: str) -> str | None:
    """What no line of any of the tables may have."""
    if not speaker:
        return "client_id is empty"
    return None if is_file_name(file) else f"{column} {file!r} is no file name"


def _language(folder: Path, name: str, root: Path, seen: set[str]) -> Iterator[Row | Fault]:
    # Of the largest language some millions: each leaves when its clip has been seen, so that
    # the names of clips, which are kept from there on, take no memory besides.
    lengths_s = dict(_lengths(folder, root))
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
            if wrong := _wrong(speaker, "path", file):
                yield Fault(line.where, wrong)
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
