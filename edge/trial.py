"""The process in which a stranger's graph is tried: ``python -m edge.trial THREADS``.

It reads a pickled :class:`edge.modelfile.ModelFile` from the process that started it, and builds
and runs its graphs. Its exit status is 0 if that works; 1, after a sentence on standard output,
if the graphs are refused; whatever else comes of it is the interpreter's end.
"""

from __future__ import annotations

import pickle
import resource
import signal
import sys

from edge.errors import EdgelidError
from edge.interpreter import run_model

MAX_S = 60  # by the clock; a first start from a slow card takes a sixth of that
# What the interpreter allocates, beside Python and numpy. The shipped model takes 10 MB.
MAX_BYTES = 384 << 20
THREAD_BYTES = 8 << 20  # of stack


def main(threads: int) -> int:
    """Try the model on standard input; returns the exit status."""
    limit_bytes = MAX_BYTES + threads * THREAD_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are no news, and cards are small
    # The default action ends the process even within the interpreter, and without a parent, too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(MAX_S)
    model = pickle.load(sys.stdin.buffer)
    try:
        run_model(model, threads)
    except EdgelidError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
