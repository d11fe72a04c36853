"""Memory of `edgelid listen` with second opinions: ``python -m tests.edge.opinion.memory``.

The real command hears the sample recording in real time, and what it holds is read from /proc: of
pages that no file backs the most at any time, which is what the machine must have to spare, and in
the end all that is resident.
"""

from __future__ import annotations

import subprocess
import sys
import time

from edge.bench.measure import SAMPLE
from edge.model.modelfile import SECOND_OPINIONS
from tests.edge.live_soak import resident_bytes

LISTEN_S = 12.0  # by then it has been asked several times
EVERY_S = 0.002
ROW = "{:<10}{:>16}{:>16}{:>20}"


def held_mb(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Resident in the end, the most of it, and the most that no file backs, in MB."""
    most_bytes = 0
    until_s = time.monotonic() + LISTEN_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            sys.exit(f"edgelid listen ended with {process.returncode}")
        most_bytes = max(most_bytes, resident_bytes(process.pid, "RssAnon"))
        time.sleep(EVERY_S)
    peak_bytes = resident_bytes(process.pid, "VmHWM")
    return resident_bytes(process.pid) / 1e6, peak_bytes / 1e6, most_bytes / 1e6


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
