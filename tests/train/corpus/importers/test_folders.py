"""Recordings of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers import importer
from train.corpus.importers.folders import languages_in
from train.corpus.importers.row import Fault, LeftOut, NoLanguage, Row

NAME = "folders"


def test_layouts(tmp_path: Path) -> None:
    root = make(
        tmp_path / "home",
        "de/anna/1.wav",
        "de/anna/phone/deep/2.OPUS",
        "de/anna/.hidden.wav",
        "de/loose.mp3",
        "en/anna/3.flac",
        "de/anna/notes.txt",
        ".cache/de/4.wav",
    )
    assert [(row.path, row.language, row.speaker, row.split) for row in clips(NAME, root)] == [
        ("de/loose.mp3", "de", "home:de/loose.mp3", None),
        ("de/anna/1.wav", "de", "home:anna", None),
        ("de/anna/phone/deep/2.OPUS", "de", "home:anna", None),
        ("en/anna/3.flac", "en", "home:anna", None),
    ]


def test_contents_count_and_not_only_names(tmp_path: Path) -> None:
    root = make(tmp_path / "home", "de/anna/voice.m4a", "de/anna/memo", "de/anna/._voice.m4a")
    (root / "de/anna/memo").write_bytes(b"#!AMR\n" + bytes(30))
    (root / "de/anna/letter").write_bytes(b"%PDF-1.7" + bytes(30))
    assert [row.path for row in clips(NAME, root)] == ["de/anna/memo", "de/anna/voice.m4a"]


def test_an_unknown_language(tmp_path: Path) -> None:
    make(tmp_path, "clips/1.wav", "de/anna/1.wav")
    rows, faults = read(NAME, tmp_path)
    assert len(rows) == 1
    assert faults == [Fault("clips", "'clips' is no code of a language")]


def test_splits_above_languages(tmp_path: Path) -> None:
    root = make(
        tmp_path / "home",
        "train/de/anna/1.wav",
        "train/zh-CN/2.wav",
        "dev/de/bo/deep/3.wav",
        "Validation/zh-CN/4.wav",
        "test/de/5.wav",
    )
    assert [(row.path, row.language, row.speaker, row.split) for row in clips(NAME, root)] == [
        ("Validation/zh-CN/4.wav", "zh", "home:Validation/zh-CN/4.wav", "dev"),
        ("dev/de/bo/deep/3.wav", "de", "home:bo", "dev"),
        ("test/de/5.wav", "de", "home:test/de/5.wav", "test"),
        ("train/de/anna/1.wav", "de", "home:anna", "train"),
        ("train/zh-CN/2.wav", "zh", "home:train/zh-CN/2.wav", "train"),
    ]


def test_splits_below_languages(tmp_path: Path) -> None:
    root = make(tmp_path / "home", "de/train/anna/1.wav", "de/test/bo/2.wav", "de/loose.wav")
    assert [(row.path, row.speaker, row.split) for row in clips(NAME, root)] == [
        ("de/test/bo/2.wav", "home:bo", "test"),
        ("de/train/anna/1.wav", "home:anna", "train"),
        ("de/loose.wav", "home:de/loose.wav", None),
    ]


@pytest.mark.parametrize(
    ("inner", "beside"),
    [
        (
            ("train/anna", "test/bo", "unsorted/bo"),
            "(test, train) beside others, such as unsorted: move",
        ),
        (("Dev", "anna", "bo"), "(Dev) beside others, such as anna: move"),
    ],
)
def test_splits_beside_what_is_none(tmp_path: Path, inner: tuple[str, ...], beside: str) -> None:
    """They would become people, and what is to be tested with would be learnt."""
    make(tmp_path, *(f"de/{name}/1.wav" for name in inner), "en/anna/1.wav")
    rows, faults = read(NAME, tmp_path)
    assert [row.path for row in rows] == ["en/anna/1.wav"]
    (fault,) = faults
    assert fault.where == "de"
    assert beside in fault.reason


def test_people_in_a_split_may_be_called_so(tmp_path: Path) -> None:
    root = make(tmp_path / "home", "train/de/val/1.wav", "train/de/anna/2.wav")
    assert [row.speaker for row in clips(NAME, root)] == ["home:anna", "home:val"]


def test_languages_of_folders(tmp_path: Path) -> None:
    make(tmp_path, "train/da/1.wav", "dev/zh-CN/2.wav", "test/sv/3.wav", "test/sounds/4.wav")
    assert languages_in(tmp_path) == ["da", "sv", "zh"]
    make(tmp_path, "tmp/5.wav", "clips/6.wav", "fi/dev/7.wav")
    assert languages_in(tmp_path) == ["da", "fi", "sv", "zh"]
    assert languages_in(tmp_path / "none") == []


@pytest.mark.parametrize("word", ["dev", "wav", "raw", "tmp", "log", "mix", "all", "old"])
def test_a_word_that_is_hardly_a_language(tmp_path: Path, word: str) -> None:
    make(tmp_path, f"{word}/1.wav", "de/1.wav")
    _, faults = read(NAME, tmp_path)
    (fault,) = faults
    assert isinstance(fault, NoLanguage)
    assert f"{word!r} is the code of" in fault.reason


@pytest.mark.parametrize("code", ["yue", "ast", "ckb", "sah", "ceb", "kab", "tok", "sv-SE"])
def test_languages_of_three_letters(tmp_path: Path, code: str) -> None:
    make(tmp_path, f"{code}/1.wav")
    assert len(clips(NAME, tmp_path)) == 1


def test_an_empty_language(tmp_path: Path) -> None:
    make(tmp_path, "de/1.wav", "sv/notes.txt")
    _, faults = read(NAME, tmp_path)
    assert faults == [Fault("sv", "holds no recording")]


def test_what_is_left_out_has_a_kind(tmp_path: Path) -> None:
    make(tmp_path, "1.wav", "de/1.wav", "de/anna/a.TXT", "de/b.txt", "de/._1.wav", "de/README")
    items = list(importer(NAME).rows(tmp_path))
    assert len([item for item in items if isinstance(item, Row)]) == 1
    assert Counter(item.reason for item in items if isinstance(item, LeftOut)) == {
        ".txt files": 2,
        "hidden files": 1,
        "files without an ending": 1,
        "recordings in no folder of a language": 1,
    }
