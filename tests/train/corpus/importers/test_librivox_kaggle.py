"""The Kaggle set, as its archives unpack."""

from __future__ import annotations

from pathlib import Path

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers.row import Fault, Row

NAME = "librivox-kaggle"
VOICE = "0809fd0642232f8c85b0b3d545dc2b5a"


def test_originals_only(tmp_path: Path) -> None:
    make(
        tmp_path,
        f"train/train/de_f_{VOICE}.fragment1.flac",
        *(
            f"train/train/de_f_{VOICE}.fragment1.{made}1.flac"
            for made in ("speed", "pitch", "noise")
        ),
        f"train/train/de_f_{VOICE}.fragment10.noise12.flac",
        "test/test/es_m_ff01.fragment23.flac",
    )
    rows = clips(NAME, tmp_path)
    assert [(row.language, row.split) for row in rows] == [("de", "train"), ("es", "test")]
    assert rows[0] == Row(
        path=f"train/train/de_f_{VOICE}.fragment1.flac",
        language="de",
        split="train",
        speaker=f"librivox-kaggle:{VOICE}",
        source="librivox-kaggle",
        seconds=None,
        licence="public domain",
        origin="LibriVox, by way of Kaggle",
    )


def test_other_names(tmp_path: Path) -> None:
    make(tmp_path, "test/de_f_0a.fragment1.louder.flac", "test/xx_f_0a.fragment1.flac")
    rows, faults = read(NAME, tmp_path)
    assert rows == []
    assert [type(fault) for fault in faults] == [Fault, Fault]
