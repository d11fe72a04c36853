"""Sentences of a manual: prose that can be read aloud, in its own language, once each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from train.synthesis.texts import FOLDERS, LANGUAGES, LENGTH, extract, main, sentences

GOOD = "The installer asks a few questions about the disks of your computer."
OTHER = "Before you begin, write down the name of every network that you use."
GERMAN = "Das Installationsprogramm stellt einige Fragen zu den Festplatten."


def found(html: str, language: str = "en") -> list[str]:
    return list(sentences(html, language))


def paragraph(*texts: str) -> str:
    return f"<p>{' '.join(texts)}</p>"


def test_paragraphs_are_cut_into_sentences() -> None:
    html = f"<html><body><h1>{OTHER}</h1><p>\n {GOOD}\n {OTHER}</p>{OTHER}</body></html>"
    assert found(html) == [GOOD, OTHER]


def test_markup_and_white_space_within_a_sentence() -> None:
    words = GOOD.replace("disks", '<em>disks</em> \n <a href="x.html">and partitions</a>')
    assert found(paragraph(words)) == [GOOD.replace("disks", "disks and partitions")]
    assert found(paragraph(f"Caf&eacute;: {GOOD}".replace("disks", "d&#105;sks"))) == [GOOD]


@pytest.mark.parametrize("tag", ["pre", "table", "title", "script", "h2", "dt"])
def test_what_is_no_prose_is_skipped(tag: str) -> None:
    assert found(f"<{tag}><p>{OTHER}</p></{tag}><p>{GOOD}</p>") == [GOOD]
    assert found(f"<p>{GOOD}</p></{tag}><p>{OTHER}</p>") == [GOOD, OTHER]  # never opened


@pytest.mark.parametrize(
    "words",
    [
        "the file /etc/fstab", "the address debian.org", "the option --quiet", "a key=value pair",
        "the variable DEBCONF", "some <b>&lt;Enter&gt;</b>", "an amount of 5%", "the machine i8x6",
        "the names my_disk", "`quotes`",
    ],
)  # fmt: skip
def test_what_nobody_reads_aloud_is_dropped(words: str) -> None:
    assert found(paragraph(GOOD.replace("your computer", words), OTHER)) == [OTHER]


def test_length() -> None:
    shortest, longest = LENGTH
    exact = ["a" * (shortest - 1) + ".", "b" * (longest - 1) + "."]
    beyond = ["c" * (shortest - 2) + ".", "d" * longest + "."]
    assert found(paragraph(*exact, *beyond)) == exact
    # A Chinese character says as much as a word's syllable, and nothing stands between sentences.
    chinese = ["安装程序会询问一些有关磁盘的问题。", "请在开始之前备份您的数据！", "太短了。"]
    assert found(paragraph("".join(chinese)), "zh") == chinese[:2]


def test_what_a_translation_leaves_in_english() -> None:
    assert found(paragraph(GERMAN, OTHER), "de") == [GERMAN]
    named = GERMAN.replace("einige", "in the")  # one English word is a name
    assert found(paragraph(named), "de") == [named]


def write_guide(folder: Path) -> Path:
    """A guide of two pages a language, which share a sentence."""
    for language in LANGUAGES:
        pages = folder / FOLDERS.get(language, language)
        pages.mkdir(parents=True)
        text = f"{language} " * 20 + "."
        (pages / "ch01.html").write_text(paragraph(text), "utf-8")
        (pages / "ch02.html").write_text(paragraph(text, "ü" * 50 + "."), "utf-8")
    return folder


def test_extract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guide, output = write_guide(tmp_path / "guide"), tmp_path / "a" / "texts"
    assert main(["--guide", str(guide), "--output", str(output)]) == 0
    lines = [f"{language}: 2 sentences" for language in LANGUAGES]
    assert capsys.readouterr().out.splitlines() == lines
    assert sorted(os.listdir(output)) == sorted(f"{language}.txt" for language in LANGUAGES)
    chinese = (output / "zh.txt").read_text("utf-8")
    assert chinese == "zh " * 20 + ".\n" + "ü" * 50 + ".\n"


@pytest.mark.parametrize("language", ["de", "zh", LANGUAGES[-1]])
def test_a_language_that_is_missing(tmp_path: Path, language: str) -> None:
    guide = write_guide(tmp_path / "guide")
    for page in (guide / FOLDERS.get(language, language)).iterdir():
        page.unlink()
    with pytest.raises(EdgelidError, match="holds no pages of the installation guide"):
        extract(guide, tmp_path / "texts")
    assert not (tmp_path / "texts").exists()


def test_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guide = write_guide(tmp_path / "guide")
    options = ["--guide", str(guide), "--output", str(tmp_path / "file" / "texts")]
    (tmp_path / "file").touch()
    assert main(options) == 1
    assert "Not a directory" in capsys.readouterr().err
    page = guide / "ru" / "ch02.html"
    page.write_bytes("<p>Программа".encode("koi8-r"))
    assert main(options) == 1
    assert capsys.readouterr().err == f"train.synthesis.texts: the page {page} is not UTF-8 text\n"
    assert main(["--guide", str(tmp_path / "none"), *options[2:]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train.synthesis.texts: ")
    assert error.count("\n") == 1
