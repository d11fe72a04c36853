"""From places in the bank to features: windows, rooms, noise, level, log-mel."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from edge.frontend import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, FrontEndConfig
from train.waveforms.draws import EQ_POINTS

ROOM_SAMPLES = SAMPLE_RATE_HZ  # a second of a room's answer
MU = 255.0  # of the companding of telephones (ITU-T G.711)
CODED_FRAMES = 4  # that a codec decides about at once: 40 ms
EDGE_DB_PER_OCTAVE = 60.0  # slope of a band's edges
TAPS = 12  # of the filter that interpolates: what folds back is 44 dB below a tone of 6 kHz


def samples_of(frames: int) -> int:
    """Samples that give so many frames."""
    return HOP_SAMPLES * (frames - 1) + WINDOW_SAMPLES


def transform_size(samples: int) -> int:
    """Size of a fast transform that holds a window and the answer of a room to its end."""
    needed = samples + ROOM_SAMPLES
    sizes = [m << k for k in range(8, 20) for m in (4, 5, 6)]
    return min(s for s in sizes if s >= needed)


def room_spectra(rooms: list[np.ndarray], samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary parts of rooms' transfer functions; the first one is no room at all.

    Parameters
    ----------
    rooms : list of ndarray, shape (n,)
        Impulse responses, the direct sound first.

    Returns
    -------
    tuple of ndarray, shape (1 + rooms, transform_size / 2 + 1), float32
    """
    size = transform_size(samples)
    out = np.zeros((1 + len(rooms), size), np.float32)
    out[0, 0] = 1.0
    for row, room in zip(out[1:], rooms, strict=True):
        room = room[:ROOM_SAMPLES].astype(np.float32)
        row[: len(room)] = room / np.sqrt(np.sum(np.square(room)) + 1e-12)
    spectra = np.fft.rfft(out)
    return spectra.real.astype(np.float32), spectra.imag.astype(np.float32)


def eq_basis(size: int) -> np.ndarray:
    """Linear interpolation over the logarithm of frequency, shape (EQ_POINTS, size / 2 + 1)."""
    hz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 1.0)
    points = np.log(np.geomspace(60, 8_000, EQ_POINTS))
    return np.stack([np.interp(np.log(hz), points, row) for row in np.eye(EQ_POINTS)]).astype(
        np.float32
    )


def stretch(bank: Any, starts: Any, counts: Any, lead: Any, rate: Any, samples: int) -> Any:
    """Windows of the bank, played at some speed, with silence before and behind what there is.

    Interpolated by a windowed sinc, whose band is that of the slower of both rates (Smith and
    Gossett 1984, "A flexible sampling-rate conversion method"): between two neighbours alone, high
    frequencies would be lost, and as much of them come back as others.

    Returns
    -------
    tensor, shape (batch, samples), float32
        Full scale at 1. As in the bank, to the bit, where it is played at its own speed.
    """
    t = ops.arange(samples, dtype="int32")[None, :] - lead[:, None]
    place = ops.cast(t, "float32") * rate[:, None]  # in samples of the bank
    whole = ops.floor(place)
    part = place - whole
    index = ops.cast(whole, "int32")
    last = counts[:, None] - 1
    taps = np.arange(1 - TAPS // 2, 1 + TAPS // 2)
    values = [
        ops.cast(ops.take(bank, starts[:, None] + ops.clip(index + tap, 0, last)), "float32")
        for tap in taps.tolist()
    ]
    # Of the angles, sine and cosine by their sums: once a sample, and not once a tap.
    band = ops.minimum(1.0, 1.0 / rate)[:, None] * float(np.pi)
    sine, cosine = ops.sin(band * part), ops.cos(band * part)
    turn = part * float(2 * np.pi / TAPS)
    window_sine, window_cosine = ops.sin(turn), ops.cos(turn)
    mixed = ops.zeros_like(place)
    for tap, value in zip(taps.tolist(), values, strict=True):
        angle = band * (tap - part)
        above = ops.sin(band * tap) * cosine - ops.cos(band * tap) * sine
        near = ops.abs(angle) < 1e-3
        sinc = ops.where(near, ops.ones_like(angle), above / ops.where(near, 1.0, angle))
        there = 2 * np.pi * tap / TAPS
        hann = 0.5 + 0.5 * (
            float(np.cos(there)) * window_cosine + float(np.sin(there)) * window_sine
        )
        mixed = mixed + value * sinc * hann
    mixed = mixed * band / float(np.pi)
    mixed = ops.where(rate[:, None] == 1.0, values[TAPS // 2 - 1], mixed)
    inside = ops.logical_and(index >= 0, index < last)
    return ops.where(inside, mixed * (1 / 32768.0), ops.zeros_like(mixed))


def repeated(bank: Any, starts: Any, counts: Any, samples: int) -> Any:
    """Windows of the bank, over and over where they are shorter, shape (batch, samples).

    Returns
    -------
    tensor, float32
        Full scale at 1.
    """
    index = ops.arange(samples, dtype="int32")[None, :] % counts[:, None]
    return ops.cast(ops.take(bank, starts[:, None] + index), "float32") * (1 / 32768.0)


def augmented(
    wave: Any, noise: Any, draw: dict[str, Any], rooms: tuple[Any, Any], basis: Any
) -> Any:
    """Rooms, noise, microphones, bands, level, clipping, 16 bits.

    Noise has no part in the room, but the microphone and the line hear it as they do speech.

    Parameters
    ----------
    wave, noise : tensor, shape (batch, samples)
    draw : dict of tensor
        See `train.waveforms.draws.Drawer.batch`.
    rooms : tuple of tensor
        From :func:`room_spectra`.
    basis : tensor
        From :func:`eq_basis`.

    Returns
    -------
    tensor, shape (batch, samples), float32
    """
    samples = wave.shape[1]
    size = transform_size(samples)
    real, imaginary = ops.rfft(wave, fft_length=size)
    hz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 1.0).astype(np.float32)
    octaves = ops.convert_to_tensor(np.log2(hz))[None, :]
    gain_db = ops.matmul(draw["eq_db"], basis)
    log2 = float(np.log(2))
    gain_db -= EDGE_DB_PER_OCTAVE * ops.relu(octaves - ops.log(draw["high_hz"])[:, None] / log2)
    gain_db -= EDGE_DB_PER_OCTAVE * ops.relu(ops.log(draw["low_hz"])[:, None] / log2 - octaves)
    gain = ops.exp(gain_db * float(np.log(10) / 20))
    room_real = ops.take(rooms[0], draw["rooms"], axis=0) * gain
    room_imaginary = ops.take(rooms[1], draw["rooms"], axis=0) * gain
    wet = ops.irfft(
        (
            real * room_real - imaginary * room_imaginary,
            real * room_imaginary + imaginary * room_real,
        ),
        fft_length=size,
    )[:, :samples]
    noise_real, noise_imaginary = ops.rfft(noise, fft_length=size)
    noise = ops.irfft((noise_real * gain, noise_imaginary * gain), fft_length=size)[:, :samples]
    power = ops.mean(ops.square(wet), axis=1, keepdims=True)
    noise_power = ops.mean(ops.square(noise), axis=1, keepdims=True)
    level = ops.sqrt((power + 1e-12) / (noise_power + 1e-9)) * ops.exp(
        draw["snr_db"][:, None] * float(-np.log(10) / 20)
    )
    wet = wet + noise * level
    peak = ops.max(ops.abs(wet), axis=1, keepdims=True)
    wet = wet / (peak + 1e-7) * ops.exp(draw["peak_db"][:, None] * float(np.log(10) / 20))
    wet = ops.clip(wet, -1.0, 1.0)
    # Companding keeps 8 bits of a loudness: coarse where it is loud.
    code = ops.sign(wet) * ops.log(1 + MU * ops.abs(wet)) / float(np.log(1 + MU))
    code = ops.round(code * 127) / 127
    companded = ops.sign(code) * (ops.exp(ops.abs(code) * float(np.log(1 + MU))) - 1) / MU
    wet = ops.where(draw["companded"][:, None] > 0.5, companded, wet)
    return ops.round(wet * 32767.0) / 32768.0


def log_mel(wave: Any, config: FrontEndConfig, filters: Any) -> Any:
    """The features of `edge.frontend`, in single precision.

    Parameters
    ----------
    wave : tensor, shape (batch, samples)
    filters : tensor, shape (bins, mels)

    Returns
    -------
    tensor, shape (batch, frames, mels)
    """
    samples = wave.shape[1]
    frames = 1 + (samples - WINDOW_SAMPLES) // HOP_SAMPLES
    hops = -(-WINDOW_SAMPLES // HOP_SAMPLES)  # 3, the last one in part
    wave = ops.pad(wave, ((0, 0), (0, (frames + hops - 1) * HOP_SAMPLES - samples)))
    blocks = ops.reshape(wave, (-1, frames + hops - 1, HOP_SAMPLES))
    windows = ops.concatenate([blocks[:, i : i + frames] for i in range(hops)], axis=-1)
    n = WINDOW_SAMPLES
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    windows = windows[:, :, :n] * ops.convert_to_tensor(hann)
    real, imaginary = ops.rfft(windows, fft_length=config.fft_samples)
    power = ops.square(real) + ops.square(imaginary)
    return ops.log(1.0 + ops.matmul(power, filters) / config.floor)


def masked(features: Any, times: Any, bands: Any) -> Any:
    """Features with stretches of time and of frequency cut out (Park et al. 2019, SpecAugment).

    Parameters
    ----------
    features : tensor, shape (batch, frames, mels)
    times, bands : tensor, shape (batch, masks, 2)
        First and last frame or band of each.
    """
    frames, mels = features.shape[1], features.shape[2]
    t = ops.arange(frames, dtype="float32")[None, None, :]
    f = ops.arange(mels, dtype="float32")[None, None, :]
    out_t = ops.any(ops.logical_and(t >= times[..., :1], t < times[..., 1:]), axis=1)
    out_f = ops.any(ops.logical_and(f >= bands[..., :1], f < bands[..., 1:]), axis=1)
    out = ops.logical_or(out_t[:, :, None], out_f[:, None, :])
    return ops.where(out, ops.zeros_like(features), features)


def without_weak_parts(features: Any, floor: Any, lowest: Any) -> Any:
    """Features as a codec at a low rate leaves them: what is weak at high frequencies is gone.

    MP3 at 16 kbit/s codes next to nothing of what is 12 below the loudest band of a moment, and
    its high bands come and go with what is beside them.

    Parameters
    ----------
    features : tensor, shape (batch, frames, mels)
        Frames a multiple of `CODED_FRAMES`.
    floor : tensor, shape (batch,)
        What is so far below the loudest band of its moment is left out, in units of the features.
    lowest : tensor, shape (batch,)
        Band from which on that is done.
    """
    frames, mels = features.shape[1], features.shape[2]
    coded = ops.reshape(features, (-1, frames // CODED_FRAMES, CODED_FRAMES, mels))
    level = ops.mean(coded, axis=2, keepdims=True)
    below = ops.max(level, axis=3, keepdims=True) - level > floor[:, None, None, None]
    high = ops.arange(mels, dtype="float32") >= lowest[:, None, None, None]
    kept = ops.where(ops.logical_and(below, high), ops.zeros_like(coded), coded)
    return ops.reshape(kept, (-1, frames, mels))


def mel_edges_hz(config: FrontEndConfig) -> np.ndarray:
    """Where mel filters begin, peak and end: each at three neighbours of these, shape (mels + 2,).

    Slaney's scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998).
    """

    def to_mel(hz: Any) -> Any:
        hz = np.asarray(hz, np.float64)
        return np.where(
            hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1) / 1000) / (np.log(6.4) / 27)
        )

    def to_hz(mel: Any) -> Any:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = to_hz(np.linspace(to_mel(config.low_hz), to_mel(config.high_hz), config.mels + 2))
    return np.asarray(edges, np.float64)


def filterbank(config: FrontEndConfig) -> np.ndarray:
    """Mel filters, shape (bins, mels); the same as `train.features.filterbank`, without librosa."""
    edges = mel_edges_hz(config)
    hz = np.fft.rfftfreq(config.fft_samples, 1 / config.sample_rate_hz)
    rise = (hz[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters.T, np.float32)
