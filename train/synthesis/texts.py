"""Sentences for speech synthesis, from a manual that says the same in many languages.

    apt-get download installation-guide-amd64 && dpkg-deb -x installation-guide-amd64_*.deb guide
    python -m train.synthesis.texts --guide guide/usr/share/doc/installation-guide-amd64 \
        --output texts

Debian's installation guide (GPL-2-or-later) is translated sentence by sentence, so no subject
gives a language away. The text is an input of synthesis and is not part of this project.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from edge.errors import EdgelidError
from edge.system.atomic import write_atomically

# Folders of the guide, by language code.
FOLDERS = {"zh": "zh_CN"}
LANGUAGES = (
    "de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh", "ca", "da", "id", "ro", "sv", "vi",
)  # fmt: skip

SKIPPED_TAGS = {"pre", "table", "title", "script", "style", "h1", "h2", "h3", "h4", "dt"}
LENGTHS = {"zh": (12, 90)}  # characters of a sentence; others as below
LENGTH = (45, 260)
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[。！？；])")
# Marks of addresses, commands, options and files, which nobody reads aloud.
_NOT_PROSE = re.compile(r"[/\\_=<>{}\[\]@#$%^*|~`]|--|\.\w{2,4}\b|[A-Z]{6,}|\w*\d\w*[a-z]\d")
# A translation leaves some paragraphs in the original.
_ENGLISH = re.compile(r"\b(the|and|is|are|of|you|this|that|with|will|be|which)\b", re.IGNORECASE)


class _Paragraphs(HTMLParser):
    """Collects the text of ``<p>`` elements, without tables and code."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._open = False
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED_TAGS:
            self._skipped += 1
        elif tag == "p":
            self._open = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in SKIPPED_TAGS:
            self._skipped = max(0, self._skipped - 1)  # one that was never opened
        elif tag == "p":
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open and not self._skipped:
            self.paragraphs[-1] += data


def sentences(html: str, language: str) -> Iterator[str]:
    """Sentences of a page that can be read aloud.

    Parameters
    ----------
    html : str
    language : str
        Its code; sentences left in English are dropped from pages of other languages.
    """
    parser = _Paragraphs()
    parser.feed(html)
    shortest, longest = LENGTHS.get(language, LENGTH)
    for paragraph in parser.paragraphs:
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            if not shortest <= len(sentence) <= longest or _NOT_PROSE.search(sentence):
                continue
            if language != "en" and len(_ENGLISH.findall(sentence)) > 1:
                continue
            yield sentence


def extract(guide: Path, output: Path) -> dict[str, int]:
    """Write ``LANGUAGE.txt``, a sentence a line, for every language.

    Returns
    -------
    dict of str to int
        Sentences by language.

    Raises
    ------
    EdgelidError
        If the guide lacks a language, or a page is not text; nothing is written then.
    """
    texts = {
        language: _read(guide / FOLDERS.get(language, language), language) for language in LANGUAGES
    }
    output.mkdir(parents=True, exist_ok=True)
    for language, found in texts.items():
        write_atomically(output / f"{language}.txt", "".join(f"{s}\n" for s in found).encode())
    return {language: len(found) for language, found in texts.items()}


def _read(folder: Path, language: str) -> list[str]:
    """Sentences of all pages of a folder, each once."""
    found: dict[str, None] = {}
    for page in sorted(folder.glob("*.html")):
        try:
            found |= dict.fromkeys(sentences(page.read_text("utf-8"), language))
        except UnicodeDecodeError as error:
            raise EdgelidError(f"the page {page} is not UTF-8 text") from error
    if not found:
        raise EdgelidError(f"{folder} holds no pages of the installation guide")
    return list(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and extract."""
    parser = argparse.ArgumentParser(
        prog="python -m train.synthesis.texts", description=extract.__doc__
    )
    parser.add_argument("--guide", type=Path, required=True, help="folder of its languages")
    parser.add_argument("--output", type=Path, required=True, help="folder for LANGUAGE.txt")
    options = parser.parse_args(arguments)
    try:
        for language, count in extract(options.guide, options.output).items():
            print(f"{language}: {count} sentences")
    except (EdgelidError, OSError) as error:
        print(f"train.synthesis.texts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
