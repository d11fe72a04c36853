"""What an importer yields: a clip of its corpus, or what is wrong with a part of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One clip, as its corpus describes it.

    Attributes
    ----------
    path
        Relative to the root of the corpus, with forward slashes.
    language
        As `train.corpus.importers.languages` gives it.
    split
        ``train``, ``dev`` or ``test``; None where the corpus has no splits.
    speaker
        Unique over all corpora, so it begins with the name of this one. Where the corpus names no
        speakers: the smallest unit that no voice is known to leave.
    source
        The collection.
    seconds
        Length; None where the corpus does not say, or says what cannot be right.
    licence, origin
        As the corpus states them.
    kind
        ``human`` or ``tts``.
    """

    path: str
    language: str
    split: str | None
    speaker: str
    source: str
    seconds: float | None
    licence: str
    origin: str
    kind: str = "human"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that cannot be imported.

    Attributes
    ----------
    where
        ``FILE, line N``, or the name of a file or folder, relative to the root.
    reason
        What is wrong with it.
    """

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut(Fault):
    """Something that is no recording, or not of any language: it is counted, by its `reason`."""


@dataclass(frozen=True, slots=True)
class NoLanguage(Fault):
    """A folder whose name is the code of a language, but hardly meant as one.

    Attributes
    ----------
    language
        The code: who names it means it.
    """

    language: str
