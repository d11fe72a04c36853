"""Files that are given as networks: each is named for what it is, with the way that works."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from convert.network_file import load_network
from edge.errors import EdgelidError
from edge.model.modelfile import DEFAULT_MODEL


def network() -> keras.Model:
    return keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])


def archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"{}")


def saved_model(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "weights": ("own.weights.h5", lambda p: network().save_weights(p), "weights without the netw"),
    "savedmodel": ("saved", saved_model, "a folder, a SavedModel, which"),
    "onnx": (
        "own.onnx",
        lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch"),
        "an ONNX model: build",
    ),
    "unnamed_onnx": ("own", lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch"), "an ONNX model"),
    "pytorch": ("own.pt", lambda p: archive(p, "own/data.pkl"), "a PyTorch file, which needs code"),
    "pickle": ("own.bin", lambda p: p.write_bytes(pickle.dumps({"a": 1})), "a Python pickle"),
    "tflite": ("own.keras", lambda p: shutil.copy(DEFAULT_MODEL, p), "a TFLite model already"),
    "numpy": ("own.npz", lambda p: np.savez(p, a=np.zeros(3)), "NumPy arrays"),
    "json": ("own.json", lambda p: p.write_text(network().to_json()), "layers without their weig"),
    "safetensors": (
        "own.safetensors",
        lambda p: p.write_bytes((40).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}'),
        "a file of safetensors",
    ),
    "checkpoint": ("own.index", lambda p: p.write_bytes(b"\0\0"), "a TensorFlow checkpoint"),
    "empty": ("own.keras", lambda p: p.touch(), "is empty"),
    "torn": ("own.keras", lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "or is damaged"),
    "nothing": ("own.keras", lambda p: None, "cannot read the network"),
    "sound": ("own.wav", lambda p: p.write_bytes(b"RIFF----WAVE"), "not a Keras model"),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_it_is(kind: str, tmp_path: Path) -> None:
    name, write, message = FILES[kind]
    write(tmp_path / name)
    with pytest.raises(EdgelidError, match=message) as refused:
        load_network(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_keras_gives_its_own_reason(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("somewhere")
    class Odd(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: object) -> object:
            return x

    odd = keras.Sequential([keras.Input((4, 3)), Odd(), keras.layers.Flatten()])
    odd.save(tmp_path / "own.keras")
    keras.saving.get_custom_objects().clear()
    with pytest.raises(EdgelidError, match="Odd"):
        load_network(tmp_path / "own.keras")
    function = keras.Sequential([keras.Input((4, 3)), keras.layers.Lambda(lambda x: 2 * x)])
    function.save(tmp_path / "function.keras")
    with pytest.raises(EdgelidError, match="Lambda"):
        load_network(tmp_path / "function.keras")


@pytest.mark.parametrize("name", ["own.keras", "own.h5", "model.bin"])
def test_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    made = network()
    first = tmp_path / ("a.h5" if name.endswith("h5") else "a.keras")
    made.save(first)
    first.rename(tmp_path / name)
    loaded, contents = load_network(tmp_path / name)
    frames = np.ones((1, 4, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(loaded(frames)), np.asarray(made(frames)))
    assert contents == (tmp_path / name).read_bytes()


def test_json_is_what_it_was(tmp_path: Path) -> None:
    """The message about JSON is not given for anything that happens to be text."""
    (tmp_path / "a").write_text(json.dumps([1]))
    with pytest.raises(EdgelidError, match="JSON"):
        load_network(tmp_path / "a")
    (tmp_path / "b").write_text("weights:")
    with pytest.raises(EdgelidError, match="not a Keras model"):
        load_network(tmp_path / "b")
