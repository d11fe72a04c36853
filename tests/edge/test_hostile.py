"""What fuzzing found stays found: each input is executed again, in processes that may die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def test_a_folder_of_hostile_recordings_is_classified_to_its_end(
    edgelid: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    names = []
    for name, data in inputs("audio"):
        names.append(f"{name}.wav")  # what libsndfile takes it for depends on the contents
        (tmp_path / names[-1]).write_bytes(data)
    done = edgelid("classify", "--json", tmp_path)
    answers = {Path(a["path"]).name: a for a in map(json.loads, done.stdout.splitlines())}
    assert sorted(answers) == sorted(names)
    refused = [a["error"] for a in answers.values() if "error" in a]
    assert len(refused) > 30
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert [line.removeprefix("edgelid: ") for line in said if line[9:] in refused] == refused
    # Beside these, warnings of what is truncated or too loud: a line each, too.
    assert all(line.startswith("edgelid: '") for line in said)


def test_the_corpus_is_small() -> None:
    assert set(PACKED) == {"model", "audio"}
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_CORPUS_BYTES
