"""Listening through faults: ``python -m tests.edge.faults [--faults 10000] [--seed 1]``.

A :class:`tests.edge.flaky_portaudio.World` has faults of all kinds, one after the other, under
the real microphone. What comes out is compared with what was to be heard, sample by sample; and
what the real model says of it with the language that was spoken.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge.audio.microphone import MicrophoneSource
from edge.audio.sources import FileSource, Gap, Sound
from edge.bench.measure import SAMPLE
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Heard, Listener
from edge.model.interpreter import Graphs, WindowGraph, open_model
from edge.model.modelfile import DEFAULT_MODEL, NONSPEECH, ModelFile, read_model
from edge.system.machine import memory_bytes
from edge.usage import Usage
from tests.edge.flaky_portaudio import BLOCK_FRAMES, World

# What a gap may be wrong by: delivery is irregular, and the rate of devices is not known.
GAP_ERROR_S = 0.15
GAP_ERROR_SHARE = 0.002

MATCH_SAMPLES = 32
HEARD_S = (3.0, 4.0, 5.0, 6.0)  # of speech in one language without a gap, and it is judged


@dataclass
class Checked:
    """Hands sound on, once it has been compared with what was to be heard.

    Attributes
    ----------
    next, after_gap_sample : int
        Numbers, in the room, of the sample that follows and of the first one since the last gap.
    samples, gaps : int
        How many were compared.
    lost_s : float
    worst_error_s : dict of str to float
        Of gaps up to a minute, by reason.
    reasons : Counter
    """

    world: World
    next: int | None = None
    after_gap_sample: int = 0
    samples: int = 0
    gaps: int = 0
    lost_s: float = 0.0
    worst_error_s: dict[str, float] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def sounds(self, source: MicrophoneSource) -> Iterator[Sound]:
        gap_samples = 0
        reason = ""
        with source:
            for sound in source.blocks():
                if isinstance(sound, Gap):
                    assert sound.samples > 0
                    if not gap_samples:
                        reason = sound.reason
                    gap_samples += sound.samples
                elif isinstance(sound, np.ndarray):
                    if self.next is None or gap_samples:
                        self._after_gap(sound, gap_samples, reason)
                    assert self.next is not None
                    expected = self.world.samples(self.next, len(sound))
                    assert np.array_equal(sound, expected), f"after sample {self.next}"
                    self.next += len(sound)
                    self.samples += len(sound)
                    gap_samples = 0
                yield sound
                if self.world.reader_away_s:
                    away_s, self.world.reader_away_s = self.world.reader_away_s, 0.0
                    self.world.sleep(away_s)
                if not self.world.faults_left and self._is_quiet():
                    source.stop()

    def _is_quiet(self) -> bool:
        return self.world.now_s() - self.world.last_fault_s > 60.0

    def _after_gap(self, block: Float32Array, gap_samples: int, reason: str) -> None:
        """Find where the sound goes on, near where the gap says."""
        if self.next is None:  # of the beginning nothing is known but that it is not long ago
            expected = self.world.sample_now() - len(block)
            gap_samples, reason = 0, "start"
        else:
            expected = self.next + gap_samples
        most = GAP_ERROR_S + GAP_ERROR_SHARE * gap_samples / SAMPLE_RATE_HZ
        around = round(most * SAMPLE_RATE_HZ)
        near = self.world.samples(expected - around, 2 * around + MATCH_SAMPLES)
        start = block[:MATCH_SAMPLES]
        found = [
            int(i)
            for i in np.flatnonzero(near[: 2 * around + 1] == start[0])
            if np.array_equal(near[i : i + len(start)], start)
        ]
        assert len(found) == 1, f"gap of {gap_samples} samples ({reason}): {found}"
        error_s = abs(found[0] - around) / SAMPLE_RATE_HZ
        self.next = self.after_gap_sample = expected - around + found[0]
        self.gaps += 1
        self.reasons[reason] += 1
        self.lost_s += gap_samples / SAMPLE_RATE_HZ
        if gap_samples < 60 * SAMPLE_RATE_HZ:
            self.worst_error_s[reason] = max(error_s, self.worst_error_s.get(reason, 0.0))


def recording() -> Float32Array:
    """The sample recording with a little noise, so that no two parts of it are the same."""
    with FileSource(SAMPLE) as source:
        samples = np.concatenate(list(source.blocks()))
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, len(samples))
    return np.clip(samples + noise, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class Passage:
    """A stretch of the sample recording in which one language is spoken, as its making tells."""

    language: str
    start_s: float
    end_s: float


def passages() -> list[Passage]:
    """All of them."""
    told = json.loads(SAMPLE.with_name("languages.json").read_text())
    parts = [Passage(part["language"], part["start_s"], part["end_s"]) for part in told]
    return [part for part in parts if part.language != NONSPEECH]


class Undisturbed:
    """A listener that begins somewhere in the room, and misses nothing from there on.

    Parameters
    ----------
    world : World
    model : ModelFile
    graphs : Graphs or WindowGraph
        Used by nobody else.
    first : int
        Number of its first sample.
    usage : Usage
        What it knows to have been spoken.
    """

    def __init__(
        self,
        world: World,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        first: int,
        usage: Usage,
    ) -> None:
        self._first = first
        blocks = (world.samples(first + n, BLOCK_FRAMES) for n in itertools.count(0, BLOCK_FRAMES))
        listener = Listener(model, graphs, model.description.decoder)
        listener._decoder._usage = usage
        listener._decoder.go_on()
        self._hops = (heard for heard in listener.hear(blocks) if heard.windows)
        self._last = self._next = next(self._hops)

    def until(self, sample: int) -> tuple[Heard, int]:
        """Its last hop up to a sample of the room, and the sample at which that ends."""
        while self._end(self._next) <= sample:
            self._last, self._next = self._next, next(self._hops)
        return self._last, self._end(self._last)

    def _end(self, heard: Heard) -> int:
        return self._first + round(heard.windows[0].end_s * SAMPLE_RATE_HZ)


@dataclass
class Answers:
    """What was said of speech in one language, so long after a gap or its beginning.

    Attributes
    ----------
    stretches : Counter of (float, bool, bool)
        How much speech had been heard, of `HEARD_S`; whether what was said was right, and whether
        it was from an undisturbed listener that began where this one began anew, and knows as
        this one does what had been spoken before.
    hops : int
        From there to the next gap, on which the two agreed to the last bit.
    """

    stretches: Counter[tuple[float, bool, bool]] = field(default_factory=Counter)
    hops: int = 0


def answers(world: World, checked: Checked, source: MicrophoneSource) -> Answers:
    """Listen to it all, and judge what is said."""
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    graphs = open_model(model)
    spoken = passages()
    undisturbed: Undisturbed | None = None
    is_bridged = False  # anything since it began
    counts = Answers()
    judged: dict[float, tuple[int, Passage]] = {}
    end_s = after_gap_s = 0.0
    first = 0  # sample of the room at that time
    # The newest answers wait for what follows: where a gap does, they hear silence in its place.
    stream = model.description.stream
    waiting = deque[tuple[Heard, Heard]](maxlen=stream.delay_frames // stream.hop_frames + 2)
    for heard in listener.hear(checked.sounds(source)):
        # Segments and gaps follow one another, whatever happens.
        for part in (*heard.finished, heard.lost):
            if part is None or getattr(part, "bridged", False):
                continue
            assert abs(part.start_s - end_s) < 1e-6, (part, end_s)
            end_s = part.end_s
        if heard.lost is not None or undisturbed is None:
            waiting.clear()
            after_gap_s = heard.lost.end_s if heard.lost else 0.0
            first = checked.after_gap_sample
            is_bridged = heard.lost is not None and heard.lost.bridged
            if not is_bridged or undisturbed is None:
                usage = copy.deepcopy(listener._decoder._usage)
                undisturbed = Undisturbed(world, model, graphs, first, usage)
        if not heard.windows or first != checked.after_gap_sample:
            continue  # or a hop in the silence that bridges a gap
        window = heard.windows[0]
        last = first + round((window.end_s - after_gap_s) * SAMPLE_RATE_HZ)
        without_faults, its_last = undisturbed.until(last)
        if not is_bridged and its_last == last:
            waiting.append((heard, without_faults))
            if len(waiting) == waiting.maxlen:
                ours, theirs = waiting.popleft()
                its_window = theirs.windows[0]
                assert np.array_equal(ours.windows[0].probabilities, its_window.probabilities)
                assert ours.current.language == theirs.current.language
                counts.hops += 1
        time_s = last % len(world.sound) / SAMPLE_RATE_HZ
        for passage in spoken:
            if not passage.start_s <= time_s <= passage.end_s:
                continue
            heard_s = min((last - first) / SAMPLE_RATE_HZ, time_s - passage.start_s)
            said = heard.current.language, without_faults.current.language
            for enough_s in HEARD_S:
                if heard_s >= enough_s and judged.get(enough_s) != (first, passage):
                    judged[enough_s] = first, passage
                    right = [language == passage.language for language in said]
                    counts.stretches[enough_s, right[0], right[1]] += 1
    return counts


def main() -> None:
    """Have the faults and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.edge.faults", description="Listening through faults."
    )
    parser.add_argument("--faults", type=int, default=10_000, help="(default 10000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    world = World(recording(), options.faults, options.seed, 0.3, 20.0)
    checked = Checked(world)
    start_s = time.monotonic()
    source = MicrophoneSource(sounddevice=world, clock=world, places=world.places)
    counts = answers(world, checked, source)
    print(f"{sum(world.happened.values())} faults in {time.monotonic() - start_s:.0f} s:")
    for name, count in sorted(world.happened.items()):
        print(f"  {name.replace('_', ' '):<22}{count:>6}")
    print(f"{checked.samples / SAMPLE_RATE_HZ / 3600:.2f} h heard, each sample compared;")
    print(f"{checked.lost_s / 3600:.2f} h lost, in {checked.gaps} gaps:")
    for reason, count in sorted(checked.reasons.items()):
        print(f"  {reason:<22}{count:>6}, wrong by {checked.worst_error_s.get(reason, 0):.3f} s")
    print("languages, after speech in one  right  wrong  only with faults: right  wrong")
    for heard_s in HEARD_S:
        both_right, only_right, only_wrong, both_wrong = (
            counts.stretches[heard_s, said, undisturbed]
            for said, undisturbed in ((True, True), (True, False), (False, True), (False, False))
        )
        totals = f"{both_right + only_right:>33}  {both_wrong + only_wrong:>5}"
        print(f"  {heard_s:.0f} s{totals}  {only_right:>24}  {only_wrong:>5}")
    print(f"{counts.hops} hops after gaps the same to the last bit as without faults")
    gc.collect()
    print(f"resident: {(memory_bytes('VmRSS') or 0) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
