"""A corpus of synthetic speech, in which the voice says nothing about the language.

    python -m train.synthesis.speech --engine kokoro --voices VOICES --texts TEXTS --clips 30 \
        --output OUT

Every engine speaks every language that it can with voices drawn alike: blends of Kokoro's styles
from all over the world, variants of eSpeak NG, one unit-selection voice of SVOX Pico with its
pitch moved. The result is a folder with a ``manifest.tsv`` as :mod:`train.corpus.manifest` reads
it, which ``edgelid-train fit --also`` takes beside a corpus of recordings; what exists is not made
again.

What each engine needs is imported or run when it is used: see :mod:`train.synthesis.kokoro`; the
command ``espeak-ng``; the package ``py-nanotts``.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.audio.resample import resampled
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.atomic import write_atomically
from train.command import run
from train.config import LANGUAGES as TARGETS
from train.corpus.manifest import COLUMNS
from train.features.cache import seed_of
from train.features.codecs import encode
from train.folder import make_folder
from train.synthesis import kokoro

# Characters of text for one clip; a sentence more than that is the last.
TEXT_LENGTH = 150
TEXT_LENGTH_MANDARIN = 40
MOST_BLENDED = 3  # of Kokoro's styles in a voice
OPUS_COMPRESSION = 0.9  # of libsndfile's 0 (256 kbit/s) to 1 (6 kbit/s)

ESPEAK_VOICES = {
    "de": ("de",), "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp"), "es": ("es", "es-419"),
    "fr": ("fr-fr", "fr-be", "fr-ch"), "it": ("it",), "nl": ("nl",), "pt": ("pt", "pt-br"),
    "ru": ("ru",), "zh": ("cmn",), "ca": ("ca",), "da": ("da",), "id": ("id",), "ro": ("ro",),
    "sv": ("sv",), "vi": ("vi",),
}  # fmt: skip
ESPEAK_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5",
    "Andy", "Annie", "Denis", "Gene", "Jacky", "Lee", "Mario", "Michael", "Mike", "Nguyen",
    "Steph", "Tweaky", "belinda", "steph2", "rob", "sandro", "shelby", "victor", "zac",
)  # fmt: skip
PICO_VOICES = {
    "de": ("de-DE",), "en": ("en-GB", "en-US"), "es": ("es-ES",), "fr": ("fr-FR",),
    "it": ("it-IT",),
}  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """A way to make speech.

    Attributes
    ----------
    languages : tuple of str
        What it speaks.
    licence : str
        Of what it was made with.
    speak : callable
        ``speak(text, language, rng)`` gives 16 kHz samples, shape (n,), float32.
    """

    languages: tuple[str, ...]
    licence: str
    speak: Callable[[str, str, np.random.Generator], Float32Array]


def _kokoro(voices_dir: Path) -> Engine:
    names = sorted(file.stem for file in voices_dir.glob("*.bin"))
    if len(names) < MOST_BLENDED:
        raise EdgelidError(
            f"{voices_dir} has {len(names)} Kokoro voices where a blend takes {MOST_BLENDED}: run "
            "`npm pack kokoro-js`, unpack it and give its folder package/voices (--voices)"
        )

    def speak(text: str, language: str, rng: np.random.Generator) -> Float32Array:
        chosen = rng.choice(names, size=int(rng.integers(2, MOST_BLENDED + 1)), replace=False)
        blend = dict(zip(chosen, rng.dirichlet(np.full(len(chosen), 2.0)), strict=True))
        accent = "en-gb" if language == "en" and rng.random() < 0.5 else language
        samples = kokoro.synthesise(
            text, accent, blend, float(rng.uniform(0.85, 1.25)), voices_dir=voices_dir
        )
        return _resampled(samples, kokoro.SAMPLE_RATE_HZ)

    # Its Dutch and Russian have a strong accent: Whisper base does not take them for that.
    languages = (*TARGETS, "ca", "da", "id", "ro", "sv")
    return Engine(languages, "Apache-2.0 (model and styles)", speak)


def _espeak(text: str, language: str, rng: np.random.Generator) -> Float32Array:
    soundfile = importlib.import_module("soundfile")
    voice = f"{rng.choice(ESPEAK_VOICES[language])}+{rng.choice(ESPEAK_VARIANTS)}"
    pitch, rate = int(rng.integers(15, 90)), int(rng.integers(120, 210))
    command = ["espeak-ng", "--stdout", "-v", voice, "-p", str(pitch), "-s", str(rate), "--", text]
    try:
        wave = subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EdgelidError(f"espeak-ng does not speak {voice}: {error}") from error
    # The header's length is that of an endless stream.
    samples, rate_hz = soundfile.read(io.BytesIO(wave), dtype="float32")
    return _resampled(samples, rate_hz)


def _resampled(samples: Float32Array, rate_hz: int) -> Float32Array:
    nothing = np.zeros(0, np.float32)
    return np.concatenate([nothing, *resampled([samples[:, None]], rate_hz, 1)])


def _pico(text: str, language: str, rng: np.random.Generator) -> Float32Array:
    try:
        nanotts = importlib.import_module("py_nanotts")
    except ImportError as error:
        raise EdgelidError("SVOX Pico needs py-nanotts: pip install py-nanotts") from error
    pcm = nanotts.NanoTTS().speak(
        text,
        voice=str(rng.choice(PICO_VOICES[language])),
        speed=float(rng.uniform(0.8, 1.2)),
        pitch=float(rng.uniform(0.65, 1.4)),
    )
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)


ENGINES: Mapping[str, Callable[[Path], Engine]] = {
    "kokoro": _kokoro,
    "espeak": lambda _: Engine(tuple(ESPEAK_VOICES), "GPL-3.0-or-later (tool)", _espeak),
    "pico": lambda _: Engine(tuple(PICO_VOICES), "Apache-2.0 (voices)", _pico),
}


@dataclass(frozen=True)
class Job:
    """One clip to be made.

    Attributes
    ----------
    engine : str
    voices_dir, texts, output : Path
    language : str
    index : int
        Number of the clip: text, voice and speed depend on engine, language and number alone.
    """

    engine: str
    voices_dir: Path
    texts: Path
    output: Path
    language: str
    index: int

    @property
    def path(self) -> str:
        """Of the clip, relative to the corpus."""
        return f"{self.language}/{self.engine}/{self.index:04d}.opus"


def make_clip(job: Job) -> float:
    """Speak and write a clip, unless it exists; returns its length in seconds."""
    soundfile = importlib.import_module("soundfile")
    file = job.output / job.path
    if file.exists():
        return float(soundfile.info(file).duration)
    rng = seed_of("synthetic", job.engine, job.language, job.index)
    lines = _lines(job.texts / f"{job.language}.txt")
    least = TEXT_LENGTH_MANDARIN if job.language == "zh" else TEXT_LENGTH
    text = ""
    while len(text) < least:
        text = f"{text} {rng.choice(lines)}".strip()
    engine = ENGINES[job.engine](job.voices_dir)
    samples = engine.speak(text, job.language, rng)
    if not len(samples):
        raise EdgelidError(f"{job.engine} makes no sound of {text!r} in {job.language}")
    peak = float(np.abs(samples).max(initial=1e-3))
    loud = samples * np.float32(rng.uniform(0.2, 0.9) / peak)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, encode(loud, "OGG", "OPUS", OPUS_COMPRESSION))
    return len(samples) / SAMPLE_RATE_HZ


def _lines(file: Path) -> list[str]:
    """Sentences of a text."""
    try:
        lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise EdgelidError(f"cannot read the sentences {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EdgelidError(f"the sentences {file} are not UTF-8 text") from error
    if not lines:
        raise EdgelidError(f"there are no sentences in {file}")
    return lines


def _lengths(jobs: Sequence[Job], workers: int) -> Iterator[float]:
    """Make clips, in processes if more than one at a time; their lengths in seconds, in order."""
    if workers == 1:
        yield from map(make_clip, jobs)
        return
    # One thread a worker: the model's own threads gain less than a second clip does.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        # Ctrl-C reaches all processes of a terminal: this one ends the others.
        with ProcessPoolExecutor(
            workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
        ) as pool:
            yield from pool.map(make_clip, jobs)
    except BrokenProcessPool as error:
        raise EdgelidError(
            "a worker process died, perhaps for want of memory: give fewer --workers"
        ) from error


def make_corpus(
    engine: str,
    texts: Path,
    voices_dir: Path,
    output: Path,
    clips: int,
    workers: int,
    languages: Sequence[str] = (),
) -> str:
    """Make so many clips of each language with an engine, and write the manifest of all engines.

    A language that is no class of the model gets half as many. Without `languages` they are all
    that the engine speaks. Clips that an earlier call made stay in the manifest.

    Returns
    -------
    str
        A line about it.

    Raises
    ------
    EdgelidError
        If something that the engine needs is missing, or a text. Clips that were finished stay,
        and the same call goes on with them.
    """
    if min(clips, workers) < 1:
        raise EdgelidError("--clips and --workers must be at least 1")
    made = ENGINES[engine](voices_dir)
    unknown = sorted(set(languages) - set(made.languages))
    if unknown:
        raise EdgelidError(f"{engine} does not speak {', '.join(unknown)} here: see --languages")
    jobs = [
        Job(engine, voices_dir, texts, output, language, index)
        for index in range(clips)
        for language in languages or made.languages
        if language in TARGETS or index < clips // 2
    ]
    make_folder(output)
    from train.parallel.progress import bar

    lengths = list(bar(_lengths(jobs, workers), f"{engine} speaks", len(jobs)))
    rows = [
        (
            job.path, job.language, "train", "yes" if job.language in TARGETS else "no",
            f"{engine}-{job.language}-{job.index}", f"{engine}-synthetic", "tts", f"{length:.3f}",
            made.licence, "train.synthetic",
        )
        for job, length in zip(jobs, lengths, strict=True)
    ]  # fmt: skip
    part = output / f"manifest-{engine}.tsv"
    lines = _kept(part) | {row[0]: "\t".join(row) for row in rows}
    write_atomically(part, "".join(f"{line}\n" for line in lines.values()).encode())
    parts = [file.read_text() for file in sorted(output.glob("manifest-*.tsv"))]
    header = "\t".join(COLUMNS) + "\n"
    write_atomically(output / "manifest.tsv", (header + "".join(parts)).encode())
    return f"{output}: {len(jobs)} clips, {sum(lengths) / 60:.1f} minutes of {engine}"


def _kept(part: Path) -> dict[str, str]:
    """Lines of an engine's manifest by the clips, those that are still there."""
    if not part.exists():
        return {}
    lines = {line.partition("\t")[0]: line for line in part.read_text("utf-8").splitlines()}
    return {path: line for path, line in lines.items() if (part.parent / path).is_file()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the corpus."""
    parser = argparse.ArgumentParser(
        prog="python -m train.synthesis.speech", description=make_corpus.__doc__
    )
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="folder of LANGUAGE.txt")
    parser.add_argument("--voices", type=Path, default=Path(), help="Kokoro's voice styles")
    parser.add_argument("--clips", type=int, required=True, help="of each language")
    parser.add_argument("--languages", help="a list, such as de,fr (default: all it speaks)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus")
    options = parser.parse_args(arguments)

    def work() -> None:
        print(
            make_corpus(
                options.engine,
                options.texts,
                options.voices,
                options.output,
                options.clips,
                options.workers,
                options.languages.split(",") if options.languages else (),
            )
        )

    return run("train.synthesis.speech", work, "the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
