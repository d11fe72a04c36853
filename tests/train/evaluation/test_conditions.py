"""Each condition does what its name says, and the same to the same cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.synthetic import noise, speech
from train.corpus.manifest import CORPUS_VARIABLE, corpus_dir
from train.evaluation.conditions import (
    CLEAN,
    MP3_COMPRESSION,
    OPUS_COMPRESSION,
    TITLES,
    Sounds,
    active_power,
    add_noise,
    choose,
    disturb,
    draw_noise,
    find_sounds,
)
from train.features.codecs import encode

SPEECH = speech("de", "anna", 0, 3.0)


@pytest.fixture(scope="module")
def sounds(tiny_corpus: Path) -> Sounds:
    return find_sounds(tiny_corpus.parent)


def test_sounds_are_of_the_test_split(sounds: Sounds) -> None:
    assert [path.stem for path in sounds.noises] == ["rattle"]
    assert [path.stem for path in sounds.rooms] == ["cellar"]
    assert sounds.voices == ()


def test_no_sounds(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="noise manifest"):
        find_sounds(tmp_path)


def test_choice(sounds: Sounds) -> None:
    assert choose(["opus", "noise-5"], sounds) == ["clean", "noise-5", "opus"]
    assert choose([], sounds) == ["clean"]
    assert choose(None, sounds) == [name for name in TITLES if name != "babble-10"]
    everything = Sounds(sounds.noises, sounds.noises, sounds.rooms)
    assert choose(None, everything) == list(TITLES)


@pytest.mark.parametrize("name", TITLES)
def test_same_length_and_repeatable(sounds: Sounds, name: str) -> None:
    some = Sounds(sounds.noises, sounds.noises, sounds.rooms)
    once = disturb(SPEECH, name, "a", some)
    assert once.shape == SPEECH.shape
    assert once.dtype == np.float32
    assert np.array_equal(once, disturb(SPEECH, name, "a", some))
    assert np.array_equal(once, SPEECH) == (name == CLEAN)
    # Neither late nor at another level, as codecs and filters easily are.
    if name in ("mp3", "opus", "room"):
        lags = range(-400, 401)
        middle = slice(8000, 40000)
        match = [float(np.dot(SPEECH[middle], np.roll(once, -lag)[middle])) for lag in lags]
        assert abs(lags[int(np.argmax(match))]) <= 2
        assert np.std(once) == pytest.approx(np.std(SPEECH), rel=0.1)


def test_active_power_leaves_pauses_out() -> None:
    loud = np.full(SAMPLE_RATE_HZ, 0.5, np.float32)
    pause = np.full(SAMPLE_RATE_HZ, 0.01, np.float32)  # 34 dB below
    assert active_power(np.concatenate([loud, pause])) == pytest.approx(0.25)
    soft = np.full(SAMPLE_RATE_HZ, 0.05, np.float32)  # 20 dB below
    assert active_power(np.concatenate([loud, soft])) == pytest.approx((0.25 + 0.0025) / 2)


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_signal_to_noise_ratio(snr_db: float) -> None:
    padded = np.concatenate([SPEECH, np.zeros(SAMPLE_RATE_HZ, np.float32)])
    mixed = add_noise(padded, noise("hiss", 4.0), snr_db)
    added = np.mean(np.square(mixed - padded))
    assert 10 * np.log10(active_power(padded) / added) == pytest.approx(snr_db, abs=0.01)


def test_silence_takes_no_noise() -> None:
    silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
    assert np.array_equal(add_noise(silence, noise("hiss", 1.0), 0.0), silence)
    assert np.array_equal(add_noise(SPEECH, np.zeros_like(SPEECH), 0.0), SPEECH)


def added(name: str, key: str, sounds: Sounds) -> Float32Array:
    return disturb(SPEECH, name, key, sounds) - SPEECH


def test_the_same_noise_at_all_ratios(sounds: Sounds) -> None:
    strong, weak = added("noise-0", "a", sounds), added("noise-20", "a", sounds)
    np.testing.assert_allclose(strong, weak * 10, atol=1e-5)


def test_other_cuts_have_other_noise(tmp_path: Path) -> None:
    from tests.synthetic import write_audio

    write_audio(tmp_path / "long.wav", noise("hum", 20.0))
    first = draw_noise([tmp_path / "long.wav"], 16000, "a")
    second = draw_noise([tmp_path / "long.wav"], 16000, "b")
    assert not np.array_equal(first, second)


def test_noise_is_drawn_where_it_is_loud(tmp_path: Path) -> None:
    from tests.synthetic import write_audio

    bark = noise("dog", 20.0)
    bark[: 8 * SAMPLE_RATE_HZ] = 0
    write_audio(tmp_path / "bark.wav", bark)
    drawn = [draw_noise([tmp_path / "bark.wav"], 16000, str(key)) for key in range(30)]
    assert sum(bool(np.any(d)) for d in drawn) == 30


def test_short_noise_is_repeated(sounds: Sounds) -> None:
    assert len(draw_noise(sounds.noises, 10 * SAMPLE_RATE_HZ, "a")) == 10 * SAMPLE_RATE_HZ


def power_db(samples: Float32Array, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    at_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    return float(10 * np.log10(spectrum[(at_hz >= low_hz) & (at_hz < high_hz)].mean()))


def test_telephone_band(sounds: Sounds) -> None:
    white = np.random.default_rng(2).standard_normal(3 * SAMPLE_RATE_HZ).astype(np.float32) * 0.1
    heard = disturb(white, "telephone", "a", sounds)
    for low_hz, high_hz, most_db in ((20, 150, -20), (4200, 8000, -40)):
        assert power_db(heard, low_hz, high_hz) < power_db(white, low_hz, high_hz) + most_db
    assert power_db(heard, 500, 3000) == pytest.approx(power_db(white, 500, 3000), abs=0.5)


@pytest.mark.parametrize(
    ("container", "codec", "compression", "mode", "expected", "tolerance"),
    [
        ("MP3", "MPEG_LAYER_III", MP3_COMPRESSION, "CONSTANT", 16.0, 0.01),
        ("OGG", "OPUS", OPUS_COMPRESSION, None, 12.0, 0.35),  # varies with the sound
    ],
)
def test_rates_in_kilobits(
    container: str,
    codec: str,
    compression: float,
    mode: str | None,
    expected: float,
    tolerance: float,
) -> None:
    long = np.concatenate([speech("de", "anna", clip, 4.0) for clip in range(5)])
    encoded = encode(long, container, codec, compression, mode)
    assert len(encoded) * 8 / 20 / 1000 == pytest.approx(expected, rel=tolerance)


@pytest.mark.corpus
@pytest.mark.skipif(
    not (corpus_dir() / "manifest.tsv").is_file(),
    reason=f"needs the speech corpus: set {CORPUS_VARIABLE}",
)
def test_the_real_corpus_has_sounds_for_all() -> None:
    sounds = find_sounds(corpus_dir().parent)
    assert choose(None, sounds) == list(TITLES)
    assert len(sounds.noises) >= 20
    assert len(sounds.rooms) >= 30
