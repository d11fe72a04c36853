"""Test conditions: noise, rooms and codecs that speech meets around the microphone.

Every disturbance is drawn by the name of the item that a cut is taken from: a cut meets the same
noise at every signal-to-noise ratio, and in every model's evaluation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from train.corpus.cuts import read_audio
from train.features.augmentation import TELEPHONE_RATE_HZ, reverberate
from train.features.cache import seed_of
from train.features.codecs import decode, encode
from train.features.noise import NoiseClip, read_noise

CLEAN = "clean"
SNR_DB = {"noise-20": 20.0, "noise-10": 10.0, "noise-5": 5.0, "noise-0": 0.0, "babble-10": 10.0}
TITLES = {
    CLEAN: "clean",
    "noise-20": "noise, 20 dB",
    "noise-10": "noise, 10 dB",
    "noise-5": "noise, 5 dB",
    "noise-0": "noise, 0 dB",
    "babble-10": "voices, 10 dB",
    "room": "reverberant room",
    "telephone": "telephone band",
    "mp3": "MP3, 16 kbit/s",
    "opus": "Opus, 12 kbit/s",
}
# Noise and rooms that no model has been trained with, whatever the split of the speech.
SPLIT = "test"

ACTIVE_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50
ACTIVE_RANGE_DB = 30.0  # frames that far below the loudest one are pauses
NOISE_DRAWS = 5
TELEPHONE_BAND_HZ = (300.0, 3400.0)  # ITU-T G.712
# How libsndfile maps its compression (see `train.features.codecs.encode`) on the codec's rates: 8
# to 160 kbit/s for MP3 at 16 kHz, 6 to 256 for Opus.
MP3_COMPRESSION = 1 - (16 - 8) / (160 - 8)
OPUS_COMPRESSION = 1 - (12 - 6) / (256 - 6)
MP3_DELAY_SAMPLES = 576 + 529  # of LAME's encoder and of the decoder's filterbank


@dataclass(frozen=True)
class Sounds:
    """Where noise and room responses come from.

    Attributes
    ----------
    noises : tuple of Path
        Without intelligible speech.
    voices : tuple of Path
        With it.
    rooms : tuple of Path
        Impulse responses.
    """

    noises: tuple[Path, ...]
    voices: tuple[Path, ...]
    rooms: tuple[Path, ...]


def find_sounds(folder: Path) -> Sounds:
    """Find the test split of the folders ``noise`` and ``rir`` in a folder.

    Raises
    ------
    EdgelidError
        If a manifest or a file is missing.
    """
    noise, rir = folder / "noise", folder / "rir"
    clips = read_noise(noise, SPLIT)

    def paths(chosen: Sequence[NoiseClip], folder: Path) -> tuple[Path, ...]:
        return tuple(folder / clip.path for clip in chosen)

    return Sounds(
        noises=paths([clip for clip in clips if not clip.has_speech], noise),
        voices=paths([clip for clip in clips if clip.has_speech], noise),
        rooms=paths(read_noise(rir, SPLIT), rir),
    )


def choose(names: Sequence[str] | None, sounds: Sounds) -> list[str]:
    """The conditions to test, clean always first.

    Parameters
    ----------
    names : sequence of str or None
        Of `TITLES`; None for all that there are sounds for.
    sounds : Sounds

    Raises
    ------
    EdgelidError
        If there is no such condition, or no sound for it.
    """
    unknown = [name for name in names or () if name not in TITLES]
    if unknown:
        raise EdgelidError(f"there is no condition {unknown[0]}: choose from {', '.join(TITLES)}")
    for name in names or ():
        if not _possible(name, sounds):
            raise EdgelidError(f"the test split of the noise has nothing for {name}: leave it out")
    wanted = {CLEAN, *(TITLES if names is None else names)}
    return [name for name in TITLES if name in wanted and _possible(name, sounds)]


def _possible(name: str, sounds: Sounds) -> bool:
    return bool(_noises(name, sounds)) if name in SNR_DB else True


def _noises(name: str, sounds: Sounds) -> tuple[Path, ...]:
    return sounds.voices if name.startswith("babble") else sounds.noises


def disturb(samples: Float32Array, name: str, key: str, sounds: Sounds) -> Float32Array:
    """Put speech into a condition.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
        16 kHz mono.
    name : str
        Of the condition.
    key : str
        That the noise and the room are drawn by.
    sounds : Sounds

    Returns
    -------
    ndarray, shape (n,), float32
        Not clipped: what full scale would add is another condition.

    Raises
    ------
    EdgelidError
        If a sound cannot be read.
    """
    if name in SNR_DB:
        noise = draw_noise(_noises(name, sounds), len(samples), key)
        return add_noise(samples, noise, SNR_DB[name])
    if name == "room":
        room = sounds.rooms[int(seed_of("room", key).integers(len(sounds.rooms)))]
        return reverberate(samples, _read(room))
    if name == "telephone":
        return telephone(samples)
    if name == "mp3":
        return mp3(samples)
    if name == "opus":
        return opus(samples)
    return samples


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> Float32Array:
    return read_audio(path)


def draw_noise(paths: Sequence[Path], length: int, key: str) -> Float32Array:
    """A stretch of noise, drawn by `key`.

    Parameters
    ----------
    paths : sequence of Path
    length : int
        In samples; shorter recordings are repeated.
    key : str

    Returns
    -------
    ndarray, shape (length,), float32
        The loudest of a few draws from one recording: what barks now and then must not have
        its silence amplified.
    """
    rng = seed_of("noise", key)
    noise = _read(paths[int(rng.integers(len(paths)))])
    if len(noise) < length:
        noise = np.resize(noise, length)
    starts = rng.integers(0, len(noise) - length + 1, NOISE_DRAWS)
    return max((noise[start : start + length] for start in starts), key=_power)


def add_noise(samples: Float32Array, noise: Float32Array, snr_db: float) -> Float32Array:
    """Mix speech and noise.

    Parameters
    ----------
    samples, noise : ndarray, shape (n,)
    snr_db : float
        Power of the active speech to the power of the noise.

    Returns
    -------
    ndarray, shape (n,), float32
        The speech as loud as before.
    """
    gain = np.sqrt(active_power(samples) / max(_power(noise), 1e-12) * 10 ** (-snr_db / 10))
    return (samples + noise * np.float32(gain)).astype(np.float32)


def active_power(samples: Float32Array) -> float:
    """Mean power of the frames of 20 ms at most 30 dB below the loudest one: without the pauses.

    A plain form of the active speech level of ITU-T P.56.
    """
    count = len(samples) // ACTIVE_FRAME_SAMPLES
    frames = samples[: count * ACTIVE_FRAME_SAMPLES].reshape(count, ACTIVE_FRAME_SAMPLES)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return float(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean())


def _power(samples: Float32Array) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def telephone(samples: Float32Array) -> Float32Array:
    """Speech through a telephone line: 300 to 3400 Hz, at 8 kHz."""
    import soxr
    from scipy.signal import butter, sosfiltfilt

    band = butter(4, TELEPHONE_BAND_HZ, "bandpass", fs=TELEPHONE_RATE_HZ, output="sos")
    narrow = sosfiltfilt(band, soxr.resample(samples, SAMPLE_RATE_HZ, TELEPHONE_RATE_HZ))
    wide = soxr.resample(narrow, TELEPHONE_RATE_HZ, SAMPLE_RATE_HZ)
    return _fit(wide.astype(np.float32), len(samples))


def mp3(samples: Float32Array) -> Float32Array:
    """Speech after MP3 at 16 kbit/s, without the codec's delay."""
    encoded = encode(samples, "MP3", "MPEG_LAYER_III", MP3_COMPRESSION, bitrate_mode="CONSTANT")
    return _fit(decode(encoded)[MP3_DELAY_SAMPLES:], len(samples))


def opus(samples: Float32Array) -> Float32Array:
    """Speech after Opus at about 12 kbit/s."""
    return _fit(decode(encode(samples, "OGG", "OPUS", OPUS_COMPRESSION)), len(samples))


def _fit(samples: Float32Array, length: int) -> Float32Array:
    """Cut off what is too long, and fill what is too short with silence."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
