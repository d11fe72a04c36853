"""How soon a change of language is told, where a recording says what is spoken in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.model.modelfile import NONSPEECH


@dataclass(frozen=True)
class Turn:
    """A stretch of one language.

    Attributes
    ----------
    language : str
    start_s : float
    until_s : float
        Where the next one begins.
    """

    language: str
    start_s: float
    until_s: float


def read_turns(recording: Path, length_s: float) -> list[Turn]:
    """What is spoken in a recording, from ``NAME.json`` beside it.

    Parameters
    ----------
    recording : Path
    length_s : float
        How much of it is heard.

    Returns
    -------
    list of Turn
        Neighbours are of different languages; empty if there is no such file, or it is something
        else than a list of spans with ``start_s``, ``end_s`` and ``language``.
    """
    try:
        told = json.loads(recording.with_suffix(".json").read_text("utf-8"))
        spans = [(str(s["language"]), float(s["start_s"]), float(s["end_s"])) for s in told]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    turns: list[Turn] = []
    for language, start_s, end_s in spans:
        if language == NONSPEECH or start_s >= length_s:
            continue
        until_s = min(end_s, length_s)
        if turns and turns[-1].language == language:
            turns[-1] = Turn(language, turns[-1].start_s, until_s)
            continue
        if turns:
            turns[-1] = Turn(turns[-1].language, turns[-1].start_s, start_s)
        turns.append(Turn(language, start_s, until_s))
    return turns


def delays(turns: Sequence[Turn], changes: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """How soon each turn is told.

    Parameters
    ----------
    turns : sequence of Turn
    changes : sequence of (str, float)
        Answers, and when each was given, in order.

    Returns
    -------
    dict
        For JSON: ``median_delay_s``, in which a turn that is not told counts with its length, and
        ``missed``, how many these are; None without turns.
    """
    if not turns:
        return {"median_delay_s": None, "missed": None}
    found = []
    missed = 0
    for turn in turns:
        told_s = [
            decided_s
            for language, decided_s in changes
            if language == turn.language and turn.start_s <= decided_s < turn.until_s
        ]
        missed += not told_s
        found.append((told_s[0] if told_s else turn.until_s) - turn.start_s)
    return {"median_delay_s": float(np.median(found)), "missed": missed}
