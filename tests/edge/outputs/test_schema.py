"""Every event that is written anywhere is as the JSON Schema says, and the schema says enough."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from jsonschema import Draft202012Validator as Validator

from edge.audio.gaps import Reason
from edge.audio.level import HINTS, Level
from edge.audio.sources import Gap, Sound
from edge.cli.schema import EVENT_SCHEMA
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Listener
from edge.model.interpreter import Graphs
from edge.model.modelfile import ModelFile
from edge.outputs.eventlog import KINDS, EventLog
from edge.outputs.stdout import heard_records

Edgelid = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(EVENT_SCHEMA.read_text())
OF_TWO = {"by", "took_s"}  # which only come where two models decide
REASONS = set(get_args(Reason))  # a gap with any other is an error of types


@pytest.fixture(scope="module")
def validator() -> Validator:
    Validator.check_schema(SCHEMA)
    return Validator(SCHEMA)


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def run(edgelid: Edgelid, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Standard output and event log of a run with all that can be asked for."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "heard").mkdir()
    options = ["--windows", "--log", folder / "events.jsonl", "--record-to", folder / "heard"]
    done = edgelid("listen", "--json", "--input", sample, *options)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout), parsed((folder / "events.jsonl").read_text())


def test_what_a_run_prints_and_logs(validator: Validator, run: Any) -> None:
    printed, logged = run
    for record in (*printed, *logged):
        validator.validate(record)
    assert {r["type"] for r in printed} == {"change", "segment", "window", "recording"}
    assert {r["type"] for r in logged} == {"change", "segment", "recording", "start"}


def faulty(speech: Float32Array) -> Iterator[Sound]:
    """A microphone with every gap and every level there can be."""
    second = SAMPLE_RATE_HZ
    for number, reason in enumerate(sorted(REASONS)):
        yield speech[number * 5 * second : (number + 1) * 5 * second]
        yield Gap(second // 4 if number % 2 else 3 * second, reason)
    for state in HINTS:
        yield Level(state, -0.04, -6.55, -0.01234)
        yield np.zeros(second, np.float32)


def test_gaps_and_levels(
    validator: Validator, model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    listener = Listener(model, graphs, model.description.decoder)
    records = [
        record
        for heard in listener.hear(faulty(speech))
        for record in heard_records(heard, model.labels, windows=False)
    ]
    for record in records:
        validator.validate(record)
    assert {r["reason"] for r in records if r["type"] == "gap"} == REASONS
    assert {r["bridged"] for r in records if r["type"] == "gap"} == {True, False}
    assert {r["state"] for r in records if r["type"] == "level"} == set(HINTS)


def test_what_could_not_be_logged(validator: Validator, tmp_path: Path, run: Any) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    with EventLog(folder / "events.jsonl", 10_000, 2) as log:
        log.record(run[1][0])
        shutil.rmtree(folder)
        log.record(run[1][1])
        folder.mkdir()
        log.record(run[1][2])
    lost, record = parsed((folder / "events.jsonl").read_text())
    validator.validate(lost)
    assert lost["type"] == "lost"
    assert record == run[1][2]


def examples() -> list[dict[str, Any]]:
    """Events in the documentation."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = [b for page in pages for b in re.findall(r"```json\n(.*?)```", page.read_text(), re.S)]
    lines = [line for block in blocks for line in block.splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"type"')]


def test_the_examples_of_the_documentation(validator: Validator) -> None:
    found = examples()
    for record in found:
        validator.validate(record)
    assert {record["type"] for record in found} >= KINDS - {"recording"}


@pytest.mark.parametrize("kind", sorted(KINDS - {"recording"}))
def test_no_other_key_no_missing_key_and_no_other_type(validator: Validator, kind: str) -> None:
    record = next(example for example in examples() if example["type"] == kind)
    assert validator.is_valid(record)
    assert not validator.is_valid({**record, "more": 1})
    for key in record:
        assert not validator.is_valid({k: v for k, v in record.items() if k != key}), key
        assert not validator.is_valid({**record, key: None}), key
    assert not validator.is_valid({**record, "time": "yesterday"})
    assert not validator.is_valid({**record, "type": "segments"})


def test_every_event_and_every_key_is_described() -> None:
    kinds = {part["$ref"].removeprefix("#/$defs/") for part in SCHEMA["oneOf"]}
    assert kinds == KINDS
    for kind in kinds:
        definition = SCHEMA["$defs"][kind]
        assert definition["additionalProperties"] is False
        always = [key for key in definition["properties"] if key not in OF_TWO]
        assert definition["required"] == always
        for key, value in definition["properties"].items():
            assert key == "type" or "description" in value or "$ref" in value
    assert set(SCHEMA["$defs"]["gap"]["properties"]["reason"]["enum"]) == REASONS
    page = (ROOT / "docs/json.md").read_text()
    assert [reason for reason in sorted(REASONS) if f"`{reason}`" not in page] == []
    assert set(SCHEMA["$defs"]["level"]["properties"]["state"]["enum"]) == set(HINTS)


def test_the_command_prints_it(edgelid: Edgelid) -> None:
    done = edgelid("schema")
    assert (done.returncode, done.stdout, done.stderr) == (0, EVENT_SCHEMA.read_text(), "")
    (line,) = edgelid("schema", "--json").stdout.splitlines()
    assert json.loads(line) == SCHEMA
