"""Recordings of one's own: ``LANG/SPEAKER/...`` or ``LANG/*``.

A folder in the folder of a language is a person, whatever is below it; of the same name in two
languages, the same person. A file that lies in the folder of a language itself counts as a person
of its own: give a folder to who has spoken several.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.tree import audio_files, folders, shown

LAYOUT = "LANG/SPEAKER/... or LANG/*, where LANG is a code such as de"


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of all languages; the name of the root is the source."""
    source = shown(root.resolve().name) or "folders"
    for folder in folders(root):
        language = from_code(folder.name)
        if language is None:
            yield Fault(folder.name, f"{folder.name!r} is no code of a language")
            continue
        for path in audio_files(folder, root):
            if isinstance(path, Fault):
                yield path
                continue
            parts = path.split("/")
            yield Row(
                path=path,
                language=language,
                split=None,
                speaker=f"{source}:{parts[1] if len(parts) > 2 else path}",
                source=source,
                seconds=None,
                licence="not stated",
                origin=source,
            )
