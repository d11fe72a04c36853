"""What there is to tell of a book of lessons, for programs and for people."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.languages import language_name

if TYPE_CHECKING:
    from edge.lessons.adapting import Brought
    from edge.lessons.book import Book


def told(path: Path, book: Book, brought: Brought | None = None) -> dict[str, Any]:
    """Facts of a book, and if it has been learnt from, what that brought.

    Returns
    -------
    dict
        ``path``, number of ``lessons`` and ``windows``, windows by ``languages``, and when the
        newest lesson was ``taught``, in ISO 8601; without lessons, None. Of `brought_record`, what
        there is.
    """
    by_language = {
        language: sum(len(each.windows) for each in book.lessons if each.language == language)
        for language in book.languages
    }
    newest = max((each.taught_s for each in book.lessons), default=None)
    return {
        "path": str(path),
        "lessons": len(book.lessons),
        "windows": book.windows,
        "languages": by_language,
        "taught": None if newest is None else time_of(newest).isoformat(timespec="seconds"),
        **({} if brought is None else brought_record(brought)),
    }


def brought_record(brought: Brought) -> dict[str, Any]:
    """Shares of errors before and after, on what was taught and on other people's speech."""
    return {
        "errors": {
            "taught": [round(brought.taught_before, 4), round(brought.taught_after, 4)],
            "others": [round(brought.others_before, 4), round(brought.others_after, 4)],
        },
        "strength": brought.strength,
    }


def line_of(facts: dict[str, Any]) -> str:
    """What was taught, when, and what it brought, for a narrow place."""
    if not facts["lessons"]:
        return "nothing taught"
    languages = ", ".join(facts["languages"])
    text = f"taught {languages}, {facts['taught'][:10]}"
    if "errors" in facts:
        before, after = facts["errors"]["taught"]
        text += f": errors {before:.0%} to {after:.0%}"
    return text


def lines(facts: dict[str, Any]) -> list[str]:
    """The same for a person."""
    languages = ", ".join(
        f"{language} ({language_name(language)}) {windows}"
        for language, windows in facts["languages"].items()
    )
    return [
        f"{'lessons':<16} {facts['path']}: {facts['lessons']}, the newest of {facts['taught']}",
        f"{'windows taught':<16} {languages or 'none'}",
    ]


def time_of(since_1970_s: float) -> datetime.datetime:
    """A time, with its zone."""
    return datetime.datetime.fromtimestamp(since_1970_s, datetime.UTC)
