"""VoxForge, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers.row import Fault, Row

NAME = "voxforge"


def archive(root: Path, path: str, user: str | None, *files: str) -> None:
    make(root, *(f"{path}/{file}" for file in files))
    if user is not None:
        make(root, f"{path}/etc/README")
        text = f"User Name:{user}\n\nSpeaker Characteristics:\n\nGender: männlich\n"
        (root / path / "etc" / "README").write_bytes(text.encode("latin-1"))


def test_users(tmp_path: Path) -> None:
    deep = "de/Trunk/Audio/Main/16kHz_16bit"
    archive(tmp_path, f"{deep}/guenter-20140214-afn", "guenter", "wav/de5-001.wav", "wav/a.txt")
    archive(tmp_path, f"{deep}/guenter-20140215-bbb", "Guenter", "flac/de5-001.flac")
    archive(tmp_path, "Dutch/rob-20140214-afn", None, "wav/nl-1.wav", "flac/nl-1.flac")
    rows = clips(NAME, tmp_path)
    assert [(row.language, row.speaker) for row in rows] == [
        ("nl", "voxforge:rob"),
        ("de", "voxforge:guenter"),
        ("de", "voxforge:guenter"),
    ]
    assert rows[1] == Row(
        path=f"{deep}/guenter-20140214-afn/wav/de5-001.wav",
        language="de",
        split=None,
        speaker="voxforge:guenter",
        source="voxforge",
        seconds=None,
        licence="GPL-3.0+",
        origin="VoxForge, guenter-20140214-afn",
    )


def test_anonymous_people_are_different_ones(tmp_path: Path) -> None:
    for name, user in {
        "anonymous-20080101-aaa": "anonymous",
        "anonymous-20080101-bbb": None,
        "anonimo-20080101-ccc": "anonimo",
        "x-20080101-ddd": " ",
        "odd": None,
    }.items():
        archive(tmp_path, f"pt/{name}", user, "wav/1.wav")
    speakers = [row.speaker for row in clips(NAME, tmp_path)]
    assert len(set(speakers)) == 5
    assert "voxforge:odd" in speakers


def test_a_root_of_one_language(tmp_path: Path) -> None:
    root = tmp_path / "fr"
    archive(root, "lea-20080101-aaa", "lea", "wav/1.wav")
    assert [row.language for row in clips(NAME, root)] == ["fr"]


def test_an_unknown_language_is_one_fault(tmp_path: Path) -> None:
    for name in ("a-20080101-aaa", "b-20080101-aaa"):
        archive(tmp_path, f"SpeechCorpus/{name}", "a", "wav/1.wav")
    assert read(NAME, tmp_path) == (
        [],
        [Fault("SpeechCorpus", "'SpeechCorpus' is no code or name of a language")],
    )
