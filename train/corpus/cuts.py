"""Cuts of a fixed length, to compare recognisers by the duration of speech they are given.

The clips of one speaker are joined, in an order drawn once, and divided into items of 10 s. The
cut of ``d`` seconds of an item is its first ``d`` seconds: so cuts are nested, and what a longer
cut changes is its length and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from train.corpus.manifest import Clip

SEED = 0  # of the cuts that reports are about: every recogniser gets the same ones
ITEM_S = 10.0
ITEM_SAMPLES = round(ITEM_S * SAMPLE_RATE_HZ)
# A manifest gives hundredths of a second: a file may be this much shorter than it says.
TOLERANCE_SAMPLES = SAMPLE_RATE_HZ // 50


@dataclass(frozen=True, slots=True)
class Cut:
    """Speech of one speaker, of a given duration.

    Attributes
    ----------
    language, target, speaker, source, kind
        As in `train.corpus.manifest.Clip`.
    item
        Number of the item among those of the speaker; cuts of different durations with the same
        `speaker`, `language`, `source`, `kind` and `item` are nested.
    duration_s
        Length in seconds, the sum of the pieces. The pauses inside the clips count.
    pieces
        (path of the clip, start_s, end_s), to be joined without a gap.
    """

    language: str
    target: bool
    speaker: str
    source: str
    kind: str
    item: int
    duration_s: float
    pieces: tuple[tuple[str, float, float], ...]

    @property
    def item_key(self) -> str:
        """Name of the item, the same for all its durations."""
        return f"{_key(self)}/{self.item}"


def cuts(rows: Iterable[Clip], *, duration_s: float, seed: int) -> list[Cut]:
    """Cut clips to `duration_s`.

    Parameters
    ----------
    rows
        Clips, in any order; of one split, say.
    duration_s
        Length of every cut, at most 10 s.
    seed
        Draws the order of each speaker's clips. The other speakers do not matter to it.

    Returns
    -------
    list of Cut
        By language, source, kind, speaker and item. Only items with enough speech are there.

    Raises
    ------
    EdgelidError
        If `duration_s` is not above 0 and at most 10.
    """
    samples = round(duration_s * SAMPLE_RATE_HZ) if 0 < duration_s <= ITEM_S else 0
    if not samples:
        raise EdgelidError(f"a cut lasts more than 0 and at most {ITEM_S:g} s, not {duration_s:g}")
    groups: dict[tuple[str, str, str, str], list[Clip]] = {}
    for clip in rows:
        key = (clip.language, clip.source, clip.kind, clip.speaker)
        groups.setdefault(key, []).append(clip)
    found = []
    for _, clips in sorted(groups.items()):
        clips.sort(key=lambda clip: clip.path)
        random.Random(f"{seed}/{_key(clips[0])}").shuffle(clips)
        total = sum(_length_samples(clip) for clip in clips)
        for item, start in enumerate(range(0, total - samples + 1, ITEM_SAMPLES)):
            found.append(_cut(clips, item, start, start + samples))
    return found


def balanced(found: Sequence[Cut], *, per_language: int, seed: int) -> list[Cut]:
    """Draw up to `per_language` cuts of each language, from as many of its speakers as possible.

    The draw goes by the name of the items, so that for two durations it is mostly the same items.
    """
    by_speaker: dict[str, list[Cut]] = {}
    for cut in found:
        by_speaker.setdefault(_key(cut), []).append(cut)
    turns: dict[str, list[tuple[int, str, Cut]]] = {}  # the n-th cut of each speaker, n rising
    for group in by_speaker.values():
        drawn = sorted(group, key=lambda cut: _draw(cut, seed))
        turns.setdefault(group[0].language, []).extend(
            (turn, _draw(cut, seed), cut) for turn, cut in enumerate(drawn)
        )
    return [
        cut
        for _, group_turns in sorted(turns.items())
        for _, _, cut in sorted(group_turns, key=lambda entry: entry[:2])[:per_language]
    ]


def read_audio(path: Path, most_s: float | None = None) -> NDArray[np.float32]:
    """Decode a file of the corpus.

    Parameters
    ----------
    path
        An audio file of any rate; several channels are mixed.
    most_s
        Read no more than its beginning of this length.

    Returns
    -------
    (samples,) float32
        At 16 kHz.

    Raises
    ------
    EdgelidError
        If the file cannot be decoded.
    """
    with FileSource(path) as source:
        most_samples = None if most_s is None else round(most_s * SAMPLE_RATE_HZ)
        blocks, read_samples = [], 0
        for block in source.samples():
            blocks.append(block)
            read_samples += len(block)
            if most_samples is not None and read_samples >= most_samples:
                break
        return np.concatenate(blocks)[:most_samples]


def load_cut(cut: Cut, corpus_dir: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read the audio of a cut.

    Parameters
    ----------
    cut
        The cut.
    corpus_dir
        Folder that the paths of the clips are relative to.

    Returns
    -------
    (samples,) float32
        At 16 kHz; exactly ``duration_s`` long.

    Raises
    ------
    EdgelidError
        If a file cannot be decoded, or is shorter than the manifest says.
    """
    (audio,) = load_cuts([cut], corpus_dir)
    return audio


def load_cuts(
    found: Sequence[Cut], corpus_dir: str | os.PathLike[str]
) -> list[NDArray[np.float32]]:
    """Read the audio of cuts, each file once, however many cuts have a piece of it.

    Parameters
    ----------
    found
        The cuts, of any durations.
    corpus_dir
        Folder that the paths of the clips are relative to.

    Returns
    -------
    list of (samples,) float32
        As `load_cut`, in the order of the cuts.

    Raises
    ------
    EdgelidError
        As `load_cut`.
    """
    audio = [np.zeros(round(cut.duration_s * SAMPLE_RATE_HZ), np.float32) for cut in found]
    wanted: dict[str, list[tuple[NDArray[np.float32], int]]] = {}  # where to, and from which sample
    for cut, samples in zip(found, audio, strict=True):
        start = 0
        for path, start_s, end_s in cut.pieces:
            first, last = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
            wanted.setdefault(path, []).append((samples[start : start + last - first], first))
            start += last - first
    for path, pieces in wanted.items():
        clip = read_audio(Path(corpus_dir) / path)
        for piece, first in pieces:
            _copy_piece(clip, first, piece, Path(corpus_dir) / path)
    return audio


def _key(row: Clip | Cut) -> str:
    return f"{row.language}/{row.source}/{row.kind}/{row.speaker}"


def _draw(cut: Cut, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{cut.item_key}".encode()).hexdigest()


def _length_samples(clip: Clip) -> int:
    return round(clip.duration_s * SAMPLE_RATE_HZ)


def _cut(clips: Sequence[Clip], item: int, start: int, stop: int) -> Cut:
    """The cut from sample `start` to `stop` of the clips joined."""
    pieces = []
    offset = 0  # of the clip in the join
    for clip in clips:
        length = _length_samples(clip)
        first, last = max(start - offset, 0), min(stop - offset, length)
        if first < last:
            pieces.append((clip.path, first / SAMPLE_RATE_HZ, last / SAMPLE_RATE_HZ))
        offset += length
    return Cut(
        language=clips[0].language,
        target=clips[0].target,
        speaker=clips[0].speaker,
        source=clips[0].source,
        kind=clips[0].kind,
        item=item,
        duration_s=(stop - start) / SAMPLE_RATE_HZ,
        pieces=tuple(pieces),
    )


def _copy_piece(
    clip: NDArray[np.float32], first: int, piece: NDArray[np.float32], path: Path
) -> None:
    """Fill `piece` with the samples of a whole clip from `first` on.

    The clip is whole because a decoder that seeks does not give the same samples.
    """
    last = first + len(piece)
    if last - len(clip) > TOLERANCE_SAMPLES:
        raise EdgelidError(
            f"{path} has {len(clip) / SAMPLE_RATE_HZ:.2f} s where the manifest promises "
            f"{last / SAMPLE_RATE_HZ:.2f} s at least: fetch the file again"
        )
    found = clip[first:last]
    piece[: len(found)] = found
