"""Checkpoints come back as they went, and a file that is none is refused in a sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from tests.edge.system.test_atomic import full_disk
from train.config import RunConfig
from train.model.checkpoint import (
    DESCRIPTION,
    FORMAT_VERSION,
    Checkpoint,
    build_model,
    load_checkpoint,
    restore_model,
    weights_of,
)


@pytest.fixture(scope="module")
def checkpoint(tiny_config: RunConfig) -> Checkpoint:
    return Checkpoint(tiny_config, 7, {"select": 0.5}, weights_of(*build_model(tiny_config)))


@pytest.fixture
def file(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "best.npz")
    return tmp_path / "best.npz"


def rewritten(file: Path, **changes: object) -> None:
    """Change the description of a checkpoint; None takes a key out."""
    with np.load(file) as archive:
        arrays = dict(archive)
    description = json.loads(str(arrays[DESCRIPTION])) | changes
    description = {key: value for key, value in description.items() if value is not None}
    arrays[DESCRIPTION] = np.array(json.dumps(description))
    np.savez(file, **arrays)


def test_round_trip(checkpoint: Checkpoint, file: Path) -> None:
    for path in (file, file.parent):  # a run's folder stands for its best checkpoint
        loaded = load_checkpoint(path)
        assert loaded.config == checkpoint.config
        assert (loaded.step, loaded.scores) == (7, {"select": 0.5})
        assert loaded.arrays.keys() == checkpoint.arrays.keys()
        for name, array in checkpoint.arrays.items():
            np.testing.assert_array_equal(loaded.arrays[name], array)
    assert os.listdir(file.parent) == ["best.npz"]


def test_restores_the_model(checkpoint: Checkpoint, file: Path) -> None:
    restored = weights_of(*restore_model(load_checkpoint(file)))
    for name, array in checkpoint.arrays.items():
        np.testing.assert_array_equal(restored[name], array)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"there is no checkpoint .*best\.npz"):
        load_checkpoint(tmp_path)
    with pytest.raises(EdgelidError, match=r"there is no checkpoint .*none\.npz"):
        load_checkpoint(tmp_path / "none.npz")


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.npz")  # opening one would wait for a writer, perhaps for ever
    for path in (tmp_path, tmp_path / "best.npz"):
        with pytest.raises(EdgelidError, match=r"best\.npz' is no regular file"):
            load_checkpoint(path)


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


class Evil:
    """Ends the process where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (66,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        np.random.default_rng(0).bytes(10_000),
        npy(),
        npz(),
        npz(weights=np.zeros(3)),
        npz(**{DESCRIPTION: np.array("no JSON")}),
        npz(**{DESCRIPTION: np.array(Evil())}),
        npz(**{DESCRIPTION: np.array("{}"), "trunk/0": np.array([Evil()])}),
        pickle.dumps(Evil()),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=lambda content: repr(content[:10]),
)
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(EdgelidError, match="is not an edgelid checkpoint, or is damaged"):
        load_checkpoint(tmp_path / "file.npz")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_truncated(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(EdgelidError, match="or is damaged"):
        load_checkpoint(file)


def test_damaged(file: Path, checkpoint: Checkpoint) -> None:
    data = bytearray(file.read_bytes())
    # Within an array: nothing reads some bytes of the headers between them.
    largest = max(checkpoint.arrays.values(), key=lambda array: array.nbytes).tobytes()
    middle = data.index(largest) + len(largest) // 2
    data[middle : middle + 8] = b"damaged!"
    file.write_bytes(data)
    with pytest.raises(EdgelidError, match="or is damaged"):
        load_checkpoint(file)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_version(file: Path, version: object) -> None:
    rewritten(file, format_version=version)
    with pytest.raises(EdgelidError, match=f"checkpoint format {version}; this edgelid reads 1"):
        load_checkpoint(file)


@pytest.mark.parametrize("key", ["step", "scores"])
@pytest.mark.parametrize("value", [None, "7"])
def test_no_step(file: Path, key: str, value: object) -> None:
    rewritten(file, **{key: value})
    with pytest.raises(EdgelidError, match="does not say which step"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("config", "message"), [(None, "expected a table"), ({"seed": 1}, "'data' is missing")]
)
def test_no_configuration(file: Path, config: object, message: str) -> None:
    rewritten(file, config=config)
    with pytest.raises(EdgelidError, match=message):
        load_checkpoint(file)


def test_missing_weights(checkpoint: Checkpoint) -> None:
    arrays = {name: array for name, array in checkpoint.arrays.items() if name != "head/2"}
    with pytest.raises(EdgelidError, match="head weights do not fit"):
        restore_model(replace(checkpoint, arrays=arrays))


def test_weights_of_another_shape(checkpoint: Checkpoint) -> None:
    arrays = checkpoint.arrays | {"trunk/0": np.zeros(3, np.float32)}
    with pytest.raises(EdgelidError, match="trunk weights do not fit"):
        restore_model(replace(checkpoint, arrays=arrays))


def test_a_running_state_is_no_model(checkpoint: Checkpoint) -> None:
    arrays = {f"raw/{name}": array for name, array in checkpoint.arrays.items()}
    with pytest.raises(EdgelidError, match=r"no finished model: give the run's best\.npz"):
        restore_model(replace(checkpoint, arrays=arrays))


def test_a_full_disk(checkpoint: Checkpoint, file: Path) -> None:
    before = file.read_bytes()
    with full_disk(4096), pytest.raises(EdgelidError, match=r"cannot write .*best\.npz"):
        replace(checkpoint, step=8).save(file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["best.npz"]
