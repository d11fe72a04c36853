"""Recordings of one's own."""

from __future__ import annotations

from pathlib import Path

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers.row import Fault

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
