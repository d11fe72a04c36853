"""Memory of `edgelid listen` with second opinions: ``python -m tests.edge.opinion.memory``.

The real command hears the sample recording in real time, and what it holds is read from /proc: of
pages that no file backs the most at any time, which is what the machine must have to spare, and in
the end all that is resident.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from edge.bench.measure import SAMPLE
from edge.model.modelfile import SECOND_OPINIONS

LISTEN_S = 12.0  # by then it has been asked several times
EVERY_S = 0.002
ROW = "{:<10}{:>16}{:>16}{:>20}"


def held_mb(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Resident in the end, the most of it, and the most that no file backs, in MB."""
    found = dict.fromkeys(("VmRSS", "VmHWM", "RssAnon"), 0)
    most = 0
    until_s = time.monotonic() + LISTEN_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            sys.exit(f"edgelid listen ended with {process.returncode}")
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
        most = max(most, found["RssAnon"])
        time.sleep(EVERY_S)
    return found["VmRSS"] / 1024, found["VmHWM"] / 1024, most / 1024


def main() -> None:
    """Print a line for every model that can be asked, and one without any."""
    print(ROW.format("", "resident, MB", "at most, MB", "backed by no file"))
    for second in ("", *SECOND_OPINIONS):
        command = [sys.executable, "-m", "edge.cli", "listen", "--realtime", "--input", str(SAMPLE)]
        command += ["--second-opinion", second] if second else []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                values = held_mb(process)
            finally:
                process.kill()
        print(ROW.format(second or "none", *(f"{value:.1f}" for value in values)))


if __name__ == "__main__":
    main()
