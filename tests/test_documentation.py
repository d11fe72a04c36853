"""The pages: links lead somewhere, commands can be given, and the README is one page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import convert.cli
import edge.cli.command_line
import train.cli
from edge.cli import bench, main
from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS, read_model

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    *DOCS,
    *sorted((ROOT / "edge/models").glob("*.md")),
    ROOT / "edge/samples/README.md",
]
README_LINES = 110
PARSERS = {
    "edgelid": lambda arguments: edge.cli.command_line.parser(),
    "edgelid-train": lambda arguments: train.cli.parser(),
    "edgelid-convert": convert.cli.grammar_of,
}


def prose(page: Path) -> str:
    """A page without its blocks of code, and without code within a line."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called, as GitHub does it."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def faults(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Links of a page, other than to the web, that lead nowhere."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or not target.is_relative_to(root):
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(faults(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[a](none.md) [b](#a-page) [c](#none) `[d](none)` [e](https://e.org)\n"
    )
    assert list(faults(page, tmp_path)) == ["none.md: no such file", "#none: no such heading"]


def test_the_index_names_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", prose(ROOT / "docs/README.md")))
    assert {page.name for page in DOCS} - {"README.md"} <= linked


def commands() -> list[tuple[str, str]]:
    """Page and command, for every one of ours that stands in a block of shell."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.findall(r"(?:^|[|;] |until )\s*(edgelid(?:-\w+)? [^;|]*)", line):
                    found.append((str(page.relative_to(ROOT)), command))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_the_pages_is_one(
    page: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = re.sub(r" > \S+", "", command).replace("$type", "int8")  # of a loop
    program, *arguments = shlex.split(given, comments=True)
    if program == "edgelid":
        arguments = list(bench.joined(arguments))
    parser = PARSERS[program](arguments)
    try:
        parser.parse_args(arguments)
    except SystemExit as error:
        pytest.fail(f"{page}: {command}: {capsys.readouterr().err or error.code}")


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_the_readme_has_the_accuracy_that_info_prints() -> None:
    """And docs/listening.md, of all models; all of them say what it was measured on."""
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    listening = (ROOT / "docs/listening.md").read_text(encoding="utf-8")
    models = (DEFAULT_MODEL, *SECOND_OPINIONS.values())
    metrics = [read_model(path).description.metrics for path in models]
    figures = [each["accuracy_by_duration"] for each in metrics]
    of_3_s, of_10_s = figures[0]["3"], figures[0]["10"]
    told = f"`edgelid info` prints {100 * of_3_s:.1f} % (3 s) and {100 * of_10_s:.1f} % (10 s): "
    assert told in readme
    assert " | ".join(f"{100 * each['3']:.1f} %" for each in figures) in listening
    assert {each["measured_on"] for each in metrics} == {"development sources"}


def test_the_readme_shows_what_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The languages and their order; times and figures differ a little between processors."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```\n\$ edgelid (.*)\n((?:.*\n)*?)```$", text, re.M)
    assert shown is not None
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(shown[1])) == 0
    printed = capsys.readouterr().out
    languages = [[line.split()[3] for line in lines.splitlines()] for lines in (shown[2], printed)]
    assert languages[0] == languages[1]
    assert len(shown[2].splitlines()) > 5
