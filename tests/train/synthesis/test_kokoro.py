"""What there is to test of the synthesiser without its packages."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.synthesis import kokoro
from train.synthesis.kokoro import (
    LANGUAGES,
    MAX_PHONEMES,
    SAMPLE_RATE_HZ,
    STYLE_SIZE,
    SYMBOL_IDS,
    Kokoro,
    phonemise,
    trim_silence,
)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    for cached in (kokoro._speaker, kokoro._mandarin, kokoro._espeak):
        cached.cache_clear()


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Two styles: all ones, and all threes."""
    for name, value in (("one", 1.0), ("three", 3.0)):
        np.full((MAX_PHONEMES + 2, STYLE_SIZE), value, "<f4").tofile(tmp_path / f"{name}.bin")
    return tmp_path


@pytest.fixture
def speaker(voices: Path, monkeypatch: pytest.MonkeyPatch) -> Kokoro:
    """A synthesiser whose network answers with as many samples as it is given tokens."""

    class Session:
        def run(self, _: object, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray]:
            assert inputs["style"].shape == (1, STYLE_SIZE)
            return (np.ones(inputs["tokens"].shape[1], np.float32),)

    monkeypatch.setattr(kokoro, "_open_model", lambda threads: Session())
    monkeypatch.setattr(kokoro, "phonemise", lambda text, language: text)
    return Kokoro(voices)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("language", LANGUAGES)
def test_missing_packages(voices: Path, language: str) -> None:
    with pytest.raises(EdgelidError, match="pip install onnxruntime") as failure:
        kokoro.synthesise("a", language, "one", voices_dir=voices)
    assert "\n" not in str(failure.value)
    with pytest.raises(EdgelidError, match=r"pip install (jieba|espeakng-loader)"):
        phonemise("a", language)


def test_no_voices(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="has no Kokoro voices: run `npm pack kokoro-js`"):
        Kokoro(tmp_path)


def test_an_unknown_language() -> None:
    with pytest.raises(EdgelidError, match="does not speak 'xx'; choose from en, "):
        phonemise("a", "xx")


@pytest.mark.skipif(
    not importlib.util.find_spec("espeakng_loader"), reason="needs the package espeakng-loader"
)
@pytest.mark.parametrize(
    ("language", "text", "phonemes"),
    [
        ("de", "Grüße aus Köln, schöne Bücher!", "ɡɾˈyːsə ˌWs kˈœln, ʃˈøːnə bˈyːçɜ!"),
        ("nl", "Goedemorgen, het huis is leuk.", "ɣˈudəmˌɔrɣən, hət hˈœys ɪs lˈøːk."),
        ("ru", "Доброе утро, как жизнь?", "dˈobrʌjɪ ˈutrʌ, kˈɑk ʒˈyʒn?"),
        ("ca", "Bon dia, conferència i feina.", "bˈɔn dˈiə, kumfəɾˈɛnsiə j fˈɛjnə."),
        ("da", "Godmorgen, rødgrød med fløde.", "ɡʔomˈʌːn, ʁˈʔœðɡʁʔœð mɛð flˈœðə."),
        ("id", "Selamat pagi, apa kabar?", "səlˈamat pˈaɡi, ˈapa kˈabar?"),
        ("ro", "Bună ziua, ce mai faceți?", "bˈunə zˈiwa, ʧe mI fˈaʧeʦʲˌʲ?"),
        ("sv", "God morgon, sju sjuka sjömän.", "ɡˈuːd mˈɔrɡɔn, sxˈu sxˈuka sxˈøːmɛːn."),
        ("en", "Good morning, judge.", "ɡˈʊd mˈɔɹnɪŋ, ʤˈʌʤ."),
        ("en-gb", "Good morning, nurse.", "ɡˈʊd mˈɔːnɪŋ, nˈɜːs."),
        ("fr", "Bonjour, un bon vin blanc.", "bɔ̃ʒˈuʁ, œ̃ bˈɔ̃ vˈɛ̃ blˈɑ̃."),
        ("es", "Buenos días, señor.", "bwˈenos ðˈias, seɲˈoɾ."),
        ("it", "Buongiorno, gli gnocchi.", "bʊonʤˈɔrno, ʎɪ ɲˈokːɪ."),
        ("pt", "Bom dia, coração.", "bˈoŋ ʤˈiæ, kˌoɾasˈɐ̃ʊ̃."),
    ],
)
def test_phonemes(language: str, text: str, phonemes: str) -> None:
    assert phonemise(text, language) == phonemes


@pytest.mark.parametrize(
    ("language", "ipa", "expected"),
    [
        ("de", "ˌa^ʊs t^sˈuː ʏ", "ˌWs ʦˈuː y"),
        ("da", "mεð", "mɛð"),  # the Greek letter
        ("ca", "kuɱfəɾˈɛnsiə", "kumfəɾˈɛnsiə"),
        ("sv", "s^xˈʉka", "sxˈuka"),
        ("ru", "ʒˈyʑn", "ʒˈyʒn"),
        ("id", "(en)ɡˈuːɡəl(id)", "ɡˈuːɡəl"),
        ("en", "mˈɔː^ɹnɪŋ d^ʒˈʌd^ʒ", "mˈɔɹnɪŋ ʤˈʌʤ"),
        ("en-gb", "ɡˈə^ʊ", "ɡˈQ"),
    ],
)
def test_phonemes_of_the_model(language: str, ipa: str, expected: str) -> None:
    assert kokoro._to_model(ipa, language) == expected
    assert set(expected) - {" "} <= SYMBOL_IDS.keys()


def test_symbols_are_distinct() -> None:
    assert len(set(SYMBOL_IDS.values())) == len(SYMBOL_IDS)
    assert 0 not in SYMBOL_IDS.values()  # the padding
    assert SYMBOL_IDS["a"] == 43


def test_blends(speaker: Kokoro) -> None:
    assert speaker.style("one").shape == (MAX_PHONEMES, STYLE_SIZE)
    assert (speaker.style("three") == 3).all()
    np.testing.assert_allclose(speaker.style({"one": 1, "three": 3}), 2.5)
    np.testing.assert_allclose(speaker.style({"one": -1, "three": 2}), 5.0)
    with pytest.raises(EdgelidError, match="there is no voice 'two'; choose from one, three"):
        speaker.style("two")
    with pytest.raises(EdgelidError, match="must have a sum above 0"):
        speaker.style({"one": 0.0})


def test_long_texts_are_spoken_in_pieces(speaker: Kokoro) -> None:
    text = "a b, c. " * 200
    samples = speaker.synthesise(text, "en", "one")
    pieces = list(kokoro._pieces(text, MAX_PHONEMES))
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= MAX_PHONEMES
    assert all(piece.endswith(".") for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert len(samples) == sum(len(piece) + 2 for piece in pieces)


@pytest.mark.parametrize(
    ("text", "speed", "message"),
    [("", 1.0, "nothing to speak in ''"), ("a", 0.4, "from 0.5 to 2"), ("a", 2.1, "from 0.5 to 2")],
)
def test_impossible_requests(speaker: Kokoro, text: str, speed: float, message: str) -> None:
    with pytest.raises(EdgelidError, match=message):
        speaker.synthesise(text, "en", "one", speed)


def test_trims_silence() -> None:
    samples = np.zeros(SAMPLE_RATE_HZ, np.float32)
    samples[6000:12_000] = 0.1
    samples[13_000:13_240] = 1e-4  # 60 dB below
    np.testing.assert_array_equal(trim_silence(samples), samples[6000:12_000])
    assert len(trim_silence(np.zeros(5000, np.float32))) == 0
    short = np.ones(100, np.float32)
    np.testing.assert_array_equal(trim_silence(short), short)
