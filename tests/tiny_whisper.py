"""A random network of Whisper's shape, one layer deep, and what it should say, in plain numpy."""

from __future__ import annotations

import struct

import numpy as np

DIM, HEADS, MELS, TOKENS, PLACES = 128, 2, 80, 51_865, 448
Arrays = dict[str, np.ndarray]


def tiny_arrays(seed: int = 0) -> Arrays:
    """By CTranslate2's names, in float16."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "encoder/conv1/weight": (DIM, MELS, 3),
        "encoder/conv1/bias": (DIM,),
        "encoder/conv2/weight": (DIM, DIM, 3),
        "encoder/conv2/bias": (DIM,),
    }
    linear = {
        "self_attention/linear_0": (3 * DIM, DIM),
        "self_attention/linear_1": (DIM, DIM),
        "ffn/linear_0": (4 * DIM, DIM),
        "ffn/linear_1": (DIM, 4 * DIM),
    }
    cross = {
        "attention/linear_0": (DIM, DIM),
        "attention/linear_1": (2 * DIM, DIM),
        "attention/linear_2": (DIM, DIM),
    }
    for side, parts in (("encoder", linear), ("decoder", linear | cross)):
        for name, shape in parts.items():
            shapes[f"{side}/layer_0/{name}/weight"] = shape
            shapes[f"{side}/layer_0/{name}/bias"] = shape[:1]
    made = {
        name: rng.normal(0, shape[-1] ** -0.5 if len(shape) > 1 else 0.1, shape)
        for name, shape in shapes.items()
    }
    norms = ["encoder", "encoder/layer_0/self_attention", "encoder/layer_0/ffn", "decoder"]
    norms += [f"decoder/layer_0/{part}" for part in ("self_attention", "attention", "ffn")]
    for norm in norms:
        made[f"{norm}/layer_norm/gamma"] = rng.normal(1, 0.1, DIM)
        made[f"{norm}/layer_norm/beta"] = rng.normal(0, 0.1, DIM)
    made["decoder/embeddings/weight"] = rng.normal(0, 0.3, (TOKENS, DIM))
    made["decoder/position_encodings/encodings"] = rng.normal(0, 0.3, (PLACES, DIM))
    for side in ("encoder", "decoder"):  # keys have no bias
        made[f"{side}/layer_0/self_attention/linear_0/bias"][DIM : 2 * DIM] = 0
    made["decoder/layer_0/attention/linear_1/bias"][:DIM] = 0
    return {name: value.astype("<f2") for name, value in made.items()}


def ctranslate2(arrays: Arrays) -> bytes:
    """The arrays as CTranslate2 writes them."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, value in arrays.items():
        out += [text(name), struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)]
        out += [struct.pack("<BI", 4, value.nbytes), value.tobytes()]
    return b"".join(out)


def token_scores(arrays: Arrays, features: np.ndarray) -> np.ndarray:
    """Scores of all tokens behind ``<|startoftranscript|>``, step by step as the paper has it.

    Parameters
    ----------
    arrays : dict of str to ndarray
    features : ndarray, shape (frames, MELS)
        Whisper's, normalised.
    """
    a = {name: value.astype(np.float64) for name, value in arrays.items()}
    x = _gelu(_convolved(features, a, "encoder/conv1", 1))
    x = _gelu(_convolved(x, a, "encoder/conv2", 2))
    x = x + _sinusoids(len(x))
    x = _attended(a, "encoder/layer_0/self_attention", x, None)
    heard = _normed(a, "encoder", _fed(a, "encoder/layer_0/ffn", x))
    start = a["decoder/embeddings/weight"][50_258] + a["decoder/position_encodings/encodings"][0]
    x = _attended(a, "decoder/layer_0/self_attention", start[None], None)
    x = _attended(a, "decoder/layer_0/attention", x, heard)
    x = _normed(a, "decoder", _fed(a, "decoder/layer_0/ffn", x))
    scores: np.ndarray = (x @ a["decoder/embeddings/weight"].T)[0]
    return scores


def _convolved(x: np.ndarray, a: Arrays, name: str, stride: int) -> np.ndarray:
    padded = np.pad(x, ((1, 1), (0, 0)))
    places = range(0, len(padded) - 2, stride)
    weight, bias = a[f"{name}/weight"], a[f"{name}/bias"]
    return np.stack([np.einsum("kc,ock->o", padded[p : p + 3], weight) + bias for p in places])


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _sinusoids(places: int) -> np.ndarray:
    rates = np.exp(-np.log(10_000) / (DIM // 2 - 1) * np.arange(DIM // 2))
    angles = np.arange(places)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _normed(a: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    centred /= np.sqrt(centred.var(axis=-1, keepdims=True) + 1e-5)
    return centred * a[f"{name}/layer_norm/gamma"] + a[f"{name}/layer_norm/beta"]


def _linear(a: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    return x @ a[f"{name}/weight"].T + a[f"{name}/bias"]


def _attended(a: Arrays, name: str, x: np.ndarray, heard: np.ndarray | None) -> np.ndarray:
    """Attention to itself, or to what was heard, behind its normalisation."""
    normed = _normed(a, name, x)
    if heard is None:
        q, k, v = np.split(_linear(a, f"{name}/linear_0", normed), 3, axis=1)
    else:
        q = _linear(a, f"{name}/linear_0", normed)
        k, v = np.split(_linear(a, f"{name}/linear_1", heard), 2, axis=1)
    found = []
    for one, keys, values in zip(
        *(np.split(part, HEADS, axis=1) for part in (q, k, v)), strict=True
    ):
        scores = one @ keys.T / np.sqrt(DIM // HEADS)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        found.append(weights / weights.sum(axis=1, keepdims=True) @ values)
    last = "linear_1" if heard is None else "linear_2"
    return x + _linear(a, f"{name}/{last}", np.concatenate(found, axis=1))


def _fed(a: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    up = _gelu(_linear(a, f"{name}/linear_0", _normed(a, name, x)))
    return x + _linear(a, f"{name}/linear_1", up)
