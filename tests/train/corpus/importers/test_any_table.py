"""Whatever a table of a corpus holds, it is clips and faults."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.corpus.importers import importer
from train.corpus.importers.row import Fault, Row

ANY = st.binary(max_size=60) | st.text(max_size=300).map(str.encode)


def lines_of(*fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Lines that are nearly right, and lines that are anything."""
    return st.lists(st.tuples(*fields).map(b"\t".join) | ANY, max_size=8)


def common_voice(folder: Path, lines: list[bytes]) -> Path:
    root = folder / "de"
    root.mkdir()
    for name in ("train.tsv", "validated.tsv", "clip_durations.tsv"):
        (root / name).write_bytes(b"\n".join([b"client_id\tpath", *lines]))
    return root


def fleurs(folder: Path, lines: list[bytes]) -> Path:
    root = folder / "de_de"
    root.mkdir()
    (root / "dev.tsv").write_bytes(b"\n".join(lines))
    return root


def mls(folder: Path, lines: list[bytes]) -> Path:
    root = folder / "mls_german"
    (root / "dev").mkdir(parents=True)
    (root / "dev" / "segments.txt").write_bytes(b"\n".join(lines))
    return root


NUMBER = st.floats().map(lambda number: str(number).encode()) | ANY
CLIP = st.from_regex(rb"[0-9]+_[0-9]+_[0-9]+", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "write", "lines"),
    [
        ("common-voice", common_voice, lines_of(ANY, ANY)),
        ("fleurs", fleurs, lines_of(ANY, ANY, ANY, ANY, ANY, NUMBER, ANY)),
        ("mls", mls, lines_of(CLIP | ANY, ANY, NUMBER, NUMBER)),
    ],
)
@settings(max_examples=60)
@given(data=st.data())
def test_rows_and_faults(name: str, write: object, lines: object, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), data.draw(lines))  # type: ignore[operator, arg-type]
        for item in importer(name).rows(root):
            assert isinstance(item, Row | Fault)
            if isinstance(item, Row):
                assert item.language == "de"
                assert item.seconds is None or 0 < item.seconds < 1000
                assert not {"", "..", "."} & {*item.path.split("/")}
