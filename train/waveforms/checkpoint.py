"""Checkpoints of what is trained from waveforms: arrays in parts that a repository takes."""

from __future__ import annotations

import contextlib
import glob
import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file
from train.folder import make_folder
from train.model.unreadable import UNREADABLE

PART_BYTES = 15_000_000
DETACHED = "beside/"  # begins the names of arrays of a large model whose encoder is not there


def save_parts(
    file: Path, arrays: dict[str, np.ndarray], description: dict[str, Any], kind: Any = np.float16
) -> None:
    """Write arrays as ``NAME-0.npz``, ``NAME-1.npz`` ..., each of at most `PART_BYTES`.

    Further parts of the checkpoint that had the name are removed, and no other file: one may have
    a number at the end of its own name.

    Parameters
    ----------
    file : Path
        ``NAME.npz``.
    arrays : dict of str to ndarray
    description : dict
        Kept as JSON in the first part.
    kind : dtype
        That the numbers are kept in.
    """
    make_folder(file.parent)
    older = _parts_of(file)
    parts: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, value in arrays.items():
        kept = np.asarray(value).astype(kind)
        if parts[-1] and size + kept.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = kept
        size += kept.nbytes
    whose = secrets.token_hex(8)  # tells the parts of this checkpoint from others'
    parts[0]["description"] = np.array(json.dumps(description | {"parts": len(parts)}))
    stem = file.stem
    # All are written before any takes its name, the first last: what stops this leaves the older
    # checkpoint or, from one name to the next, parts of both, which `load_parts` refuses.
    with contextlib.ExitStack() as files:
        for i, part in enumerate(parts):
            written = files.enter_context(atomic_file(file.with_name(f"{stem}-{i}.npz")))
            np.savez(written, allow_pickle=False, **part, set=np.array(whose))
    for old, before in older[len(parts) :]:
        if _set_of(old) == before:
            old.unlink()


def _parts_of(file: Path) -> list[tuple[Path, str]]:
    """The parts of a checkpoint, and whose they are to be, as its first one tells.

    There are none where it does not tell: a file that only has the name must not be taken for one.
    """
    try:
        with np.load(file.with_name(f"{file.stem}-0.npz"), allow_pickle=False) as archive:
            count, whose = json.loads(str(archive["description"]))["parts"], str(archive["set"])
            return [(file.with_name(f"{file.stem}-{i}.npz"), whose) for i in range(count)]
    except UNREADABLE:
        return []


def _set_of(part: Path) -> str | None:
    """Whose a part is, if it tells."""
    try:
        with np.load(part, allow_pickle=False) as archive:
            return str(archive["set"])
    except UNREADABLE:
        return None


def load_parts(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_parts` wrote.

    Parameters
    ----------
    file : Path
        The same name, or that of the first part.

    Raises
    ------
    EdgelidError
        If there is none, it is damaged, another kind of file, or its parts are of several.
    """
    stem = file.stem.removesuffix("-0")
    parts = _numbered(file.parent, stem)
    first = file.with_name(f"{stem}-0.npz")
    if not parts:
        raise EdgelidError(f"there is no checkpoint {first}")
    if not first.exists():
        raise EdgelidError(f"{first} is missing: it is the first part of the checkpoint, copy it")
    try:
        arrays, whose = _arrays(first)
        description: dict[str, Any] = json.loads(str(arrays.pop("description")))
        _ = description["config"]["data"]["languages"]
        # Checkpoints that were written without a count have all that lies there.
        count = description.pop("parts", len(parts))
        for i in range(1, count):
            part = file.with_name(f"{stem}-{i}.npz")
            if not part.exists():
                raise EdgelidError(
                    f"{part} is missing: the checkpoint has {count} parts, copy all of them"
                )
            more, other = _arrays(part)
            if other != whose:
                raise EdgelidError(
                    f"{part} is of another checkpoint than {first}: copy all parts of one"
                )
            arrays |= more
    except UNREADABLE as error:
        raise EdgelidError(
            f"{first} is not a checkpoint of train.waveforms, or is damaged"
        ) from error
    return arrays, description


def is_whole(file: Path) -> bool:
    """Whether there is a checkpoint that :func:`load_parts` can read."""
    try:
        load_parts(file)
    except EdgelidError:
        return False
    return True


def _numbered(folder: Path, stem: str) -> list[Path]:
    """The parts that lie there, in their order."""
    numbers = (f"{glob.escape(stem)}-{digits}.npz" for digits in ("[0-9]", "[0-9][0-9]"))
    return [part for pattern in numbers for part in sorted(folder.glob(pattern))]


def _arrays(part: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Those of a part, and whose it is."""
    with np.load(part, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    whose = arrays.pop("set", None)
    return arrays, None if whose is None else str(whose)


def starting_weights(start: Path) -> dict[str, np.ndarray]:
    """Weights to begin with: of a large model, or of Whisper's encoder.

    Raises
    ------
    EdgelidError
        If there are none, or they are damaged.
    """
    if is_large(start):
        return load_parts(start)[0]
    try:
        return _arrays(start)[0]
    except UNREADABLE as error:
        raise EdgelidError(
            f"{start} is not there, or is neither a checkpoint of the large model nor an encoder "
            "(`whisper`)"
        ) from error


def is_large(file: Path) -> bool:
    """Whether it names a checkpoint of the large model, as `load_parts` takes names."""
    first = file.with_name(f"{file.stem.removesuffix('-0')}-0.npz")
    try:
        with np.load(first, allow_pickle=False) as archive:
            return any(x == "large/0" or x.startswith(DETACHED) for x in archive.files)
    except UNREADABLE:
        return False


def fingerprint_of(arrays: Mapping[str, np.ndarray]) -> str:
    """What tells weights that were read from others, their names included."""
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(arrays[name].tobytes(), total)
    return f"{total:08x}"


def fingerprint(models: Sequence[keras.Model]) -> str:
    """What tells models from others with other weights."""
    total = 0
    for model in models:
        for value in model.get_weights():
            total = zlib.crc32(value.tobytes(), total)
    return f"{total:08x}"
