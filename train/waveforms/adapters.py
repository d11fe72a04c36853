"""Learning through few channels beside matrices that stay as they are (Hu et al. 2022, "LoRA").

All of an encoder learns so, and what it has learnt is small: the rest is Whisper's, which whoever
has the weights has. Two thirds of the arithmetic of learning everything are enough, and there are
few numbers by which voices could be learnt by heart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from edge.errors import EdgelidError
from train.waveforms.whisper import Encoder

NAME = "adapter/"  # begins the names of arrays


def adapt(encoder: Encoder, rank: int, first: int = 0, seed: int = 0) -> None:
    """Let an encoder learn through so many channels beside each of its matrices, and nothing else.

    Parameters
    ----------
    encoder : Encoder
    rank : int
    first : int
        Of the layers that learn; those before it need no gradient.
    seed : int
        Of what the channels begin with.
    """
    encoder.trainable = True
    for variable in encoder.variables:
        variable.trainable = False
    for turn, (_, linear) in enumerate(_linear(encoder, first)):
        start = keras.initializers.HeUniform(seed + turn)
        linear.enable_lora(rank, a_initializer=start)


def adapters_of(encoder: Encoder) -> dict[str, np.ndarray]:
    """What was learnt so: both matrices of each product."""
    return {
        f"{name}/{part}": np.asarray(value)
        for name, linear in _linear(encoder)
        if linear.lora_enabled
        for part, value in (("a", linear.lora_kernel_a), ("b", linear.lora_kernel_b))
    }


def learnt_beside(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of :func:`adapters_of` among those of a checkpoint."""
    return {name: value for name, value in arrays.items() if name.startswith(NAME)}


def joined(runs: Sequence[tuple[Mapping[str, np.ndarray], float]]) -> dict[str, np.ndarray]:
    """Adapters whose products are a sum of shares of those of several runs.

    Parameters
    ----------
    runs : sequence of (mapping of str to ndarray, float)
        Of :func:`adapters_of`, and their shares. They may be of different layers and ranks.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for adapters, share in runs:
        for name, value in adapters.items():
            factor = share if name.endswith("/b") else 1.0
            parts.setdefault(name, []).append(factor * value.astype(np.float32))
    # Channels beside channels: (in, ranks) times (ranks, out) is the sum of the products.
    return {
        name: np.concatenate(found, axis=0 if name.endswith("/b") else 1)
        for name, found in parts.items()
    }


def merged(model: keras.Model, encoder: Encoder) -> list[np.ndarray]:
    """Weights of a model as if the matrices of its encoder had learnt themselves."""
    whole, beside = {}, set()
    for _, linear in _linear(encoder):
        if linear.lora_enabled:
            a, b = linear.lora_kernel_a, linear.lora_kernel_b
            whole[id(linear._kernel)] = np.asarray(linear._kernel) + _product(a, b)
            beside |= {id(a), id(b)}
    return [whole.get(id(v), np.asarray(v)) for v in model.weights if id(v) not in beside]


def put_on(encoder: Encoder, adapters: Mapping[str, np.ndarray]) -> None:
    """Add products to the matrices of an encoder.

    Parameters
    ----------
    encoder : Encoder
        As it was before it learnt.
    adapters : mapping of str to ndarray
        Of :func:`adapters_of`.

    Raises
    ------
    EdgelidError
        If they are of an encoder of other sizes.
    """
    linear = dict(_linear(encoder))
    try:
        for name in {name.removesuffix("/a").removesuffix("/b") for name in adapters}:
            product = _product(adapters[f"{name}/a"], adapters[f"{name}/b"])
            kernel = linear[name].kernel
            if kernel.shape != product.shape:
                raise ValueError(name)
            kernel.assign_add(product)
    except (KeyError, ValueError) as error:
        raise EdgelidError("what the encoder learnt is of another encoder, or damaged") from error


def _product(a: Any, b: Any) -> np.ndarray:
    """What is added to a matrix, of factors in the precision of checkpoints."""
    a, b = (np.asarray(x).astype(np.float16).astype(np.float32) for x in (a, b))
    return np.asarray(a @ b)


def _linear(encoder: Encoder, first: int = 0) -> Iterator[tuple[str, Any]]:
    """The linear layers, from a layer of the encoder on, by the names of their arrays."""
    for i, layer in enumerate(encoder.stack[first:], first):
        for linear in layer.linear:
            yield f"{NAME}{i}/{linear.name}", linear
