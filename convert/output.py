"""The model file that a conversion writes: over nothing else, and only what the device admits."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edge.errors import EdgelidError
from edge.model.modelfile import MAX_FILE_BYTES, model_of_bytes
from edge.model.trust import admit
from edge.system.atomic import write_atomically
from train.command import check_model_output


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
    if any(_is_one_file(output, path) for path in inputs):
        raise EdgelidError(
            f"the output {output} is what is to be converted, or belongs to it: give "
            "--output another name; nothing was written"
        )
    check_model_output(output)


def _is_one_file(output: Path, path: Path) -> bool:
    try:
        return output.samefile(path)
    except OSError:  # one of them is not there, or cannot be looked at: others say so
        return False


def check_size(data: bytes, remedy: str) -> None:
    """Refuse what is larger than the device takes, before it is proven for minutes.

    Parameters
    ----------
    data : bytes
        Of a model file, or of its graph alone, which is nearly all of it.
    remedy : str
        What makes a smaller one.

    Raises
    ------
    EdgelidError
    """
    if len(data) > MAX_FILE_BYTES:
        raise EdgelidError(
            f"the model would have {len(data) / 1e6:.1f} MB, and {MAX_FILE_BYTES / 1e6:.1f} MB is "
            f"the most that the device takes: {remedy}; nothing was written"
        )


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
    check_size(data, "make it of a smaller network")
    admit(model_of_bytes(output, data), 1)
    # The path may be a link: what it leads to is replaced, and it stays.
    write_atomically(Path(os.path.realpath(output)), data)
