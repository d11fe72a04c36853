"""The mel filterbank, computed once for training and carried in the model file to the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.features import ForeignConfig
from edge.frontend import Float32Array, FrontEndConfig


def mel_filterbank(config: FrontEndConfig) -> Float32Array:
    """Slaney-style triangular filters of equal area, as :mod:`librosa` defines them.

    Parameters
    ----------
    config : FrontEndConfig
        Other people's features may say otherwise.

    Returns
    -------
    ndarray, shape (mels, bins), float32
    """
    from librosa.filters import mel  # slow to import, and only needed here

    foreign: dict[str, Any] = {}
    if isinstance(config, ForeignConfig):
        if config.mel == "none":
            return np.eye(config.bins, dtype=np.float32)
        foreign = {"htk": config.mel == "htk", "norm": config.norm.replace("none", "") or None}
    filters: Float32Array = mel(
        sr=config.sample_rate_hz,
        n_fft=config.fft_samples,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz,
        dtype=np.float32,
        **foreign,
    )
    return filters


def band_centres_hz(config: FrontEndConfig) -> Float32Array:
    """Centre frequencies of the mel bands, shape (mels,)."""
    import librosa

    edges = librosa.mel_frequencies(config.mels + 2, fmin=config.low_hz, fmax=config.high_hz)
    return np.asarray(edges[1:-1], np.float32)
