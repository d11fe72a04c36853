"""Listening through faults: ``python -m tests.edge.faults [--faults 10000] [--seed 1]``.

A :class:`tests.edge.flaky_portaudio.World` has faults of all kinds, one after the other, under
the real microphone. What comes out is compared with what was to be heard, sample by sample; and
what the real model says of it with the language that was spoken.
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge.bench.machine import memory_bytes
from edge.bench.measure import SAMPLE
from edge.decoder import Segment
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.interpreter import open_model
from edge.listen import Listener
from edge.microphone import MicrophoneSource
from edge.modelfile import DEFAULT_MODEL, read_model
from edge.sources import FileSource, Gap, Sound
from tests.edge.flaky_portaudio import World

# What a gap may be wrong by: delivery is irregular, and the rate of devices is not known.
GAP_ERROR_S = 0.15
GAP_ERROR_SHARE = 0.002

MATCH_SAMPLES = 32
RECOGNISED_S = 6.0  # of undisturbed speech in one language are enough to tell it


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


def passages(sound: Float32Array) -> list[Segment]:
    """Where each language of it is spoken, as a listener without faults tells."""
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    found = [heard.finished for heard in listener.hear([sound]) if heard.finished is not None]
    return [s for s in found if s.language != "unknown" and s.end_s - s.start_s >= 5.0]


@dataclass
class Answers:
    """Counts of what was said of speech in one language since the last fault, once it was enough.

    Attributes
    ----------
    right, wrong : int
        One for each stretch.
    """

    right: int = 0
    wrong: int = 0


def answers(world: World, checked: Checked, source: MicrophoneSource) -> Answers:
    """Listen to it all, and judge what is said."""
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    spoken = passages(world.sound)
    counts = Answers()
    judged: tuple[int, Segment] | None = None
    end_s = 0.0
    for heard in listener.hear(checked.sounds(source)):
        # Segments and gaps follow one another, whatever happens.
        for part in (heard.finished, heard.lost):
            if part is None or getattr(part, "bridged", False):
                continue
            assert abs(part.start_s - end_s) < 1e-6, (part, end_s)
            end_s = part.end_s
        if not heard.windows or checked.next is None:
            continue
        first, last = checked.after_gap_sample, checked.next
        time_s = last % len(world.sound) / SAMPLE_RATE_HZ
        for passage in spoken:
            began_s = max(passage.start_s, time_s - (last - first) / SAMPLE_RATE_HZ)
            if time_s > passage.end_s or time_s - began_s < RECOGNISED_S:
                continue
            stretch = (first, passage)
            if stretch == judged:
                continue
            judged = stretch
            if heard.current.language == passage.language:
                counts.right += 1
            else:
                counts.wrong += 1
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
    counts = answers(world, checked, MicrophoneSource(sounddevice=world, clock=world))
    print(f"{sum(world.happened.values())} faults in {time.monotonic() - start_s:.0f} s:")
    for name, count in sorted(world.happened.items()):
        print(f"  {name.replace('_', ' '):<22}{count:>6}")
    print(f"{checked.samples / SAMPLE_RATE_HZ / 3600:.2f} h heard, each sample compared;")
    print(f"{checked.lost_s / 3600:.2f} h lost, in {checked.gaps} gaps:")
    for reason, count in sorted(checked.reasons.items()):
        print(f"  {reason:<22}{count:>6}, wrong by {checked.worst_error_s.get(reason, 0):.3f} s")
    print(f"languages: {counts.right} right, {counts.wrong} wrong")
    gc.collect()
    print(f"resident: {(memory_bytes('VmRSS') or 0) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
