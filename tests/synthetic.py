"""A corpus that nobody spoke: tones that rise, fall or stay instead of languages.

Small enough to be made, trained on and converted within seconds, and of the same layout as a
real one: a manifest with sources, speakers and splits, with ``noise`` and ``rir`` beside it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from train.corpus.manifest import COLUMNS, SCHEMA, Clip
from train.features.cache import CachedFeatures
from train.features.shards import ENDING, Frames, Shards, write_shard

# Language -> octaves a second that its tones rise by: what equalisers and noise cannot hide.
# Swedish is none of the model's languages.
RISES = {"de": 14.0, "en": -14.0, "sv": 0.0}
TARGETS = ("de", "en")
# (source, split, speakers, clips of each, seconds of a clip)
SOURCES = (
    ("home", "train", 2, 3, 1.3),
    ("studio", "train", 1, 4, 2.6),
    ("attic", "train", 1, 6, 2.1),
    ("field", "test", 1, 5, 2.3),
)
DEVELOPMENT = "attic"
NOISES = (
    ("hum", "nature", "train", 12.0),
    ("hiss", "transport", "train", 3.0),
    ("crowd", "babble_places", "train", 3.0),
    ("rattle", "nature", "test", 3.0),
)
ROOMS = (("small", "real", "train"), ("hall", "simulated", "train"), ("cellar", "real", "test"))


def speech(language: str, speaker: str, clip: int, duration_s: float) -> Float32Array:
    """Tones that rise, fall or stay, one after the other, at a pace of the speaker's own."""
    rng = np.random.default_rng(zlib.crc32(f"{language}/{speaker}/{clip}".encode()))
    tone_s = 0.2 + 0.02 * (zlib.crc32(speaker.encode()) % 4)
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    number, within_s = np.divmod(time_s, tone_s)
    middle_hz = rng.uniform(700, 1800, int(number[-1]) + 1)[number.astype(int)]
    pitch_hz = middle_hz * 2 ** (RISES[language] * (within_s - tone_s / 2))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    loudness = np.sin(np.pi * within_s / tone_s) ** 0.5
    return (0.2 * loudness * np.sin(phase)).astype(np.float32)


def noise(name: str, duration_s: float) -> Float32Array:
    """White noise in gusts, smoothed more or less, so that each sounds different.

    Steady noise is hard to tell from tones that stay: a tiny network would give both classes alike.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    white = rng.standard_normal(round(duration_s * SAMPLE_RATE_HZ))
    smooth = np.convolve(white, np.ones(2 + len(name)) / 4, mode="same")
    gusts = np.where(np.arange(len(white)) // (SAMPLE_RATE_HZ // 8) % 2, 0.03, 1.0)
    return (0.05 * gusts * smooth / smooth.std()).astype(np.float32)


def room(name: str) -> Float32Array:
    """Direct sound after 5 ms, then a decaying tail."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tail = rng.standard_normal(3200) * np.exp(-np.arange(3200) / 600) * 0.1
    response = np.concatenate([np.zeros(80), [1.0], tail])
    return (0.9 * response / np.abs(response).max()).astype(np.float32)


def write_corpus(root: Path) -> Path:
    """Write corpus, noise and room responses.

    Parameters
    ----------
    root : Path
        An empty folder.

    Returns
    -------
    Path
        Of the corpus: ``root/corpus``.
    """
    corpus = root / "corpus"
    rows = []
    for language in RISES:
        for source, split, speakers, clips, duration_s in SOURCES:
            for number in range(speakers):
                speaker = f"{source}-{language}-{number}"
                for clip in range(clips):
                    # Both what a person records and what a corpus ships.
                    suffix = "wav" if clip % 2 else "opus"
                    path = f"{language}/{speaker}/{clip}.{suffix}"
                    write_audio(corpus / path, speech(language, speaker, clip, duration_s))
                    target = "yes" if language in TARGETS else "no"
                    rows.append((path, language, split, target, speaker, source, "human"))
                    rows[-1] += (f"{duration_s:.2f}", "CC0-1.0", "made here")
    write_table(corpus / "manifest.tsv", COLUMNS, rows)
    columns = ("path", "kind", "split", "seconds", "licence", "origin")
    found = []
    for name, kind, split, duration_s in NOISES:
        write_audio(root / "noise" / f"{name}.wav", noise(name, duration_s))
        found.append((f"{name}.wav", kind, split, f"{duration_s}", "CC0-1.0", "made here"))
    write_table(root / "noise" / "manifest.tsv", columns, found)
    found = []
    for name, kind, split in ROOMS:
        write_audio(root / "rir" / f"{name}.wav", room(name))
        found.append((f"{name}.wav", kind, split, "0.2", "CC0-1.0", "made here"))
    write_table(root / "rir" / "manifest.tsv", columns, found)
    return corpus


def rows_of(clips: Iterable[Clip]) -> pl.DataFrame:
    """The rows of a manifest that has these clips."""
    rows = [dataclasses.astuple(clip) for clip in clips]
    return pl.DataFrame(rows, SCHEMA, orient="row")


def write_features(file: Path, clips: Sequence[tuple[np.ndarray, ...]]) -> CachedFeatures:
    """A cache of given frames: of each clip those of all its variants."""
    variants, mels = len(clips[0]), clips[0][0].shape[1]
    indices = []
    for variant, frames in enumerate(zip(*clips, strict=True)):
        shard = file.with_name(f"{file.name}-{variant}{ENDING}")
        indices.append((shard, write_shard(shard, map(Frames, frames))))
    return CachedFeatures(
        Shards(tuple(shard for shard, _ in indices), mels),
        np.arange(variants, dtype=np.int32)[:, None].repeat(len(clips), axis=1),
        np.arange(len(clips), dtype=np.int32),
        np.array([index.lengths for _, index in indices], np.int32),
        np.array([index.speeds for _, index in indices]),
    )


def write_audio(path: Path, samples: Float32Array) -> None:
    """Write mono audio at 16 kHz in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".opus":
        soundfile.write(path, samples, SAMPLE_RATE_HZ, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a tab-separated table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(row) for row in (columns, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
