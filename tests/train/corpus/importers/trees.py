"""Small trees of files, and what an importer makes of them."""

from __future__ import annotations

from pathlib import Path

from train.corpus.importers import importer
from train.corpus.importers.row import Fault, LeftOut, Row


def make(root: Path, *paths: str) -> Path:
    """Empty files below a root; returns it. An importer opens no audio."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def table(file: Path, *lines: str) -> None:
    """A text file of lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read(name: str, root: Path) -> tuple[list[Row], list[Fault]]:
    """Rows and faults of a corpus; what is no recording is no fault."""
    items = [item for item in importer(name).rows(root) if not isinstance(item, LeftOut)]
    rows = [item for item in items if isinstance(item, Row)]
    return rows, [item for item in items if isinstance(item, Fault)]


def clips(name: str, root: Path) -> list[Row]:
    """Rows of a corpus that has no faults."""
    rows, faults = read(name, root)
    assert faults == []
    return rows
