"""Passes over the audio: flat out, watched stage by stage, in real time, and recomputing."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.audio.sources import BLOCK_S, due_s, paced
from edge.bench.recomputation import Recomputation
from edge.bench.stages import Call, unwatch, watch
from edge.features import audio_samples
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Listener
from edge.model.interpreter import Graphs, Int8Array, WindowGraph
from edge.model.modelfile import ModelFile


@dataclass
class Cost:
    """What some work took, hop by hop on the clock on the wall, and in all of the processor.

    Attributes
    ----------
    wall_ns : list of int
        Of every hop.
    cpu_ns : int
        Of all threads, over all hops.
    """

    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: int = 0


@dataclass(frozen=True)
class Paced:
    """A pass in real time.

    Attributes
    ----------
    late_ns : list of int
        Of every hop: from the moment its last block of audio was due to its answer.
    cpu_ns : int
        Of all threads.
    wakeups : int
        How often one of them went to sleep and was woken up.
    """

    late_ns: list[int]
    cpu_ns: int
    wakeups: int


@dataclass(frozen=True)
class Setup:
    """A model as it is to be measured.

    Attributes
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
        With the threads that were asked for.
    """

    model: ModelFile
    graphs: Graphs | WindowGraph

    @property
    def hop_s(self) -> float:
        """Between two answers."""
        config = self.model.description.front_end
        hop_frames = self.model.description.stream.hop_frames
        return hop_frames * config.hop_samples / config.sample_rate_hz

    def samples(self, hops: int) -> int:
        """Length of the audio that brings so many answers, with nothing left of a further hop."""
        description = self.model.description
        return audio_samples(description.front_end, hops * description.stream.hop_frames)

    def hops(self, samples: int) -> int:
        """Answers that so many samples bring."""
        return max(0, int((samples - self.samples(0)) // (self.hop_s * SAMPLE_RATE_HZ)))

    @property
    def late_hops(self) -> int:
        """Of audio that go in before the first answer comes out."""
        return self.model.description.stream.late_hops

    def heard_samples(self, hops: int) -> int:
        """Length of the audio that so many answers come in the course of.

        Those that its end brings are not among them, and no pass measures them.
        """
        return self.samples(hops + self.late_hops)

    def listener(self) -> Listener:
        """As ``edgelid listen`` makes it."""
        return Listener(self.model, self.graphs, self.model.description.decoder)


class _Course:
    """What is measured of a stream: neither the hops before its first answer nor its end.

    Parameters
    ----------
    setup : Setup

    Attributes
    ----------
    on : bool
        Whether it is being measured now.
    cpu_ns, wakeups : int
        Of all threads meanwhile.
    """

    def __init__(self, setup: Setup) -> None:
        self._lead = setup.samples(setup.late_hops) if setup.late_hops else 0
        self.on = False
        self.cpu_ns = self.wakeups = 0

    def of(self, audio: Iterable[Float32Array]) -> Iterator[Float32Array]:
        """The same audio, to be listened to; whoever asks for more has heard what there was."""
        left = self._lead
        for block in audio:
            if left:
                yield block[:left]
            rest = block[left:]
            left -= len(block) - len(rest)
            if left == 0 and not self.on:
                self.cpu_ns, self.wakeups = -time.process_time_ns(), -_sleeps()
                self.on = True
            if len(rest):
                yield rest
        if self.on:
            self.on = False
            self.cpu_ns += time.process_time_ns()
            self.wakeups += _sleeps()


def blocks(samples: Float32Array, length: int) -> Iterator[Float32Array]:
    """Audio in blocks as sources give it; from the start again where it ends.

    Parameters
    ----------
    samples : ndarray, shape (n,), float32
    length : int
        Samples to give in all.
    """
    block = round(BLOCK_S * SAMPLE_RATE_HZ)
    position = 0
    while position < length:
        start = position % len(samples)
        part = samples[start : start + min(block, length - position)]
        position += len(part)
        yield part


def _listen(
    course: _Course,
    listener: Listener,
    audio: Iterable[Float32Array],
    after_hop: Callable[[], None] = lambda: None,
) -> Cost:
    """Listen as fast as it goes; what comes after each hop is not on its clock."""
    cost = Cost()
    last_ns = 0

    def timed() -> Iterator[Float32Array]:
        nonlocal last_ns
        for block in course.of(audio):
            if course.on and not last_ns:
                last_ns = time.perf_counter_ns()
            yield block

    for heard in listener.hear(timed()):
        if heard.windows and course.on:
            cost.wall_ns.append(time.perf_counter_ns() - last_ns)
            after_hop()
            last_ns = time.perf_counter_ns()
    cost.cpu_ns = course.cpu_ns
    return cost


def flat_out(setup: Setup, audio: Iterable[Float32Array]) -> Cost:
    """Listen as fast as it goes, with two looks at the clock a hop and nothing else."""
    return _listen(_Course(setup), setup.listener(), audio)


def watched(setup: Setup, audio: Iterable[Float32Array]) -> dict[str, Cost]:
    """Listen as fast as it goes, with a watch on every stage.

    Returns
    -------
    dict of str to Cost
        Of every stage; of ``rest``, which is in no stage; and of ``all``.
    """
    course, listener = _Course(setup), setup.listener()
    stages: dict[str, Cost] = {name: Cost() for name in listener.stages()}
    current_ns: dict[str, int] = defaultdict(int)

    def around(name: str, call: Call) -> Call:
        def timed(*arguments: Any) -> Any:
            cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
            answer = call(*arguments)
            if not course.on:
                return answer
            current_ns[name] += time.perf_counter_ns() - start_ns
            stages[name].cpu_ns += time.process_time_ns() - cpu_ns
            return answer

        return timed

    def end_hop() -> None:
        for name, stage in stages.items():
            stage.wall_ns.append(current_ns.pop(name, 0))

    watch(listener, around)
    try:
        whole = _listen(course, listener, audio, end_hop)
    finally:
        unwatch(listener)
    rest = Cost(
        [
            total - sum(parts)
            for total, *parts in zip(
                whole.wall_ns, *(stage.wall_ns for stage in stages.values()), strict=True
            )
        ],
        whole.cpu_ns - sum(stage.cpu_ns for stage in stages.values()),
    )
    return {**stages, "rest": rest, "all": whole}


def in_real_time(setup: Setup, audio: Iterable[Float32Array]) -> Paced:
    """Listen as to a microphone."""
    course, listener = _Course(setup), setup.listener()
    heard_samples = 0

    def counted(audio: Iterable[Float32Array]) -> Iterator[Float32Array]:
        nonlocal heard_samples
        for block in audio:
            heard_samples += len(block)
            yield block

    late_ns = []
    start_ns = time.monotonic_ns()
    for heard in listener.hear(course.of(counted(paced(audio)))):
        if heard.windows and course.on:
            due_ns = start_ns + round(1e9 * due_s(heard_samples))
            late_ns.append(time.monotonic_ns() - due_ns)
    return Paced(late_ns, course.cpu_ns, course.wakeups)


def _sleeps() -> int:
    """How often threads of this process have given up the processor, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def stream_scores(setup: Setup, audio: Iterable[Float32Array]) -> list[Int8Array]:
    """What the head gives for the decoder's window at every hop of a model that streams."""
    decoder = setup.model.description.decoder
    listener = Listener(setup.model, setup.graphs, decoder, automatic_gain=False)  # as recomputing
    scores: list[Int8Array] = []
    of_hop: list[Int8Array] = []  # that window comes first, then the short one

    def around(name: str, call: Call) -> Call:
        def kept(*arguments: Any) -> Any:
            answer = call(*arguments)
            of_hop.append(answer)
            return answer

        def decided(*arguments: Any) -> Any:
            scores.append(of_hop[0])
            of_hop.clear()
            return call(*arguments)

        return {"head": kept, "decoder": decided}.get(name, call)

    watch(listener, around)
    try:
        for _ in listener.hear(audio):
            pass
    finally:
        unwatch(listener)
    return scores


def recomputed(
    recomputation: Recomputation,
    samples: Float32Array,
    hops: Sequence[int],
    length_hops: int,
) -> tuple[Cost, list[Int8Array]]:
    """Compute the windows that end with some hops, each from its audio.

    Parameters
    ----------
    recomputation : Recomputation
    samples : ndarray, shape (n,), float32
    hops : sequence of int
    length_hops : int
        See :meth:`Recomputation.scores`.
    """
    cost = Cost()
    scores = []
    for hop in hops:
        cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
        scores.append(recomputation.scores(samples, hop, length_hops))
        cost.wall_ns.append(time.perf_counter_ns() - start_ns)
        cost.cpu_ns += time.process_time_ns() - cpu_ns
    return cost, scores
