"""What viewers cost: ``python -m tests.edge.outputs.web.viewers [--minutes 10] [--viewers 5]``.

The real command listens to the sample recording in real time, over and over. First nobody
watches, then some do, each asking for what the page asks for. It prints the processor time of
either, memory, and how long after its event a change of language reached the viewers.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from edge.bench.measure import SAMPLE
from edge.outputs.timeline import seconds_of
from tests.edge.live_soak import cpu_s, resident_bytes
from tests.edge.outputs.web.conftest import events

ALONE_MINUTES = 2.0
START_S = 60.0
LOADS = ("/", "/api/v1/segments?since=0", "/api/v1/probabilities?since=0")


@contextlib.contextmanager
def listening(
    folder: Path, *options: str, minutes: float, stdout: int | IO[str] = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``edgelid listen --web``; gives the process and its port."""
    samples, rate_hz = soundfile.read(SAMPLE, dtype="float32")
    times = max(1, round(60 * minutes * rate_hz / len(samples) + 0.5))
    played = folder / "played.wav"
    soundfile.write(played, np.tile(samples, times), rate_hz)
    errors = folder / "errors"
    command = ["listen", "--input", str(played), "--realtime", *(options or ("--web", "0"))]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    try:
        yield process, port_of(process, errors)
    finally:
        process.kill()
        process.wait()


def port_of(process: subprocess.Popen[str], errors: Path) -> int:
    """Where the page is, once the command has said so."""
    deadline_s = time.monotonic() + START_S
    while (found := re.search(r"page is at http://[^/]*:(\d+)/\S*\n", errors.read_text())) is None:
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < deadline_s, "no web page"
        time.sleep(0.05)
    return int(found[1])


def watch(port: int, delays_s: list[float]) -> None:
    """Do what the page does, until the server ends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for target in LOADS:
        connection.request("GET", target)
        connection.getresponse().read()
    connection.request("GET", "/api/v1/events")
    with contextlib.suppress(OSError, http.client.HTTPException):
        for _, kind, data in events(connection.getresponse()):
            if kind == "change":
                delays_s.append(time.time() - seconds_of(data["time"]))


def measure(minutes: float, viewers: int) -> None:
    """Listen, watch, and print."""
    with (
        tempfile.TemporaryDirectory() as folder,
        listening(Path(folder), minutes=ALONE_MINUTES + minutes + 1) as (process, port),
    ):
        time.sleep(5)  # what starts costs more
        delays_s: list[float] = []
        shares: list[float] = []
        print("minutes  viewers  processor, % of a core  resident MB", flush=True)
        for count, lasting in ((0, ALONE_MINUTES), (viewers, minutes)):
            threads = [
                threading.Thread(target=watch, args=(port, delays_s), daemon=True)
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            start_s, used_s = time.monotonic(), cpu_s(process.pid)
            time.sleep(60 * lasting)
            shares.append(100 * (cpu_s(process.pid) - used_s) / (time.monotonic() - start_s))
            memory_mb = resident_bytes(process.pid) / 1e6
            print(f"{lasting:>7g}  {count:>7}  {shares[-1]:>22.2f}  {memory_mb:>11.1f}", flush=True)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    print(f"the viewers cost {shares[1] - shares[0]:.2f} % of a core")
    told = f"{len(delays_s)} changes reached viewers"
    if delays_s:
        told += f" after {1000 * statistics.median(delays_s):.1f} ms (median), "
        told += f"{1000 * max(delays_s):.1f} ms (longest)"
    print(told)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.edge.outputs.web.viewers", description="What viewers cost."
    )
    parser.add_argument("--minutes", type=float, default=10, help="watched (default 10)")
    parser.add_argument("--viewers", type=int, default=5, help="(default 5)")
    options = parser.parse_args()
    measure(options.minutes, options.viewers)


if __name__ == "__main__":
    main()
