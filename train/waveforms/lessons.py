"""What both models learn from: augmented stretches of the bank, and losses on them."""

from __future__ import annotations

from typing import Any

from keras import ops

from train.waveforms.bank import Segments
from train.waveforms.draws import Drawer
from train.waveforms.sound import (
    augmented,
    eq_basis,
    repeated,
    room_spectra,
    stretch,
    transform_size,
)

LEAST_TOKENS = 10  # of speech in a window: with less there is nothing to be told from


def room_constants(segments: Segments, drawer: Drawer, samples: int) -> dict[str, Any]:
    """Rooms and equaliser for windows of so many samples."""
    rooms = [
        segments.samples[segments.starts[i] : segments.starts[i] + segments.lengths[i]] / 32768.0
        for i in drawer.rooms
    ]
    real, imaginary = room_spectra(rooms, samples)
    return {
        "real": ops.convert_to_tensor(real),
        "imaginary": ops.convert_to_tensor(imaginary),
        "basis": ops.convert_to_tensor(eq_basis(transform_size(samples))),
    }


def clean_waves(draw: Any, constants: Any, samples: int) -> Any:
    """Waveforms of a draw as they are in the bank but for their speed, shape (batch, samples)."""
    bank, rate = constants["bank"], draw["rate"]
    return stretch(bank, draw["starts"], draw["counts"], draw["lead"], rate, samples)


def augmented_waves(clean: Any, draw: Any, constants: Any) -> Any:
    """What rooms, microphones and noise make of waveforms, (batch, samples), both ways."""
    samples = clean.shape[1]
    noise = repeated(constants["bank"], draw["noise_starts"], draw["noise_counts"], samples)
    rooms = (constants["real"], constants["imaginary"])
    return augmented(clean, noise, draw, rooms, constants["basis"])


def cross_entropy(logits: Any, labels: Any, smooth: float) -> Any:
    """Mean over the batch, of labels smoothed over all classes."""
    classes = logits.shape[-1]
    wanted = ops.one_hot(labels, classes) * (1 - smooth) + smooth / classes
    return -ops.mean(ops.sum(wanted * ops.log_softmax(logits), axis=-1))


def divergence(wanted: Any, logits: Any) -> Any:
    """Of Kullback and Leibler, from probabilities to what scores say, along the last axis."""
    return ops.sum(wanted * (ops.log(wanted + 1e-9) - ops.log_softmax(logits)), axis=-1)


def moments(x: Any, axes: tuple[int, ...], counted: Any) -> tuple[Any, Any]:
    """Mean and variance of what counts in a batch."""
    total = ops.sum(counted, axis=axes, keepdims=True) + 1e-6
    mean = ops.sum(counted * x, axis=axes, keepdims=True) / total
    return mean, ops.sum(counted * ops.square(x - mean), axis=axes, keepdims=True) / total


def standardised(x: Any, axes: tuple[int, ...], counted: Any) -> Any:
    """Less the mean and over the deviation, of what counts in a batch."""
    mean, variance = moments(x, axes, counted)
    return (x - mean) / ops.sqrt(variance + 1e-6)


def targets(theirs: Any, labels: Any, speaks: Any, temperature: float = 1.0) -> tuple[Any, Any]:
    """Posteriors and labels to be learnt: of the last class, ``nonspeech``, where nobody speaks.

    Parameters
    ----------
    theirs : tensor, shape (batch, classes)
        The teacher's scores.
    labels : tensor, shape (batch,)
    speaks : tensor, shape (batch,), bool
    temperature : float
        Of the teacher's posteriors.

    Returns
    -------
    posteriors : tensor, shape (batch, classes)
    labels : tensor, shape (batch,)
    """
    classes = theirs.shape[-1]
    silent = ops.one_hot(classes - 1, classes)[None]
    soft = ops.where(speaks[:, None], ops.softmax(theirs / temperature), silent)
    return soft, ops.where(speaks, labels, classes - 1)


def hits(logits: Any, labels: Any) -> Any:
    """Share of a batch whose likeliest class is the right one."""
    right = ops.equal(ops.argmax(logits, -1), ops.cast(labels, "int32"))
    return ops.mean(ops.cast(right, "float32"))


def unlike(said: Any, told: Any) -> Any:
    """One less the cosine between vectors along the last axis."""
    return 1 - ops.sum(ops.normalize(said, -1) * ops.normalize(told, -1), axis=-1)
