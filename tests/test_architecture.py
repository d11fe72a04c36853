"""The rooms: who imports whom, and the picture of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.architecture import PACKAGES, PICTURE, ROOT, Sources, picture, reduced


def test_nothing_imports_what_is_above_it_and_nothing_in_a_circle() -> None:
    sources = Sources()
    assert len(sources.modules) > 150
    assert sum(map(len, sources.between_rooms.values())) > 80
    assert not list(sources.faults())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            to = tmp_path / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("edge/audio/ring.py", "import edge.outputs.sinks", "imports edge.outputs.sinks"),
        ("edge/audio/ring.py", "from edge.outputs import sinks", "imports edge.outputs.sinks"),
        ("edge/audio/ring.py", "from edge.model.info import table", "imports edge.model.info"),
        ("edge/config.py", "def f():\n    from edge.cli import main", "imports edge.cli"),
        ("edge/errors.py", "if 0:\n    from train.config import x", "imports train.config"),
        ("train/corpus/cuts.py", "from train.fit.loop import fit", "imports train.fit.loop"),
        ("train/config.py", "import convert.cli", "imports convert.cli"),
        ("convert/parity.py", "from convert.proof import Proof", "imports convert.proof"),
        ("edge/audio/ring.py", "from edge.audio.microphone import x", "in a circle"),
        ("edge/attic.py", "", "edge.attic stands either"),
    ],
)
def test_an_import_upwards_is_found(copy: Path, file: str, line: str, fault: str) -> None:
    """So are one in a function, one for types alone, a circle in a room, and a new room."""
    assert not list(Sources(copy).faults())
    with (copy / file).open("a") as source:
        source.write(f"\n{line}\n")
    faults = list(Sources(copy).faults())
    assert any(fault in each for each in faults), faults


def test_the_picture_is_of_these_imports() -> None:
    """If not: python -m tests.architecture."""
    assert PICTURE.read_text(encoding="utf-8") == picture(Sources())


def test_the_page_names_files_that_there_are() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:edge|train|convert|tests)/[\w/.]*)`", page))
    assert len(named) > 20
    assert [
        name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()
    ] == []


def test_what_follows_from_other_imports_is_not_drawn() -> None:
    ways = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert reduced(ways) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
