"""Whatever is wrong with the data, the commands say it in a sentence and leave nothing behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Conversion
from train.cli import main

COLUMN = {"path": 0, "split": 2, "speaker": 4, "source": 5, "seconds": 7}
QUICK = ["--durations", "10", "--conditions", "clean", "--streams", "0", "--workers", "1"]

Rows = list[list[str]]  # the first one is the header


def unknown_column(rows: Rows) -> None:
    for row, value in zip(rows, ["mood", *["good"] * len(rows)], strict=False):
        row.append(value)


def missing_column(rows: Rows) -> None:
    for row in rows:
        del row[COLUMN["source"]]


def also_in(split: str, rows: Rows) -> None:
    """A speaker of train in another split, too."""
    other = rows[1].copy()
    other[COLUMN["path"]], other[COLUMN["split"]] = "de/other.wav", split
    rows.append(other)


def missing_file(rows: Rows) -> None:
    for row in rows[1:]:
        if row[COLUMN["path"]].endswith("/3.wav"):
            row[COLUMN["path"]] = row[COLUMN["path"]].replace("3.wav", "lost.wav")


def no_length(rows: Rows) -> None:
    rows[1][COLUMN["seconds"]] = "long"


def nothing(rows: Rows) -> None:
    del rows[:]


BAD: list[tuple[Callable[[Rows], None], str]] = [
    (unknown_column, "has the unknown column mood: it takes path, language,"),
    (missing_column, "lacks the column source"),
    (partial(also_in, "test"), "the speaker home-de-0 in train and in test: keep each speaker in"),
    (
        partial(also_in, "dev"),
        "the speaker home-de-0 in train and in dev: keep each speaker in one",
    ),
    (missing_file, "lost.wav is not in "),
    (no_length, "line 2: seconds is 'long', which must be a number above zero"),
    (nothing, "is empty: it needs a line of column names"),
]


def corpus_with(tiny_corpus: Path, folder: Path, change: Callable[[Rows], None]) -> Path:
    """The tiny corpus with another manifest."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for part in tiny_corpus.iterdir():
        if part.is_dir():
            (corpus / part.name).symlink_to(part)
    for name in ("noise", "rir"):
        (folder / name).symlink_to(tiny_corpus.parent / name)
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    change(rows)
    (corpus / "manifest.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return corpus


def corpus_without(tiny_corpus: Path, folder: Path, path: str) -> Path:
    """A copy of the tiny corpus in which one clip cannot be read."""
    shutil.copytree(tiny_corpus.parent, folder, dirs_exist_ok=True)
    corpus = folder / tiny_corpus.name
    assert (corpus / path).exists()
    (corpus / path).write_bytes(b"RIFF, but no sound")
    return corpus


def sentence(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error of a command that failed; progress may stand before it."""
    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == ""
    assert "Traceback" not in captured.err
    *progress, last = captured.err.replace("\r", "\n").splitlines()
    assert all(not line or line.rstrip().endswith("]") for line in progress), progress
    assert last.startswith("edgelid-train: ")
    return last


def fit(toml: Path, corpus: Path, folder: Path, *more: str) -> int:
    options = ["--corpus", str(corpus), "--run", str(folder / "run"), "--workers", "1"]
    return main(["fit", str(toml), *options, "--cache", str(folder / "cache"), *more])


def left(folder: Path) -> list[str]:
    """Files of a run or a cache."""
    return [str(f) for part in ("run", "cache") for f in (folder / part).rglob("*") if f.is_file()]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_fit_with_a_bad_manifest(
    tiny_toml: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Rows], None],
    message: str,
) -> None:
    corpus = corpus_with(tiny_corpus, tmp_path, change)
    assert message in sentence(fit(tiny_toml, corpus, tmp_path), capsys)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_fit_with_unreadable_audio(
    tiny_toml: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "en/home-en-0/1.wav"
    corpus = corpus_without(tiny_corpus, tmp_path, name)
    assert name in sentence(fit(tiny_toml, corpus, tmp_path), capsys)
    assert not any("partial" in file for file in left(tmp_path))  # whole shards stay
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--also", "{corpus}"], "two of the corpora have a clip de/home-de-0/0.opus: rename"),
        (["--also", "{here}/none"], "cannot read the manifest {here}/none (No such file or"),
        (["--teacher", "{here}/none.npz"], "cannot read the teacher's embeddings {here}/none.npz"),
        (["--corpus", "{here}/none"], "cannot read the manifest {here}/none"),
        (["--corpus", "{here}/bare"], "cannot read the noise manifest {here}/rir/manifest.tsv"),
    ],
)
def test_fit_with_what_is_not_there(
    tiny_toml: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    shutil.copytree(tiny_corpus, tmp_path / "bare")
    (tmp_path / "rir").mkdir()  # where its rooms should be
    names = {"corpus": str(tiny_corpus), "here": str(tmp_path)}
    options = [option.format(**names) for option in more]
    assert message.format(**names) in sentence(
        fit(tiny_toml, tiny_corpus, tmp_path, *options), capsys
    )
    assert {path.name for path in tmp_path.iterdir()} == {"bare", "rir"}


@pytest.mark.parametrize(("change", "message"), BAD)
def test_evaluate_with_a_bad_manifest(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Rows], None],
    message: str,
) -> None:
    corpus = corpus_with(tiny_corpus, tmp_path, change)
    options = ["--corpus", str(corpus), *QUICK, "--json", str(tmp_path / "report.json")]
    status = main(["evaluate", str(tiny_conversion.path), *options])
    assert message in sentence(status, capsys)
    assert sorted(os.listdir(tmp_path)) == ["corpus", "noise", "rir"]


def test_evaluate_with_unreadable_audio(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "en/field-en-0/1.wav"
    corpus = corpus_without(tiny_corpus, tmp_path, name)
    options = ["--corpus", str(corpus), *QUICK, "--json", str(tmp_path / "report.json")]
    assert name in sentence(main(["evaluate", str(tiny_conversion.path), *options]), capsys)
    assert sorted(os.listdir(tmp_path)) == ["corpus", "noise", "rir"]
