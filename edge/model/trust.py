"""The decision whether a model's graph may run in this process.

Interpreters do not survive every graph. ai-edge-litert verifies the offsets of the flatbuffer, but
well-formed graphs can be absurd: operands that are missing or another operator's, int8 without a
quantisation, tensors that take the memory of the machine. tflite-runtime 2.14 follows any offset.
No list of checks in Python would be complete against dozens of operators in C++; a crash in a
process of its own is. So a graph is

1. checked (`edge.model.graphcheck`), so that whatever it does it does at every run;
2. built and run once in a child process (`edge.model.sandbox`), with bounds on memory and time.
   What crashes, allocates or waits there is refused in one sentence.

The models that come along are exempt: they are as trustworthy as the code beside them, and
starting with one must cost nothing more. For any other the trial is a second start of Python,
numpy and the interpreter, once a process; no decision is kept on disk, where it would have to be
protected in its turn.

A trial is no sandbox: it protects against crashes, not against a graph made to take over the
interpreter through a flaw in it. A service's restrictions are there for that.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.errors import EdgelidError
from edge.model.graphcheck import UnfitGraph, check_graph
from edge.model.modelfile import BLOCK_BYTES, DEFAULT_MODEL, SECOND_OPINIONS, ModelFile
from edge.model.parts import files_of, open_files

MEMBER_SIGNATURE = b"PK\x03\x04"  # where the ZIP behind a graph begins
MAX_SENTENCE_LETTERS = 1_000

_TRIAL = ("-m", "edge.model.sandbox")

_ALONG = (DEFAULT_MODEL, *SECOND_OPINIONS.values())
_admitted: set[tuple[bytes, int]] = set()  # SHA-256 of graphs, and threads


def admit(model: ModelFile, threads: int) -> None:
    """Refuse a graph that this process might not survive.

    Parameters
    ----------
    model : ModelFile
    threads : int
        Of the interpreter.

    Raises
    ------
    EdgelidError
        If the graph is not admitted, crashes, takes too long or too much memory, or does not run.
    """
    if _graph_comes_along(model.graph):
        return
    tried = hashlib.sha256(model.graph).digest(), threads
    if tried in _admitted:
        return
    try:
        check_graph(model.graph)
    except UnfitGraph as error:
        raise EdgelidError(
            f"the model {str(model.path)!r} cannot be used, as its graph {error}: convert it again."
        ) from error
    _try(model, threads)
    _admitted.add(tried)


def comes_along(path: Path) -> bool:
    """Whether a model file is one that came with this program."""
    return path in _ALONG


def _graph_comes_along(graph: bytes) -> bool:
    for path in _ALONG:
        try:
            if _is_graph_of(files_of(path), graph):
                return True
        except OSError:
            continue
    return False


def _is_graph_of(files: Sequence[Path], graph: bytes) -> bool:
    """Whether what files hold is this graph, and a ZIP behind it.

    A block is held at a time, for the device's memory.
    """
    end = len(graph)
    place = 0
    with open_files(files) as opened:
        while block := opened.read(BLOCK_BYTES):
            wanted = graph[place : place + len(block)]
            wanted += MEMBER_SIGNATURE[max(0, place - end) : max(0, place + len(block) - end)]
            if not block.startswith(wanted):
                return False
            place += len(wanted)
            if place == end + len(MEMBER_SIGNATURE):
                return True
    return False


def _try(model: ModelFile, threads: int) -> None:
    import subprocess  # 10 ms that describing a model that comes along does without

    path = os.pathsep.join(filter(None, sys.path))
    # -P: modules in the folder where the command is called do not count.
    command = [sys.executable, "-P", *_TRIAL, str(threads)]
    try:
        done = subprocess.run(
            command,
            input=pickle.dumps(model),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except OSError as error:
        raise EdgelidError(
            f"the model {str(model.path)!r} cannot be tried in a process of its own "
            f"({error.strerror}): free some memory."
        ) from error
    if done.returncode == 0:
        return
    # Words of the interpreter may quote names from the file.
    said = "".join(c if c.isprintable() else " " for c in done.stdout.decode(errors="replace"))
    if done.returncode == 1 and said.strip():
        raise EdgelidError(said.strip()[:MAX_SENTENCE_LETTERS])
    raise EdgelidError(
        f"the model {str(model.path)!r} cannot be used, as the interpreter "
        f"{_end(done.returncode)}: convert it again."
    )


def _end(status: int) -> str:
    """How a trial ended, to follow "the interpreter"."""
    if status == -signal.SIGALRM:
        return "does not get done with it"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"does not survive it ({name})"
