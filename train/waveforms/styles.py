"""The spectrum of one recording lent to another.

A person's long-term spectrum, and that of the microphone and the room, tell who speaks, and where
few people speak a language, that tells the language. So some clips take over a part of the
long-term spectrum of another clip of the batch, whatever is spoken there (as the frequency-wise
MixStyle of Kim et al. 2022, "Domain generalization with relaxed instance frequency-wise
normalization"; of means alone, as loudness and its range are drawn apart).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from train.waveforms.draws import Draw

LOUD = 0.5  # of the loudest frame: what is below counts for nothing in a long-term spectrum
QUIET = 2.0  # features below are near the floor and keep more of their own


def draw_styles(rng: np.random.Generator, clips: int, share: float) -> Draw:
    """Draw who lends a spectrum to whom.

    Parameters
    ----------
    rng : Generator
    clips : int
    share : float
        Of clips that take over another's.

    Returns
    -------
    dict of ndarray
        ``donor``, int32, and ``style``, float32, of shape (clips,): which clip lends its spectrum,
        and how much of it is taken.
    """
    taken = np.where(rng.random(clips) < share, rng.uniform(0.3, 1.0, clips), 0.0)
    donor = rng.integers(0, clips, clips)
    return {"donor": donor.astype(np.int32), "style": taken.astype(np.float32)}


def spectrum(features: Any) -> Any:
    """Long-term spectrum of clips less its mean, shape (batch, mels)."""
    loudness = ops.mean(features, axis=2, keepdims=True)
    weight = ops.relu(loudness - LOUD * ops.max(loudness, axis=1, keepdims=True))
    mean = ops.sum(weight * features, axis=1) / (ops.sum(weight, axis=1) + 1e-6)
    return mean - ops.mean(mean, axis=1, keepdims=True)


def styled(features: Any, draw: Draw, speech: Any) -> Any:
    """Clips with a part of other clips' long-term spectra.

    Parameters
    ----------
    features : tensor, shape (batch, frames, mels)
    draw : dict of tensor
        From :func:`draw_styles`; a donor beyond the batch is counted from its beginning again.
    speech : tensor, shape (batch,), bool
        Where somebody speaks: noise neither lends nor takes.
    """
    own = spectrum(features)
    donor = draw["donor"] % ops.shape(features)[0]
    both = ops.logical_and(speech, ops.take(speech, donor, axis=0))
    taken = (draw["style"] * ops.cast(both, "float32"))[:, None]
    shift = taken * (ops.take(own, donor, axis=0) - own)
    return ops.relu(features + shift[:, None, :] * ops.minimum(1.0, features / QUIET))
