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
from tests.tiny_whisper import ctranslate2, tiny_arrays
from train.waveforms.published import read_encoder, read_whisper

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


# Of Hugging Face, then of OpenAI: the sides' ends, and the parts of a layer.
ENDS = {
    "encoder/layer_norm": ("model.encoder.layer_norm", "encoder.ln_post"),
    "decoder/layer_norm": ("model.decoder.layer_norm", "decoder.ln"),
}
TABLES = {
    "decoder/embeddings/weight": (
        "model.decoder.embed_tokens.weight",
        "decoder.token_embedding.weight",
    ),
    "decoder/position_encodings/encodings": (
        "model.decoder.embed_positions.weight",
        "decoder.positional_embedding",
    ),
}
DECODER = {
    "self_attention/linear_0": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("attn.query", "attn.key", "attn.value"),
    ),
    "self_attention/linear_1": (("self_attn.out_proj",), ("attn.out",)),
    "attention/linear_0": (("encoder_attn.q_proj",), ("cross_attn.query",)),
    "attention/linear_1": (
        ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        ("cross_attn.key", "cross_attn.value"),
    ),
    "attention/linear_2": (("encoder_attn.out_proj",), ("cross_attn.out",)),
    "ffn/linear_0": (("fc1",), ("mlp.0",)),
    "ffn/linear_1": (("fc2",), ("mlp.2",)),
}
DECODER_NORMS = {
    "self_attention": ("self_attn_layer_norm", "attn_ln"),
    "attention": ("encoder_attn_layer_norm", "cross_attn_ln"),
    "ffn": ("final_layer_norm", "mlp_ln"),
}


def decoder_names(arrays: dict[str, np.ndarray], kind: int) -> dict[str, np.ndarray]:
    """All but the encoder's layers, as Hugging Face or OpenAI name it."""
    here = ("model.decoder.layers.0", "decoder.blocks.0")[kind]
    out = {theirs[kind]: arrays[ours] for ours, theirs in TABLES.items()}
    norms = {ours: theirs[kind] for ours, theirs in ENDS.items()}
    norms |= {
        f"decoder/layer_0/{part}/layer_norm": f"{here}.{theirs[kind]}"
        for part, theirs in DECODER_NORMS.items()
    }
    for ours, theirs in norms.items():
        out[f"{theirs}.weight"] = arrays[f"{ours}/gamma"]
        out[f"{theirs}.bias"] = arrays[f"{ours}/beta"]
    for part, parts in DECODER.items():
        for array in ("weight", "bias"):
            whole = arrays[f"decoder/layer_0/{part}/{array}"]
            for name, value in zip(parts[kind], np.split(whole, len(parts[kind])), strict=True):
                if array == "weight" or value.any():  # keys have no bias
                    out[f"{here}.{name}.{array}"] = value
    return out


@pytest.mark.parametrize("kind", ["ctranslate2", "safetensors", "torch"])
def test_the_decoder_too(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = tiny_arrays()
    arrays["decoder/embeddings/weight"] = arrays["decoder/embeddings/weight"][:9]
    monkeypatch.setattr(sys.modules[__name__], "LAYERS", 1)
    monkeypatch.setattr(sys.modules[__name__], "DIM", len(arrays["encoder/conv1/bias"]))
    written = {
        "ctranslate2": lambda: ctranslate2(arrays),
        "safetensors": lambda: safetensors(
            others_names(arrays, HUGGING_FACE) | decoder_names(arrays, 0)
        ),
        "torch": lambda: torch_file(
            others_names(arrays, OPENAI) | decoder_names(arrays, 1), monkeypatch
        ),
    }
    (tmp_path / "weights").write_bytes(written[kind]())
    found = read_whisper(tmp_path / "weights")
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


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


def test_a_packed_checkpoint_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "base.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("base/data.pkl", bytes(1000))
    data = (tmp_path / "base.pt").read_bytes()
    begun = data.index(b"data.pkl") + len("data.pkl")
    (tmp_path / "base.pt").write_bytes(data[:begun] + b"\xff" * 4 + data[begun + 4 :])
    with pytest.raises(EdgelidError, match="no weights of Whisper"):
        read_encoder(tmp_path / "base.pt", 1)


def test_damaged_weights_are_one_sentence(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    data = ctranslate2(arrays)
    (tmp_path / "x").write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgelidError, match="no weights of Whisper"):
        read_encoder(tmp_path / "x", 1)
