"""The event log loses at most the record being written, and says what it could not write."""

from __future__ import annotations

import functools
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EdgelidError
from edge.outputs.eventlog import EventLog, check_log, read_records

FILE_BYTES = 2_000
FILES = 3


def event(number: int, text: str = "") -> dict[str, Any]:
    return {"type": "change", "number": number, "text": text}


def write(path: Path, numbers: range, text: str = "", files: int = FILES) -> None:
    with EventLog(path, FILE_BYTES, files) as log:
        for number in numbers:
            log.record(event(number, text))


def records(path: Path) -> list[dict[str, Any]]:
    """Of all files, from the oldest on; every line must be one."""
    numbered = sorted(
        path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix.removeprefix("."))
    )
    lines = b"".join(file.read_bytes() for file in [*numbered, path] if file.exists())
    assert lines == b"" or lines.endswith(b"\n")
    return [json.loads(line) for line in lines.splitlines()]


def numbers(path: Path) -> list[int]:
    return [record["number"] for record in records(path)]


def total_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_records_are_kept_over_restarts(path: Path) -> None:
    write(path, range(5), "Grüße, 你好")
    write(path, range(5, 9))
    assert numbers(path) == list(range(9))
    assert records(path)[0]["text"] == "Grüße, 你好"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_record_is_one_write_and_then_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("write", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (calls.append(n), r(*a))[1])
    write(path, range(3))
    assert calls == ["write", "fdatasync"] * 3


@pytest.mark.parametrize("before", [0, 1, 3])
def test_truncation_at_every_byte_of_the_last_record(path: Path, before: int) -> None:
    write(path, range(before + 1), "Grüße")
    whole = path.read_bytes()
    last_start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last_start, len(whole) + 1):
        path.write_bytes(whole[:length])
        write(path, range(100, 101))
        complete = before + (length == len(whole))
        assert numbers(path) == [*range(complete), 100], length


@pytest.mark.parametrize("before", [0, 1, 3])
def test_zeros_at_every_byte_of_the_last_record(path: Path, before: int) -> None:
    """As a file system leaves them that knew the length of a record, and not its bytes."""
    write(path, range(before + 1), "Grüße")
    whole = path.read_bytes()
    last_start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for start in range(last_start, len(whole)):
        path.write_bytes(whole[:start] + bytes(len(whole) - start))
        write(path, range(100, 101))
        assert numbers(path) == [*range(before), 100], start
    for start in range(last_start, len(whole) - 1):  # a block before the end of it was not written
        path.write_bytes(whole[:start] + b"\0" + whole[start + 1 :])
        write(path, range(100, 101))
        assert numbers(path) == [*range(before), 100], start


@pytest.mark.slow
@given(
    texts=st.lists(st.text(max_size=300), max_size=60),
    file_bytes=st.integers(500, 4_000),
    files=st.integers(2, 5),
    restarts=st.sets(st.integers(0, 60)),
)
@settings(max_examples=40)
def test_rotation_keeps_the_newest_within_the_bound(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    file_bytes: int,
    files: int,
    restarts: set[int],
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = EventLog(path, file_bytes, files)
    for number, text in enumerate(texts):
        if number in restarts:
            log.close()
            log = EventLog(path, file_bytes, files)
        log.record(event(number, text))
        size = len(json.dumps(event(number, text), ensure_ascii=False).encode()) + 1
        assert total_bytes(path) <= max(file_bytes, size) + file_bytes * (files - 1)
        found = numbers(path)
        assert found == list(range(found[0], number + 1))
    log.close()


def test_lower_bounds_delete_the_oldest(path: Path) -> None:
    write(path, range(200), "x" * 100, files=6)
    assert len(list(path.parent.iterdir())) == 6
    last = numbers(path)[-1]
    with EventLog(path, FILE_BYTES, 6) as log:
        log.bound(FILE_BYTES, 2)
        assert len(list(path.parent.iterdir())) == 2
        assert numbers(path)[-1] == last
    with EventLog(path, 500, 2):
        assert total_bytes(path) <= FILE_BYTES  # the one that is being written


def test_a_rotation_that_was_interrupted_loses_nothing(path: Path) -> None:
    """Names move one after the other, each atomically: whatever was done, the next goes on."""
    write(path, range(200), "x" * 100, files=4)
    kept = numbers(path)
    names = [path.with_name(f"{path.name}.{number}") for number in range(1, 4)]
    names[2].unlink()
    kept = numbers(path)
    for source, target in ((names[1], names[2]), (names[0], names[1]), (path, names[0])):
        source.rename(target)
        assert numbers(path) == kept
        with EventLog(path, FILE_BYTES, 4):
            pass
        if path.exists() and not path.stat().st_size:
            path.unlink()
    write(path, range(200, 201), files=4)
    assert numbers(path) == [*kept, 200]


WRITER = f"""
import sys
from pathlib import Path
from edge.outputs.eventlog import EventLog

with EventLog(Path(sys.argv[1]), {FILE_BYTES}, {FILES}) as log:
    number = int(sys.argv[2])
    while True:
        log.record({{"type": "change", "number": number, "text": "x" * (number % 97)}})
        # Only what is written may be told: the pipe says what the disk must hold.
        sys.stdout.buffer.raw.write(b"%d\\n" % number)
        number += 1
"""


@pytest.mark.slow
def test_killed_at_random_points(path: Path, environment: dict[str, str]) -> None:
    chance = random.Random(6)
    number = 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        last_told = int(told[-1])
        with EventLog(path, FILE_BYTES, FILES):  # as the next start opens it
            found = numbers(path)
        assert found == list(range(found[0], found[-1] + 1))
        # One may have been written and not told any more; none that was told is missing.
        assert found[-1] - last_told in (0, 1)
        number = found[-1] + 1
    assert number > 300


@contextmanager
def no_room_beyond(size_bytes: int) -> Iterator[None]:
    """The kernel writes no file further than this, as if the disk were full, and says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 1, 20])
def test_a_full_disk_loses_events_and_says_how_many(
    path: Path, caplog: pytest.LogCaptureFixture, room_bytes: int
) -> None:
    with EventLog(path, FILE_BYTES, FILES) as log:
        log.record(event(0))
        with no_room_beyond(path.stat().st_size + room_bytes):
            for number in range(1, 8):
                log.record(event(number))
            assert numbers(path) == [0]
        assert len(caplog.records) == 1
        assert "events are lost until" in caplog.text
        log.record(event(8))
        log.record(event(9))
    before, lost, *after = records(path)
    assert (before, after) == (event(0), [event(8), event(9)])
    assert (lost["type"], lost["events"]) == ("lost", 7)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "7 event(s) were lost" in caplog.records[-1].getMessage()


def test_a_full_tmpfs(tmp_path: Path, environment: dict[str, str]) -> None:
    """A file system that is full from the start, and has room later."""
    script = tmp_path / "fill.py"
    script.write_text("""
import logging, os, sys
from pathlib import Path
from edge.outputs.eventlog import EventLog
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1])
with open(folder / "ballast", "wb", buffering=0) as ballast:
    try:
        while ballast.write(b"x" * 4096): pass
    except OSError: pass
with EventLog(folder / "events.jsonl", 2000, 3) as log:
    for number in range(5):
        log.record({"type": "change", "number": number})
    (folder / "ballast").unlink()
    log.record({"type": "change", "number": 5})
print((folder / "events.jsonl").read_text())
""")
    mounted = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path / "full")]
    (tmp_path / "full").mkdir()
    try:
        can = subprocess.run([*command, "true", ""], check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs unshare, of util-linux")
    if can.returncode:
        pytest.skip(f"no file system can be mounted here: {can.stderr.decode().strip()}")
    done = subprocess.run(
        [*command, sys.executable, str(script)],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    warning, again, *lines = done.stdout.split("\n")
    assert "No space left on device" in warning
    assert "5 event(s) were lost" in again
    found = [json.loads(line) for line in lines if line]
    assert [record.get("events", record.get("number")) for record in found] == [5, 5]


def test_a_log_that_is_taken_away_begins_anew(path: Path) -> None:
    with EventLog(path, FILE_BYTES, FILES) as log:
        log.record(event(0))
        path.unlink()
        log.record(event(1))
        assert numbers(path) == [1]
        path.rename(path.with_name("kept"))
        log.record(event(2))
    assert numbers(path) == [2]


NONE = {
    "text": b"Es war einmal\n" * 10,
    "no lines": b"x" * 100,
    "other JSON": b'{"a": 1}\n',
    "a map": b'{"type": "FeatureCollection", "features": []}',
    "a map of lines": b'{"type": "FeatureCollection", "features": [\n]}\n',
    "an endless line": b'{"type": "' + b"x" * 100_000,
}


@pytest.mark.parametrize("content", NONE.values(), ids=NONE)
def test_a_file_that_is_no_log_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EdgelidError, match="is no event log"):
        EventLog(path, FILE_BYTES, FILES)
    assert path.read_bytes() == content


def test_a_record_that_is_nested_too_deeply_is_none(path: Path) -> None:
    write(path, range(3))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": ' + b"[" * 50_000 + b"\n")
    assert [record["number"] for record in read_records(path)] == [0, 1, 2]
    check_log(path)
    write(path, range(3, 4))
    assert path.read_bytes().startswith(whole)
    assert numbers(path) == [0, 1, 2, 3]


def test_a_pipe_or_a_device_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        for use in (check_log, functools.partial(EventLog, file_bytes=FILE_BYTES, files=FILES)):
            with pytest.raises(EdgelidError, match=f"{path}' is no regular file: give a file"):
                use(path)


def test_a_pipe_among_older_logs_is_passed_over(tmp_path: Path) -> None:
    """Opening one would wait for a writer, perhaps for ever."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "start", "number": 1}\n')
    os.mkfifo(tmp_path / "events.jsonl.1")
    assert [record["number"] for record in read_records(path)] == [1]
    os.mkfifo(tmp_path / "pipe")
    assert [*read_records(tmp_path / "pipe")] == []


def make_folder(path: Path) -> None:
    path.mkdir()


def lose_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize("spoil", [make_folder, lose_folder])
def test_a_place_that_is_none(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "logs" / "events.jsonl"
    path.parent.mkdir()
    spoil(path)
    with pytest.raises(EdgelidError, match="cannot be written"):
        EventLog(path, FILE_BYTES, FILES)


def test_files_of_long_ago_are_not_read_for_what_is_newer(path: Path) -> None:
    write(path, range(200))
    older = path.with_name(f"{path.name}.2")
    assert [record["number"] for record in read_records(path)] == numbers(path)
    os.utime(older, (1_000.0, 1_000.0))
    found = [record["number"] for record in read_records(path, since=1_001.0)]
    of_older = [json.loads(line)["number"] for line in older.read_text().splitlines()]
    assert of_older and [*of_older, *found] == numbers(path)
    assert len([*read_records(path, since=1_000.0)]) == len(numbers(path))


def test_one_writer_at_a_time(path: Path) -> None:
    with (
        EventLog(path, FILE_BYTES, FILES) as log,
        pytest.raises(EdgelidError, match="another process"),
    ):
        EventLog(path, FILE_BYTES, FILES)
    del log
    assert not [name for name in os.listdir(path.parent) if name != path.name]
