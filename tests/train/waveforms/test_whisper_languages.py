"""Whisper's first step, folded, says what the whole network says step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from tests.tiny_whisper import Arrays, tiny_arrays, token_scores
from train.fit.teacher import weights_dir
from train.waveforms.whisper import normalised
from train.waveforms.whisper_languages import (
    LANGUAGES,
    NO_SPEECH_BIAS,
    NO_SPEECH_TOKEN,
    START_TOKEN,
    WhisperLanguages,
    whole_encoder,
)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return tiny_arrays()


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(0, 20, (2, 30, 80)).astype(np.float32)


def expected(arrays: Arrays, window: np.ndarray) -> np.ndarray:
    """Of all languages, and of no speech."""
    scores = token_scores(arrays, np.asarray(normalised(window[None]))[0])
    first = START_TOKEN + 1
    languages = scores[first : first + len(LANGUAGES)]
    return np.append(languages, scores[NO_SPEECH_TOKEN] + NO_SPEECH_BIAS)


def test_all_languages(arrays: Arrays, windows: np.ndarray) -> None:
    model = WhisperLanguages(arrays)
    assert model.labels == (*LANGUAGES, "nonspeech")
    found = np.asarray(model(windows))
    for row, window in zip(found, windows, strict=True):
        wanted = expected(arrays, window)
        assert wanted.std() > 0.5
        np.testing.assert_allclose(row, wanted, atol=1e-3)


def test_the_rest_is_other(arrays: Arrays, windows: np.ndarray) -> None:
    model = WhisperLanguages(arrays, ("sv", "de"))
    assert model.labels == ("sv", "de", "other", "nonspeech")
    wanted = expected(arrays, windows[0])
    own = [LANGUAGES.index(language) for language in ("sv", "de")]
    rest = np.delete(wanted[:-1], own)
    found = np.asarray(model(windows[:1]))[0]
    np.testing.assert_allclose(found[:2], wanted[own], atol=1e-3)
    assert found[2] == pytest.approx(np.log(np.exp(rest).sum()), abs=1e-3)
    assert found[3] == pytest.approx(wanted[-1], abs=1e-3)


def test_a_part_of_what_was_heard(arrays: Arrays, windows: np.ndarray) -> None:
    """Tokens outside of it are as good as not there."""
    model = WhisperLanguages(arrays, ("sv", "de"))
    heard = np.asarray(model.heard(windows))
    within = np.zeros(heard.shape[:2], np.float32)
    within[:, 4:9] = 1
    part = np.asarray(model.decoded(heard, within))
    np.testing.assert_allclose(part, np.asarray(model.decoded(heard[:, 4:9])), atol=1e-4)
    assert np.abs(part - np.asarray(model.decoded(heard))).max() > 0.01


def test_the_encoder_alone(arrays: Arrays, windows: np.ndarray) -> None:
    encoder = whole_encoder(arrays)
    wanted = WhisperLanguages(arrays).encoder(normalised(windows))
    np.testing.assert_array_equal(encoder(normalised(windows)), wanted)
    with pytest.raises(EdgelidError, match="lack encoder/conv1/weight"):
        whole_encoder({})


def test_weights_of_something_else(arrays: Arrays) -> None:
    encoder = {name: value for name, value in arrays.items() if name.startswith("encoder")}
    with pytest.raises(EdgelidError, match="lack a decoder"):
        WhisperLanguages(encoder)
    english = {**arrays, "decoder/embeddings/weight": arrays["decoder/embeddings/weight"][:51_864]}
    with pytest.raises(EdgelidError, match="51864 tokens, which must be 51865"):
        WhisperLanguages(english)
    name = "decoder/layer_0/ffn/linear_0/weight"
    with pytest.raises(EdgelidError, match="quantised already"):
        WhisperLanguages({**arrays, name: arrays[name].astype(np.int8)})
    missing = {key: value for key, value in arrays.items() if key != name}
    with pytest.raises(EdgelidError, match="lack decoder/layer_0/ffn/linear_0/weight"):
        WhisperLanguages(missing)


def test_the_tokens_are_those_of_the_vocabulary() -> None:
    vocabulary: Path = weights_dir() / "vocabulary.txt"
    if not vocabulary.exists():
        pytest.skip("needs Whisper's vocabulary: python -m train.evaluation.whisper_stream once")
    tokens = vocabulary.read_text("utf-8").split("\n")
    assert tokens[START_TOKEN] == "<|startoftranscript|>"
    assert tokens[NO_SPEECH_TOKEN] == "<|nocaptions|>"
    named = [token.strip("<|>") for token in tokens[START_TOKEN + 1 :][: len(LANGUAGES)]]
    assert [{"jw": "jv"}.get(name, name) for name in named] == list(LANGUAGES)
