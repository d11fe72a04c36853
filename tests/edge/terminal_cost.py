"""What the live view costs: the command at a terminal against the same command without one.

    python -m tests.edge.terminal_cost

Both listen to the sample recording as fast as it would play, one after the other.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.edge.pseudo_terminal import pseudo_terminal

SAMPLE = Path(__file__).parents[2] / "edge/samples/languages.opus"
SAMPLE_S = 71.6
LISTEN = [sys.executable, "-m", "edge.cli", "listen", "--realtime", "--input", str(SAMPLE)]


def processor_s() -> float:
    """Processor time of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run both and tell."""
    before_s = processor_s()
    subprocess.run(LISTEN, check=True, stdout=subprocess.DEVNULL)
    plain_s = processor_s() - before_s
    with pseudo_terminal(LISTEN) as terminal:
        terminal.wait()
        sent_kb = len(terminal.sent) / 1_000
    live_s = processor_s() - before_s - plain_s
    print(
        f"without a terminal {plain_s:.2f} s of processor time, {plain_s / SAMPLE_S:.2%} of a core"
    )
    print(f"at a terminal      {live_s:.2f} s of processor time, {live_s / SAMPLE_S:.2%} of a core")
    print(f"written to it      {sent_kb:.1f} kB, {sent_kb / SAMPLE_S:.2f} kB/s")


if __name__ == "__main__":
    main()
