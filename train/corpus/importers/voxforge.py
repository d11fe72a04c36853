"""VoxForge: one unpacked archive a recording session, below a folder of its language.

``LANG/.../USER-DATE-abc/wav/*.wav`` or ``flac/*.flac``, with the name of the user in
``etc/README``. Users of the same name count as one person, in whatever language, for nothing tells
them apart; the many who are anonymous are different people, so each of their archives is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code, from_name
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.tree import audio_files, folders, unreadable

LAYOUT = "LANG/.../USER-DATE-abc/{wav,flac}/, where LANG is a code or an English name"

NAME = "voxforge"
AUDIO_FOLDERS = ("wav", "flac")  # the first that an archive has: some hold both, of the same
ARCHIVE = re.compile(r"(?P<user>.+)-\d{8}-\w+")
USER = re.compile(r"^\s*User ?name\s*:(?P<user>[^\r\n]*)", re.IGNORECASE | re.MULTILINE)
README_CHARACTERS = 20_000  # the name stands in its first line
# As the forms of its languages write it: anonymous, anonym, anonyme, anonimo, anônimo, anoniem, ...
ANONYMOUS = re.compile(r"\W*(an[oóô]n[iyíý]|анон|unknown|$)", re.IGNORECASE)


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages, or of the one whose folder `root` is."""
    languages: dict[str, str | None] = {}
    errors: list[OSError] = []
    for archive in _archives(root, errors):
        place = archive.relative_to(root)
        name = place.parts[0] if len(place.parts) > 1 else root.resolve().name
        if name not in languages:
            languages[name] = from_code(name) or from_name(name)
            if languages[name] is None:
                yield Fault(name, f"{name!r} is no code or name of a language")
        if language := languages[name]:
            yield from _archive(archive, language, root)
    yield from unreadable(errors, root)


def _archives(root: Path, errors: list[OSError]) -> Iterator[Path]:
    for parent, inner, _ in os.walk(root, onerror=errors.append):
        if any(name in inner for name in AUDIO_FOLDERS):
            inner[:] = []
            yield Path(parent)
        else:
            inner.sort()


def _archive(archive: Path, language: str, root: Path) -> Iterator[Row | Fault]:
    user = _user(archive)
    speaker = archive.name if ANONYMOUS.match(user) else user.casefold()
    for name in AUDIO_FOLDERS:
        if (archive / name) not in folders(archive):
            continue
        for path in audio_files(archive / name, root):
            if isinstance(path, Fault):
                yield path
                continue
            yield Row(
                path=path,
                language=language,
                split=None,
                speaker=f"{NAME}:{speaker}",
                source=NAME,
                seconds=None,
                licence="GPL-3.0+",
                origin=f"VoxForge, {archive.name}",
            )
        return


def _user(archive: Path) -> str:
    """Name of who spoke: as the archive says, else as it is called; empty where it is not said."""
    try:
        with (archive / "etc" / "README").open(encoding="utf-8", errors="replace") as file:
            said = USER.search(file.read(README_CHARACTERS))
    except OSError:
        said = None
    if said is not None:
        return said["user"].strip()
    called = ARCHIVE.fullmatch(archive.name)
    return called["user"] if called else ""
