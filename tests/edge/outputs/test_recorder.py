"""Recordings are what was heard, to the last bit, bounded, and never without an announcement."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.outputs import recorder as module
from edge.outputs.recorder import FILE_BYTES, FILE_SAMPLES, Recorder
from tests.edge.outputs.test_eventlog import no_room_beyond

Edgelid = Callable[..., subprocess.CompletedProcess[str]]


def noise(samples: int) -> Float32Array:
    generator = np.random.default_rng(6)
    return generator.uniform(-1, 1, samples).astype(np.float32)


def recorded(folder: Path) -> list[Float32Array]:
    files = [soundfile.SoundFile(path) for path in sorted(folder.iterdir())]
    assert {(file.samplerate, file.channels) for file in files} <= {(SAMPLE_RATE_HZ, 1)}
    return [file.read(dtype="float32") for file in files]


@pytest.mark.parametrize("block_samples", [700, FILE_SAMPLES, 3 * FILE_SAMPLES])
def test_what_was_heard_is_recorded(tmp_path: Path, block_samples: int) -> None:
    heard = noise(2 * FILE_SAMPLES + 12_345)
    with Recorder(tmp_path, 10 * FILE_BYTES) as recorder:
        for start in range(0, len(heard), block_samples):
            recorder.write(heard[start : start + block_samples])
    parts = recorded(tmp_path)
    assert [len(part) for part in parts] == [FILE_SAMPLES, FILE_SAMPLES, 12_345]
    np.testing.assert_array_equal(np.concatenate(parts), heard)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_the_oldest_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_SAMPLES", 1_000)
    monkeypatch.setattr(module, "FILE_BYTES", 4_000 + module.HEADER_BYTES)
    (tmp_path / "mine.wav").write_bytes(b"x" * 100_000)
    bound_bytes = 20_000
    heard = noise(50_500)
    for start in (0, 20_500):  # twice, as after a restart
        with Recorder(tmp_path, bound_bytes) as recorder:
            for at in range(start, start + 30_000, 100):
                recorder.write(heard[at : at + 100])
                files = list(tmp_path.glob("edgelid-heard-*"))
                assert sum(file.stat().st_size for file in files) <= bound_bytes
    (tmp_path / "mine.wav").unlink()  # which nobody else has
    kept = np.concatenate(recorded(tmp_path))
    assert len(kept) >= 2_000
    np.testing.assert_array_equal(kept, heard[-len(kept) :])


def test_recordings_of_the_future_are_deleted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a clock that ran ahead, and was set right."""
    monkeypatch.setattr(module, "FILE_SAMPLES", 1_000)
    monkeypatch.setattr(module, "FILE_BYTES", 4_000 + module.HEADER_BYTES)
    for minute in range(4):
        (tmp_path / f"edgelid-heard-29991231T235{minute}00.000000Z.wav").write_bytes(b"x" * 4_500)
    heard = noise(2_500)
    with Recorder(tmp_path, 20_000) as recorder:
        for at in range(0, len(heard), 500):
            recorder.write(heard[at : at + 500])
    for left in tmp_path.glob("edgelid-heard-2999*"):
        left.unlink()
    np.testing.assert_array_equal(np.concatenate(recorded(tmp_path)), heard)


def test_a_clock_that_is_a_little_behind_costs_no_new_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a board without one, which has just lost its power."""
    monkeypatch.setattr(module, "FILE_SAMPLES", 1_000)
    monkeypatch.setattr(module, "FILE_BYTES", 4_000 + module.HEADER_BYTES)
    old, new = (
        tmp_path / module._name_of(datetime.now(UTC) + timedelta(hours=hours)) for hours in (-50, 1)
    )
    for file in (old, new):
        file.write_bytes(b"x" * 4_500)
    with Recorder(tmp_path, 10_000) as recorder:
        recorder.write(noise(500))
    assert new.exists() and not old.exists()


def test_a_clock_that_is_set_back_by_hours_costs_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before that stays newest by name."""
    monkeypatch.setattr(module, "FILE_SAMPLES", 1_000)
    monkeypatch.setattr(module, "FILE_BYTES", 4_000 + module.HEADER_BYTES)
    heard = noise(8_000)
    name_of = module._name_of
    (tmp_path / name_of(datetime.now(UTC))).write_bytes(b"x" * 4_500)  # of an earlier run
    with Recorder(tmp_path, 20_000) as recorder:
        recorder.write(heard[:3_500])
        monkeypatch.setattr(module, "_name_of", lambda when: name_of(when - timedelta(hours=3)))
        recorder.write(heard[3_500:])
    parts = {file.name: soundfile.read(file, dtype="float32")[0] for file in tmp_path.iterdir()}
    kept = np.concatenate([parts[name] for name in sorted(parts)])
    assert len(kept) >= 2_000
    np.testing.assert_array_equal(kept, heard[-len(kept) :])


def test_a_full_disk_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_SAMPLES", 10_000)
    heard = noise(50_000)
    with Recorder(tmp_path, 10 * FILE_BYTES) as recorder:
        with no_room_beyond(10_000):
            for start in range(0, 30_000, 1_000):
                recorder.write(heard[start : start + 1_000])
        recorder.write(heard[30_000:])
    assert len(caplog.records) >= 1
    assert "(the disk may be full): trying again every minute" in caplog.text
    *_, fourth, fifth, last = recorded(tmp_path)
    np.testing.assert_array_equal(np.concatenate([fourth, fifth, last]), heard[30_000:])


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="recordings cannot be written"):
        Recorder(tmp_path / "missing", 10 * FILE_BYTES)


def test_it_is_off_unless_asked_for_and_announced_if_so(
    edgelid: Edgelid, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "heard").mkdir()
    quiet = edgelid("listen", "--json", "--input", sample, cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert [path.name for path in tmp_path.rglob("*")] == ["heard"]
    for _ in range(2):  # on every start
        options = ["--record-to", "heard", "--log", "events.jsonl"]
        done = edgelid("listen", "--json", "--input", sample, *options, cwd=tmp_path)
        assert done.returncode == 0
        assert "edgelid: RECORDING everything that is heard to 'heard'" in done.stderr
        first = json.loads(done.stdout.splitlines()[0])
        assert (first["type"], first["folder"]) == ("recording", "heard")
    logged = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [record["type"] for record in logged].count("recording") == 2
    with FileSource(sample) as source:
        heard = np.concatenate(list(source.blocks()))
    np.testing.assert_array_equal(np.concatenate(recorded(tmp_path / "heard")[:2]), heard)
    told = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    for events in (told, logged[-len(told) :]):
        assert [event["type"] for event in events].count("segment") == quiet.stdout.count(
            '"segment"'
        )
