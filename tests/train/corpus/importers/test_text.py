"""Lines of tables, as they come."""

from __future__ import annotations

from pathlib import Path

from train.corpus.importers.row import Fault
from train.corpus.importers.text import Line, columns, is_file_name, lines, positive


def test_quotes_are_letters_and_ends_of_lines_are_of_any_kind(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_bytes(b'\xef\xbb\xbfone\t"two\r\n\nthree\t\n')
    assert list(lines(file, tmp_path)) == [
        Line("t.tsv, line 1", ["one", '"two']),
        Line("t.tsv, line 3", ["three", ""]),
    ]


def test_what_is_no_text_is_a_fault_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_bytes(b"a\n\xff\nb\n")
    assert list(lines(file, tmp_path))[1:] == [
        Fault("t.tsv, line 2", "not UTF-8 text"),
        Line("t.tsv, line 3", ["b"]),
    ]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    (fault,) = lines(tmp_path / "t.tsv", tmp_path)
    assert isinstance(fault, Fault)
    assert "cannot be read" in fault.reason


def test_columns_by_name(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_text("x\tpath\tclient\n1\tp\tc\nshort\tp\n")
    first, second = columns(file, tmp_path, ("client", "path"), optional=("locale", "x"))
    assert first == Line("t.tsv, line 2", ["c", "p", "", "1"])
    assert second == Fault("t.tsv, line 3", "2 fields where 3 are named")
    (fault,) = columns(file, tmp_path, ("client", "age"))
    assert fault == Fault("t.tsv, line 1", "no column age")


def test_file_names() -> None:
    assert is_file_name("a.b.mp3")
    assert not any(map(is_file_name, ("", "..", "a/b", "/a", "a\0", "ä" * 128)))


def test_numbers() -> None:
    assert positive("1500", 2000) == 1500
    assert {positive(text, 2000) for text in ("0", "-1", "nan", "inf", "2001", "", "x")} == {None}
