"""Memory over a day of listening: ``python -m tests.edge.soak [--hours 24] [--input FILE]``.

The recording is heard again and again, as fast as it goes, by what `edgelid listen` runs. Every
hour of audio prints what is resident and how many blocks Python holds; neither may grow.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edge.bench.machine import memory_bytes
from edge.bench.measure import SAMPLE
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.interpreter import open_model
from edge.listen import Listener
from edge.modelfile import DEFAULT_MODEL, read_model
from edge.sources import FileSource


class Held(NamedTuple):
    """Memory, once so much of a stream has been heard."""

    heard_s: float
    resident_bytes: int | None
    allocated_blocks: int


def soak(blocks: Sequence[Float32Array], interval_s: float, intervals: int) -> Iterator[Held]:
    """Listen to a recording over and over, as one stream.

    Parameters
    ----------
    blocks : sequence of ndarray of float32, shape (n,)
        16 kHz mono.
    interval_s : float
        Of audio.
    intervals : int

    Yields
    ------
    Held
        After every interval of audio.
    """
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    heard_samples = 0

    def again() -> Iterator[Float32Array]:
        nonlocal heard_samples
        for block in itertools.cycle(blocks):
            heard_samples += len(block)
            yield block

    told = 0
    for _ in listener.hear(again()):
        if heard_samples < (told + 1) * interval_s * SAMPLE_RATE_HZ:
            continue
        told += 1
        gc.collect()
        yield Held(heard_samples / SAMPLE_RATE_HZ, memory_bytes("VmRSS"), sys.getallocatedblocks())
        if told == intervals:
            return


def main() -> None:
    """Listen and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.edge.soak", description="Memory over hours of listening."
    )
    parser.add_argument("--hours", type=int, default=24, help="of audio (default 24)")
    parser.add_argument("--input", type=Path, default=SAMPLE, help="recording to repeat")
    options = parser.parse_args()
    print("hours  resident MB  blocks")
    with FileSource(options.input) as source:
        blocks = list(source.blocks())
    for held in soak(blocks, 3600.0, options.hours):
        resident = "–" if held.resident_bytes is None else f"{held.resident_bytes / 1e6:.2f}"
        print(f"{held.heard_s / 3600:5.1f}  {resident:>11}  {held.allocated_blocks}", flush=True)


if __name__ == "__main__":
    main()
