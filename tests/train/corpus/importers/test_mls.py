"""Multilingual LibriSpeech, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.corpus.importers.trees import clips, make, read, table
from train.corpus.importers.row import Row

NAME = "mls"
ADDRESS = "http://www.archive.org/download/book/chapter_64kb.mp3"


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("mls_german", "flac"), ("mls_german_opus", "opus"), ("mls_german", "opus")],
)
def test_languages(tmp_path: Path, folder: str, suffix: str) -> None:
    root = tmp_path / folder
    for split in ("train", "dev", "test"):
        table(root / split / "segments.txt", f"10_20_000001\t{ADDRESS}\t407.93\t420.33")
        table(root / split / "transcripts.txt", "10_20_000001\tes war")
        make(root, f"{split}/audio/10/20/10_20_000001.{suffix}")
    rows = clips(NAME, tmp_path)
    assert [row.split for row in rows] == ["train", "dev", "test"]
    assert rows[0] == Row(
        path=f"{folder}/train/audio/10/20/10_20_000001.{suffix}",
        language="de",
        split="train",
        speaker="mls:10",
        source="mls",
        seconds=12.4,
        licence="CC-BY-4.0",
        origin=ADDRESS,
    )
    assert clips(NAME, root)[0].path == f"train/audio/10/20/10_20_000001.{suffix}"


def test_faults_and_lengths_that_cannot_be_right(tmp_path: Path) -> None:
    table(
        tmp_path / "mls_dutch" / "dev" / "segments.txt",
        f"10_20_000001\t{ADDRESS}\t407.93\t4.0",
        f"../x\t{ADDRESS}\t1\t2",
        "10_20_000003",
        f"10_20_000004\t{ADDRESS}\t0.9997\t1.0",  # not even a millisecond
    )
    rows, faults = read(NAME, tmp_path)
    assert [(row.language, row.seconds) for row in rows] == [("nl", None)] * 2
    assert [fault.where[-6:] for fault in faults] == ["line 2", "line 3"]


def test_an_unknown_language(tmp_path: Path) -> None:
    table(tmp_path / "mls_nothingofthekind" / "dev" / "segments.txt", "x")
    assert [fault.where for fault in read(NAME, tmp_path)[1]] == ["mls_nothingofthekind"]
