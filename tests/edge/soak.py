"""Memory over a day of listening: ``python -m tests.edge.soak [--hours 24] [--input FILE]``.

The recording is heard again and again, as fast as it goes, by what `edgelid listen` runs: from
PortAudio's callback on, through the ring, to the decoder. Every hour of audio prints what is
resident, how many blocks Python holds, and what was lost; none of it may grow.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.audio.microphone import MicrophoneSource
from edge.audio.sources import FileSource, Gap, Sound
from edge.bench.measure import SAMPLE
from edge.frontend import SAMPLE_RATE_HZ
from edge.listener import Listener
from edge.model.interpreter import open_model
from edge.model.modelfile import DEFAULT_MODEL, read_model
from edge.system.machine import memory_bytes
from tests.edge.flaky_portaudio import World


class Held(NamedTuple):
    """Memory, once so much of a stream has been heard."""

    heard_s: float
    resident_bytes: int | None
    allocated_blocks: int


def soak(sounds: Iterable[Sound], interval_s: float, intervals: int) -> Iterator[Held]:
    """Listen to a stream.

    Parameters
    ----------
    sounds : iterable of ndarray of float32, shape (n,), Gap or Level
        As an audio source gives them, long enough.
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

    def counted() -> Iterator[Sound]:
        nonlocal heard_samples
        for sound in sounds:
            if isinstance(sound, np.ndarray):
                heard_samples += len(sound)
            yield sound

    told = 0
    for _ in listener.hear(counted()):
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
    print("hours  resident MB  blocks  gaps", flush=True)
    with FileSource(options.input) as file:
        world = World(np.concatenate(list(file.blocks())), faults=0, seed=1)
    gaps = 0

    def sounds(source: MicrophoneSource) -> Iterator[Sound]:
        nonlocal gaps
        for sound in source.blocks():
            gaps += isinstance(sound, Gap)
            yield sound

    start_s = time.monotonic()
    with MicrophoneSource(sounddevice=world, clock=world) as source:
        for held in soak(sounds(source), 3600.0, options.hours):
            resident = "–" if held.resident_bytes is None else f"{held.resident_bytes / 1e6:.2f}"
            counts = f"{held.allocated_blocks:>6}  {gaps:>4}"
            print(f"{held.heard_s / 3600:5.1f}  {resident:>11}  {counts}", flush=True)
        speed = options.hours * 3600 / (time.monotonic() - start_s)
        print(f"{source.dropped_samples} samples dropped; {speed:.0f} times real time")


if __name__ == "__main__":
    main()
