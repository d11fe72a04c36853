"""A bank of speech: every clip of a corpus, encoded as it came, in a few files of numpy arrays.

A bank travels: it can be copied in parts to a machine that has an accelerator and little else, and
there be decoded once into one array of samples that fits into the accelerator's memory (an hour is
115 MB). The clips of a speaker lie one behind another, so that a window of any length can be drawn
at any place, even of people who only ever say single words.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.audio.decoding import Recording
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.atomic import atomic_file, write_atomically
from train.features import codecs
from train.folder import make_folder
from train.model.unreadable import UNREADABLE
from train.parallel.pool import mapped

if TYPE_CHECKING:
    from train.corpus.manifest import Manifest

log = logging.getLogger(__name__)

PART_BYTES = 50_000_000
CODED_SHARE = 0.45  # of the training clips that are there a second time, through a codec
MOST_SAMPLES = 2**31
# Levels of recordings say which collection they are of; augmentation draws new ones.
LEVEL_RMS = 0.06
PEAK = 0.98
TRIM_DB = -45.0  # below the loudest 10 ms: silence at the ends of a clip
TRIM_KEEP_S = 0.08
# Roles of a segment.
TRAIN, DEVELOPMENT, NOISE, ROOM = "train", "development", "noise", "room"

ROW = ("role", "language", "source", "speaker", "kind", "coded")  # what is known of a segment

Int16Array = NDArray[np.int16]


@dataclass(frozen=True)
class Entry:
    """One encoded recording of a bank, and what is known of it."""

    role: str
    language: str
    source: str
    speaker: str
    kind: str
    data: bytes


def write_bank(entries: Iterable[Entry], folder: Path, part_bytes: int = PART_BYTES) -> int:
    """Write entries into ``part-NN.npz`` files of at most `part_bytes` of sound each.

    Parts of another bank that the folder has are replaced, or removed in the end.

    Returns
    -------
    int
        Number of parts.

    Raises
    ------
    EdgelidError
        If they cannot be written.
    """
    bank = secrets.token_hex(8)  # tells the parts of this bank from others'
    held: list[Entry] = []
    size, written = 0, list[Path]()

    def flush(**told: Any) -> None:
        nonlocal size
        # Only now: where the first entry cannot be had, no folder is left.
        make_folder(folder)
        rows = [[e.role, e.language, e.source, e.speaker, e.kind] for e in held]
        sizes = np.array([len(e.data) for e in held], np.int64)
        sound = np.frombuffer(b"".join(e.data for e in held), np.uint8)
        written.append(folder / f"part-{len(written):02d}.npz")
        with atomic_file(written[-1]) as file:
            told |= {"bank": np.array(bank), "rows": np.array(json.dumps(rows))}
            np.savez(file, allow_pickle=False, sizes=sizes, sound=sound, **told)
        held.clear()
        size = 0

    for entry in entries:
        if held and size + len(entry.data) > part_bytes:
            flush()
        held.append(entry)
        size += len(entry.data)
    if held:
        flush(parts=np.array(len(written) + 1))
    for file in folder.glob("part-*.npz"):
        if file not in written:
            file.unlink()
    return len(written)


def check_parts(files: Sequence[Path]) -> None:
    """Refuse parts that are not all those of one bank.

    Banks that were written without a name of their own are taken as they are.

    Raises
    ------
    EdgelidError
        If some are missing, of another bank, or damaged.
    """
    banks, parts = set(), 0
    for file in files:
        with _opened(file) as archive:
            banks.add(str(archive["bank"]) if "bank" in archive.files else None)
            parts = max(parts, int(archive["parts"]) if "parts" in archive.files else 0)
    if banks == {None}:
        return
    if len(banks) > 1:
        raise EdgelidError(
            f"the parts in {files[0].parent} are of several banks: remove those that are not of "
            "the last one, or make it again with `pack`"
        )
    if parts != len(files):
        raise EdgelidError(
            f"there are {len(files)} parts in {files[0].parent}, where the bank has "
            f"{parts or 'more'}: copy all of them, or make it again with `pack`"
        )


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The arrays of a part, whatever is wrong with it told in one sentence."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            yield archive
    except UNREADABLE as error:
        raise EdgelidError(f"{file} is no part of a bank, or is damaged") from error


def read_part(file: Path) -> Iterator[Entry]:
    """Entries of one part.

    Raises
    ------
    EdgelidError
        If it is damaged, or another kind of file.
    """
    with _opened(file) as archive:
        rows, sizes = json.loads(str(archive["rows"])), archive["sizes"]
        sound = archive["sound"].tobytes()
        stops = np.cumsum(sizes)
        entries = []
        for row, start, stop in zip(rows, stops - sizes, stops, strict=True):
            role, language, source, speaker, kind = row
            entries.append(Entry(role, language, source, speaker, kind, sound[start:stop]))
    yield from entries


def decode(data: bytes) -> tuple[Float32Array, list[str]]:
    """Decode an encoded file as `edge` does, with all recordings in it, one behind the other.

    Returns
    -------
    samples : ndarray, shape (n,), float32
        Mono, at 16 kHz.
    problems : list of str
        What of it could not be read, in words for the middle of a sentence.

    Raises
    ------
    EdgelidError
        If nothing decodes it, or it has no samples.
    """
    from scipy.signal import resample_poly

    heard = [np.empty(0, np.float32)]
    with os.fdopen(os.memfd_create("recording"), "w+b") as file:
        file.write(data)
        file.seek(0)
        recording = Recording(file, "a recording", lambda: False)
        for part in recording.parts():
            blocks = [np.empty(0, np.float32)]
            while len(block := part.read(part.rate_hz)):
                blocks.append(block.mean(axis=1))
            mono = np.concatenate(blocks)
            if part.rate_hz != SAMPLE_RATE_HZ and len(mono):
                divisor = int(np.gcd(part.rate_hz, SAMPLE_RATE_HZ))
                mono = resample_poly(mono, SAMPLE_RATE_HZ // divisor, part.rate_hz // divisor)
            heard.append(mono.astype(np.float32))
    return np.concatenate(heard), recording.problems


def transcode(samples: Float32Array, rng: np.random.Generator) -> Float32Array:
    """What a phone, a cheap encoder or a telephone line leaves of a clip."""
    from scipy.signal import resample_poly

    choice = rng.integers(5)
    container, codec, rate = (
        ("MP3", "MPEG_LAYER_III", SAMPLE_RATE_HZ),
        ("MP3", "MPEG_LAYER_III", SAMPLE_RATE_HZ),
        ("OGG", "OPUS", SAMPLE_RATE_HZ),
        ("WAV", "GSM610", 8_000),
        ("WAV", "ULAW", 8_000),
    )[choice]
    sent = samples if rate == SAMPLE_RATE_HZ else resample_poly(samples, 1, 2)
    level = None if container == "WAV" else float(rng.uniform(0.5, 0.95))
    sent = np.clip(sent, -1, 1).astype(np.float32)
    heard = codecs.decode(codecs.encode(sent, container, codec, level, rate_hz=rate))
    if rate != SAMPLE_RATE_HZ:
        heard = resample_poly(heard, 2, 1)
    out = np.zeros(len(samples), np.float32)
    out[: len(heard)] = heard[: len(samples)]
    return out


def trimmed(samples: Float32Array) -> Float32Array:
    """A clip without the silence at its ends, at a common level."""
    frame = SAMPLE_RATE_HZ // 100
    count = len(samples) // frame
    if count < 3:
        return samples
    power = np.square(samples[: count * frame]).reshape(count, frame).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (TRIM_DB / 10))
    if not len(loud) or power.max() == 0:
        return samples[:0]
    keep = round(TRIM_KEEP_S * SAMPLE_RATE_HZ)
    cut = samples[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]
    rms = float(np.sqrt(np.mean(np.square(cut, dtype=np.float64))))
    gain = min(LEVEL_RMS / max(rms, 1e-6), PEAK / max(float(np.abs(cut).max()), 1e-6))
    return np.asarray(cut * gain, np.float32)


@dataclass(frozen=True)
class Segments:
    """Where the speech of each speaker lies in the decoded bank.

    Attributes
    ----------
    samples : ndarray, shape (n,), int16
    starts, lengths : ndarray, shape (segments,), int64
        In samples.
    rows : list of dict
        ``role``, ``language``, ``source``, ``speaker``, ``kind`` and ``coded`` of each.
    """

    samples: Int16Array
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: list[dict[str, Any]]

    def save(self, folder: Path) -> None:
        """Write as two files that can be mapped into memory."""
        make_folder(folder)
        table = folder / "segments.json"
        # Without it there is no bank: one of other samples must not stand beside these.
        table.unlink(missing_ok=True)
        with atomic_file(folder / "samples.npy") as file:
            np.save(file, self.samples)
        told = {
            "starts": self.starts.tolist(),
            "lengths": self.lengths.tolist(),
            "rows": self.rows,
        }
        write_atomically(table, json.dumps(told).encode())

    @classmethod
    def load(cls, folder: Path) -> Segments:
        """Read what :meth:`save` wrote.

        Raises
        ------
        EdgelidError
            If it is not there, or damaged.
        """
        try:
            table = json.loads((folder / "segments.json").read_text(encoding="utf-8"))
            samples = np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False)
            starts, lengths = (np.array(table[x], np.int64) for x in ("starts", "lengths"))
            rows = [{name: row[name] for name in ROW} for row in table["rows"]]
            if samples.ndim != 1 or samples.dtype != np.int16:
                raise ValueError("other samples")
            if not starts.shape == lengths.shape == (len(rows),):
                raise ValueError("not as many of each")
            if (np.minimum(starts, lengths) < 0).any() or (starts + lengths > len(samples)).any():
                raise ValueError("segments beyond the samples")
        except UNREADABLE as error:
            raise EdgelidError(
                f"there is no decoded bank in {folder}, or it is damaged: make it with `decode`"
            ) from error
        return cls(samples, starts, lengths, rows)

    def check_held_out(self, development: Mapping[str, Sequence[str]]) -> None:
        """Refuse to train on what a configuration holds out.

        Parameters
        ----------
        development : mapping of str to sequence of str
            Sources by language, see `train.config.DataConfig`.

        Raises
        ------
        EdgelidError
            If the bank was packed with another configuration, and has such a source to train on.
        """
        for row in self.rows:
            if row["role"] == TRAIN and row["source"] in development.get(row["language"], ()):
                raise EdgelidError(
                    f"the bank has {row['source']} in {row['language']} to train on, which the "
                    "configuration holds out: make it with `pack` and this configuration"
                )


@dataclass(frozen=True)
class _Decoded:
    """Samples of an entry, the same through a codec for a share of them, and what is missing."""

    plain: Int16Array
    coded: Int16Array | None
    problem: str


def _decoded(item: tuple[Entry, int, float]) -> _Decoded:
    entry, number, coded_share = item
    rng = np.random.default_rng((number, 77))
    samples, problem = _sound(entry)
    if entry.role == ROOM:
        # The direct sound first, and as loud as what went in.
        samples = samples[int(np.argmax(np.abs(samples))) :]
        samples = samples / max(float(np.abs(samples).max()), 1e-6) * PEAK
        return _Decoded(_int16(samples), None, problem)
    if entry.role == NOISE:
        rms = float(np.sqrt(np.mean(np.square(samples)) + 1e-12))
        return _Decoded(_int16(np.clip(samples * (LEVEL_RMS / rms), -1, 1)), None, problem)
    samples = trimmed(samples)
    coded = None
    if entry.role == TRAIN and len(samples) > SAMPLE_RATE_HZ // 4 and rng.random() < coded_share:
        coded = _int16(transcode(samples, rng))
    return _Decoded(_int16(samples), coded, problem)


def _sound(entry: Entry) -> tuple[Float32Array, str]:
    """What was recorded, and what of it could not be read, or ""."""
    whose = f"of {entry.speaker} from {entry.source}" if entry.source else f"({entry.role})"
    try:
        samples, problems = decode(entry.data)
        if not len(samples) and entry.role in (NOISE, ROOM):
            raise ValueError("nothing to be heard")
    except (EdgelidError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise EdgelidError(
            f"a recording of the bank {whose} is damaged, or no sound ({reason}): correct the "
            "corpus, and make the bank anew with `pack`"
        ) from error
    read_s = len(samples) / SAMPLE_RATE_HZ
    return samples, f"{whose}, {read_s:.1f} s ({problems[0]})" if problems else ""


def _int16(samples: Float32Array) -> Int16Array:
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)


def decode_bank(
    files: Sequence[Path], coded_share: float = CODED_SHARE, workers: int | None = None
) -> Segments:
    """Decode the parts of a bank; the clips of a speaker in an order drawn once.

    Parameters
    ----------
    files : sequence of Path
        Parts, in any order.
    coded_share : float
        Share of the training clips that are there a second time, through a codec at a random rate.
    workers : int, optional
        Processes; by default one a processor.

    Raises
    ------
    EdgelidError
        If parts are missing, of another bank, or damaged; or if all is too long.
    """
    check_parts(files)
    entries = [e for file in sorted(files) for e in read_part(file)]
    order = np.random.default_rng(5).permutation(len(entries))
    groups: dict[tuple[Any, ...], list[Int16Array]] = {}
    problems = []
    items = ((entries[i], int(i), coded_share) for i in order)
    results = mapped(_decoded, items, workers or os.cpu_count() or 1)
    with contextlib.closing(results):
        for i, found in zip(order, results, strict=True):
            e = entries[i]
            unique = int(i) if e.role in (NOISE, ROOM) else -1
            key = (e.role, e.language, e.source, e.speaker, e.kind)
            groups.setdefault((*key, False, unique), []).append(found.plain)
            if found.coded is not None:
                groups.setdefault((*key, True, unique), []).append(found.coded)
            if found.problem:
                problems.append(found.problem)
    if problems:
        log.warning(
            "%d of %d recordings are truncated or damaged, and were read as far as they go, such "
            "as one %s",
            len(problems),
            len(entries),
            problems[0],
        )
    rows = [dict(zip(ROW, key, strict=False)) for key in groups]
    lengths = np.array([sum(map(len, clips)) for clips in groups.values()], np.int64)
    # Places in it are 32-bit numbers.
    if lengths.sum() >= MOST_SAMPLES:
        raise EdgelidError(
            f"a bank holds at most {MOST_SAMPLES / SAMPLE_RATE_HZ / 3600:.0f} hours of sound: "
            "leave some out"
        )
    samples = np.concatenate([c for clips in groups.values() for c in clips])
    return Segments(samples, np.cumsum(lengths) - lengths, lengths, rows)


def entries_of(
    corpus: Path, development: dict[str, list[str]], sounds: Path | None, also: Sequence[Path] = ()
) -> Iterator[Entry]:
    """Entries for a bank: speech of a corpus to train on and to decide on, noise and rooms.

    Parameters
    ----------
    corpus : Path
        Folder of the corpus, or its manifest.
    development : dict of str to list of str
        Sources held out for decisions, by language, besides the split ``dev``.
    sounds : Path or None
        Folder that holds ``noise`` and ``rir``; None for the one beside the corpus, or a synthetic
        one, see `train.features.synthetic_noise.sounds_of`.
    also : sequence of Path
        More corpora, say of synthetic speech, of which the same is taken.

    Raises
    ------
    EdgelidError
        If the corpora do not fit each other, or have nothing of a source that is held out: see
        `train.fit.training_data`; or if recordings are missing.
    """
    import polars as pl

    from train.corpus.manifest import file_sizes, refuse_missing
    from train.features.noise import read_noise
    from train.features.synthetic_noise import sounds_of
    from train.fit.training_data import check_sources, divide, read_manifests

    parts = read_manifests((corpus, *also))
    # Over all corpora together: who is held out in one of them is in no other one trained on.
    rows = pl.concat([part.rows for part in parts])
    check_sources(rows, development)
    held_out = np.zeros(len(rows), bool)
    held_out[divide(rows, development)[1]] = True
    # All of them before the first entry: what is written of it may replace an older bank.
    for part in parts:
        paths = part.rows["path"]
        refuse_missing(paths, file_sizes(paths, part.root), part.root)
    sounds = sounds_of(parts[0].root, sounds)
    found = [(role, sounds / name) for role, name in ((NOISE, "noise"), (ROOM, "rir"))]
    noises = [(role, folder, read_noise(folder, "train")) for role, folder in found]
    first = 0
    for part in parts:
        yield from _speech(part, held_out[first : first + len(part.rows)])
        first += len(part.rows)
    for role, folder, clips in noises:
        for sound in clips:
            yield Entry(role, "", "", "", sound.kind, _read(folder / sound.path))


def _speech(part: Manifest, held_out: NDArray[np.bool_]) -> Iterator[Entry]:
    """Entries of the clips of a corpus, in an order drawn once."""
    clips = part.clips()
    for i in np.random.default_rng(3).permutation(len(clips)).tolist():
        clip = clips[i]
        role = DEVELOPMENT if held_out[i] else TRAIN
        data = _read(part.root / clip.path)
        yield Entry(role, clip.language, clip.source, clip.speaker, clip.kind, data)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EdgelidError(f"cannot read the audio file {file}: {error.strerror}") from error
