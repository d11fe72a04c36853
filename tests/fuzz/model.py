"""Fuzz what reads model files: ``python -m tests.fuzz.model --seconds 3600 --work FOLDER``.

Guided by the coverage of `edge.model.modelfile` and `edge.model.graphcheck` (atheris, which is
libFuzzer; it comes with the extra ``fuzz``). What happens to each input, `tests.fuzz.modeltarget`
tells. Inputs are kept in FOLDER: in ``findings`` what must not happen, one of each; in ``crashed``
all that crashed a trial; in ``corpus`` those that reached something new. ``model.json`` says how
far it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["edge.model.modelfile", "edge.model.graphcheck", "numpy.lib"]
):
    from tests.fuzz.modeltarget import CRASHED, FINDING, outcome

from tests.fuzz.books import Books
from tests.fuzz.child import give_way
from tests.fuzz.hostile import mutated
from tests.fuzz.seeds import MODELS

MAX_INPUT_BYTES = 1 << 16


def main() -> int:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    give_way()
    logging.disable()
    books = Books(options.work, "model", ".tflite")
    for folder in ("corpus", "findings"):  # which libFuzzer writes to itself
        (options.work / folder).mkdir(exist_ok=True)
    seeds = [path.read_bytes() for path in sorted(MODELS.glob("seed-*"))]

    def execute(data: bytes) -> None:
        kind, reason = outcome(data)
        books.count(kind)
        if kind == FINDING:
            books.keep("findings", data, reason)
        elif kind == CRASHED:  # where in the interpreter, nothing tells: all are kept
            books.keep("crashed", data, reason, each=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def anyhow(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part or b"\0", max(1, min(len(part) + 64, max_size))))

        # Half of all start anew: what is broken in one place is refused there, and rarely mended.
        whole = seeds[seed // 2 % len(seeds)] if seed % 2 else data
        new = mutated(whole, seed, anyhow)
        return new if len(new) <= max_size else data

    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-timeout=60",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={options.work}/findings/",
        str(options.work / "corpus"),
        str(MODELS),
    ]
    atheris.Setup(arguments, execute, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
