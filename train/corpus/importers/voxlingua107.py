"""VoxLingua107: ``LANG/VIDEO---START-END.wav`` for training, the same below ``dev/``.

Who speaks is not known, so the video stands in for the speaker. Its ``dev`` is held out; a video
that is in both is left out of training by `train.corpus.importing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from train.corpus.importers.languages import from_code
from train.corpus.importers.row import Fault, Row
from train.corpus.importers.text import length_s
from train.corpus.importers.tree import audio_files, folders

LAYOUT = "LANG/VIDEO---START-END.wav, perhaps below train/, and dev/LANG/..."

NAME = "voxlingua107"
# As its makers state for huggingface.co/datasets/TalTechNLP/VoxLingua107. It is about the choice:
# the videos are their owners'.
LICENCE = "CC-BY-NC-4.0"
SPLITS = ("train", "dev")
# Some names tell the voice that a program found in the video: not who it is in other videos, and
# not reliably, so it is no speaker.
CLIP = re.compile(
    r"(?P<video>.+?)(__[A-Z]__S\d+)?---(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)\.wav"
)
LONGEST_S = 30.0  # it was cut into 2 to 20 s; what a name says above this is wrong


def rows(root: Path) -> Iterator[Row | Fault]:
    """Clips of the languages that have been unpacked."""
    for folder in folders(root):
        if folder.name in SPLITS:
            for inner in folders(folder):
                yield from _language(inner, folder.name, root)
        else:
            yield from _language(folder, "train", root)


def _language(folder: Path, split: str, root: Path) -> Iterator[Row | Fault]:
    language = from_code(folder.name)
    if language is None:
        where = folder.relative_to(root).as_posix()
        yield Fault(where, f"{folder.name!r} is no code of a language")
        return
    for path in audio_files(folder, root):
        if isinstance(path, Fault):
            yield path
            continue
        found = CLIP.fullmatch(path.rpartition("/")[2])
        if found is None:
            yield Fault(path, "its name is not VIDEO---START-END.wav")
            continue
        seconds = float(found["end"]) - float(found["start"])
        yield Row(
            path=path,
            language=language,
            split=split,
            speaker=f"{NAME}:{found['video']}",
            source=NAME,
            seconds=length_s(seconds, LONGEST_S),
            licence=LICENCE,
            origin=f"YouTube video {found['video']}",
        )
