"""What is counted, to be run as a script on the emulated processor.

`python guest_costs.py TASK FILE` prints, as JSON, which regions of `counting.c` it went through,
by what to divide what was counted there, where which code lay, and which versions of what that was.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.audio.sources import BLOCK_S
from edge.bench.recomputation import Recomputation
from edge.bench.stages import Call, watch
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Listener
from edge.model.interpreter import open_graphs, open_model
from edge.model.modelfile import DEFAULT_MODEL, read_model
from edge.opinion.expert import ExpertFile

# Of counting.c.
MAGIC = 0x4D410000
START = 16
STOP = 17
WARM_UP_S = 4.8  # until the longest window that is asked for is full
COUNTED_S = 16.0  # whole hops of 160, 320, 640 ms, and whole blocks
RECOMPUTED_WINDOWS = 4
RECOMPUTED_S = 3.0  # of a window: what the usual runtime hears at once
OPINIONS = 2


class Regions:
    """Tells the counting plugin where the program is.

    Attributes
    ----------
    names : list of str
        Of the regions from 1 on. The first is what is in no other.
    """

    def __init__(self) -> None:
        self.names = ["rest"]
        null = os.open(os.devnull, os.O_RDONLY)
        self._call = partial(os.lseek, null)

    def start(self) -> None:
        """Count from now on."""
        self._call(MAGIC + START, os.SEEK_SET)
        self._call(MAGIC + 1, os.SEEK_SET)

    def stop(self) -> None:
        """Count no more."""
        self._call(MAGIC + STOP, os.SEEK_SET)

    def around(self, name: str, call: Call) -> Call:
        """Let what a call does be a region: for `edge.bench.stages.watch`."""
        self.names.append(name)
        enter, leave = (
            partial(self._call, MAGIC + region, os.SEEK_SET) for region in (len(self.names), 1)
        )

        def counted(*arguments: Any) -> Any:
            enter()
            answer = call(*arguments)
            leave()
            return answer

        return counted


def listening(file: Path, regions: Regions) -> float:
    """`edgelid listen`, from blocks of samples to the decoder's decision, by seconds of audio."""
    samples = np.load(file)[: round((WARM_UP_S + COUNTED_S) * SAMPLE_RATE_HZ)]
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    watch(listener, regions.around)

    def blocks() -> Iterator[Float32Array]:
        size = round(BLOCK_S * SAMPLE_RATE_HZ)
        for start in range(0, len(samples), size):
            if start == round(WARM_UP_S * SAMPLE_RATE_HZ):
                # When the collector last looked at all that was imported is a matter of chance,
                # and whichever stage it did so in would be charged with it.
                gc.collect()
                gc.freeze()
                regions.start()
            yield samples[start : start + size]
        regions.stop()

    for _ in listener.hear(blocks()):
        pass
    return COUNTED_S


def opinion(file: Path, regions: Regions) -> float:
    """Answers of the large model about a window as it listens, by answers."""
    return _opinion("large", file, regions)


def xlarge_opinion(file: Path, regions: Regions) -> float:
    """The same of the extra-large model."""
    return _opinion("xlarge", file, regions)


def _opinion(name: str, file: Path, regions: Regions) -> float:
    file_of_model = ExpertFile(name, read_model(DEFAULT_MODEL).labels)
    span = file_of_model.span
    samples = np.load(file)[-span.samples(span.window_s) :]
    expert = file_of_model.open()
    watch(expert, regions.around)
    expert.asked(samples, 0.0, None)  # the first time is another one
    gc.collect()
    gc.freeze()
    regions.start()
    for _ in range(OPINIONS):
        expert.asked(samples, 0.0, None)
    regions.stop()
    return OPINIONS


def recomputing(file: Path, regions: Regions) -> float:
    """Windows, each from its first frame, as it is commonly done; by windows."""
    return _recompute(file, regions, with_context=False)


def recomputing_stream(file: Path, regions: Regions) -> float:
    """The same with all that they depend on, so that they answer as a stream; by windows."""
    return _recompute(file, regions, with_context=True)


def _recompute(file: Path, regions: Regions, with_context: bool) -> float:
    samples, model = np.load(file), read_model(DEFAULT_MODEL)
    recomputation = Recomputation(model, open_graphs(model), RECOMPUTED_S)
    hops = recomputation.context_hops if with_context else recomputation.window_hops
    for i in range(RECOMPUTED_WINDOWS + 1):
        if i == 1:  # the first warms up
            regions.start()
        recomputation.scores(samples, recomputation.context_hops + i, hops)
    regions.stop()
    return RECOMPUTED_WINDOWS


def running(file: Path, regions: Regions) -> float:
    """A graph, by the times that it runs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()  # the first time is another one
    regions.start()
    interpreter.invoke()
    regions.stop()
    return 1.0


TASKS: dict[str, Callable[[Path, Regions], float]] = {
    task.__name__: task
    for task in (listening, opinion, xlarge_opinion, recomputing, recomputing_stream, running)
}


def main() -> None:
    task, file = sys.argv[1:]
    regions = Regions()
    divisor = TASKS[task](Path(file), regions)
    with open("/proc/self/maps") as maps:
        code = [line.split() for line in maps]
    told = {
        "regions": regions.names,
        "divisor": divisor,
        "objects": [[*line[0].split("-"), line[5]] for line in code if len(line) > 5],
        "versions": {
            "python": sys.version,
            **{name: importlib.metadata.version(name) for name in ("numpy", "ai-edge-litert")},
        },
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
