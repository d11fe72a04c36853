"""Runs ``edgelid listen`` in a process of its own, and tells what it cost: ``-m edge.bench.child``.

The real command runs; it stands above what measures it, and so is named, as in a shell. Beside
every line that it prints, this writes a line of JSON to standard error: processor time and memory
so far, and what has been imported.
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
        Modules that listening imports sooner or later, separated by commas, the first of which is
        the command; then what to hand to ``edgelid listen``.
    """
    before = set(sys.modules)  # what Python itself, or the environment, loads for any program
    start_s = time.perf_counter()
    command, *_ = [importlib.import_module(name) for name in arguments[0].split(",")]
    import_s = time.perf_counter() - start_s

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
    status: int = command.main(["listen", "--json", *arguments[1:]])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
