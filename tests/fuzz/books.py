"""What a fuzzer has seen so far, on disk."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import time
from pathlib import Path

TELL_EVERY_S = 5.0


def kind_of(text: str) -> str:
    """What is new about a text: its words, and how large its numbers are."""
    return re.sub(r"0x[0-9a-f]+|\d+", lambda found: f"#{len(found[0])}", text)


class Books:
    """Counts outcomes, and keeps inputs.

    Parameters
    ----------
    work : Path
        Folder for all of it.
    name : str
        Of the file of counts.
    suffix : str
        Of the inputs.
    """

    def __init__(self, work: Path, name: str, suffix: str) -> None:
        self._work, self._suffix = work, suffix
        self._file = work / f"{name}.json"
        self._counts: collections.Counter[str] = collections.Counter()
        self._kinds: set[tuple[str, str]] = set()
        self._start_s = self._told_s = time.monotonic()
        work.mkdir(parents=True, exist_ok=True)

    def count(self, outcome: str) -> None:
        """Count an execution."""
        self._counts["executions"] += 1
        self._counts[outcome] += 1
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self.tell()

    def keep(self, folder: str, data: bytes, reason: str, each: bool = False) -> bool:
        """Keep an input if there is none of its kind, or `each`; whether its kind is new."""
        kind = folder, kind_of(reason)
        new = kind not in self._kinds
        self._kinds.add(kind)
        if new or each:
            name = hashlib.sha256(data).hexdigest()[:12]
            place = self._work / folder
            place.mkdir(exist_ok=True)
            (place / f"{name}{self._suffix}").write_bytes(data)
            (place / f"{name}.txt").write_text(reason)
        return new

    def tell(self) -> None:
        """Write the counts."""
        self._told_s = time.monotonic()
        seconds = round(self._told_s - self._start_s)
        kinds = {f"kinds of {f}": sum(k[0] == f for k in self._kinds) for f, _ in self._kinds}
        state = {"seconds": seconds, **dict(self._counts.most_common()), **kinds}
        self._file.write_text(json.dumps(state, indent=1))
