"""Another voice is what a speaker with that voice would have sounded like."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from edge.frontend import SAMPLE_RATE_HZ, FrontEndConfig
from train.waveforms.sound import filterbank, log_mel
from train.waveforms.voices import draw_voices, voice_maps, voiced, voices_of

CONFIG = FrontEndConfig()
FORMANTS_HZ = (700.0, 1200.0, 2600.0)


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray]:
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
def test_formants_and_pitch_move_apart(
    maps: tuple[np.ndarray, np.ndarray], formants: float, pitch: float
) -> None:
    spoken, wanted = vowel(120, 1.0), vowel(120 * pitch, formants)
    voice = voices_of(np.log([formants]), np.zeros(1), np.log([pitch]), np.ones(1))
    found = np.asarray(voiced(spoken, voice, maps))
    alike = np.corrcoef(found[0, 20], wanted[0, 20])[0, 1]
    before = np.corrcoef(spoken[0, 20], wanted[0, 20])[0, 1]
    assert alike > 0.93
    assert 1 - alike < 0.6 * (1 - before)


def test_nobody_else(maps: tuple[np.ndarray, np.ndarray]) -> None:
    """Without another voice nothing changes but by rounding, at whatever speed a clip is played."""
    spoken = vowel(120, 1.0)
    kept = draw_voices(np.random.default_rng(1), np.array([0.84, 1.0, 1.19]), 0.0)
    found = np.asarray(voiced(np.repeat(spoken, 3, axis=0), kept, maps))
    np.testing.assert_allclose(found, np.repeat(spoken, 3, axis=0), atol=1e-4)


def test_a_whisper_has_no_harmonics(maps: tuple[np.ndarray, np.ndarray]) -> None:
    """Between the harmonics of a high voice is as much as at them, and the envelope stays."""
    spoken = vowel(220, 1.0)
    nothing = np.zeros(1)
    whispered = np.asarray(voiced(spoken, voices_of(nothing, nothing, nothing, nothing), maps))
    ripple = [np.abs(np.diff(x[0, 20], 2)).mean() for x in (spoken, whispered)]
    assert ripple[1] < 0.5 * ripple[0]
    assert np.corrcoef(spoken[0, 20], whispered[0, 20])[0, 1] > 0.8


def test_high_formants_move_apart_from_low_ones(maps: tuple[np.ndarray, np.ndarray]) -> None:
    """Each moves as one factor for all would move it, and the two factors differ."""
    nothing, own = np.zeros(1), vowel(120, 1.0)
    sloped = np.asarray(
        voiced(own, voices_of(nothing, np.full(1, 0.08), nothing, np.ones(1)), maps)
    )[0, 20]
    low, high = slice(4, 24), slice(40, 60)
    for band, factor in ((low, -0.06), (high, 0.06)):
        alike = [
            np.corrcoef(
                sloped[band],
                np.asarray(
                    voiced(own, voices_of(np.full(1, x), nothing, nothing, np.ones(1)), maps)
                )[0, 20][band],
            )[0, 1]
            for x in (factor, -factor)
        ]
        assert alike[0] > alike[1]


def test_silence_stays(maps: tuple[np.ndarray, np.ndarray]) -> None:
    silence = np.zeros((4, 10, CONFIG.mels), np.float32)
    drawn = draw_voices(np.random.default_rng(1), np.ones(4), 1.0)
    assert not np.asarray(voiced(silence, drawn, maps)).any()


def test_a_speed_does_not_tell_the_voice() -> None:
    """What playing faster does to a voice is taken back."""
    rng = np.random.default_rng(1)
    drawn = [draw_voices(rng, np.full(2_000, rate), 1.0) for rate in (0.84, 1.19)]
    for rate, found in zip((0.84, 1.19), drawn, strict=True):
        # The speaker's own voice again.
        back = -np.log([rate])
        own = voices_of(back, np.zeros(1), back, np.ones(1))
        assert abs(np.median(found["fold"]) - own["fold"][0]) <= 1
        assert abs(np.median(found["tract"]) - own["tract"][0]) <= 5  # of slopes there are five
