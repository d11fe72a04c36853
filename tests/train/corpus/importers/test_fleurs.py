"""FLEURS, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.corpus.importers.trees import clips, make, read, table
from train.corpus.importers.row import Fault, Row

NAME = "fleurs"


def line(file: str, samples: str = "160000") -> str:
    return f'1\t{file}\t"Er sagte.\ter sagte\te r | s a\t{samples}\tMALE'


@pytest.mark.parametrize("place", ["audio/{}/", "{}/", "audio/", ""])
def test_layouts(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "cmn_hans_cn"
    for split in ("train", "dev", "test"):
        table(folder / f"{split}.tsv", line(f"{split}1.wav"), line(f"{split}2.wav"))
        make(folder, place.format(split) + f"{split}1.wav")
    rows = clips(NAME, tmp_path)
    assert [row.path for row in rows] == [
        f"cmn_hans_cn/{place.format(split)}{split}{i}.wav"
        for split in ("train", "dev", "test")
        for i in (1, 2)
    ]
    assert clips(NAME, folder)[0].path == f"{place.format('train')}train1.wav"
    assert rows[0] == Row(
        path=rows[0].path,
        language="zh",
        split="train",
        speaker="fleurs:cmn_hans_cn:train",
        source="fleurs",
        seconds=10.0,
        licence="CC-BY-4.0",
        origin="FLEURS",
    )


def test_as_it_is_published_below_data(tmp_path: Path) -> None:
    table(tmp_path / "data" / "de_de" / "dev.tsv", line("1.wav", samples="?"))
    (row,) = clips(NAME, tmp_path)
    assert (row.path, row.language, row.seconds) == ("data/de_de/audio/dev/1.wav", "de", None)


def test_faults(tmp_path: Path) -> None:
    table(tmp_path / "de_de" / "test.tsv", "1\t2.wav", line("../1.wav"))
    table(tmp_path / "xx_yy" / "test.tsv", line("1.wav"))
    rows, faults = read(NAME, tmp_path)
    assert rows == []
    assert faults == [
        Fault("de_de/test.tsv, line 1", "2 fields where FLEURS has 7"),
        Fault("de_de/test.tsv, line 2", "'../1.wav' is no file name"),
        Fault("xx_yy", "'xx_yy' is no code of a language"),
    ]
