"""Lossy codecs, in memory."""

from __future__ import annotations

import io

from edge.frontend import SAMPLE_RATE_HZ, Float32Array


def encode(
    samples: Float32Array,
    container: str,
    codec: str,
    compression: float | None,
    bitrate_mode: str | None = None,
    rate_hz: int = SAMPLE_RATE_HZ,
) -> bytes:
    """An encoded file.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
        Mono.
    container, codec : str
        As libsndfile names them.
    compression : float or None
        From 0, the codec's highest rate, to 1, its lowest; None for one that has no choice.
    bitrate_mode : str, optional
        As libsndfile names them; the codec's own otherwise.
    rate_hz : int
        Of the samples.
    """
    import soundfile

    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer,
        "w",
        rate_hz,
        1,
        subtype=codec,
        format=container,
        compression_level=compression,
        bitrate_mode=bitrate_mode,
    ) as file:
        file.write(samples)
    return buffer.getvalue()


def decode(encoded: bytes) -> Float32Array:
    """Samples of an encoded file, shape (n,), float32; the codec's delay may stand before them."""
    import soundfile

    decoded: Float32Array = soundfile.read(io.BytesIO(encoded), dtype="float32")[0]
    return decoded
