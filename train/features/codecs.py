"""Lossy codecs, in memory."""

from __future__ import annotations

import io

from edge.frontend import SAMPLE_RATE_HZ, Float32Array


def encode(
    samples: Float32Array,
    container: str,
    codec: str,
    compression: float,
    bitrate_mode: str | None = None,
) -> bytes:
    """An encoded file.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
        16 kHz mono.
    container, codec : str
        As libsndfile names them.
    compression : float
        From 0, the codec's highest rate, to 1, its lowest.
    bitrate_mode : str, optional
        As libsndfile names them; the codec's own otherwise.
    """
    import soundfile

    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer,
        "w",
        SAMPLE_RATE_HZ,
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
