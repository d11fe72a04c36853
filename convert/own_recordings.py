"""A user's recordings: what each says, and which are held out for the proof, whole files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.representative_audio import GAINS_DB, MAX_CLIP_S
from edge.audio.formats import find_recordings
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import is_language, meant
from edge.model.modelfile import NONSPEECH, OTHER
from train.corpus.cuts import read_audio
from train.features.cache import seed_of

# Of each class, or of all where no class is known: more do not change the ranges, and the
# interval of an accuracy gets narrow.
MAX_FILES = 120
MIN_FILES = 4  # where no class is known: two to quantise with, two to prove on
FEW_FILES = 5  # held out of a class, below which its accuracy says little
SILENT_PEAK = 1e-3  # -60 dBFS, where the noise of a recorder begins
MAX_READ_S = 30.0
READ_WINDOWS = 3  # of a recording
NAMED_FILES = 3  # of many
NOISES = ("noise", "music", "silence", "background")  # what folders of nonspeech are called


@dataclass(frozen=True)
class Recording:
    """A file.

    Attributes
    ----------
    name : str
        Path within the folder.
    label : str or None
        Class of the model; None where no folder says.
    speaker : str
        Folder within that of the class, or where there is none, the file: what is held out whole.
    samples : ndarray, shape (n,), float32
        Its beginning, at 16 kHz.
    """

    name: str
    label: str | None
    speaker: str
    samples: Float32Array


@dataclass(frozen=True)
class OwnRecordings:
    """Recordings apart.

    Attributes
    ----------
    shown, held_out : list of Recording
        To quantise with, and to prove on; no file and as far as possible no speaker in both.
    notes : tuple of str
        What a reader of the proof should know of them.
    """

    shown: list[Recording]
    held_out: list[Recording]
    notes: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether it is known of the held-out ones what they say."""
        return all(each.label is not None for each in self.held_out)

    def representative(self) -> Iterator[Float32Array]:
        """Audio to quantise with, at the levels of real microphones, and silence."""
        for turn, each in enumerate(self.shown):
            gain = np.float32(10 ** (GAINS_DB[turn % len(GAINS_DB)] / 20))
            yield np.clip(each.samples * gain, -1, 1)
        yield np.zeros(SAMPLE_RATE_HZ, np.float32)


def own_recordings(
    folder: Path, labels: Sequence[str], window_s: float, seed: int
) -> OwnRecordings:
    """Read recordings, and hold half of them out, of each class by itself.

    Parameters
    ----------
    folder : Path
        ``LANG/...``, at any depth; or recordings of which nothing is known.
    labels : sequence of str
        Classes of the model.
    window_s : float
        What it hears at a time.
    seed : int

    Raises
    ------
    EdgelidError
        If there are none, or too few that are not silent, or one cannot be read.
    """
    paths = [path for path in find_recordings([folder]) if path != folder]
    if not paths:
        raise EdgelidError(f"the folder {folder} has no audio files to quantise with")
    files = _chosen(folder, paths, labels, seed)
    most_s = min(max(MAX_CLIP_S, READ_WINDOWS * window_s), MAX_READ_S)
    found = [
        Recording(name, label, speaker, read_audio(folder / name, most_s))
        for name, label, speaker in files
    ]
    silent = [each.name for each in found if _is_silent(each)]
    heard, copies = _without_copies([each for each in found if not _is_silent(each)])
    notes = []
    if silent:
        notes.append(f"silent, and left out: {_some(silent)}")
    if copies:
        notes.append(f"copies of others, and left out: {_some(copies)}")
    known = [each for each in heard if each.label is not None]
    if known:
        if len(known) < len(heard):
            strangers = [each.name for each in heard if each.label is None]
            notes.append(f"in no folder of a class, and left out: {_some(strangers)}")
        notes += _check_classes(folder, known, labels, notes[:])
        parts = [_halves([x for x in known if x.label == label], seed) for label in labels]
    else:
        if len(heard) < MIN_FILES:
            counts = {0: "no recordings", 1: "one recording"}
            what = counts.get(len(heard), f"{len(heard)} recordings")
            raise EdgelidError(_too_few(folder, what, MIN_FILES, notes))
        notes.append(
            "no accuracy was measured, as no folder says what is spoken: put the recordings into "
            f"folders named {', '.join(labels)}"
        )
        parts = [_halves(heard, seed)]
    short = sum(len(each.samples) < round(window_s * SAMPLE_RATE_HZ) for each in known or heard)
    if short:
        notes.append(
            f"{short} of {len(known or heard)} recordings are shorter than the window of "
            f"{window_s:g} s: they were repeated until it was full"
        )
    shown = [each for first, _ in parts for each in first]
    held_out = [each for _, second in parts for each in second]
    return OwnRecordings(shown, held_out, tuple(notes))


def _chosen(
    folder: Path, paths: Sequence[Path], labels: Sequence[str], seed: int
) -> list[tuple[str, str | None, str]]:
    """Names, classes and speakers of at most so many files of a class."""
    by_label: dict[str | None, list[tuple[str, str | None, str]]] = defaultdict(list)
    for path in paths:
        within = path.relative_to(folder)
        label, depth = _label(within.parts[:-1], labels)
        deeper = within.parts[depth:-1] if label is not None else ()
        speaker = "/".join(within.parts[: depth + 1]) if deeper else within.as_posix()
        by_label[label].append((within.as_posix(), label, speaker))
    chosen = []
    for label, files in by_label.items():
        order = seed_of("own", seed, label or "").permutation(len(files))[:MAX_FILES]
        chosen += sorted(files[i] for i in order)
    return chosen


def _label(folders: Sequence[str], labels: Sequence[str]) -> tuple[str | None, int]:
    """Class that a path is of, and how many folders it takes to say so."""
    for depth, name in enumerate(folders, start=1):
        (label,) = meant([name], labels)
        if label in labels:
            return label, depth
        if name.casefold() in NOISES and NONSPEECH in labels:
            return NONSPEECH, depth
        if OTHER in labels and is_language(name):
            return OTHER, depth
    return None, 0


def _is_silent(recording: Recording) -> bool:
    return is_silent(recording.samples) and recording.label != NONSPEECH


def is_silent(samples: Float32Array) -> bool:
    """Whether there is nothing to hear in samples, or there are none."""
    return len(samples) == 0 or float(np.abs(samples).max()) < SILENT_PEAK


def _without_copies(recordings: Sequence[Recording]) -> tuple[list[Recording], list[str]]:
    """Recordings that differ, and the names of the others: they would prove what they taught."""
    first: dict[bytes, Recording] = {}
    copies = []
    for each in recordings:
        digest = hashlib.sha256(each.samples.tobytes()).digest()
        if first.setdefault(digest, each) is not each:
            copies.append(f"{each.name} (of {first[digest].name})")
    return list(first.values()), copies


def _check_classes(
    folder: Path, known: Sequence[Recording], labels: Sequence[str], left_out: Sequence[str]
) -> list[str]:
    """What is to be said of the classes that there are recordings of."""
    files: dict[str | None, int] = defaultdict(int)
    speakers: dict[str | None, set[str]] = defaultdict(set)
    for each in known:
        files[each.label] += 1
        speakers[each.label].add(each.speaker)
    if len(files) < 2:
        raise EdgelidError(
            f"{folder} has recordings in {known[0].label} alone, which cannot show whether the "
            f"network tells {' from '.join(labels[:2])}: give some of every class"
        )
    for label, count in files.items():
        if count < 2:
            raise EdgelidError(_too_few(folder, f"one recording of {label}", 2, left_out))
    notes = []
    absent = [label for label in labels if label not in files]
    if absent:
        notes.append(f"nothing is known of {', '.join(absent)}: there are no recordings")
    few = [str(label) for label, count in files.items() if count // 2 < FEW_FILES]
    if few:
        notes.append(
            f"fewer than {FEW_FILES} recordings were held out of {', '.join(few)}: the accuracy "
            "says little"
        )
    alone = [
        f"{label} ({next(iter(voices))})"
        for label, voices in speakers.items()
        if len(voices) == 1 and label != NONSPEECH
    ]
    if alone:
        notes.append(
            f"one speaker alone of {', '.join(alone)}: the accuracy says nothing of other voices"
        )
    return notes


def _too_few(folder: Path, what: str, wanted: int, left_out: Sequence[str]) -> str:
    others = f" ({'; '.join(left_out)})" if left_out else ""
    return (
        f"{folder} has {what}{others}, too few to quantise with some and prove on others: give "
        f"at least {wanted}, better twenty of every class"
    )


def _halves(recordings: Sequence[Recording], seed: int) -> tuple[list[Recording], list[Recording]]:
    """Those to show and those to hold out; whole speakers, where there are several."""
    by_speaker: dict[str, list[Recording]] = defaultdict(list)
    for each in recordings:
        by_speaker[each.speaker].append(each)
    if len(by_speaker) == 1:
        by_speaker = {each.name: [each] for each in recordings}
    keys = sorted(by_speaker)
    label = recordings[0].label if recordings else None
    order = seed_of("halves", seed, label or "").permutation(len(keys))
    halves: tuple[list[Recording], list[Recording]] = ([], [])
    for i in order:  # to the half that has fewer files
        shorter = min(halves, key=len)
        shorter += by_speaker[keys[i]]
    return halves


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED_FILES])
    more = len(names) - NAMED_FILES
    return f"{shown} and {more} more" if more > 0 else shown
