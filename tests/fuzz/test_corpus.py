"""What fuzzing found stays found: each input is executed again, in processes that may die."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.fuzz.corpus import PACKED, inputs
from tests.fuzz.seeds import CORPUS

MAX_CORPUS_BYTES = 300_000


def test_nothing_happens_that_must_not(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.replay"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert told["findings"] == []
    for name, counts in told["counts"].items():
        assert sum(counts.values()) == len(list(inputs(name)))
    # They reach everything: what is refused at once, what only a trial finds out, and what is fine.
    assert {"refused", "not admitted", "refused in its trial", "crashed its trial", "ran"} == set(
        told["counts"]["model"]
    )
    assert {"refused", "stopped", "read"} == set(told["counts"]["audio"])


def test_the_corpus_is_small() -> None:
    assert set(PACKED) == {"model", "audio"}
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_CORPUS_BYTES
