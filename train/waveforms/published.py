"""Whisper's published weights, from four kinds of file; nothing in them is executed.

CTranslate2's ``model.bin``, Hugging Face's ``model.safetensors``, OpenAI's ``base.pt`` and the
folder of graphs that transformers.js runs all become arrays with the names of the first.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from train.model.unreadable import UNREADABLE

Arrays = dict[str, np.ndarray]

# CTranslate2's numbers for types of arrays.
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_SAFE_TYPES = {"F32": "<f4", "F16": "<f2"}
MAX_HEADER_BYTES = 16 << 20
# What goes wrong in reading a file of another kind, or a damaged one.
_UNREADABLE = (*UNREADABLE, IndexError, pickle.UnpicklingError, struct.error)


# Names of a layer's parts in CTranslate2's format, and in those of the others: Hugging Face's
# first, then OpenAI's. Several go into one matrix.
_SELF = {
    "layer_norm": ("self_attn_layer_norm", "attn_ln"),
    "linear_0": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("attn.query", "attn.key", "attn.value"),
    ),
    "linear_1": ("self_attn.out_proj", "attn.out"),
}
_CROSS = {
    "layer_norm": ("encoder_attn_layer_norm", "cross_attn_ln"),
    "linear_0": ("encoder_attn.q_proj", "cross_attn.query"),
    "linear_1": (
        ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        ("cross_attn.key", "cross_attn.value"),
    ),
    "linear_2": ("encoder_attn.out_proj", "cross_attn.out"),
}
_FEED = {
    "layer_norm": ("final_layer_norm", "mlp_ln"),
    "linear_0": ("fc1", "mlp.0"),
    "linear_1": ("fc2", "mlp.2"),
}
_PARTS: dict[str, dict[str, dict[str, tuple[Any, ...]]]] = {
    "encoder": {"self_attention": _SELF, "ffn": _FEED},
    "decoder": {"self_attention": _SELF, "attention": _CROSS, "ffn": _FEED},
}
_LAYERS = ("layers", "blocks")
_LAST_NORM = {"encoder": ("layer_norm", "ln_post"), "decoder": ("layer_norm", "ln")}
_TOKENS = ("embed_tokens.weight", "token_embedding.weight")
_PLACES = ("embed_positions.weight", "positional_embedding")
_HUGGING_FACE, _OPENAI = 0, 1


def read_whisper(file: Path) -> Arrays:
    """All weights, in float.

    Parameters
    ----------
    file : Path
        ``model.bin``, ``model.safetensors`` or ``base.pt``, or a folder of ONNX graphs
        (`train.waveforms.published_onnx`).

    Returns
    -------
    dict of str to ndarray
        By CTranslate2's names.

    Raises
    ------
    EdgelidError
        If it cannot be read.
    """
    if file.is_dir():
        return _read_folder(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EdgelidError(f"cannot read the weights {file}: {error.strerror}") from error
    try:
        return _reader(data)(data)
    except _UNREADABLE as error:
        raise EdgelidError(
            f"{file} holds no weights of Whisper that can be read: give CTranslate2's model.bin, "
            "Hugging Face's model.safetensors or OpenAI's .pt"
        ) from error


def read_encoder(file: Path, layers: int) -> Arrays:
    """The first layers of the encoder.

    Parameters
    ----------
    file : Path
        ``model.bin``, ``model.safetensors`` or ``base.pt``.
    layers : int

    Returns
    -------
    dict of str to ndarray
        ``encoder/conv1/weight``, ``encoder/layer_0/self_attention/linear_0/weight`` and so on.

    Raises
    ------
    EdgelidError
        If it cannot be read, or has fewer layers.
    """
    arrays = read_whisper(file)
    wanted = [f"encoder/layer_{i}/" for i in range(layers)] + ["encoder/conv"]
    missing = [name for name in wanted if not any(key.startswith(name) for key in arrays)]
    if missing:
        raise EdgelidError(f"{file} has no {missing[0].rstrip('/')}: is it Whisper's?")
    return {k: v for k, v in arrays.items() if k.startswith(tuple(wanted))}


def _read_folder(folder: Path) -> Arrays:
    from train.waveforms.published_onnx import read_onnx

    try:
        return _renamed(read_onnx(folder), _HUGGING_FACE)
    except (KeyError, ValueError) as error:
        raise EdgelidError(f"the graphs in {folder} are not Whisper's") from error


def _reader(data: bytes) -> Callable[[bytes], Arrays]:
    if data.startswith(b"PK\x03\x04"):
        return read_torch
    if len(data) > 9 and data[8:9] == b"{":
        return read_safetensors
    return read_ctranslate2


def read_ctranslate2(data: bytes) -> Arrays:
    """Arrays of a model in CTranslate2's format: a plain list of names, shapes and numbers.

    Raises
    ------
    ValueError, struct.error, KeyError
        If it is damaged or another kind of file.
    """
    at = 0

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return int(value)

    def text() -> str:
        nonlocal at
        length = take("H")
        at += length
        return data[at - length : at].rstrip(b"\0").decode()

    take("I")
    text()
    take("I")
    arrays: Arrays = {}
    for _ in range(take("I")):
        name, rank = text(), take("B")
        shape = [take("I") for _ in range(rank)]
        kind, size = np.dtype(_TYPES[take("B")]), take("I")
        values = np.frombuffer(data, kind, size // kind.itemsize, at)
        arrays[name] = values.reshape(shape)
        at += size
    return arrays


def read_safetensors(data: bytes) -> Arrays:
    """A model in the format of safetensors, under CTranslate2's names."""
    (length,) = struct.unpack_from("<Q", data)
    if length > MAX_HEADER_BYTES:
        raise ValueError("its header is too long")
    told = json.loads(data[8 : 8 + length])
    told.pop("__metadata__", None)
    plain = {}
    for name, entry in told.items():
        if entry["dtype"] in _SAFE_TYPES:
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            values = np.frombuffer(data[start:stop], _SAFE_TYPES[entry["dtype"]])
            plain[name] = values.reshape(entry["shape"])
    return _renamed({re.sub(r"^model\.", "", n): v for n, v in plain.items()}, _HUGGING_FACE)


def read_torch(data: bytes) -> Arrays:
    """A checkpoint that PyTorch wrote, under CTranslate2's names.

    The pickle in it may only name tensors: whatever else it asks for is refused.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (pickled,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl") + "data/"
        loaded = _Tensors(io.BytesIO(archive.read(pickled)), archive, folder).load()
    plain = loaded.get("model_state_dict", loaded)
    return _renamed(plain, _OPENAI)


class _Storage:
    """Stands for a class of PyTorch's storages, of which the type of numbers matters alone."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Tensors(pickle.Unpickler):
    """Reads a dictionary of tensors; classes other than those of plain tensors are refused."""

    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch", "FloatStorage"): _Storage("<f4"),
            ("torch", "HalfStorage"): _Storage("<f2"),
        }
        try:
            return allowed[module, name]
        except KeyError as error:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from error

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, storage, key, *_ = pid
        if not isinstance(storage, _Storage) or not re.fullmatch(r"\w+", str(key)):
            raise pickle.UnpicklingError("it holds something else than numbers")
        return np.frombuffer(self._archive.read(self._folder + str(key)), storage.kind)


def _tensor(
    values: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    count = int(np.prod(shape))
    ordinary = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    if tuple(stride) != ordinary:
        raise ValueError("a tensor is not stored row by row")
    return values[offset : offset + count].reshape(shape)


def _renamed(plain: dict[str, Any], kind: int) -> Arrays:
    """CTranslate2's names. The decoder is left out where there is none."""
    out: Arrays = {}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"encoder/{conv}/{part}"] = plain[f"encoder.{conv}.{part}"]
    for side, parts in _PARTS.items():
        last = f"{side}.{_LAST_NORM[side][kind]}"
        if f"{last}.weight" in plain:
            _rename_norm(plain, last, f"{side}/layer_norm", out)
        pattern = re.compile(rf"{side}\.{_LAYERS[kind]}\.(\d+)\.")
        for i in sorted({int(found[1]) for found in map(pattern.match, plain) if found}):
            for part, names in parts.items():
                here, ours = f"{side}.{_LAYERS[kind]}.{i}", f"{side}/layer_{i}/{part}"
                for own, others in names.items():
                    theirs = others[kind]
                    if own == "layer_norm":
                        _rename_norm(plain, f"{here}.{theirs}", f"{ours}/layer_norm", out)
                    else:
                        joined = (theirs,) if isinstance(theirs, str) else theirs
                        _rename_linear(plain, here, joined, f"{ours}/{own}", out)
    if f"decoder.{_TOKENS[kind]}" in plain:
        out["decoder/embeddings/weight"] = plain[f"decoder.{_TOKENS[kind]}"]
        out["decoder/position_encodings/encodings"] = plain[f"decoder.{_PLACES[kind]}"]
    return out


def _rename_norm(plain: dict[str, Any], theirs: str, ours: str, out: Arrays) -> None:
    out[f"{ours}/gamma"], out[f"{ours}/beta"] = plain[f"{theirs}.weight"], plain[f"{theirs}.bias"]


def _rename_linear(
    plain: dict[str, Any], here: str, theirs: tuple[str, ...], ours: str, out: Arrays
) -> None:
    """Matrices one below the other; the keys' have no bias."""
    weights = [plain[f"{here}.{name}.weight"] for name in theirs]
    biases = [
        plain.get(f"{here}.{name}.bias", np.zeros(len(weight), weight.dtype))
        for name, weight in zip(theirs, weights, strict=True)
    ]
    out[f"{ours}/weight"], out[f"{ours}/bias"] = np.concatenate(weights), np.concatenate(biases)
