"""A command at every change: without a shell, in turn, never for long, and none left behind."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import ConfigError
from edge.outputs import hooks
from edge.outputs.hooks import Hook, command_words
from tests.processes import group, is_running
from tests.waiting import PATIENCE_S, wait_until


def change(language: str = "de", number: int = 0) -> dict[str, Any]:
    return {
        "type": "change",
        "language": language,
        "previous": "unknown",
        "start_s": 1.5,
        "decided_s": 3.25 + number,
        "confidence": 0.875,
        "time": "2026-11-24T12:00:00.000+00:00",
    }


@contextlib.contextmanager
def running(command: str) -> Iterator[Hook]:
    hook = Hook(command)
    try:
        yield hook
    finally:
        hook.close()


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A program that writes down its arguments, as they arrive."""
    program = tmp_path / "note"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "secrets = [name for name in os.environ if name.startswith('EDGELID_')]\n"
        "told = [*sys.argv[1:], sys.stdin.read(), *secrets]\n"
        f"open({str(tmp_path / 'noted')!r}, 'a').write(json.dumps(told) + '\\n')\n"
    )
    program.chmod(0o755)
    return program


def noted(note: Path) -> list[list[str]]:
    file = note.with_name("noted")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_arguments_are_filled_in(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELID_MQTT_PASSWORD", "secret")
    command = (
        f"{note} {{language}} 'was {{previous}}' {{confidence}}/{{start_s}} {{{{x}}}} {{time}}"
    )
    with running(command) as hook:
        hook.put(change())
        wait_until(lambda: noted(note))
    expected = ["de", "was unknown", "0.875/1.5", "{x}", "2026-11-24T12:00:00.000+00:00", ""]
    assert noted(note) == [expected]


def test_there_is_no_shell(note: Path, tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/hacked); touch {tmp_path}/hacked | `id` && 'x \"{{previous}}"
    with running(f"{note} {{language}} '*' $HOME ';' ") as hook:
        hook.put(change(hostile))
        wait_until(lambda: noted(note))
    assert noted(note) == [[hostile, "*", "$HOME", ";", ""]]
    assert not (tmp_path / "hacked").exists()


def test_only_changes_and_in_their_order(note: Path) -> None:
    with running(f"{note} {{decided_s}}") as hook:
        for number in range(5):
            hook.put({"type": "window"})
            hook.put(change(number=number))
            hook.put({"type": "segment", "language": "en"})
        wait_until(lambda: len(noted(note)) == 5)
        assert hook.lost == 0
    assert [told[0] for told in noted(note)] == [f"{3.25 + number}" for number in range(5)]


def test_audio_that_ends_or_is_lost_is_told(note: Path) -> None:
    over = {
        "type": "segment",
        "language": "de",
        "start_s": 1.5,
        "end_s": 7.5,
        "confidence": 0.9,
        "time": "2026-11-24T12:00:05.000+00:00",
    }
    with running(f"{note} {{language}} {{previous}} {{confidence}} {{start_s}} {{time}}") as hook:
        hook.put({**over, "language": "unknown"})
        hook.put(change())
        hook.put({**over, "language": "en"})  # which a change had ended
        hook.put(over)
        hook.put({**over, "language": "nonspeech"})
        hook.put(over)
        wait_until(lambda: len(noted(note)) >= 2)
    assert [told[:-1] for told in noted(note)] == [
        ["de", "unknown", "0.875", "1.5", "2026-11-24T12:00:00.000+00:00"],
        ["unknown", "de", "0.0", "7.5", "2026-11-24T12:00:05.000+00:00"],
    ]


def test_runs_do_not_overlap(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    with running(f"sh -c 'echo begin >>{file}; sleep 0.05; echo end >>{file}'") as hook:
        for number in range(4):
            hook.put(change(number=number))
        wait_until(lambda: file.exists() and len(file.read_text().split()) == 8)
    assert file.read_text().split() == ["begin", "end"] * 4


def test_one_that_hangs_is_ended_with_all_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 0.5)
    file = tmp_path / "pids"
    hang = f"sh -c 'trap \"\" TERM; sleep 600 & echo $$ $! >>{file}; wait; sleep 600'"
    with running(hang) as hook:
        hook.put(change())
        hook.put(change())
        wait_until(lambda: hook.lost == 2)
    pids = [int(pid) for pid in file.read_text().split()]
    assert len(pids) == 4
    wait_until(lambda: not any(map(is_running, pids)))
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == "on_change: events are lost (sh was ended after 0.5 s)"


def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with running(f"sh -c 'sleep 600 & echo $! >{file}.new; mv {file}.new {file}'") as hook:
        hook.put(change())
        wait_until(file.exists)
        wait_until(lambda: not is_running(int(file.read_text())))
        assert hook.lost == 0


@pytest.fixture
def of_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Groups that were to be killed and may not be, as of a program that became root."""
    kill, asked = os.killpg, set()

    def refused(leader: int, _: int) -> None:
        asked.add(leader)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(hooks.os, "killpg", refused)
    yield asked
    for leader in asked:
        with contextlib.suppress(ProcessLookupError):
            kill(leader, signal.SIGKILL)


def test_one_that_becomes_root_may_not_be_killed_and_is_not_lost(
    note: Path, of_root: set[int]
) -> None:
    with running(str(note)) as hook:
        hook.put(change())
        hook.put(change())
        wait_until(lambda: len(noted(note)) == 2)
        wait_until(lambda: len(of_root) == 2)
    assert hook.lost == 0


def test_one_that_cannot_be_ended_does_not_hold_up_the_next(
    tmp_path: Path,
    of_root: set[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 0.2)
    monkeypatch.setattr(hooks, "DIE_S", 0.1)
    with running("sleep 600") as hook:
        hook.put(change())
        hook.put(change())
        wait_until(lambda: hook.lost == 2)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    told = "sleep runs on after 0.2 s and cannot be ended"
    assert warning == f"on_change: events are lost ({told})"


def test_failure_is_said_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(f"sh -c 'test {{language}} = en || exit 3; touch {tmp_path}/ok'") as hook:
        for language in ("de", "fr", "en"):
            hook.put(change(language))
        wait_until((tmp_path / "ok").exists)
    assert hook.lost == 2
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings[0] == "on_change: events are lost (sh ended with status 3)"
    assert warnings[1] == "on_change: events get through again; 2 were lost"


def test_a_program_that_goes_away(note: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(str(note)) as hook:
        note.unlink()
        hook.put(change())
        wait_until(lambda: hook.lost == 1)
    assert "cannot be run (No such file or directory)" in caplog.text


def test_output_goes_to_the_log_and_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running("sh -c 'echo one; echo two >&2; head -c 1000000 /dev/zero | tr \\\\0 x'") as hook:
        hook.put(change())
        wait_until(lambda: caplog.records)
        assert hook.lost == 0
    text = caplog.records[0].getMessage()
    assert text.startswith("on_change says: one two xxx")
    assert len(text) <= hooks.OUTPUT_BYTES + 20


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo {lang}", "has {lang}, and only {language}, {previous}"),
        ("echo {}", "has {}"),
        ("echo {language.upper}", "has {language.upper}"),
        ("echo {language!r}", "has {language!r}"),
        ("echo {language:>99999999}", "has {language:>99999999}"),
        ("echo {language", "; a brace is written twice."),
        ("echo }", "cannot be read"),
        ("echo 'one", "cannot be read (No closing quotation)."),
        (" ", "has no program"),
        ("{language} x", "must not leave the program to the language"),
        ("/no/such/program x", "needs a program '/no/such/program'"),
        ("no-such-program-anywhere", "which is not there"),
    ],
)
def test_commands_that_are_none(command: str, words: str) -> None:
    with pytest.raises(ConfigError) as failure:
        command_words(command)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_program_that_may_not_be_run(tmp_path: Path) -> None:
    program = tmp_path / "change.sh"
    program.touch(0o644)
    with pytest.raises(ConfigError, match=r"change\.sh', which may not be run: `chmod \+x` allows"):
        command_words(f"{program} {{language}}")


# --- the command -----------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_ends_a_hook_that_hangs(
    environment: dict[str, str], tmp_path: Path, sample: Path
) -> None:
    file = tmp_path / "pid"
    hang = f"sh -c 'trap \"\" TERM HUP INT; echo $$ >{file}.new; mv {file}.new {file}; sleep 600'"
    listen = [sys.executable, "-m", "edge.cli", "listen", "--realtime", "--input", str(sample)]
    process = subprocess.Popen([*listen, "--on-change", hang], env=environment)
    try:
        wait_until(file.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not group(int(file.read_text())))


def test_a_bad_command_is_a_sentence(edgelid: Any, sample: Path, tmp_path: Path) -> None:
    done = edgelid("listen", "--input", sample, "--on-change", "echo {x}")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("edgelid: the command of on_change has {x}, and only")
    (tmp_path / "edgelid.toml").write_text('on_change = "no-such-program"\n')
    done = edgelid("config", "check", tmp_path / "edgelid.toml")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "needs a program 'no-such-program'" in done.stderr
