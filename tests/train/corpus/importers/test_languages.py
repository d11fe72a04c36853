"""One code for each language, however a corpus calls it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.corpus.importers.languages import from_code, from_name


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("de", "de"),
        ("deu", "de"),
        ("iw", "he"),
        ("jw", "jv"),
        ("sv-SE", "sv"),
        ("zh-CN", "zh"),
        ("zh-TW", "zh"),
        ("zh-HK", "yue"),
        ("yue", "yue"),
        ("yue_hant_hk", "yue"),
        ("cmn_hans_cn", "zh"),
        ("nan-tw", "nan"),
        ("nb_no", "no"),
        ("nn-NO", "nn"),
        ("no", "no"),
        ("pt", "pt"),
        ("es_419", "es"),
        ("ckb_iq", "ckb"),
        ("rm-sursilv", "rm"),
        ("haw", "haw"),
        ("tw", "tw"),
        ("mhr", "mhr"),
        ("kmr", "ku"),
        ("tl", "fil"),
        ("fil_ph", "fil"),
        ("tok", "tok"),
    ],
)
def test_codes(code: str, language: str) -> None:
    assert from_code(code) == language


@pytest.mark.parametrize(
    "code", ["", "xx", "clips", "und", "mul", "zxx", "qaa", "train", "é", "a b"]
)
def test_no_codes(code: str) -> None:
    assert from_code(code) is None


@given(st.text(max_size=12))
def test_any_text_is_a_language_or_none(text: str) -> None:
    for language in (from_code(text), from_name(text)):
        assert language is None or (2 <= len(language) <= 3 and from_code(language) == language)


def test_names() -> None:
    assert from_name("German") == "de"
    assert from_name("Hakha Chin") == "cnh"
    assert from_name("nothing of the kind") is None
    assert from_name("\0") is None
