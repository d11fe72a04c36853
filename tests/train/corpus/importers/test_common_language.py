"""CommonLanguage, as its archive unpacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.corpus.importers.trees import clips, make, read
from train.corpus.importers.row import Fault, Row

NAME = "common-language"


@pytest.mark.parametrize("above", ["", "common_voice_kpd/"])
def test_layout(tmp_path: Path, above: str) -> None:
    make(
        tmp_path,
        f"{above}German/train/de_trn_sp_1/common_voice_de_1.wav",
        f"{above}German/dev/de_dev_sp_1/common_voice_de_2.wav",
        f"{above}German/test/de_tst_sp_1/common_voice_de_3.wav",
        f"{above}German/train.csv",
    )
    rows = clips(NAME, tmp_path)
    assert [row.split for row in rows] == ["train", "dev", "test"]
    assert rows[0] == Row(
        path=f"{above}German/train/de_trn_sp_1/common_voice_de_1.wav",
        language="de",
        split="train",
        speaker="common-language:German:de_trn_sp_1",
        source="common-language",
        seconds=None,
        licence="CC-BY-4.0",
        origin="CommonLanguage, from Common Voice",
    )


# All folders of the corpus.
FOLDERS = """Arabic ar,Basque eu,Breton br,Catalan ca,Chinese_China zh,Chinese_Hongkong yue,
Chinese_Taiwan zh,Chuvash cv,Czech cs,Dhivehi dv,Dutch nl,English en,Esperanto eo,Estonian et,
French fr,Frisian fy,Georgian ka,German de,Greek el,Hakha_Chin cnh,Indonesian id,Interlingua ia,
Italian it,Japanese ja,Kabyle kab,Kinyarwanda rw,Kyrgyz ky,Latvian lv,Maltese mt,Mangolian mn,
Persian fa,Polish pl,Portuguese pt,Romanian ro,Romansh_Sursilvan rm,Russian ru,Sakha sah,
Slovenian sl,Spanish es,Swedish sv,Tamil ta,Tatar tt,Turkish tr,Ukranian uk,Welsh cy"""


def test_every_folder_of_the_corpus(tmp_path: Path) -> None:
    expected = dict(entry.split() for entry in FOLDERS.split(","))
    make(tmp_path, *(f"{folder}/test/speaker/1.wav" for folder in expected))
    rows = clips(NAME, tmp_path)
    assert {row.path.split("/")[0]: row.language for row in rows} == expected


def test_an_unknown_name(tmp_path: Path) -> None:
    make(tmp_path, "Nothingofthekind/test/speaker/1.wav")
    assert read(NAME, tmp_path)[1] == [
        Fault("Nothingofthekind", "'Nothingofthekind' is no name of a language")
    ]
