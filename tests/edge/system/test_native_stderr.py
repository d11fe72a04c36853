"""What native libraries print to standard error goes to the log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from edge.system.native_stderr import PIPE_BYTES, stderr_to_log, threads_stderr_to_log


@pytest.fixture(autouse=True)
def at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_lines_go_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = open_descriptors()
    with stderr_to_log("ALSA"):
        os.write(2, b"no such card\nno such \xff device\n")
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "and on\n"
    assert caplog.messages == ["ALSA: no such card", "ALSA: no such \ufffd device"]
    assert open_descriptors() == before


def test_nothing_printed_is_nothing_logged(caplog: pytest.LogCaptureFixture) -> None:
    with stderr_to_log("ALSA"):
        pass
    assert caplog.messages == []


def test_an_error_comes_through(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError), stderr_to_log("ALSA"):
        os.write(2, b"last words\n")
        raise ZeroDivisionError
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "and on\n"
    assert caplog.messages == ["ALSA: last words"]


def test_a_long_complaint_does_not_block(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    line = b"x" * 999 + b"\n"
    with stderr_to_log("ALSA"):
        written = 0
        with pytest.raises(BlockingIOError):  # which libraries in C pass over
            for _ in range(10 * PIPE_BYTES // len(line)):
                written += os.write(2, line)
    assert capfd.readouterr().err == ""
    assert 0 < len(caplog.messages) <= written // len(line) + 1


def test_two_at_once_that_end_in_any_order(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As two threads do that open a model each: the first to begin is the first to end."""
    before = open_descriptors()
    one, other = stderr_to_log("one"), stderr_to_log("other")
    one.__enter__()
    os.write(2, b"the first\n")
    other.__enter__()
    os.write(2, b"both\n")
    one.__exit__(None, None, None)
    os.write(2, b"the second\n")
    other.__exit__(None, None, None)
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "and on\n"
    assert caplog.messages == ["one: the first", "other: both", "other: the second"]
    assert open_descriptors() == before


@pytest.mark.parametrize("thread_begins", [True, False])
def test_beside_the_threads_of_a_library(
    capfd: pytest.CaptureFixture[str], thread_begins: bool
) -> None:
    """A microphone is opened while a model is."""
    before = open_descriptors()
    both = [threads_stderr_to_log("ALSA"), stderr_to_log("TensorFlow")]
    if not thread_begins:
        both.reverse()
    for each in both:
        each.__enter__()
    for each in both:
        os.write(2, b"not for people\n")
        each.__exit__(None, None, None)
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "and on\n"
    assert open_descriptors() == before


def test_a_closed_standard_error_stays_closed(environment: dict[str, str]) -> None:
    """Its descriptor may belong to the very file that is being read."""
    script = """
import os
from edge.system.native_stderr import stderr_to_log, threads_stderr_to_log
descriptor = os.open(os.devnull, os.O_WRONLY)
with stderr_to_log("ALSA"):
    print(descriptor, os.readlink("/proc/self/fd/2"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.close(2),
        timeout=60,
    )
    assert done.stdout == b"2 /dev/null\n"


def test_what_threads_log_meanwhile_is_not_lost(environment: dict[str, str]) -> None:
    script = """
import logging, os, threading
from edge.system.native_stderr import log_stream, stderr_to_log
logging.basicConfig(format="%(message)s", stream=log_stream())
with stderr_to_log("ALSA"):
    os.write(2, b"no such card\\n")
    thread = threading.Thread(target=logging.warning, args=["the broker has gone"])
    thread.start()
    thread.join()
    logging.warning("and on")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, timeout=60)
    assert done.stderr == b"the broker has gone\nand on\n"


def test_what_threads_of_a_library_print_goes_to_the_log(environment: dict[str, str]) -> None:
    """More than a pipe holds, and none of what Python prints or a traceback says."""
    script = """
import logging, os, sys, threading
from edge.system.native_stderr import log_stream, stderr_to_log, threads_stderr_to_log
logging.basicConfig(format="%(message)s", stream=log_stream(), level=logging.WARNING)
seen = []
log = logging.getLogger("edge.system.native_stderr")
log.setLevel(logging.DEBUG)
log.propagate = False
handler = logging.Handler()
handler.emit = lambda record: seen.append(record.getMessage())
log.addHandler(handler)
descriptors = len(os.listdir("/proc/self/fd"))
with threads_stderr_to_log("ALSA"):
    thread = threading.Thread(target=lambda: [os.write(2, b"lost %d\\n" % i) for i in range(99)])
    thread.start()
    thread.join()
    with stderr_to_log("libsndfile"):
        os.write(2, b"a header\\n")
    os.write(2, b"and on\\n")
    print("ours", file=sys.stderr)
    logging.warning("logged")
    failing = threading.Thread(target=lambda: 1 / 0)
    failing.start()
    failing.join()
os.write(2, b"the end\\n")
assert len(os.listdir("/proc/self/fd")) == descriptors
assert sorted(seen) == sorted(
    [*(f"ALSA: lost {i}" for i in range(99)), "libsndfile: a header", "ALSA: and on"]
)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines[:2] == ["ours", "logged"]
    assert lines[-2:] == ["ZeroDivisionError: division by zero", "the end"]
    assert "ALSA" not in done.stderr.decode()
