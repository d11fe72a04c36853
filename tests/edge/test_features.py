"""Other people's features: what librosa computes, frame for frame, and as someone speaks."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.own_description import filterbank_of, front_end_of
from convert.whole_window import window_spec
from edge.errors import EdgelidError
from edge.features import (
    FeatureResampler,
    ForeignConfig,
    ForeignFrontEnd,
    audio_samples,
    open_front_end,
)
from edge.frontend import Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from edge.model.modelfile import (
    DEFAULT_MODEL,
    FOREIGN_FORMAT_VERSION,
    MAX_MEMBER_BYTES,
    model_of_bytes,
    pack_model,
    read_model,
)

SEED = 3
SAMPLES = (
    np.random.default_rng(SEED).standard_normal(24_000) * np.linspace(0.3, 1e-4, 24_000)
).astype(np.float32)


def opened(**values: Any) -> ForeignFrontEnd:
    config = front_end_of(values, "here")
    front_end = open_front_end(config, filterbank_of(config))
    assert isinstance(front_end, ForeignFrontEnd)
    return front_end


def of_librosa(kind: str, **options: Any) -> np.ndarray:
    """Of the same audio, by librosa: (frames, features)."""
    import librosa

    mel = librosa.feature.melspectrogram(y=SAMPLES.astype(np.float64), **options)
    made = {
        "db": lambda: librosa.power_to_db(mel, ref=1.0, top_db=None),
        "amplitude_db": lambda: librosa.amplitude_to_db(mel, ref=2.0, top_db=None),
        "ln": lambda: np.log(mel + 1e-6),
        "log10": lambda: np.log10(np.maximum(mel, 1e-5)),
        "linear": lambda: mel,
        "mfcc": lambda: librosa.feature.mfcc(
            S=librosa.power_to_db(mel, top_db=None), n_mfcc=20, lifter=22
        ),
    }
    return np.asarray(made[kind]()).T


AT_16_KHZ = {"sr": 16_000, "n_fft": 1024, "hop_length": 256, "n_mels": 64}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "as tutorials do": ("db", AT_16_KHZ, {"scale": "db", "ref": 1.0, "top_db": None}),
    "htk, not normalised": (
        "ln",
        {**AT_16_KHZ, "htk": True, "norm": None, "fmin": 20.0, "fmax": 7000.0},
        {"scale": "ln", "offset": 1e-6},
    ),
    "short window": (
        "log10",
        {**AT_16_KHZ, "win_length": 400, "hop_length": 160, "window": "hamming"},
        {"scale": "log10", "amin": 1e-5},
    ),
    "magnitudes": (
        "amplitude_db",
        {**AT_16_KHZ, "power": 1.0},
        {"scale": "amplitude_db", "ref": 2.0},
    ),
    "not centred": (
        "linear",
        {**AT_16_KHZ, "center": False, "window": "blackman"},
        {"scale": "linear"},
    ),
    "cepstra": ("mfcc", AT_16_KHZ, {"n_mfcc": 20, "lifter": 22}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_librosa_computes(case: str) -> None:
    kind, options, told = CASES[case]
    front_end = opened(**options, **told)
    found, wanted = front_end.log_mel(SAMPLES), of_librosa(kind, **options)
    # The last of librosa's centred frames hear the silence that it puts behind a clip.
    assert 0 <= len(wanted) - len(found) <= 3
    np.testing.assert_allclose(found, wanted[: len(found)], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_of_another_rate() -> None:
    """Resampled as librosa does, where there is sound; above 8 kHz there is none."""
    import librosa

    audio = librosa.resample(SAMPLES.astype(np.float64), orig_sr=16_000, target_sr=22_050)
    mel = librosa.feature.melspectrogram(y=audio, sr=22_050)
    wanted = librosa.power_to_db(mel, ref=1.0, top_db=None).T
    found = opened(sr=22_050, n_fft=2048, hop_length=512, n_mels=128, scale="db").log_mel(SAMPLES)
    centres = librosa.mel_frequencies(130, fmin=0, fmax=11_025)[1:-1]
    heard = centres < 7_000
    difference = np.abs(found - wanted[: len(found)])[1:-1]
    assert difference[:, heard].max() < 0.1  # decibels
    above = found[1:-1][:, centres > 8_300].max(axis=1)
    assert (above < found[1:-1][:, heard].min(axis=1) - 15).all()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_any_blocks_give_the_same_frames(rate: int) -> None:
    """To the bit, and as many as it says that it needs audio for."""
    front_end = opened(sr=rate, n_fft=512, hop_length=160, n_mels=20, scale="db", n_mfcc=8)
    whole = front_end.log_mel(SAMPLES)
    blocks = np.split(SAMPLES, [1, 7, 4000, 4001, 9000, 23_000])
    parts = np.concatenate([front_end.process(block) for block in blocks])
    assert parts.tobytes() == whole.tobytes()
    front_end.reset()
    taken, frames, pace = 0, [], front_end.pace(3)
    for _ in range(12):
        wanted = pace.samples
        assert len(front_end.process(SAMPLES[taken : taken + wanted - 1])) == 2
        one = front_end.process(SAMPLES[taken + wanted - 1 : taken + wanted])
        assert len(one) == 1
        frames.append(one)
        taken += wanted
    assert taken == audio_samples(front_end.config, 36)
    assert np.concatenate(frames).tobytes() == whole[2:36:3].tobytes()


def test_normalised_by_constants() -> None:
    plain = opened(**AT_16_KHZ, scale="db")
    normalised = opened(**AT_16_KHZ, scale="db", mean=-40.0, std=20)
    np.testing.assert_allclose(
        normalised.log_mel(SAMPLES), (plain.log_mel(SAMPLES) + 40) / 20, atol=1e-5
    )
    each = opened(**AT_16_KHZ, scale="db", mean=list(range(64)), std=[2.0] * 64)
    np.testing.assert_allclose(
        each.log_mel(SAMPLES), (plain.log_mel(SAMPLES) - np.arange(64)) / 2, atol=1e-4
    )
    np.testing.assert_allclose(plain.silence, -100)


def test_plain_spectra() -> None:
    """Bins instead of bands, magnitudes, a symmetric window."""
    front_end = opened(fft_samples=256, window_samples=255, hop_samples=128, mel="none", power=1.0,
                       scale="linear", periodic=False)  # fmt: skip
    frames = front_end.log_mel(SAMPLES)
    assert frames.shape[1] == 129
    wanted = np.abs(np.fft.rfft(SAMPLES[:255] * np.hanning(255), 256))
    np.testing.assert_allclose(frames[0], wanted, rtol=1e-5, atol=1e-6)


def test_a_tone_resampled() -> None:
    times = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 1000 * times).astype(np.float32)
    found = FeatureResampler(22_050).process(tone)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(len(found)) / 22_050)
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=1e-5)


def test_edgelids_own_stays_its_own() -> None:
    config = front_end_of({"mels": 40}, "here")
    assert type(config) is FrontEndConfig
    assert type(open_front_end(config, filterbank_of(config))) is FrontEnd
    same = opened(mels=40, scale="edgelid")
    own: Float32Array = FrontEnd(config, filterbank_of(config)).log_mel(SAMPLES)
    np.testing.assert_allclose(same.log_mel(SAMPLES), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": "db", "ref": "max"}, "ref=max depends on a whole clip.*retrain with ref=1.0"),
        ({"scale": "db", "top_db": 80}, "top_db, a distance to the loudest frame"),
        ({"scale": "db", "normalize": True}, "normalize depends on a whole clip"),
        ({"scale": "db", "mean": "per clip"}, "mean=per clip depends on a whole clip"),
        ({"n_mels": 64}, "say which scale the features have"),
        ({"n_mels": 64, "scale": "ln"}, "what keeps the logarithm of silence finite"),
        ({"n_mels": 64, "scale": "dB"}, "scale must be one of"),
        ({"n_mels": 64, "bins": 3}, "unknown setting 'bins'"),
        ({"n_mels": 64, "mels": 64, "scale": "db"}, "says again what another setting says"),
        ({"n_mels": 64, "scale": "db", "std": 0}, "standard deviations must be above 0"),
        ({"n_mels": 64, "scale": "db", "mean": [1, 2]}, "mean must be one number, or 64"),
        ({"n_mels": 400, "n_fft": 512, "scale": "db"}, "must be 1 to 257"),
        ({"n_mels": 200, "n_fft": 512, "scale": "db"}, "some would be empty"),
        ({"n_mfcc": 40, "n_mels": 20}, "no more cepstra than mel bands"),
        ({"n_mels": 64, "scale": "db", "fmax": 12_000}, "must lie between 0 and 11025 Hz"),
        ({"high_hz": 11_025.0}, "between 0 and 8000 Hz, half of the sample rate"),
        ({"sample_rate_hz": 22_050}, "features at 22050 Hz are not edgelid's: say which scale"),
        ({"hop_samples": 500}, "must be above 0 and not shrink"),
        ({"n_fft": "many", "scale": "db"}, "is not what belongs there"),
        ({"mel": "none", "n_fft": 2048, "scale": "db"}, "n_fft may be 2045 at most"),
        ({"n_fft": 32_768, "n_mels": 128, "scale": "db"}, "16385 bins may have 63 mel bands"),
    ],
)
def test_what_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgelidError, match=message) as refused:
        filterbank_of(front_end_of(values, "here"))
    assert "\n" not in str(refused.value)


def test_the_largest_plain_spectrogram() -> None:
    filterbank = filterbank_of(front_end_of({"mel": "none", "n_fft": 2045, "scale": "db"}, "here"))
    file = io.BytesIO()
    np.save(file, filterbank)
    assert file.tell() <= MAX_MEMBER_BYTES


@pytest.mark.parametrize(
    ("values", "hop_samples"),
    [
        ({"n_fft": 1024, "scale": "db"}, 512),
        ({"n_fft": 1024, "hop_length": None, "scale": "db"}, 256),
        ({"n_fft": 1024, "win_length": 400, "hop_length": None, "scale": "db"}, 100),
        ({"n_fft": 1024, "mel": "none", "scale": "db"}, 256),
        ({"n_fft": 1024, "mel": "none", "hop_length": 300, "scale": "db"}, 300),
    ],
)
def test_hops_that_are_not_told(values: dict[str, Any], hop_samples: int) -> None:
    """A plain spectrogram and None have that of `librosa.stft`."""
    assert front_end_of(values, "here").hop_samples == hop_samples


def test_impossible_files_are_refused() -> None:
    for wrong in ({"scale": "db!"}, {"power": 3.0}, {"reference": 0.0}, {"lifter": -1.0},
                  {"sample_rate_hz": 10**9}, {"cepstra": -1}, {"mean": (1.0, 2.0)}):  # fmt: skip
        with pytest.raises(ValueError):
            ForeignConfig(**wrong).check()


COMMON_RATES_HZ = (4_000, 5_512, 6_000, 7_350, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000,
                   32_000, 37_800, 44_100, 48_000, 64_000, 88_200, 96_000)  # fmt: skip


@pytest.mark.parametrize("rate_hz", COMMON_RATES_HZ)
def test_rates_that_are_possible(rate_hz: int) -> None:
    config = ForeignConfig(sample_rate_hz=rate_hz)
    config.check()
    if rate_hz != 16_000:
        wanted = FeatureResampler(rate_hz).missing_samples(
            config.window_samples + 3 * config.hop_samples - config.lead_samples
        )
        assert audio_samples(config, 4) == wanted


@pytest.mark.parametrize("rate_hz", [95_999, 44_101, 16_001, 4_001])
def test_rates_that_would_take_too_much_memory(
    rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureResampler, "__init__", None)  # no table is made to find out
    config = ForeignConfig(sample_rate_hz=rate_hz)
    assert audio_samples(config, 1) > 0
    with pytest.raises(ValueError, match="too much memory: train with a common rate"):
        config.check()


def packed(config: ForeignConfig) -> bytes:
    """A model file that says that its features are these."""
    shipped = read_model(DEFAULT_MODEL)
    filterbank = filterbank_of(front_end_of({**AT_16_KHZ, "scale": "db"}, "here"))
    description = dataclasses.replace(
        shipped.description,
        format_version=FOREIGN_FORMAT_VERSION,
        front_end=config,
        front_end_hash=front_end_hash(config, filterbank),
        stream=window_spec(config, 40, 7),
    )
    return pack_model(shipped.graph, shipped.labels, description, filterbank)


def test_a_model_file_of_them() -> None:
    config = front_end_of({**AT_16_KHZ, "scale": "db", "mean": -40, "std": [20.0] * 64}, "here")
    assert isinstance(config, ForeignConfig)
    found = model_of_bytes(Path("a.tflite"), packed(config)).description
    assert found.front_end == config
    assert found.mode == "window"
    for wrong in ({"scale": "dB"}, {"power": 3.0}, {"mean": (1.0, 2.0)}, {"floor": 0.0}):
        with pytest.raises(EdgelidError, match="its front end") as refused:
            model_of_bytes(Path("a.tflite"), packed(dataclasses.replace(config, **wrong)))
        assert str(refused.value).startswith("the model 'a.tflite' cannot be used")
