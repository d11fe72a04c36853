"""A model file in parts, as repositories do not take every file.

``NAME.tflite.0``, ``NAME.tflite.1`` and so on are ``NAME.tflite``, one behind the other: what
``split -d -a 1 -b 13M NAME.tflite NAME.tflite.`` makes of it, and ``cat NAME.tflite.*`` undoes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_PARTS = 8


def files_of(path: Path) -> list[Path]:
    """Files whose contents make up a model file.

    Parameters
    ----------
    path : Path
        Of the whole file, whether it is there or not.

    Returns
    -------
    list of Path
        Itself, where there are no parts in its place.
    """
    if path.exists():
        return [path]
    parts: list[Path] = []
    while len(parts) < MAX_PARTS:
        part = path.with_name(f"{path.name}.{len(parts)}")
        if not part.exists():
            break
        parts.append(part)
    return parts or [path]


def blocks(files: Sequence[Path], size: int) -> Iterator[bytes]:
    """What files hold, one behind the other, in pieces.

    Parameters
    ----------
    files : sequence of Path
    size : int
        Bytes of each piece; the last may have fewer.
    """
    block = b""
    for file in files:
        with file.open("rb") as opened:
            while more := opened.read(size - len(block)):
                block += more
                if len(block) == size:
                    yield block
                    block = b""
    if block:
        yield block
