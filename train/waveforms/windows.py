"""Windows of a decoded bank, and what a function of waveforms makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.parallel.progress import bar
from train.waveforms.bank import Segments
from train.waveforms.draws import Drawer, development_windows
from train.waveforms.judge import MOST_PER_SPEAKER
from train.waveforms.stepper import compiled

BATCH = 8  # windows


@dataclass(frozen=True)
class Windows:
    """Windows of a bank.

    Attributes
    ----------
    starts : ndarray, shape (windows,)
        In samples.
    labels : ndarray, shape (windows,)
        Index of the class.
    sources : list of str
        ``language/source`` of each, or empty.
    """

    starts: np.ndarray
    labels: np.ndarray
    sources: Sequence[str] = ()


def held_out_windows(segments: Segments, labels: Sequence[str], samples: int, most: int) -> Windows:
    """Windows in the languages, of the speech held out for decisions, at most so many a source.

    Raises
    ------
    EdgelidError
        If there are none.
    """
    found = development_windows(segments, labels, samples, MOST_PER_SPEAKER, most)
    known = np.flatnonzero(found[1] < len(labels) - 2)
    if not len(known):
        raise EdgelidError(f"the bank has no {samples / 16_000:.0f} s of development speech")
    return Windows(found[0][known], found[1][known], [found[2][i] for i in known])


def training_windows(
    segments: Segments,
    labels: Sequence[str],
    samples: int,
    per_language: int,
    seed: int,
    others: int = 0,
) -> Windows:
    """Windows of training speech, as many of each language, from sources as training draws them.

    Parameters
    ----------
    segments : Segments
    labels : sequence of str
        Languages, then ``other`` and ``nonspeech``.
    samples : int
        Of a window.
    per_language, seed : int
    others : int
        In other languages, all together, if anybody speaks one of them for so long.

    Raises
    ------
    EdgelidError
        If nobody speaks one of the languages for so long.
    """
    drawer = Drawer(segments, labels, seed)
    starts, classes = [], []
    counts = [per_language] * (len(labels) - 2) + [others]
    for label, ((found, p), count) in enumerate(zip(drawer.choices, counts, strict=True)):
        indices = found.astype(np.int64)
        lengths = segments.lengths[indices]
        shares = p * (lengths >= samples)
        if not shares.sum():
            if label == len(labels) - 2:
                continue
            raise EdgelidError(
                f"the bank has no {samples / 16_000:.0f} s of training speech in {labels[label]} "
                "by one speaker"
            )
        chosen = drawer.rng.choice(len(indices), count, p=shares / shares.sum())
        offsets = drawer.rng.integers(0, lengths[chosen] - samples + 1)
        starts.append(segments.starts[indices[chosen]] + offsets)
        classes.append(np.repeat(label, count))
    return Windows(np.concatenate(starts), np.concatenate(classes))


class Forward:
    """Runs windows of a bank through a function of waveforms.

    Parameters
    ----------
    segments : Segments
    call : callable
        From waveforms, (BATCH, samples), to values, (BATCH, ...).
    """

    def __init__(self, segments: Segments, call: Callable[[Any], Any]) -> None:
        self._samples, self._call = segments.samples, compiled(call)

    def values(self, windows: Windows, samples: int, what: str) -> np.ndarray:
        """What it makes of all windows, (windows, ...), told as `what` on standard error."""
        return np.concatenate(list(self.batches(windows, samples, what)))

    def batches(self, windows: Windows, samples: int, what: str) -> Iterator[np.ndarray]:
        """The same, a batch at a time."""
        for waves, count in bar(
            self._batches(windows.starts, samples),
            what=what,
            total=-(-len(windows.starts) // BATCH),
            mininterval=5,
        ):
            yield np.asarray(self._call(ops.convert_to_tensor(waves)))[:count]

    def _batches(self, starts: np.ndarray, samples: int) -> Iterator[tuple[Float32Array, int]]:
        """Waveforms, (BATCH, samples), and how many of them count."""
        for i in range(0, len(starts), BATCH):
            some = starts[i : i + BATCH]
            waves = np.zeros((BATCH, samples), np.float32)
            for wave, start in zip(waves, some, strict=False):
                wave[:] = self._samples[start : start + samples] / np.float32(32768.0)
            yield waves, len(some)
