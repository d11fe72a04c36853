"""The file of a network: what kind it is, Keras' own reason where it cannot be read, and a way."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convert.temporary import temporary_folder
from edge.errors import EdgelidError
from edge.model.modelfile import TFLITE_IDENTIFIER
from edge.system.native_stderr import stderr_to_log

SHOWN_LETTERS = 300
WHOLE = "save the whole network where it was trained, with network.save('own.keras'), and give that"
LIKE_IT = (
    "build the same layers in Keras and copy the weights into them, as docs/converting.md shows"
)
KERAS, LEGACY = "keras", "h5"


def load_network(path: Path) -> tuple[Any, bytes]:
    """Read a Keras model.

    Parameters
    ----------
    path : Path
        A ``.keras`` or HDF5 file, whatever its name ends in.

    Returns
    -------
    keras.Model
    bytes
        Of the file.

    Raises
    ------
    EdgelidError
        If there is none, it is of another kind, it is damaged, or it needs code to be run.
    """
    import keras

    contents = _contents(path)
    suffix = f".{_kind(path, contents)}"
    # Keras goes by the name.
    with _named(path, suffix) as file:
        try:
            with stderr_to_log("TensorFlow"):  # it tells of processors that are not there
                return keras.saving.load_model(file, compile=False), contents
        # Foreign bytes: what the parsers of ZIP, JSON, HDF5 and Keras may raise is no closed list.
        except Exception as error:
            words = _reason(error).replace(str(file), str(path))
            raise EdgelidError(
                f"{path} is not a Keras model that can be loaded, or is damaged: {words}"
            ) from error


def _reason(error: Exception) -> str:
    """What Keras has against a file, in one line; it tells the cause last, after the layers."""
    words = " ".join(str(error).split()).rpartition("Exception encountered: ")[2]
    if len(words) > SHOWN_LETTERS:
        words = f"{words[:SHOWN_LETTERS]} ..."
    return words or type(error).__name__


@contextlib.contextmanager
def _named(path: Path, suffix: str) -> Iterator[Path]:
    if path.suffix == suffix:
        yield path
        return
    with temporary_folder() as folder:
        link = folder / f"network{suffix}"
        link.symlink_to(path.resolve())
        yield link


def _contents(path: Path) -> bytes:
    if path.is_dir():
        raise EdgelidError(f"{path} is a folder{_folder_kind(path)}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgelidError(f"cannot read the network {path}: {error.strerror}") from error


def _folder_kind(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return f", a SavedModel, which is no longer a network of layers: {WHOLE}"
    if (path / "config.json").exists() and (path / "metadata.json").exists():
        return ", an unpacked Keras file: zip what is in it into own.keras, and give that"
    if (path / "best.npz").exists():
        return ", a run of edgelid-train: leave out --description"
    return ", and no Keras file: give the .keras file of a network"


def _kind(path: Path, contents: bytes) -> str:
    """`KERAS` or `LEGACY`.

    Raises
    ------
    EdgelidError
        If it is another; says which, and what to do.
    """
    if not contents:
        raise EdgelidError(f"the network {path} is empty (0 bytes): copy it again")
    if contents.startswith(b"PK"):
        return _archive_kind(path, contents)
    if contents.startswith(b"\x89HDF"):
        return _hdf5_kind(path)
    raise EdgelidError(f"{path} is {_other_kind(path, contents)}")


def _archive_kind(path: Path, contents: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(contents)).namelist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise EdgelidError(
            f"{path} is not a Keras model that can be loaded, or is damaged: {error}"
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        raise EdgelidError(f"{path} is a PyTorch file, which needs code to be run: {LIKE_IT}")
    if names and all(name.endswith(".npy") for name in names):
        raise EdgelidError(
            f"{path} holds NumPy arrays: of a checkpoint of edgelid-train, leave out --description"
        )
    if "config.json" not in names:
        if any(name.endswith(".h5") for name in names):
            raise EdgelidError(f"{path} holds weights without the network: {WHOLE}")
        raise EdgelidError(
            f"{path} is an archive, and not a Keras model that can be loaded: {WHOLE}"
        )
    return KERAS


def _hdf5_kind(path: Path) -> str:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            whole = "model_config" in file.attrs
    except (OSError, RuntimeError) as error:
        raise EdgelidError(
            f"{path} is not a Keras model that can be loaded, or is damaged: "
            f"{' '.join(str(error).split())[:SHOWN_LETTERS]}"
        ) from error
    if not whole:
        raise EdgelidError(f"{path} holds weights without the network: {WHOLE}")
    return LEGACY


def _other_kind(path: Path, contents: bytes) -> str:
    if contents[4:8] == TFLITE_IDENTIFIER:
        return "a TFLite model already: give the Keras network that it was made of"
    if contents[:1] == b"\x80" or path.suffix in (".pt", ".pth", ".pkl", ".joblib"):
        return (
            "a Python pickle, as PyTorch and scikit-learn write, which is never opened as it could "
            f"run anything: {LIKE_IT}"
        )
    # Field 1 is the version of the format, and field 2 or a later one names what wrote it.
    if path.suffix == ".onnx" or (contents[:1] == b"\x08" and contents[2:3] in b"\x12\x1a\x3a"):
        return f"an ONNX model: {LIKE_IT}"
    if contents[8:9] == b"{" and b'"dtype"' in contents[:4096]:
        return f"a file of safetensors, weights without the network: {WHOLE}"
    if path.suffix == ".pb":
        return f"a part of a SavedModel, which is no longer a network of layers: {WHOLE}"
    if path.suffix in (".index", ".ckpt") or ".data-" in path.name or path.name == "checkpoint":
        return f"a part of a TensorFlow checkpoint, weights without the network: {WHOLE}"
    with contextlib.suppress(ValueError):
        json.loads(contents)
        return f"JSON, layers without their weights: {WHOLE}"
    return f"not a Keras model that can be loaded: {WHOLE}"
