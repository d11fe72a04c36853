"""More than one voice in a clip: a second one beside it, or another clip that goes on behind it.

A small network becomes like a large one where it is shown what that makes of things, and few
people's clips, however often they are heard, are few things. Two at once are as many as there are
pairs, and a patient teacher who hears them as well says of each pair something else (Beyer et al.
2022, "Knowledge distillation: a good teacher is patient and consistent"). And who listens to a
stream hears how one language follows upon another, which no clip of one person has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from train.waveforms.draws import Draw

QUIETER_DB = 3.0, 20.0  # by which a second voice is below the first
EARLIEST, LATEST = 0.15, 0.85  # of a clip: where another one goes on


def draw_company(
    rng: np.random.Generator, clips: int, count: int, beside: float, behind: float
) -> Draw:
    """Draw who is in whose clip.

    Parameters
    ----------
    rng : Generator
    clips : int
    count : int
        Embeddings of a clip.
    beside, behind : float
        Shares of clips in which somebody else speaks at the same time, and that another clip
        follows upon.

    Returns
    -------
    dict of ndarray
        Of shape (clips,): ``second``, int32, whose voice is beside, and ``second_gain``, float32,
        its amplitude beside the first one's, zero where there is none; ``next``, int32, which clip
        goes on, and ``turn``, int32, the embedding from which on, `count` where none does.
    """
    spoken = rng.random(clips) < beside
    gain = 10 ** (-rng.uniform(*QUIETER_DB, clips) / 20)
    turn = rng.integers(round(EARLIEST * count), round(LATEST * count) + 1, clips)
    return {
        "second": rng.integers(0, clips, clips).astype(np.int32),
        "second_gain": np.where(spoken, gain, 0.0).astype(np.float32),
        "next": rng.integers(0, clips, clips).astype(np.int32),
        "turn": np.where(rng.random(clips) < behind, turn, count).astype(np.int32),
    }


def _of(x: Any, who: Any) -> Any:
    """Rows of others; a number beyond the batch is counted from its beginning again."""
    return ops.take(x, who % ops.shape(x)[0], axis=0)


def with_second(wave: Any, draw: Any, alone: Any) -> Any:
    """Clips with a second voice, where one is drawn.

    Parameters
    ----------
    wave : tensor, shape (batch, samples)
    draw : dict of tensor
        From :func:`draw_company`.
    alone : tensor, shape (batch,), bool
        Clips that neither have nor are a second voice: noise, and what is not all speech.
    """
    loudness = ops.sqrt(ops.mean(ops.square(wave), axis=1) + 1e-10)
    both = ops.logical_not(ops.logical_or(alone, _of(alone, draw["second"])))
    gain = draw["second_gain"] * ops.cast(both, "float32") * loudness
    gain /= _of(loudness, draw["second"])
    return wave + gain[:, None] * _of(wave, draw["second"])


def continued(x: Any, draw: Any, each: int) -> Any:
    """What is at each moment of clips that other clips follow upon.

    Parameters
    ----------
    x : tensor, shape (batch, n, channels)
        Of the clips by themselves.
    draw : dict of tensor
        From :func:`draw_company`.
    each : int
        Moments of an embedding.
    """
    before = ops.arange(x.shape[1])[None] < draw["turn"][:, None] * each
    return ops.where(before[:, :, None], x, _of(x, draw["next"]))


def labels_at(place: Any, draw: Any) -> Any:
    """Labels of the clips that speak there, shape (batch,).

    Parameters
    ----------
    place : tensor, shape (batch,)
        Embeddings.
    draw : dict of tensor
        With ``labels``; those of :func:`draw_company` may be missing.
    """
    labels = draw["labels"]
    if "turn" not in draw:
        return labels
    return ops.where(place < draw["turn"], labels, _of(labels, draw["next"]))
