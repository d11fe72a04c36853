"""The matrices of a large model's encoder in 4 bits, rounded by what they are typically given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convert.rounding import BLOCK, Blocks, rounded
from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.waveforms.whisper import Encoder, normalised


def check_width(encoder: Encoder) -> None:
    """See that blocks fit into an encoder.

    Raises
    ------
    EdgelidError
    """
    if encoder.dim % BLOCK:
        raise EdgelidError(
            f"4 bits need an encoder whose width is a multiple of {BLOCK}, and this one has "
            f"{encoder.dim}: convert it with --type int8"
        )


def narrow(encoder: Encoder, windows: Sequence[Float32Array]) -> list[Blocks]:
    """Round all matrices of an encoder's layers, one after another: each layer hears what those
    before it make of the windows since they are rounded.

    Parameters
    ----------
    encoder : Encoder
        Of a width that `check_width` lets pass; has the rounded matrices afterwards.
    windows : sequence of ndarray, shape (frames, mels)
        Representative log-mel frames, an even number in each.

    Returns
    -------
    list of Blocks
    """
    tokens = [np.asarray(encoder.placed(normalised(window[None]))) for window in windows]
    found = []
    for layer in encoder.stack:
        found.append(_narrow(layer.qkv, _each(layer.attention_norm, tokens)))
        heard = _each(layer.heard, tokens)
        found.append(_narrow(layer.out, heard))
        tokens = [x + new for x, new in zip(tokens, _each(layer.out, heard), strict=True)]
        found.append(_narrow(layer.up, _each(layer.feed_norm, tokens)))
        raised = _each(layer.raised, tokens)
        found.append(_narrow(layer.down, raised))
        tokens = [x + new for x, new in zip(tokens, _each(layer.down, raised), strict=True)]
    return found


def _each(function: Callable[[Any], Any], windows: Sequence[Float32Array]) -> list[Float32Array]:
    return [np.asarray(function(x)) for x in windows]


def _narrow(linear: Any, given: Sequence[Float32Array]) -> Blocks:
    """Round the matrix of a linear layer by what goes into it, arrays of (tokens, inputs)."""
    kernel, bias = linear.get_weights()
    products = np.zeros((len(kernel), len(kernel)))
    for x in given:
        products += x.T @ x
    blocks = rounded(kernel, products / sum(map(len, given)))
    linear.set_weights([blocks.matrix, bias])
    return blocks
