"""What a report of many events costs: ``python -m tests.edge.report_cost [--events 1000000]``."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.outputs.timeline import seconds_of, time_of

T0 = seconds_of("2026-09-01T00:00:00.000+00:00")
LANGUAGES = ("de", "en", "fr", "es", "nl", "unknown", "nonspeech")
MEAN_S = 10.0  # of a segment


def drawn_events(events: int) -> Iterator[dict[str, Any]]:
    """As many, of segments that follow one another: two of each, and now and then a gap."""
    chance = random.Random(1)
    yield {"type": "start", "start_s": 0.0, "version": "1", "time": time_of(T0)}
    end_s, told, language = 0.0, 1, "unknown"
    while told < events:
        start_s, end_s = end_s, round(end_s + chance.expovariate(1 / MEAN_S) + 0.5, 3)
        previous = language
        language = chance.choice([other for other in LANGUAGES if other != previous])
        now = {"confidence": round(chance.uniform(0.5, 1), 4), "time": time_of(T0 + end_s)}
        change = {"language": language, "previous": previous, "start_s": end_s}
        yield {"type": "change", **change, "decided_s": end_s, **now}
        yield {"type": "segment", "language": previous, "start_s": start_s, "end_s": end_s, **now}
        told += 2
        if chance.random() < 0.001:
            start_s, end_s = end_s, round(end_s + chance.uniform(0.6, 60), 3)
            lost = {"start_s": start_s, "end_s": end_s, "reason": "device lost", "bridged": False}
            yield {"type": "gap", **lost, "time": time_of(T0 + end_s)}
            told += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        events, page = Path(folder) / "events.ndjson", Path(folder) / "report.html"
        with events.open("w") as file:
            for event in drawn_events(options.events):
                file.write(json.dumps(event) + "\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "report", str(events), "-o", str(page)]
        )
        # Of this process alone, which no other way tells.
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit("the report was not written")
        print(
            f"{options.events} events, {events.stat().st_size / 1e6:.0f} MB: "
            f"{used.ru_utime + used.ru_stime:.0f} s of processor time, "
            f"{used.ru_maxrss / 1024:.0f} MB at most; page {page.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
