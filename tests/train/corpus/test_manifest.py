"""The manifest is read as it is written, and what is wrong with it is said in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from train.corpus.manifest import COLUMNS, Clip, check_files, corpus_dir, open_manifest

ROW = {
    "path": "de/anna/0001.opus",
    "language": "de",
    "split": "train",
    "target": "yes",
    "speaker": "anna",
    "source": "home",
    "kind": "human",
    "seconds": "1.25",
    "licence": "CC0-1.0",
    "origin": "somewhere",
}


def write(folder: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    file = folder / "manifest.tsv"
    lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_reads_a_row(tmp_path: Path) -> None:
    expected = Clip(
        path="de/anna/0001.opus",
        language="de",
        target=True,
        split="train",
        speaker="anna",
        source="home",
        kind="human",
        duration_s=1.25,
        licence="CC0-1.0",
        origin="somewhere",
    )
    file = write(tmp_path, ROW)
    assert open_manifest(file).clips() == [expected]
    assert open_manifest(tmp_path).clips() == [expected]


def test_order_of_columns_is_free(tmp_path: Path) -> None:
    file = write(tmp_path, ROW, columns=COLUMNS[::-1])
    assert open_manifest(file).clips()[0].path == ROW["path"]


def test_keeps_the_order_of_lines_and_a_lone_quote(tmp_path: Path) -> None:
    rows = [ROW | {"path": f"de/anna/{i}.opus", "origin": 'the "best'} for i in (3, 1, 2)]
    clips = open_manifest(write(tmp_path, *rows)).clips()
    assert [clip.path[-6] for clip in clips] == ["3", "1", "2"]
    assert clips[0].origin == 'the "best'


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    file = write(tmp_path, ROW)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(open_manifest(file).clips()) == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"cannot read the manifest .*EDGELID_CORPUS"):
        open_manifest(tmp_path / "none.tsv")


def test_no_regular_file(tmp_path: Path) -> None:
    for name in ("manifest.tsv", "fifo.parquet"):
        os.mkfifo(tmp_path / name)  # opening it would wait for a writer
    (tmp_path / "x.parquet").mkdir()
    (tmp_path / "x.parquet" / "manifest.tsv").mkdir()
    for file in (tmp_path, tmp_path / "fifo.parquet", Path("/dev/zero")):
        with pytest.raises(EdgelidError, match=r"cannot read the manifest .*no regular file"):
            open_manifest(file)
    with pytest.raises(EdgelidError, match="it is a folder"):
        open_manifest(tmp_path / "x.parquet")
    with pytest.raises(EdgelidError, match="name too long"):
        open_manifest("x" * 500)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").touch()
    with pytest.raises(EdgelidError, match="is empty"):
        open_manifest(tmp_path)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EdgelidError, match="not UTF-8 text"):
        open_manifest(tmp_path)


def test_missing_column(tmp_path: Path) -> None:
    columns = tuple(name for name in COLUMNS if name != "kind")
    with pytest.raises(EdgelidError, match="lacks the column kind"):
        open_manifest(write(tmp_path, ROW, columns=columns))


def test_unknown_column(tmp_path: Path) -> None:
    file = write(tmp_path, ROW | {"mood": "good"}, columns=(*COLUMNS, "mood"))
    with pytest.raises(EdgelidError, match="unknown column mood"):
        open_manifest(file)


def test_column_twice(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="a column twice"):
        open_manifest(write(tmp_path, ROW, columns=(*COLUMNS, "path")))


def test_short_line(tmp_path: Path) -> None:
    file = write(tmp_path, ROW)
    file.write_text(file.read_text() + "de/anna/0002.opus\tde\n")
    with pytest.raises(EdgelidError, match="line 3: 2 fields"):
        open_manifest(file)


@pytest.mark.parametrize("seconds", ["", "long", "0", "-1", "nan", "inf"])
def test_bad_number(tmp_path: Path, seconds: str) -> None:
    with pytest.raises(EdgelidError, match=r"line 2: seconds is .* above zero"):
        open_manifest(write(tmp_path, ROW | {"seconds": seconds}))


@pytest.mark.parametrize("seconds", [" 1.5", "1_5e-1", "+1.5", "١.٥"])
def test_a_number_as_python_reads_it(tmp_path: Path, seconds: str) -> None:
    (clip,) = open_manifest(write(tmp_path, ROW | {"seconds": seconds})).clips()
    assert clip.duration_s == 1.5


@pytest.mark.parametrize("name", ["split", "target", "kind"])
def test_bad_choice(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgelidError, match=f"line 2: {name} is 'perhaps'"):
        open_manifest(write(tmp_path, ROW | {name: "perhaps"}))


@pytest.mark.parametrize("name", ["path", "language", "speaker", "source"])
def test_empty_field(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgelidError, match=f"line 2: {name} is empty"):
        open_manifest(write(tmp_path, ROW | {name: ""}))


@pytest.mark.parametrize("path", ["/etc/passwd", "de/../../secret.opus"])
def test_path_out_of_the_corpus(tmp_path: Path, path: str) -> None:
    with pytest.raises(EdgelidError, match="out of the folder"):
        open_manifest(write(tmp_path, ROW | {"path": path}))


def test_path_twice(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"lists de/anna/0001\.opus twice"):
        open_manifest(write(tmp_path, ROW, ROW))


def test_speaker_in_two_splits(tmp_path: Path) -> None:
    other = ROW | {"path": "de/anna/0002.opus", "split": "test"}
    with pytest.raises(EdgelidError, match="speaker anna in train and in test"):
        open_manifest(write(tmp_path, ROW, other))


def test_check_files_names_the_first_and_the_count(tmp_path: Path) -> None:
    rows = [ROW | {"path": f"{i}.opus"} for i in range(4)]
    clips = open_manifest(write(tmp_path, *rows)).clips()
    for name in ("0.opus", "2.opus"):
        (tmp_path / name).touch()
    with pytest.raises(EdgelidError, match=r"1\.opus is not in .*missing: 2\)"):
        check_files(clips, tmp_path)
    for name in ("1.opus", "3.opus"):
        (tmp_path / name).touch()
    check_files(clips, tmp_path)


def test_corpus_dir_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGELID_CORPUS", str(tmp_path))
    assert corpus_dir() == tmp_path
    monkeypatch.delenv("EDGELID_CORPUS")
    assert corpus_dir().name == "corpus"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgelidError, match="no corpus: give --corpus, or set EDGELID_CORPUS"):
        open_manifest(corpus_dir())
