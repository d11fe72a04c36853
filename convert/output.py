"""The model file that a conversion writes: over nothing else, and only what the device admits."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from edge.errors import EdgelidError
from edge.model.modelfile import DESCRIPTION_MEMBER, TFLITE_IDENTIFIER, model_of_bytes
from edge.model.trust import admit
from edge.system.atomic import check_writable, write_atomically


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that would destroy something, before the work that makes its contents.

    Parameters
    ----------
    output : Path
    inputs : iterable of Path
        Files that the conversion reads.

    Raises
    ------
    EdgelidError
        If it is one of the inputs, a file that edgelid did not write, or cannot be written.
    """
    if output.exists():
        for path in inputs:
            if path.exists() and output.samefile(path):
                raise EdgelidError(
                    f"the output {output} is what is to be converted, or belongs to it: give "
                    "--output another name; nothing was written"
                )
        if output.is_file() and not _is_ours(output):
            raise EdgelidError(
                f"{output} exists, and is no model file of edgelid: give --output another name, "
                "or move it away; nothing was written"
            )
        if output.exists() and not output.is_file() and not output.is_dir():
            raise EdgelidError(f"cannot write {output}: it is no regular file.")
    check_writable(output)


def _is_ours(path: Path) -> bool:
    """Whether a file is a model file of edgelid, or empty."""
    try:
        if path.stat().st_size == 0:
            return True
        with open(path, "rb") as file:
            if file.read(8)[4:] != TFLITE_IDENTIFIER:
                return False
        with zipfile.ZipFile(path) as archive:
            return DESCRIPTION_MEMBER in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def write_model(output: Path, data: bytes) -> None:
    """Write a model file that the device admits.

    Parameters
    ----------
    output : Path
    data : bytes

    Raises
    ------
    EdgelidError
        If the device would refuse it, or it cannot be written; nothing is written then.
    """
    admit(model_of_bytes(output, data), 1)
    # The path may be a link: what it leads to is replaced, and it stays.
    write_atomically(Path(os.path.realpath(output)), data)
