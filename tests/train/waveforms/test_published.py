"""Published weights are read from three kinds of file, and nothing in them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.waveforms.published import read_encoder

DIM, LAYERS = 8, 2


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """As CTranslate2 names them."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "encoder/conv1/weight": (DIM, 80, 3),
        "encoder/conv1/bias": (DIM,),
        "encoder/conv2/weight": (DIM, DIM, 3),
        "encoder/conv2/bias": (DIM,),
    }
    for i in range(LAYERS):
        attention, feed = (f"encoder/layer_{i}/{part}" for part in ("self_attention", "ffn"))
        shapes |= {
            f"{attention}/linear_0/weight": (3 * DIM, DIM),
            f"{attention}/linear_0/bias": (3 * DIM,),
            f"{attention}/linear_1/weight": (DIM, DIM),
            f"{attention}/linear_1/bias": (DIM,),
            f"{feed}/linear_0/weight": (4 * DIM, DIM),
            f"{feed}/linear_0/bias": (4 * DIM,),
            f"{feed}/linear_1/weight": (DIM, 4 * DIM),
            f"{feed}/linear_1/bias": (DIM,),
        }
        for name in (attention, feed):
            shapes |= {f"{name}/layer_norm/{part}": (DIM,) for part in ("gamma", "beta")}
    made = {name: rng.normal(size=shape).astype("<f2") for name, shape in shapes.items()}
    for i in range(LAYERS):  # keys have no bias
        made[f"encoder/layer_{i}/self_attention/linear_0/bias"][DIM : 2 * DIM] = 0
    return made


def ctranslate2(arrays: dict[str, np.ndarray]) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, value in arrays.items():
        out += text(name) + struct.pack("<B", value.ndim)
        out += struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", 4, value.nbytes) + value.tobytes()
    return out


def others_names(arrays: dict[str, np.ndarray], names: dict[str, Any]) -> dict[str, np.ndarray]:
    """The same arrays as Hugging Face and OpenAI name them."""
    out = {}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"{names['root']}{conv}.{part}"] = arrays[f"encoder/{conv}/{part}"]
    for i in range(LAYERS):
        here = f"{names['root']}{names['layers']}.{i}."
        attention, feed = (f"encoder/layer_{i}/{part}" for part in ("self_attention", "ffn"))
        for k, name in enumerate(names["attention"]):
            rows = slice(k * DIM, (k + 1) * DIM)
            out[f"{here}{name}.weight"] = arrays[f"{attention}/linear_0/weight"][rows]
            if k != 1:
                out[f"{here}{name}.bias"] = arrays[f"{attention}/linear_0/bias"][rows]
        for name, ours in (
            (names["out"], f"{attention}/linear_1"),
            (names["up"], f"{feed}/linear_0"),
            (names["down"], f"{feed}/linear_1"),
        ):
            for part in ("weight", "bias"):
                out[f"{here}{name}.{part}"] = arrays[f"{ours}/{part}"]
        for name, ours in ((names["attention_norm"], attention), (names["feed_norm"], feed)):
            out[f"{here}{name}.weight"] = arrays[f"{ours}/layer_norm/gamma"]
            out[f"{here}{name}.bias"] = arrays[f"{ours}/layer_norm/beta"]
    return out


HUGGING_FACE = {
    "root": "model.encoder.",
    "layers": "layers",
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "up": "fc1",
    "down": "fc2",
    "feed_norm": "final_layer_norm",
}
OPENAI = {
    "root": "encoder.",
    "layers": "blocks",
    "attention": ("attn.query", "attn.key", "attn.value"),
    "out": "attn.out",
    "attention_norm": "attn_ln",
    "up": "mlp.0",
    "down": "mlp.2",
    "feed_norm": "mlp_ln",
}


def safetensors(plain: dict[str, np.ndarray]) -> bytes:
    header, at = {}, 0
    for name, value in plain.items():
        header[name] = {
            "dtype": "F16",
            "shape": list(value.shape),
            "data_offsets": [at, at + value.nbytes],
        }
        at += value.nbytes
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + b"".join(v.tobytes() for v in plain.values())


def torch_file(plain: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What ``torch.save({"model_state_dict": ...})`` writes, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class HalfStorage:
        pass

    def _rebuild_tensor_v2(*_: Any) -> None:
        raise AssertionError("pickled, never called")

    for thing, module in ((HalfStorage, torch), (_rebuild_tensor_v2, utils)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    stored: dict[str, np.ndarray] = {}

    class Tensor:
        def __init__(self, value: np.ndarray) -> None:
            self.value = value

        def __reduce__(self) -> Any:
            key = str(len(stored))
            stored[key] = self.value
            steps = tuple(s // self.value.itemsize for s in self.value.strides)
            return _rebuild_tensor_v2, (Storage(key), 0, self.value.shape, steps, False, None)

    class Storage:
        def __init__(self, key: str) -> None:
            self.key = key

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if isinstance(thing, Storage):
                return "storage", HalfStorage, thing.key, "cpu", 0
            return None

    buffer = io.BytesIO()
    tensors = OrderedDict((k, Tensor(np.ascontiguousarray(v))) for k, v in plain.items())
    Pickler(buffer, protocol=2).dump({"dims": {"n_mels": 80}, "model_state_dict": tensors})
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("base/data.pkl", buffer.getvalue())
        for key, value in stored.items():
            archive.writestr(f"base/data/{key}", value.tobytes())
    return whole.getvalue()


@pytest.mark.parametrize("kind", ["ctranslate2", "safetensors", "torch"])
def test_all_kinds_are_the_same(
    kind: str, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {
        "ctranslate2": lambda: ctranslate2(arrays),
        "safetensors": lambda: safetensors(others_names(arrays, HUGGING_FACE)),
        "torch": lambda: torch_file(others_names(arrays, OPENAI), monkeypatch),
    }[kind]()
    (tmp_path / "weights").write_bytes(data)
    found = read_encoder(tmp_path / "weights", LAYERS)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_fewer_layers_are_taken(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(ctranslate2(arrays))
    found = read_encoder(tmp_path / "model.bin", 1)
    assert not any("layer_1" in name for name in found)
    with pytest.raises(EdgelidError, match="has no encoder/layer_2"):
        read_encoder(tmp_path / "model.bin", 3)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    with zipfile.ZipFile(tmp_path / "base.pt", "w") as archive:
        archive.writestr("base/data.pkl", pickle.dumps({"model_state_dict": Trap()}))
    with pytest.raises(EdgelidError, match="no weights of Whisper"):
        read_encoder(tmp_path / "base.pt", 1)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"12345678{", b"\x06\0\0\0\xff\xff", b"x" * 99]
)
def test_other_files_are_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(EdgelidError, match="no weights of Whisper"):
        read_encoder(tmp_path / "x", 1)


def test_damaged_weights_are_one_sentence(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    data = ctranslate2(arrays)
    (tmp_path / "x").write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgelidError, match="no weights of Whisper"):
        read_encoder(tmp_path / "x", 1)
