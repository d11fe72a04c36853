"""Make the sample recording that the runtime ships: ``edge/samples/languages.opus``.

    python -m train.synthesis.sample_recording --output edge/samples/languages.opus --voices FOLDER

Seven passages in six languages, spoken by Kokoro-82M from text of our own, with pauses and with
noise that is synthesised here. Beside the audio it writes the labels, ``languages.json``.

It needs what :mod:`train.synthesis.kokoro` needs, besides `soundfile` (with a libsndfile that
writes Opus: 1.0.29 or later) and `soxr`; all of it is imported when it is used. ``--voices`` is the
folder ``package/voices`` of the npm package ``kokoro-js``.

The decoded audio and the labels are the same at every run on one kind of processor. The file is
not: libsndfile draws a serial number for the Ogg stream.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge.audio.resample import resampled
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.system.atomic import write_atomically
from train.folder import make_place
from train.synthesis import kokoro

Samples: TypeAlias = NDArray[np.float32]
Spectrum: TypeAlias = NDArray[np.floating[Any]]

NONSPEECH = "nonspeech"

LEAD_S = 1.0  # before the first passage, and after the last
FADE_S = 0.3  # of noise, in and out
NOISE_MARGIN_S = 0.4  # noise under a passage begins and ends this much outside it
DECLICK_S = 0.005  # fade at either end of a passage
SPEECH_RMS = 0.07  # -23 dB below full scale, as in broadcasting
SNR_DB = 20.0
# A quiet room rather than digital silence: no microphone ever gives zeros.
ROOM_DB = -42.0  # relative to speech
SEED = 20261122

BITRATE_BPS = 32_000
# libsndfile maps its compression level, 0 to 1, linearly to 256 down to 6 kbit/s a channel.
OPUS_COMPRESSION = (256_000 - BITRATE_BPS) / (256_000 - 6_000)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text in one language and what follows it.

    Attributes
    ----------
    language
        As :func:`train.synthesis.kokoro.synthesise` takes it; the part before ``-`` is the label.
    voice
        Voices of Kokoro and their weights.
    text
        What is said.
    noise
        The noise under the passage, of `NOISES`; None for the quiet room alone.
    pause_s
        The pause after it.
    pause_noise
        The noise in that pause, of `NOISES`; None for the quiet room alone.
    speed
        1 is the voice's own.
    """

    language: str
    voice: dict[str, float]
    text: str
    noise: str | None = None
    pause_s: float = 1.0
    pause_noise: str | None = None
    speed: float = 1.0

    @property
    def label(self) -> str:
        """ISO 639-1 code of the language, without the accent."""
        return self.language.partition("-")[0]


# The blends are ours: the single voices may be in a training corpus under names we cannot tell.
PASSAGES = (
    Passage(
        "en",
        {"af_bella": 0.55, "af_nova": 0.45},
        "The kettle had just started to whistle when our neighbour knocked on the door. "
        "She had brought a jar of plum jam, two lemons, and a rather long story.",
        pause_s=1.1,
    ),
    Passage(
        "es",
        {"em_alex": 0.8, "bm_lewis": 0.2},
        "Ayer llovió tanto que el río casi cubrió el puente viejo. "
        "Los niños se quedaron toda la tarde en casa, jugando a las cartas con su abuelo.",
        noise="pink",
        pause_s=1.4,
    ),
    Passage(
        "fr",
        {"ff_siwis": 0.75, "bf_emma": 0.25},
        "Le boulanger ouvre sa boutique avant le lever du soleil. "
        "Dans toute la rue, on sent déjà le pain chaud et le beurre fondu, "
        "et les premiers clients attendent sous leurs parapluies.",
        pause_s=0.8,
    ),
    Passage(
        "zh",
        {"zf_xiaoxiao": 0.55, "zf_xiaoyi": 0.45},
        "今天早上，我骑自行车去菜市场，买了一些新鲜的蔬菜和水果。"
        "回家以后，我和妈妈一起包了饺子，味道好极了。",
        pause_s=4.6,
        pause_noise="rain",
    ),
    Passage(
        "it",
        {"im_nicola": 0.7, "am_michael": 0.3},
        "Mia sorella ha piantato dei pomodori sul balcone della cucina. "
        "Ogni sera li annaffia, e racconta loro com'è andata la giornata.",
        pause_s=2.0,
    ),
    Passage(
        "pt",
        {"pf_dora": 0.75, "af_sarah": 0.25},
        "Amanhã vamos viajar de trem até a praia com os nossos amigos. "
        "Se não chover, à noite faremos uma fogueira na areia e vamos cantar até tarde.",
        noise="fan",
        pause_s=1.2,
    ),
    Passage(
        "en-gb",
        {"bm_george": 0.5, "bm_fable": 0.5},
        "By the time the bus finally arrived, the shops along the harbour were closing. "
        "We bought two warm sandwiches, and watched the fishing boats come in.",
    ),
)


@dataclass(slots=True)
class Track:
    """What is put together: two signals of the same length, and the labels.

    Attributes
    ----------
    speech, noise
        Shape (samples,), at 16 kHz.
    labels
        What ``languages.json`` holds.
    """

    speech: Samples
    noise: Samples
    labels: list[dict[str, Any]] = field(default_factory=list)

    def label(self, start: int, end: int, language: str, **what: Any) -> None:
        """Add a label from sample `start` to before sample `end`."""
        span = {"start_s": start / SAMPLE_RATE_HZ, "end_s": end / SAMPLE_RATE_HZ}
        self.labels.append({**span, "language": language, **what})

    def add_noise(self, kind: str, start: int, end: int, rng: np.random.Generator) -> None:
        """Mix `kind` into the noise, faded in from sample `start` and out by sample `end`."""
        gain = SPEECH_RMS * 10 ** (-SNR_DB / 20)
        noise = gain * NOISES[kind](end - start, rng)
        self.noise[start:end] += faded(noise, round(FADE_S * SAMPLE_RATE_HZ))


def compose(spoken: Sequence[Samples], passages: Sequence[Passage] = PASSAGES) -> Track:
    """Lay speech, pauses and noise on a track.

    Parameters
    ----------
    spoken : sequence of ndarray, shape (samples,)
        The passages as they sound, at 16 kHz.
    passages : sequence of Passage

    Returns
    -------
    track : Track
        Its labels follow one another without a gap, from 0 to the end.
    """
    rng = np.random.default_rng(SEED)
    pauses = [_samples(passage.pause_s) for passage in passages[:-1]] + [_samples(LEAD_S)]
    length = _samples(LEAD_S) + sum(map(len, spoken)) + sum(pauses)
    room = SPEECH_RMS * 10 ** (ROOM_DB / 20) * pink_noise(length, rng)
    track = Track(speech=np.zeros(length, np.float32), noise=room)

    end = _samples(LEAD_S)
    track.label(0, end, NONSPEECH, voice=None, text=None, noise=None)
    for passage, samples, pause in zip(passages, spoken, pauses, strict=True):
        start, end = end, end + len(samples)
        track.speech[start:end] = samples
        what = {"voice": passage.voice, "text": passage.text, "noise": passage.noise}
        track.label(start, end, passage.label, **what)
        if passage.noise:
            margin = _samples(NOISE_MARGIN_S)
            track.add_noise(passage.noise, start - margin, end + margin, rng)
        start, end = end, end + pause
        track.label(start, end, NONSPEECH, voice=None, text=None, noise=passage.pause_noise)
        if passage.pause_noise:
            track.add_noise(passage.pause_noise, start, end, rng)
    return track


def speak(passage: Passage, voices_dir: Path) -> Samples:
    """A passage at 16 kHz, from its first sound to its last, at the common level.

    Parameters
    ----------
    passage : Passage
    voices_dir : Path
        The folder of Kokoro's voices.

    Returns
    -------
    samples : ndarray, shape (samples,)
        A whole number of hundredths of a second, so that labels are exact in few digits.
    """
    samples = kokoro.synthesise(
        passage.text, passage.language, passage.voice, passage.speed, voices_dir=voices_dir
    )
    samples = kokoro.trim_silence(samples)
    blocks = resampled([samples[:, None]], kokoro.SAMPLE_RATE_HZ, 1)
    samples = np.concatenate(list(blocks))
    samples = samples[: len(samples) - len(samples) % _samples(0.01)]
    # The level of what is said, as in P.56: pauses within the passage do not count.
    power = np.mean(samples.reshape(-1, _samples(0.01)) ** 2, axis=1)
    active_rms = math.sqrt(power[power > power.max() * 1e-4].mean())
    return faded(samples * np.float32(SPEECH_RMS / active_rms), _samples(DECLICK_S))


def pink_noise(length: int, rng: np.random.Generator) -> Samples:
    """Noise whose power falls by 3 dB an octave from 30 Hz on, with an RMS of 1.

    Parameters
    ----------
    length : int
        In samples, at 16 kHz.
    rng : Generator

    Returns
    -------
    noise : ndarray, shape (length,)
    """
    return _shaped(length, rng, lambda hz: 1 / np.sqrt(np.maximum(hz, 30.0)))


def fan_noise(length: int, rng: np.random.Generator) -> Samples:
    """A fan: the hum of its blades over rushing air, with an RMS of 1; see `pink_noise`."""
    time_s = np.arange(length) / SAMPLE_RATE_HZ
    # Blades pass 118 times a second; the speed drifts a little, as that of a cheap motor does.
    phase = 2 * np.pi * (118.0 * time_s + 0.6 * np.sin(2 * np.pi * 0.23 * time_s))
    hum = sum(np.cos(k * phase + rng.uniform(0, 2 * np.pi)) / k**1.2 for k in range(1, 9))
    air = _shaped(length, rng, lambda hz: 1 / (1 + (hz / 400.0) ** 2) ** 0.5)
    return _unit_rms(hum + 1.5 * air)


def rain_noise(length: int, rng: np.random.Generator) -> Samples:
    """Rain on leaves: a hiss and single drops, with an RMS of 1; see `pink_noise`."""
    hiss = _shaped(length, rng, lambda hz: (hz / 800.0) / (1 + (hz / 800.0) ** 2) ** 0.75)
    drops = np.zeros(length)
    for start in rng.integers(0, length, size=round(60 * length / SAMPLE_RATE_HZ)):
        decay_s = rng.uniform(0.002, 0.008)
        time_s = np.arange(min(_samples(0.03), length - start)) / SAMPLE_RATE_HZ
        ring = np.sin(2 * np.pi * rng.uniform(1_000, 5_000) * time_s) * np.exp(-time_s / decay_s)
        drops[start : start + len(ring)] += rng.lognormal(0.0, 0.6) * ring
    return _unit_rms(hiss + 1.2 * drops)


NOISES: dict[str, Callable[[int, np.random.Generator], Samples]] = {
    "pink": pink_noise,
    "fan": fan_noise,
    "rain": rain_noise,
}


def faded(samples: Samples, fade_samples: int) -> Samples:
    """A copy whose first and last `fade_samples` rise from and fall to zero (raised cosine)."""
    result = samples.copy()
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(fade_samples, dtype=np.float32) / fade_samples)
    result[:fade_samples] *= ramp
    result[len(result) - fade_samples :] *= ramp[::-1]
    return result


def encode_opus(samples: Samples) -> bytes:
    """Ogg Opus of a signal, shape (samples,), at 16 kHz."""
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        raise EdgelidError(
            f"writing Opus needs soundfile ({error}): pip install soundfile"
        ) from error
    if np.abs(samples).max() >= 1:
        raise EdgelidError("the sample recording clips: lower SPEECH_RMS")
    encoded = io.BytesIO()
    soundfile.write(
        encoded,
        samples,
        SAMPLE_RATE_HZ,
        format="OGG",
        subtype="OPUS",
        compression_level=OPUS_COMPRESSION,
    )
    return encoded.getvalue()


def make_sample(output: Path, voices_dir: Path) -> str:
    """Write the recording and its labels; returns a line about it.

    Parameters
    ----------
    output : Path
        Of the audio; the labels go beside it, with the suffix ``.json``.
    voices_dir : Path
        The folder of Kokoro's voices.

    Raises
    ------
    EdgelidError
        If something that speaks is missing, or a file cannot be written.
    """
    make_place(output)
    track = compose([speak(passage, voices_dir) for passage in PASSAGES])
    audio = encode_opus(track.speech + track.noise)
    labels = json.dumps(track.labels, indent=2, ensure_ascii=False) + "\n"
    write_atomically(output, audio)
    write_atomically(output.with_suffix(".json"), labels.encode())
    return f"{output}: {len(track.speech) / SAMPLE_RATE_HZ:.2f} s, {len(audio)} bytes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, make the sample, print; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make the sample recording and its labels.")
    parser.add_argument("--output", type=Path, required=True, help="Ogg Opus file to write")
    parser.add_argument(
        "--voices",
        type=Path,
        required=True,
        help="folder of Kokoro's voices: package/voices of the npm package kokoro-js",
    )
    options = parser.parse_args(arguments)
    try:
        print(make_sample(options.output, options.voices))
    except EdgelidError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _samples(duration_s: float) -> int:
    return round(duration_s * SAMPLE_RATE_HZ)


def _shaped(
    length: int,
    rng: np.random.Generator,
    amplitude: Callable[[Spectrum], Spectrum],
) -> Samples:
    """White noise given the spectrum `amplitude`, a function of Hz; RMS of 1, no DC."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= amplitude(np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ))
    spectrum[0] = 0
    return _unit_rms(np.fft.irfft(spectrum, length))


def _unit_rms(samples: NDArray[np.floating[Any]]) -> Samples:
    return np.asarray(samples / np.sqrt(np.mean(samples**2)), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
