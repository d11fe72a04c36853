"""What the accelerator computes is what the device does."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from edge.frontend import FrontEnd, FrontEndConfig
from tests.synthetic import speech
from train.features.filterbank import mel_filterbank
from train.waveforms.draws import EQ_POINTS
from train.waveforms.large import large_front_end
from train.waveforms.sound import (
    augmented,
    eq_basis,
    filterbank,
    log_mel,
    masked,
    repeated,
    room_spectra,
    samples_of,
    stretch,
    transform_size,
    without_weak_parts,
)

SAMPLES = samples_of(100)


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return speech("de", "someone", 1, 2.0)[:SAMPLES]


@pytest.mark.parametrize("config", [FrontEndConfig(floor=1e-10), large_front_end()])
def test_features_are_those_of_the_device(config: FrontEndConfig, wave: np.ndarray) -> None:
    filters = mel_filterbank(config)
    found = np.asarray(log_mel(ops.convert_to_tensor(wave[None]), config, filters.T))[0]
    wanted = FrontEnd(config, filters).log_mel(wave)
    assert found.shape == wanted.shape == (100, config.mels)
    # Single precision below 16 bits of sound; what is far below the loudest differs most.
    loud = wanted > wanted.max() - 12
    assert np.abs(found - wanted)[loud].max() < 0.01


@pytest.mark.parametrize("config", [FrontEndConfig(), large_front_end()])
def test_filters_are_librosas(config: FrontEndConfig) -> None:
    np.testing.assert_allclose(filterbank(config).T, mel_filterbank(config), atol=1e-8)


def neutral(clips: int) -> dict[str, np.ndarray]:
    return {
        "eq_db": np.zeros((clips, EQ_POINTS), np.float32),
        "high_hz": np.full(clips, 20_000, np.float32),
        "low_hz": np.full(clips, 1, np.float32),
        "snr_db": np.full(clips, 80, np.float32),
        "peak_db": np.full(clips, -6, np.float32),
        "rooms": np.zeros(clips, np.int32),
        "companded": np.zeros(clips, np.float32),
    }


def augment(wave: np.ndarray, **changes: object) -> np.ndarray:
    rooms = room_spectra([np.r_[1.0, np.zeros(799), 0.5]], SAMPLES)
    noise = np.random.default_rng(2).normal(0, 0.1, wave.shape).astype(np.float32)
    draw = neutral(len(wave)) | {k: np.asarray(v) for k, v in changes.items()}
    basis = eq_basis(transform_size(SAMPLES))
    return np.asarray(augmented(wave, noise, draw, rooms, basis))


def test_nothing_drawn_changes_the_level_alone(wave: np.ndarray) -> None:
    (found,) = augment(wave[None])
    peak = 10 ** (-6 / 20)
    wanted = wave / np.abs(wave).max() * peak
    assert np.abs(found - wanted).max() < 1e-3


def test_a_room_answers(wave: np.ndarray) -> None:
    (found,) = augment(wave[None], rooms=np.ones(1, np.int32))
    echo = wave + 0.5 * np.r_[np.zeros(800, np.float32), wave[:-800]]
    assert np.corrcoef(found, echo)[0, 1] > 0.999


def test_noise_is_as_loud_as_drawn(wave: np.ndarray) -> None:
    (found,) = augment(wave[None], snr_db=np.full(1, 10, np.float32))
    scale = np.dot(found, wave) / np.dot(wave, wave)
    noise = found - scale * wave
    ratio_db = 10 * np.log10(np.mean((scale * wave) ** 2) / np.mean(noise**2))
    assert ratio_db == pytest.approx(10, abs=0.5)


def test_a_telephone_keeps_its_band() -> None:
    white = np.random.default_rng(3).normal(0, 0.1, (1, SAMPLES)).astype(np.float32)
    edges = {"high_hz": np.full(1, 3_400, np.float32), "low_hz": np.full(1, 300, np.float32)}
    (found,) = augment(white, **edges)
    power = np.abs(np.fft.rfft(found)) ** 2
    hz = np.fft.rfftfreq(SAMPLES, 1 / 16_000)
    assert power[(hz > 5_000) | (hz < 200)].sum() < 0.01 * power.sum()


def test_full_scale_is_never_passed(wave: np.ndarray) -> None:
    (found,) = augment(wave[None], peak_db=np.full(1, 12, np.float32))
    assert np.abs(found).max() <= 1.0
    assert (np.abs(found) > 0.99).mean() > 0.001


def test_a_stretch_is_read_at_its_speed() -> None:
    bank = (np.sin(np.arange(40_000) / 20) * 20_000).astype(np.int16)
    some = {"starts": [100], "counts": [30_000], "lead": [50]}
    args = [np.array(some[name], np.int32) for name in ("starts", "counts", "lead")]
    (found,) = np.asarray(stretch(bank, *args, np.array([1.25], np.float32), 2_000))
    assert not found[:50].any()
    wanted = np.sin((100 + 1.25 * np.arange(1_950)) / 20) * 20_000 / 32_768
    assert np.abs(found[50:] - wanted).max() < 1e-3


@pytest.mark.parametrize("rate", [0.85, 1.1, 1.19])
@pytest.mark.parametrize(("hz", "lost_db"), [(1_000, 0.1), (3_000, 0.1), (5_000, 1.0)])
def test_another_speed_moves_a_tone_and_makes_no_other(
    rate: float, hz: int, lost_db: float
) -> None:
    """Between two neighbours alone, 5 kHz lose 3 dB, and what comes back of them is at -16 dB."""
    bank = np.round(np.sin(2 * np.pi * hz / 16_000 * np.arange(40_000)) * 20_000).astype(np.int16)
    one = [np.array([n], np.int32) for n in (0, 40_000, 0)]
    (found,) = np.asarray(stretch(bank, *one, np.array([rate], np.float32), 16_200))
    some = found[100:16_100] * np.hanning(16_000)
    power = np.square(np.abs(np.fft.rfft(some)))
    whole = np.square(np.abs(np.fft.rfft(bank[:16_000] / 32_768 * np.hanning(16_000)))).sum()
    near = np.abs(np.arange(len(power)) - hz * rate) < 50
    assert abs(10 * np.log10(power[near].sum() / whole)) < lost_db
    assert 10 * np.log10(power[~near].sum() / whole) < -40


def test_its_own_speed_leaves_it_as_it_is() -> None:
    bank = np.random.default_rng(4).integers(-32_768, 32_768, 3_000).astype(np.int16)
    one = [np.array([n], np.int32) for n in (500, 1_000, 10)]
    (found,) = np.asarray(stretch(bank, *one, np.ones(1, np.float32), 900))
    np.testing.assert_array_equal(found[10:], bank[500:1_390] / 32_768)


def test_short_noise_goes_on() -> None:
    bank = np.arange(1_000, dtype=np.int16)
    starts, counts = np.array([100, 300], np.int32), np.array([4, 400], np.int32)
    short, long = np.asarray(repeated(bank, starts, counts, 10)) * 32_768
    assert short.tolist() == [100, 101, 102, 103] * 2 + [100, 101]
    assert long.tolist() == list(range(300, 310))


def test_a_telephone_hears_noise_as_it_does_speech() -> None:
    edges = {"high_hz": np.full(1, 3_400, np.float32), "low_hz": np.full(1, 300, np.float32)}
    tone = np.sin(2 * np.pi * 1_000 / 16_000 * np.arange(SAMPLES)).astype(np.float32)
    (found,) = augment(tone[None], snr_db=np.full(1, 0, np.float32), **edges)
    power = np.abs(np.fft.rfft(found)) ** 2
    hz = np.fft.rfftfreq(SAMPLES, 1 / 16_000)
    assert power[(hz > 5_000) | (hz < 200)].sum() < 0.01 * power.sum()
    # And it is as loud as it should be behind all of that.
    near = np.abs(hz - 1_000) < 20
    assert 10 * np.log10(power[near].sum() / power[~near].sum()) == pytest.approx(0, abs=0.5)


def test_what_is_too_short_ends_in_silence() -> None:
    bank = np.full(1_000, 8_000, np.int16)
    one = [np.array([n], np.int32) for n in (0, 300, 0)]
    (found,) = np.asarray(stretch(bank, *one, np.ones(1, np.float32), 500))
    assert (found[:299] > 0.2).all()
    assert not found[300:].any()


def test_masks() -> None:
    features = np.ones((1, 10, 8), np.float32)
    times = np.array([[[2.0, 4.0], [-1, -1]]], np.float32)
    bands = np.array([[[5.0, 6.0], [-1, -1]]], np.float32)
    (found,) = np.asarray(masked(features, times, bands))
    assert not found[2:4].any()
    assert not found[:, 5].any()
    assert found.sum() == 80 - 16 - 10 + 2


def test_a_codec_leaves_out_what_is_weak_and_high() -> None:
    features = np.full((3, 8, 10), 5.0, np.float32)
    features[:, :4, 0] = 15.0  # the loudest band of the first moment is 10 above the others
    floor = np.array([8.0, 8.0, np.inf], np.float32)
    lowest = np.array([4.0, 0.0, 0.0], np.float32)
    found = np.asarray(without_weak_parts(ops.convert_to_tensor(features), floor, lowest))
    wanted = features.copy()
    wanted[0, :4, 4:] = 0.0
    wanted[1, :4, 1:] = 0.0
    np.testing.assert_array_equal(found, wanted)
