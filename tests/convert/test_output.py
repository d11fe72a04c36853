"""What a conversion writes over: its own model files, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import convert.output
from convert.output import check_output, write_model
from edge.errors import EdgelidError
from edge.model.modelfile import DEFAULT_MODEL
from tests.edge.permissions import closed


def test_over_its_own(tmp_path: Path) -> None:
    output = tmp_path / "m.tflite"
    check_output(output, [])
    output.touch()  # as of mktemp
    check_output(output, [])
    shutil.copy(DEFAULT_MODEL, output)
    check_output(output, [tmp_path / "none"])
    assert output.read_bytes() == DEFAULT_MODEL.read_bytes()


@pytest.mark.parametrize("link", ["none", "symbolic", "hard"])
def test_not_over_what_is_converted(link: str, tmp_path: Path) -> None:
    network = tmp_path / "own.keras"
    network.write_bytes(b"PK\x03\x04")
    output = network if link == "none" else tmp_path / "m.tflite"
    if link == "symbolic":
        output.symlink_to(network)
    elif link == "hard":
        output.hardlink_to(network)
    with pytest.raises(EdgelidError, match="is what is to be converted"):
        check_output(output, [network])
    assert network.read_bytes() == b"PK\x03\x04"


def test_not_over_anything_else(tmp_path: Path) -> None:
    for contents in (
        b"a diary",
        b"\x1c\0\0\0TFL3 without what edgelid says",
        b"PK\x05\x06" + bytes(18),
    ):
        output = tmp_path / "m.tflite"
        output.write_bytes(contents)
        with pytest.raises(EdgelidError, match="is no model file of edgelid"):
            check_output(output, [])
        assert output.read_bytes() == contents
    with pytest.raises(EdgelidError, match="it is a folder"):
        check_output(tmp_path, [])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EdgelidError, match="no regular file"):
        check_output(tmp_path / "pipe", [])


def test_not_what_the_device_finds_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert.output, "MAX_FILE_BYTES", 100_000)
    with pytest.raises(EdgelidError, match=r"and 0\.1 MB is the most that the device takes: make"):
        write_model(tmp_path / "m.tflite", DEFAULT_MODEL.read_bytes())
    assert not os.listdir(tmp_path)


def test_where_nobody_may_look(tmp_path: Path) -> None:
    """Neither at the output nor at what is converted: who reads that says so."""
    long = tmp_path / f"{300 * 'm'}.tflite"
    with pytest.raises(EdgelidError, match=r"cannot write .*: File name too long"):
        check_output(long, [tmp_path])
    check_output(tmp_path / "m.tflite", [long])
    with (
        closed(tmp_path) as private,
        pytest.raises(EdgelidError, match=r"cannot write .*: Permission denied"),
    ):
        check_output(private / "m.tflite", [private / "own.keras"])
