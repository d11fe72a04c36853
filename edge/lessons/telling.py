"""What there is to tell of a book of lessons, for programs and for people."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from edge.languages import language_name
from edge.lessons.book import Book


def told(path: Path, book: Book) -> dict[str, Any]:
    """Facts of a book.

    Returns
    -------
    dict
        ``path``, number of ``lessons`` and ``windows``, windows by ``languages``, and when the
        newest lesson was ``taught``, in ISO 8601; without lessons, None.
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
    }


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
