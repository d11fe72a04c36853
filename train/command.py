"""What commands of training and conversion share: every failure is one sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from edge.errors import EdgelidError
from edge.outputs.stdout import standard_output

DEFAULT_CACHE = Path("~/.cache/edgelid/features")


def run(program: str, work: Callable[[], None], stopped: str) -> int:
    """Do the work of a command, and say on standard error what went wrong.

    Parameters
    ----------
    program : str
        Its name, before every message.
    work : callable
        Imports what it needs itself, so that a missing package can be named.
    stopped : str
        What Ctrl-C leaves behind.

    Returns
    -------
    int
        The exit status.
    """
    try:
        with standard_output():  # a full disk or a reader that has gone is no fault of the work
            work()
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except EdgelidError as error:
        message, status = str(error), error.status
    except ImportError as error:
        missing = error.name or error
        message, status = f'{missing} is missing: pip install "edgelid[edge,train]"', 1
    except KeyboardInterrupt:
        message, status = f"stopped; {stopped}", 130
    else:
        return 0
    print(f"{program}: {message}", file=sys.stderr)
    return status
