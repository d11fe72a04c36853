"""Fuzz the reading of audio: ``python -m tests.fuzz.audio --seconds 3600 --work FOLDER``.

Small files of every format that soundfile writes are mutated, and read to their end as `edgelid
classify` reads them, in child processes that may take neither much time nor much memory.
libsndfile, which is C, tells no coverage; what it logs of a header does the same service: an input
that makes it say something new is mutated further. To be found are crashes, errors other than
EdgelidError, and what takes too long or too much. Such inputs are kept in ``FOLDER/findings``;
``FOLDER/audio.json`` tells how far it is.

``python -m tests.fuzz.audio --write-seeds`` writes the files anew.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr  # before any fork: each would import it anew

from edge.audio.decoding import SoundPart
from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from tests.fuzz.books import Books
from tests.fuzz.child import give_way, in_child
from tests.fuzz.modeltarget import FINDING
from tests.fuzz.seeds import AUDIO

SAMPLE = Path(__file__).parents[2] / "edge" / "samples" / "languages.opus"
EXCERPT = (40_000, 41_600)  # samples of it
READ_S = 20
MORE_BYTES = 128 << 20  # a block takes 1 MiB, and decoders some
# Format, subtype, rate, channels.
SEEDS = (
    ("WAV", "PCM_16", 16_000, 1),
    ("WAV", "PCM_24", 8_000, 2),
    ("WAV", "FLOAT", 16_000, 1),
    ("WAV", "IMA_ADPCM", 16_000, 2),
    ("WAV", "MS_ADPCM", 16_000, 1),
    ("WAV", "GSM610", 8_000, 1),
    ("WAV", "ULAW", 8_000, 1),
    ("WAV", "G721_32", 8_000, 1),
    ("WAVEX", "PCM_16", 16_000, 3),
    ("FLAC", "PCM_16", 16_000, 1),
    ("FLAC", "PCM_24", 44_100, 2),
    ("OGG", "VORBIS", 16_000, 1),
    ("OGG", "OPUS", 16_000, 1),
    ("MP3", "MPEG_LAYER_III", 16_000, 1),
    ("AIFF", "PCM_16", 16_000, 1),
    ("AIFF", "FLOAT", 16_000, 1),
    ("AIFF", "IMA_ADPCM", 16_000, 1),
    ("CAF", "PCM_16", 16_000, 1),
    ("CAF", "ALAC_16", 16_000, 1),
    ("W64", "PCM_16", 16_000, 1),
    ("RF64", "PCM_16", 16_000, 1),
    ("AU", "PCM_16", 16_000, 1),
    ("AU", "G723_24", 8_000, 1),
)
# What a header could claim, in the widths and orders of bytes that headers have.
CLAIMS = (
    0, 1, 2, 3, 7, 255, 256, 1_000, 1_024, 1_025, 32_767, 32_768, 65_535, 384_000, 1 << 24,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 32) - 8,
)  # fmt: skip


def write_seeds() -> None:
    """Write an excerpt of the sample in all those formats."""
    AUDIO.mkdir(parents=True, exist_ok=True)
    samples, rate_hz = soundfile.read(SAMPLE, dtype="float32")
    excerpt = samples[slice(*EXCERPT)]
    for kind, subtype, to_hz, channels in SEEDS:
        mono = soxr.resample(excerpt, rate_hz, to_hz)
        path = AUDIO / f"seed-{kind.lower()}-{subtype.lower()}-{channels}.bin"
        frames = np.stack([mono] * channels, axis=1)
        with path.open("wb+") as file:
            soundfile.write(file, frames, to_hz, format=kind, subtype=subtype)


def read(path: Path) -> str:
    """Read a file to its end; what came of it, and what libsndfile says of its header."""
    try:
        with FileSource(path) as source:
            first = source.recording.first
            sound = first.sound if isinstance(first, SoundPart) else None
            log = sound.extra_info if sound else "ffmpeg"
            shape = f"{sound.format if sound else ''} {source.channels} {source.rate_hz}"
            samples = 0
            try:
                for block in source.blocks():
                    samples += len(block)
            except EdgelidError as error:
                return f"stopped: {shape} {error}\n{log}"
            if source.shortfall:
                return f"stopped: {shape} {source.shortfall}\n{log}"
            return f"read: {shape} {samples.bit_length()} bits of samples\n{log}"
    except EdgelidError as error:
        return f"refused: {error}"


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A relative of one file, with parts of another."""
    new = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        if not new:
            break
        # Headers are where lengths and numbers are.
        reach = len(new) if chance.random() < 0.4 else min(len(new), chance.choice((64, 256, 4096)))
        at = chance.randrange(reach)
        action = chance.randrange(8)
        if action == 0:
            new[at] ^= 1 << chance.randrange(8)
        elif action == 1:
            new[at] = chance.randrange(256)
        elif action in (2, 3, 4):
            width = chance.choice((1, 2, 2, 4, 4, 4, 8))
            claim = chance.choice(CLAIMS) if chance.random() < 0.8 else chance.getrandbits(64)
            order = "little" if chance.random() < 0.5 else "big"
            new[at : at + width] = (claim % (1 << (8 * width))).to_bytes(width, order)
        elif action == 5:
            del new[at : at + chance.choice((1, 2, 4, 16, 256))]
        elif action == 6:
            size = chance.choice((4, 8, 64, 512))
            new[at:at] = new[at : at + size] * chance.choice((1, 1, 20))
        else:
            start = chance.randrange(max(1, len(other)))
            size = chance.choice((4, 16, 64, 1024))
            new[at : at + size] = other[start : start + size]
    if chance.random() < 0.1:
        del new[chance.randrange(len(new) + 1) :]
    return bytes(new[: 1 << 16])


def outcome(path: Path) -> tuple[str, str]:
    """What comes of an audio file that a stranger made, read in a child process.

    Returns
    -------
    str
        Read, stopped, refused or a finding: a crash, an error other than EdgelidError, or what
        takes too long or too much.
    str
        The reason, and what libsndfile says of the header.
    """
    status, text = in_child(lambda: read(path), READ_S, MORE_BYTES)
    if status or text.startswith("raised"):
        return FINDING, f"status {status} {text}"
    kind, _, reason = text.partition(": ")
    return kind, reason.replace(str(path), "FILE")


def fuzz(work: Path, seconds: float, seed: int) -> None:
    """Mutate files for a while."""
    chance = random.Random(seed)
    books = Books(work, "audio", ".bin")
    pool = [path.read_bytes() for path in sorted(AUDIO.glob("*.bin"))]
    file = work / "input.bin"
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        data = mutate(*chance.choices(pool, k=2), chance)
        file.write_bytes(data)
        kind, reason = outcome(file)
        books.count(kind)
        folder = "findings" if kind == FINDING else "corpus"
        if books.keep(folder, data, f"{kind}: {reason}"):
            pool.append(data)
    books.tell()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-seeds", action="store_true")
    options = parser.parse_args()
    if options.write_seeds:
        write_seeds()
        return 0
    if options.seconds is None or options.work is None:
        parser.error("--seconds and --work are needed")
    give_way()
    logging.disable()
    fuzz(options.work, options.seconds, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
