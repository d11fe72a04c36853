"""The child process that tries a stranger's graph: ``python -m edge.model.sandbox THREADS``.

It reads a pickled :class:`edge.model.modelfile.ModelFile` from the process that started it, and
builds and runs its graphs. Its exit status is 0 if that works; 1, after a sentence on standard
output, if the graphs are refused; whatever else comes of it is the interpreter's end.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import resource
import signal
import sys
from pathlib import Path

from edge.errors import EdgelidError
from edge.model.interpreter import CANDIDATES, Candidate, WindowGraph, run_model

MAX_S = 60  # by the clock; a first start from a slow card takes a sixth of that
# What building and running may allocate: the shipped model takes 10 MB, and a Raspberry Pi
# Zero 2 W has 512 MB in all.
MAX_BYTES = 256 << 20
THREAD_BYTES = 8 << 20  # of stack


def main(threads: int) -> int:
    """Try the model on standard input; returns the exit status."""
    # The default action ends the process even within the interpreter, and without a parent, too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(MAX_S)
    model = pickle.load(sys.stdin.buffer)
    candidates = _first_to_import()
    limit_bytes = _data_bytes() + MAX_BYTES + threads * THREAD_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are no news, and cards are small
    try:
        graphs = run_model(model, threads, candidates)
        if isinstance(graphs, WindowGraph):
            graphs.try_all_lengths()
    except EdgelidError as error:
        print(error)
        return 1
    return 0


def _first_to_import() -> list[Candidate]:
    """The interpreter that will be taken; what refuses a graph is not asked for a second opinion.

    TensorFlow, which is last, needs many seconds and most of the memory allowed to load.
    """
    for candidate in CANDIDATES:
        with contextlib.suppress(Exception):
            importlib.import_module(candidate.module)
            return [candidate]
    return []


def _data_bytes() -> int:
    """Memory that this process can write to, which RLIMIT_DATA limits."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
