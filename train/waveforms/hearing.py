"""What the large model hears in a bank, kept once for all: its tokens, on each segment's own time.

Where there is no GPU the teacher is the dearer half of a training step, and says the same of a
stretch of speech each time that this is drawn. A hearing is kept as two files: ``tokens.npy``, and
``progress.json``, which says how far it has come; a run that was stopped goes on there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.atomic import write_atomically
from train.folder import make_place
from train.waveforms.bank import Int16Array, Segments
from train.waveforms.checkpoint import fingerprint as weights_fingerprint
from train.waveforms.draws import Drawer
from train.waveforms.large import Large, large_front_end, load_large
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.stepper import compiled

TOKEN_SAMPLES = SAMPLE_RATE_HZ // 50  # that the teacher's tokens are apart
WINDOW_TOKENS = 200  # of 4 s: what is heard at once, alone
TEACHER_PEAK = 0.5  # of what the teacher hears
BATCH = 16
SAVE_EVERY_S = 60.0
# A first round hears the beginning of every segment, the next ones more: variety first.
ROUNDS_S = (24.0, 96.0, 1e9)

Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Hearing:
    """The teacher's tokens for the segments of a bank.

    Attributes
    ----------
    tokens : ndarray, shape (n, dim), float16
    starts, counts : ndarray, shape (segments,), int64
        Where each segment's tokens begin, and how many of them were heard.
    teacher : str or None
        What tells who heard it from others, see :func:`teacher_of`; None if it does not tell.
    """

    tokens: NDArray[np.float16]
    starts: Int64Array
    counts: Int64Array
    teacher: str | None = None

    @property
    def samples(self) -> Int64Array:
        """How much of each segment was heard, shape (segments,)."""
        return self.counts * TOKEN_SAMPLES

    @classmethod
    def load(cls, folder: Path, segments: Segments, teacher: str | None = None) -> Hearing:
        """Read what :func:`hear` wrote, as far as it has come.

        Parameters
        ----------
        folder : Path
        segments : Segments
        teacher : str, optional
            What tells who is to have heard it from others, see :func:`teacher_of`. Hearings that
            do not tell who heard are anybody's.

        Raises
        ------
        EdgelidError
            If it is not there, is damaged, or was heard in another bank or by another teacher.
        """
        try:
            told = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
            counts, bank = np.array(told["counts"], np.int64), told["bank"]
            whose = told.get("teacher")
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise EdgelidError(
                f"there is no hearing of a bank in {folder}, or it is damaged: make it with `hear`"
            ) from error
        if bank != fingerprint(segments):
            raise EdgelidError(f"{folder} was heard in another bank: make it again with `hear`")
        if None not in (whose, teacher) and whose != teacher:
            raise EdgelidError(f"{folder} was heard by another teacher: give another folder")
        return cls(tokens, places(segments), counts, whose)


def _played(draw: Any, count: int) -> tuple[Any, Any]:
    """Samples behind the beginning of each stretch at the middles of so many tokens, and how many
    there are.
    """
    middles = (np.arange(count, dtype=np.float32) + 0.5)[None] * TOKEN_SAMPLES
    at = (middles - ops.cast(draw["lead"], "float32")[:, None]) * draw["rate"][:, None]
    return at, ops.cast(draw["counts"], "float32")[:, None]


def inside(draw: Any, count: int) -> Any:
    """Whether there is sound of a stretch at the moments of so many tokens, (batch, count), bool.

    Parameters
    ----------
    draw : dict of tensor
        As `train.waveforms.draws.Drawer.batch` gives it.
    count : int
    """
    at, counts = _played(draw, count)
    return ops.logical_and(at >= 0, at < counts)


def token_places(draw: Any, count: int) -> Any:
    """Where the tokens of stretches lie, that are played at some speed, (batch, count), int32.

    Parameters
    ----------
    draw : dict of tensor
        As `train.waveforms.draws.Drawer.batch` gives it; ``first_token`` of each clip's segment,
        and ``offset`` of the clip in it, in samples.
    count : int
        Tokens of each.
    """
    at, counts = _played(draw, count)
    offset = draw["offset"][:, None] + ops.cast(ops.clip(at, 0.0, counts - 1.0), "int32")
    return draw["first_token"][:, None] + offset // TOKEN_SAMPLES


def fingerprint(segments: Segments) -> str:
    """What tells a bank from another."""
    return f"{len(segments.samples)}/{len(segments.starts)}/{int(segments.starts.sum())}"


def teacher_of(model: Large) -> str:
    """What tells a teacher from others, who have other tokens."""
    return weights_fingerprint([model.encoder])


def tokens_of(samples: Any) -> Any:
    """How many tokens so many samples have."""
    return -(-samples // TOKEN_SAMPLES)


def levelled(wave: Any) -> Any:
    """Windows, (batch, samples), each at the level at which the teacher hears it."""
    peak = ops.max(ops.abs(wave), axis=1, keepdims=True)
    return wave / (peak + 1e-4) * TEACHER_PEAK


def places(segments: Segments) -> Int64Array:
    """Where each segment's tokens begin."""
    counts = tokens_of(segments.lengths)
    return np.asarray(np.cumsum(counts) - counts, np.int64)


def hear(segments: Segments, teacher: Path, folder: Path, precision: str, limit_s: float) -> None:
    """Let the teacher hear what there is to train on, each stretch of 4 s alone.

    Parameters
    ----------
    segments : Segments
    teacher : Path
        Checkpoint of the large model.
    folder : Path
        Of the hearing; gone on with if it was begun.
    precision : str
        Keras' policy.
    limit_s : float
        Seconds after which to stop: what was heard until then is of use, and it can be gone on
        with.

    Raises
    ------
    EdgelidError
        If there is no such teacher, or another one was heard in the folder.
    """
    model, labels = load_large(teacher, precision)
    whose = teacher_of(model)
    keep_tokens(segments, labels, model.tokens, model.dim, folder, limit_s, whose)


def keep_tokens(
    segments: Segments,
    labels: Sequence[str],
    tokens_of_features: Callable[[Any], Any],
    dim: int,
    folder: Path,
    limit_s: float,
    teacher: str,
) -> None:
    """Keep what a model has at each moment of what there is to train on, each 4 s alone.

    Parameters
    ----------
    segments : Segments
    labels : sequence of str
        Languages, then ``other`` and ``nonspeech``.
    tokens_of_features : callable
        From log-mel frames of `train.waveforms.large.large_front_end`, (BATCH, 2 * WINDOW_TOKENS,
        mels), to tokens, (BATCH, WINDOW_TOKENS, dim).
    dim : int
    folder : Path
    limit_s : float
        As of :func:`hear`.
    teacher : str
        What tells the model from others, kept with the tokens. A hearing that does not tell who
        heard it stays anybody's, whoever goes on with it.
    """
    front_end = large_front_end()
    filters = ops.convert_to_tensor(filterbank(front_end))
    fast = compiled(lambda wave: tokens_of_features(log_mel(levelled(wave), front_end, filters)))
    tokens, counts, whose = _begun(segments, folder, dim, teacher)
    waiting, begun = _Waiting(tokens, fast), time.monotonic()
    latest = begun
    starts, order = places(segments), _order(segments, Drawer(segments, labels, 1))
    for round_s in ROUNDS_S:
        for i in order:
            total = tokens_of(int(segments.lengths[i]))
            until = min(total, round(round_s * SAMPLE_RATE_HZ / TOKEN_SAMPLES))
            if counts[i] < until:
                wave = segments.samples[segments.starts[i] :][: segments.lengths[i]]
                waiting.add(wave, int(starts[i]), int(counts[i]), until)
                counts[i] = until
            now = time.monotonic()
            late = now - begun > limit_s
            if late or now - latest > SAVE_EVERY_S:
                waiting.flush()
                _save(segments, folder, counts, tokens, whose)
                latest = now
                share = int(counts.sum()) * TOKEN_SAMPLES / SAMPLE_RATE_HZ / 3600
                print(f"{now - begun:.0f} s: {share:.1f} h heard", flush=True)
            if late:
                return
    waiting.flush()
    _save(segments, folder, counts, tokens, whose)


class _Waiting:
    """Stretches that wait until there are enough for a batch."""

    def __init__(self, tokens: Any, fast: Any) -> None:
        self._tokens, self._fast = tokens, fast
        self._waves: list[Float32Array] = []
        self._where: list[tuple[int, int, int]] = []  # first token, its place in the window, count

    def add(self, samples: Int16Array, start: int, first: int, until: int) -> None:
        """Queue stretches of a segment.

        Parameters
        ----------
        samples : ndarray, shape (n,)
            Of the segment.
        start : int
            Where its tokens begin.
        first, until : int
            Which of them are wanted.
        """
        total = tokens_of(len(samples))
        need = samples_of(2 * WINDOW_TOKENS)
        for at in range(first, until, WINDOW_TOKENS):
            # The last stretch is as long as the others, where the segment is.
            begin = max(0, min(at, total - WINDOW_TOKENS))
            piece = samples[begin * TOKEN_SAMPLES :][:need] / np.float32(32768)
            wave = np.zeros(need, np.float32)
            wave[: len(piece)] = piece
            self._waves.append(wave)
            self._where.append((start + at, at - begin, min(WINDOW_TOKENS, until - at)))
            if len(self._waves) == BATCH:
                self.flush()

    def flush(self) -> None:
        """Hear what waits."""
        if not self._waves:
            return
        batch = np.zeros((BATCH, len(self._waves[0])), np.float32)
        batch[: len(self._waves)] = self._waves
        said = ops.convert_to_numpy(self._fast(batch))
        for row, (first, place, count) in zip(said, self._where, strict=False):
            self._tokens[first : first + count] = row[place : place + count]
        self._waves, self._where = [], []


def _order(segments: Segments, drawer: Drawer) -> list[int]:
    """Segments of speech, those first that are drawn most for their length, all classes alike."""
    found: list[tuple[float, int]] = []
    for indices, weights in drawer.choices:
        order = np.argsort(-weights / segments.lengths[indices])
        covered = np.cumsum(weights[order])
        found.extend(zip(covered.tolist(), indices[order].tolist(), strict=True))
    return [i for _, i in sorted(found)]


def _begun(
    segments: Segments, folder: Path, dim: int, teacher: str
) -> tuple[Any, Int64Array, str | None]:
    """Tokens, how many of each segment were heard, and who heard them."""
    total = int(tokens_of(segments.lengths).sum())
    make_place(folder / "tokens.npy")
    if (folder / "progress.json").exists():
        before = Hearing.load(folder, segments, teacher)
        if before.tokens.shape != (total, dim):
            raise EdgelidError(
                f"{folder} was heard by another teacher, or is damaged: give another folder"
            )
        tokens = np.load(folder / "tokens.npy", mmap_mode="r+", allow_pickle=False)
        return tokens, before.counts, before.teacher
    tokens = np.lib.format.open_memmap(
        folder / "tokens.npy", mode="w+", dtype=np.float16, shape=(total, dim)
    )
    return tokens, np.zeros(len(segments.lengths), np.int64), teacher


def _save(
    segments: Segments, folder: Path, counts: Int64Array, tokens: Any, teacher: str | None
) -> None:
    tokens.flush()
    told = {"bank": fingerprint(segments), "teacher": teacher, "counts": counts.tolist()}
    write_atomically(folder / "progress.json", json.dumps(told).encode())
