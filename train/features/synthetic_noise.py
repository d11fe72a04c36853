"""Synthetic noise and room responses, for those who have no recordings of them.

Recordings are better: nobody's kitchen is in here. But speech that was only ever heard clean
makes models that only work in studios.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array

log = logging.getLogger(__name__)

VERSION = 1  # of what is made
CACHE = Path("~/.cache/edgelid")
NOISE_S = 10.0
CLIPS_A_KIND = {"train": 5, "test": 3}
ROOMS = {"train": 10, "test": 4}
REVERBERATION_S = (0.15, 0.9)  # RT60: from a furnished bedroom to a stairwell
COLUMNS = ("path", "kind", "split", "seconds", "licence", "origin")


def sounds_of(root: Path, given: Path | None = None, cache: Path = CACHE) -> Path:
    """Find the folder that holds ``noise`` and ``rir`` for a corpus, or make one.

    Parameters
    ----------
    root : Path
        Folder of the corpus, where a link leads to; they may lie beside it.
    given : Path, optional
        What the user names instead.
    cache : Path
        Folder for what is made where there are none.

    Raises
    ------
    EdgelidError
        If they cannot be made.
    """
    if given is not None:
        return given
    beside = root.resolve().parent
    if any((beside / name).is_dir() for name in ("noise", "rir")):
        return beside
    folder = cache.expanduser() / f"sounds-{VERSION}"
    if not folder.is_dir():
        make_sounds(folder)
    log.warning(
        "no recordings of noise and rooms (noise, rir) beside %s: synthetic ones in %s are used; "
        "real ones (--sounds) are better",
        root,
        folder,
    )
    return folder


def make_sounds(folder: Path) -> None:
    """Write noise and room responses with their manifests, all or nothing.

    Raises
    ------
    EdgelidError
        If they cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".sounds-", dir=folder.parent))
        try:
            _write_noise(partial / "noise")
            _write_rooms(partial / "rir")
            partial.chmod(0o755)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process has made the same meanwhile
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EdgelidError(f"cannot make synthetic noise in {folder}: {reason}") from error


def _write_noise(folder: Path) -> None:
    rows = []
    for kind, make in NOISES.items():
        for split, count in CLIPS_A_KIND.items():
            for number in range(count):
                name = f"{kind}-{split}-{number}.wav"
                _write(folder / name, make(_generator(name)))
                rows.append((name, kind, split, f"{NOISE_S:g}"))
    _write_table(folder, rows)


def _write_rooms(folder: Path) -> None:
    rows = []
    for split, count in ROOMS.items():
        # Spread over all reverberation times, those for tests between those for training.
        shares = (np.arange(count) + (0.5 if split == "test" else 0.25)) / count
        for number, share in enumerate(shares):
            name = f"room-{split}-{number}.wav"
            rt60_s = REVERBERATION_S[0] * (REVERBERATION_S[1] / REVERBERATION_S[0]) ** share
            response = room_response(float(rt60_s), _generator(name))
            _write(folder / name, response)
            rows.append((name, "simulated", split, f"{len(response) / SAMPLE_RATE_HZ:.2f}"))
    _write_table(folder, rows)


def room_response(rt60_s: float, rng: np.random.Generator) -> Float64Array:
    """Direct sound, and noise that has lost 60 dB after so long, as late reverberation has."""
    count = round(rt60_s * SAMPLE_RATE_HZ)
    decay = 10 ** (-3 * np.arange(count) / count)
    tail = _coloured(rng, 0.5, count) * decay  # walls swallow the highs first
    # The nearer the mouth, the more of the sound comes directly.
    tail *= 10 ** (rng.uniform(-8.0, 4.0) / 20) / np.sqrt(np.sum(np.square(tail)))
    first = round(rng.uniform(0.001, 0.012) * SAMPLE_RATE_HZ)  # of the echoes
    return np.concatenate([[1.0], np.zeros(first), tail])


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng([VERSION, *name.encode()])


def _times(count: int) -> Float64Array:
    return np.arange(count) / SAMPLE_RATE_HZ


COUNT = round(NOISE_S * SAMPLE_RATE_HZ)


def _coloured(rng: np.random.Generator, slope: float, count: int = COUNT) -> Float64Array:
    """Noise whose amplitude falls with frequency to the power of `slope`: 0 white, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)), count * 20 / SAMPLE_RATE_HZ) ** slope
    noise: Float64Array = np.fft.irfft(spectrum, count)
    return noise / np.std(noise)


def _steady(rng: np.random.Generator) -> Float64Array:
    """Wind, fans, a hissing line."""
    return _coloured(rng, rng.uniform(0.0, 1.2))


def _hum(rng: np.random.Generator) -> Float64Array:
    """Mains and motors: a tone with many harmonics, and some hiss."""
    base_hz = rng.choice([50.0, 60.0, rng.uniform(80, 240)])
    sound = 0.05 * _coloured(rng, 0.5)
    for harmonic in range(1, 30):
        phase, strength = rng.uniform(0, 2 * np.pi), rng.random() / harmonic
        sound += strength * np.sin(2 * np.pi * base_hz * harmonic * _times(COUNT) + phase)
    return sound


def _clicks(rng: np.random.Generator) -> Float64Array:
    """Keys, dishes, drops: short decaying resonances."""
    sound = 0.01 * _coloured(rng, 0.7)
    for start in rng.integers(0, COUNT, round(NOISE_S * rng.uniform(2, 12))):
        length = min(COUNT - start, round(rng.uniform(0.005, 0.15) * SAMPLE_RATE_HZ))
        tone = np.sin(2 * np.pi * rng.uniform(300, 6000) * _times(length))
        burst = tone + rng.uniform(0, 2) * rng.standard_normal(length)
        sound[start : start + length] += (
            rng.uniform(0.1, 1.0) * burst * np.exp(-6 * np.arange(length) / length)
        )
    return sound


def _modulated(rng: np.random.Generator) -> Float64Array:
    """Traffic, waves, rattles: noise that swells and fades, slowly or quickly."""
    swell = np.sin(2 * np.pi * rng.uniform(0.1, 12) * _times(COUNT) + rng.uniform(0, 2 * np.pi))
    return _coloured(rng, rng.uniform(0.2, 1.0)) * (0.05 + (0.5 + 0.5 * swell) ** rng.uniform(1, 3))


def _music(rng: np.random.Generator) -> Float64Array:
    """Chords and arpeggios of decaying tones."""
    sound = np.zeros(COUNT)
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) + rng.integers(45, 57)  # MIDI notes
    beat = round(rng.uniform(0.15, 0.6) * SAMPLE_RATE_HZ)
    for turn, start in enumerate(range(0, COUNT, beat)):
        root = int(rng.integers(7))
        steps = [0, 2, 4] if turn % 4 == 0 else [int(rng.choice([0, 2, 4, 7]))]
        for step in steps:
            note = scale[(root + step) % 7] + 12 * ((root + step) // 7)
            length = min(COUNT - start, 3 * beat)
            phase = 2 * np.pi * 440 * 2 ** ((note - 69) / 12) * _times(length)
            tone = sum(np.sin(h * phase) / h**1.5 for h in range(1, 6))
            sound[start : start + length] += tone * np.exp(-4 * np.arange(length) / length)
    return sound


NOISES: dict[str, Callable[[np.random.Generator], Float64Array]] = {
    "steady": _steady,
    "hum": _hum,
    "clicks": _clicks,
    "modulated": _modulated,
    "music": _music,
}


def _write(file: Path, sound: Float64Array) -> None:
    file.parent.mkdir(exist_ok=True)
    samples: Float32Array = (0.7 * sound / np.abs(sound).max()).astype(np.float32)
    soundfile.write(file, samples, SAMPLE_RATE_HZ, subtype="PCM_16")


def _write_table(folder: Path, rows: Sequence[tuple[str, ...]]) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join((*row, "CC0-1.0", "train.sounds")) for row in rows)]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
