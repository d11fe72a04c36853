"""Listening in real time: ``python -m tests.edge.live_soak [--minutes 30] [--every 5]``.

The real command hears the sample recording, played over and over into a virtual microphone. It
prints what it holds in memory, what was lost on the way, how many blocks of audio were told of
late, and what it said of each passage; with ``--second-opinion large``, with that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import soundfile
import soxr

from edge.bench.measure import SAMPLE
from tests.broker import free_port
from tests.prometheus import samples
from tests.virtual_microphone import SINK_RATE_HZ, VirtualMicrophone, virtual_microphone

IN_TIME_S = 0.1  # less than a hop: no answer is late that takes no longer


def resident_bytes(pid: int, which: str = "VmRSS") -> int:
    """What a process holds: all of it, or what its status calls otherwise."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def records(path: Path) -> list[dict[str, Any]]:
    """Events so far; the last line may not be complete yet."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def metrics(address: str) -> dict[tuple[str, ...], float]:
    """What the listener counts."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


def soak(
    microphone: VirtualMicrophone, folder: Path, minutes: int, every: int, second: str | None
) -> None:
    """Play, listen, and print."""
    audio, rate_hz = soundfile.read(SAMPLE)
    played = folder / "played.wav"
    soundfile.write(played, soxr.resample(audio, rate_hz, SINK_RATE_HZ), SINK_RATE_HZ)
    env = {**microphone.env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    events, errors = folder / "events", folder / "errors"
    address = f"127.0.0.1:{free_port()}"
    opinion = ["--second-opinion", second] if second else []
    with events.open("w") as stdout, errors.open("w") as stderr:
        listener = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge.cli", "listen", "--json", "--device", "pulse"),
                *("--web", address, *opinion),
            ],
            env=env,
            stdout=stdout,
            stderr=stderr,
        )
    player: subprocess.Popen[bytes] | None = None
    print("minutes  resident MB  processor s  segments  gaps", flush=True)
    start_s = time.monotonic()
    try:
        for minute in range(1, minutes + 1):
            while time.monotonic() < start_s + 60 * minute:
                if player is None or player.poll() is not None:
                    player = subprocess.Popen(["paplay", str(played)], env=microphone.env)
                time.sleep(0.1)
            if minute % every and minute != 1:
                continue
            kinds = Counter(event["type"] for event in records(events))
            memory_mb, used_s = resident_bytes(listener.pid) / 1e6, cpu_s(listener.pid)
            counts = f"{kinds['segment']:>8}  {kinds['gap']:>4}"
            print(f"{minute:>7}  {memory_mb:>11.2f}  {used_s:>11.1f}  {counts}", flush=True)
        counted = metrics(address)
        listener.send_signal(signal.SIGTERM)
        listener.wait(timeout=10)
    finally:
        listener.kill()
        listener.wait()
        if player is not None:
            player.kill()
            player.wait()
    heard = records(events)
    lost_s = sum(event["end_s"] - event["start_s"] for event in heard if event["type"] == "gap")
    segments = [event for event in heard if event["type"] == "segment"]
    long = [s for s in segments if s["end_s"] - s["start_s"] >= 5 and s["language"] != "unknown"]
    print(f"{segments[-1]['end_s']:.1f} s of stream, {lost_s:.3f} s of it lost")
    print("languages:", dict(Counter(segment["language"] for segment in long).most_common()))
    blocks = counted["edgelid_block_latency_seconds_count",]
    in_time = counted["edgelid_block_latency_seconds_bucket", f"{IN_TIME_S:g}"]
    print(
        f"{blocks:.0f} blocks of audio, {blocks - in_time:.0f} of them told of "
        f"after {IN_TIME_S:g} s"
    )
    for name in ("edgelid_overruns_total", "edgelid_dropped_seconds_total"):
        print(f"{name} {counted[name,]:g}")
    if second:
        asked, took_s = (
            counted[f"edgelid_second_opinion{name}_total",] for name in ("s", "_seconds")
        )
        late = counted["edgelid_second_opinions_late_total",]
        print(
            f"{asked:.0f} second opinions in {took_s:.1f} s of a core, {late:.0f} too late to count"
        )
    print("messages:", errors.read_text().strip() or "none")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.edge.live_soak", description="Listening in real time."
    )
    parser.add_argument("--minutes", type=int, default=30, help="(default 30)")
    parser.add_argument("--every", type=int, default=5, help="minutes between lines (default 5)")
    parser.add_argument("--second-opinion", metavar="MODEL", help="as of `edgelid listen`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, virtual_microphone() as microphone:
        soak(microphone, Path(folder), options.minutes, options.every, options.second_opinion)


if __name__ == "__main__":
    main()
