"""``edgelid listen`` in a process of its own, which tells what it cost: ``-m edge.bench.child``.

The real command runs. Beside every line that it prints, this writes a line of JSON to standard
error: processor time and memory so far, and what has been imported.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def main(arguments: list[str]) -> int:
    """Listen.

    Parameters
    ----------
    arguments : list of str
        Modules that listening imports sooner or later, separated by commas; then what to hand to
        ``edgelid listen``.
    """
    before = set(sys.modules)  # what Python itself, or the environment, loads for any program
    start_s = time.perf_counter()
    for name in arguments[0].split(","):
        importlib.import_module(name)
    import_s = time.perf_counter() - start_s

    from edge.cli import main
    from edge.outputs.stdout import Output
    from edge.system.machine import memory_bytes

    print_record = Output.record

    def told(self: Output, record: dict[str, Any]) -> None:
        cpu_s = time.process_time()
        print_record(self, record)
        figures = {
            "import_s": import_s,
            "cpu_s": cpu_s,
            "resident_bytes": memory_bytes("VmRSS"),
            "peak_bytes": memory_bytes("VmHWM"),
            "modules": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
        }
        print(json.dumps(figures), file=sys.stderr, flush=True)

    Output.record = told  # type: ignore[method-assign]
    return main(["listen", "--json", *arguments[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
