"""The set "Spoken Language Identification" on Kaggle (T. Oponowicz): LibriVox in three languages.

``{train,test}/.../de_f_HASH.fragment1.flac``. The hash is what its author keeps apart as a voice.
Files that its author made from others (``.speed2``, ``.pitch3``, ``.noise4``) are left out:
training has variants of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.tree import audio_files

LAYOUT = "{train,test}/.../LANG_GENDER_HASH.fragmentN.flac"

NAME = "librivox-kaggle"
SPLITS = ("train", "test")
CLIP = re.compile(
    r"(?P<language>[a-z]{2})_[a-z]_(?P<voice>[0-9a-f]+)\.fragment\d+"
    r"(?P<made>\.(speed|pitch|noise)\d+)?\.flac"
)


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of both parts, or of the one that has been unpacked."""
    for split in SPLITS:
        if not (root / split).is_dir():
            continue
        for path in audio_files(root / split, root):
            if isinstance(path, Fault):
                yield path
                continue
            found = CLIP.fullmatch(path.rpartition("/")[2])
            language = from_code(found["language"]) if found else None
            if found is None or language is None:
                yield Fault(path, "its name is not LANG_GENDER_HASH.fragmentN.flac")
            elif not found["made"]:
                yield Row(
                    path=path,
                    language=language,
                    split=split,
                    speaker=f"{NAME}:{found['voice']}",
                    source=NAME,
                    seconds=None,
                    licence="public domain",
                    origin="LibriVox, by way of Kaggle",
                )
