"""Another voice is what a speaker with that voice would have sounded like."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from edge.frontend import SAMPLE_RATE_HZ, FrontEndConfig
from train.waveforms.sound import filterbank, log_mel
from train.waveforms.voices import draw_voices, places, voice_maps, voiced

CONFIG = FrontEndConfig()
FORMANTS_HZ = (700.0, 1200.0, 2600.0)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return voice_maps(CONFIG)


def vowel(pitch_hz: float, formants: float) -> np.ndarray:
    """Log-mel frames of a vowel: harmonics under resonances, shape (1, frames, mels)."""
    t = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    hz = pitch_hz * np.arange(1, int(7_900 / pitch_hz))
    peaks = [1 / (1 + ((hz - formants * f) / 90) ** 2) for f in FORMANTS_HZ]
    wave = (sum(peaks) + 0.01) @ np.sin(2 * np.pi * hz[:, None] * t)
    wave = (wave / np.abs(wave).max() * 0.3).astype(np.float32)
    return np.asarray(log_mel(ops.convert_to_tensor(wave[None]), CONFIG, filterbank(CONFIG)))


@pytest.mark.parametrize(("formants", "pitch"), [(1.12, 1.3), (0.9, 1.3), (1.12, 0.8), (1.0, 1.3)])
def test_formants_and_pitch_move_apart(maps: np.ndarray, formants: float, pitch: float) -> None:
    spoken, wanted = vowel(120, 1.0), vowel(120 * pitch, formants)
    place = places(np.log([formants]), np.log([pitch]))
    found = np.asarray(voiced(spoken, place, maps))
    alike = np.corrcoef(found[0, 20], wanted[0, 20])[0, 1]
    before = np.corrcoef(spoken[0, 20], wanted[0, 20])[0, 1]
    assert alike > 0.93
    assert 1 - alike < 0.6 * (1 - before)


def test_nobody_else(maps: np.ndarray) -> None:
    """Without another voice not a bit changes, at whatever speed a clip is played."""
    spoken = vowel(120, 1.0)
    kept = draw_voices(np.random.default_rng(1), np.array([0.84, 1.0, 1.19]), 0.0)
    found = np.asarray(voiced(np.repeat(spoken, 3, axis=0), kept, maps))
    np.testing.assert_array_equal(found, np.repeat(spoken, 3, axis=0))


def test_silence_stays(maps: np.ndarray) -> None:
    silence = np.zeros((4, 10, CONFIG.mels), np.float32)
    drawn = draw_voices(np.random.default_rng(1), np.ones(4), 1.0)
    assert not np.asarray(voiced(silence, drawn, maps)).any()


def test_a_speed_does_not_tell_the_voice() -> None:
    """What playing faster does to a voice is taken back."""
    rng = np.random.default_rng(1)
    drawn = [draw_voices(rng, np.full(2_000, rate), 1.0) for rate in (0.84, 1.19)]
    for rate, found in zip((0.84, 1.19), drawn, strict=True):
        middle = places(-np.log([rate]), -np.log([rate]))  # the speaker's own voice again
        assert abs(np.median(found) - middle[0]) < 30  # a step of formants is 29 of pitch
