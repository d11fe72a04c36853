"""The inputs that fuzzing found worth keeping.

They are many and alike, so that packed together they take little. ``python -m tests.fuzz.corpus
FOLDER...`` packs those of fuzzers' folders anew: whatever reached new code, was answered in another
way, or ever crashed something.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.books import kind_of
from tests.fuzz.seeds import CORPUS

PACKED = {"model": CORPUS / "model.tar.xz", "audio": CORPUS / "audio.tar.xz"}
KEPT_WHOLE = ("findings", "crashed")


def inputs(name: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the inputs of a fuzzer: its seeds, and what is packed."""
    for path in sorted((CORPUS / name).iterdir()):
        yield path.name, path.read_bytes()
    with tarfile.open(PACKED[name]) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def interesting(folder: Path) -> Iterator[Path]:
    """Of all that a fuzzer has kept."""
    for name in KEPT_WHOLE:
        yield from sorted(path for path in folder.glob(f"{name}/*") if path.suffix != ".txt")
    kinds = set()
    for path in sorted(folder.glob("corpus/*")):
        reason = path.with_suffix(".txt")
        if not path.suffix:  # libFuzzer's, each of which reaches something that no other does
            yield path
        elif path != reason:
            # What is answered, and in which format; all that is logged would be thousands.
            kind = kind_of(reason.read_text().partition("\n")[0])
            if kind not in kinds:
                yield path
            kinds.add(kind)


def pack(folders: list[Path]) -> None:
    """Write what is interesting in them; equal inputs give equal files."""
    for name, packed in PACKED.items():
        found: dict[str, bytes] = {}
        for folder in folders:
            if (folder / f"{name}.json").exists():
                found |= {f"{p.parent.name}-{p.name}": p.read_bytes() for p in interesting(folder)}
        with tarfile.open(packed, "w:xz", preset=9) as archive:
            # Alike beside alike: of one kind, and of one length.
            for key in sorted(found, key=lambda key: (found[key][:64], len(found[key]), key)):
                member = tarfile.TarInfo(key)
                member.size = len(found[key])
                archive.addfile(member, io.BytesIO(found[key]))
        print(f"{len(found)} inputs in {packed.stat().st_size} bytes: {packed.name}")


if __name__ == "__main__":
    pack([Path(word) for word in sys.argv[1:]])
