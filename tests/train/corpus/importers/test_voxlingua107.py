"""VoxLingua107, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers.row import Fault, Row

NAME = "voxlingua107"


def test_languages_and_dev(tmp_path: Path) -> None:
    make(
        tmp_path,
        "iw/-0CD5N1W0yQ---0011.470-0022.450.wav",
        "iw/abcdefghij-----0000.000-0003.500.wav",
        "iw/y0cEwfVjJ2E__U__S11---0396.150-0411.910.wav",
        "dev/jw/y0cEwfVjJ2E__U__S2---0000.000-0019.000.wav",
        "iw/readme.txt",
    )
    rows = clips(NAME, tmp_path)
    assert rows[0] == Row(
        path="dev/jw/y0cEwfVjJ2E__U__S2---0000.000-0019.000.wav",
        language="jv",
        split="dev",
        speaker="voxlingua107:y0cEwfVjJ2E",
        source="voxlingua107",
        seconds=19.0,
        licence="CC-BY-NC-4.0",
        origin="YouTube video y0cEwfVjJ2E",
    )
    assert [(row.language, row.split, row.speaker, row.seconds) for row in rows[1:]] == [
        ("he", "train", "voxlingua107:-0CD5N1W0yQ", 10.98),
        ("he", "train", "voxlingua107:abcdefghij--", 3.5),
        ("he", "train", "voxlingua107:y0cEwfVjJ2E", 15.76),
    ]


def test_below_train(tmp_path: Path) -> None:
    make(tmp_path, "train/de/a---0000.000-0003.500.wav")
    assert [(row.language, row.split) for row in clips(NAME, tmp_path)] == [("de", "train")]


def test_times_that_cannot_be_right_are_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "de/a---0009.000-0003.500.wav", "de/b---0000.000-0999.000.wav")
    assert [row.seconds for row in clips(NAME, tmp_path)] == [None, None]


def test_faults(tmp_path: Path) -> None:
    make(tmp_path, "xx/a---0000.000-0003.500.wav", "de/a.wav")
    assert read(NAME, tmp_path) == (
        [],
        [
            Fault("de/a.wav", "its name is not VIDEO---START-END.wav"),
            Fault("xx", "'xx' is no code of a language"),
        ],
    )
