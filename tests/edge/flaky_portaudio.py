"""A PortAudio whose devices, and whose machine, have every fault there is, in a time of its own.

Sound goes on in the room whatever becomes of the devices: every sample has a number, which tells
when it was to be heard. What a stream delivers and what it loses is therefore known to the sample.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge.audio.default_device import Places
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.edge.fake_sounddevice import SteppedClock

BLOCK_FRAMES = 1_600
JITTER_S = 0.08
FOLLOWED_S = 40.0  # after a change of the default, a reader that was away included

ALSA, SERVER = "USB Audio: - (hw:{},0)", "pulse"


class World(SteppedClock):
    """Time, devices, and the module sounddevice.

    Parameters
    ----------
    sound : ndarray of float32, shape (n,)
        What is to be heard in the room, over and over.
    faults : int
        How many are to happen.
    seed : int
    least_s, most_s : float
        Between faults.
    """

    class PortAudioError(Exception):
        pass

    def __init__(
        self,
        sound: Float32Array,
        faults: int,
        seed: int,
        least_s: float = 0.3,
        most_s: float = 3.0,
    ) -> None:
        self.sound = sound
        self._twice = np.concatenate([sound, sound])
        self.faults_left = faults
        self.happened: dict[str, int] = {}
        self.rng = np.random.default_rng(seed)
        self.awake_s, self.asleep_s, self.wall_s = 1_000.0, 50.0, 0.0
        self.last_fault_s = 0.0
        self.reader_away_s = 0.0
        self._between_s = least_s, most_s
        self._rate_hz, self._sample, self._since_s = SAMPLE_RATE_HZ * 1.0, 0.0, self.now_s()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        # Two devices, of which one says when it loses something and the other never does.
        self._plugged = {ALSA: True, SERVER: True}
        self._address = 1
        self._default, self._default_since_s = ALSA, 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="flaky-")
        self._settings = Path(self._folder.name) / "asoundrc"
        self.places = Places((self._settings,), (), Path(self._folder.name) / "snd")
        self._refusals = {"open": 0, "start": 0, "initialise": 0, "first": 0}
        self._initialised = True
        self._busy = False
        self._list: list[str] = []
        self.default = SimpleNamespace(device=(0, -1))
        self.stream: Stream | None = None
        self._look()
        self.after(2.0, self._have_a_fault)

    # --- time ---------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self.awake_s + self.asleep_s

    def slept_s(self) -> float:
        return self.asleep_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, with all that happens in it."""
        end_s = self.awake_s + duration_s
        while self._timers and self._timers[0][0] <= end_s:
            due_s, _, happen = heapq.heappop(self._timers)
            self.awake_s = max(self.awake_s, due_s)
            happen()
        self.awake_s = end_s

    def after(self, duration_s: float, happen: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (self.awake_s + duration_s, self._timer_count, happen))

    def sample_now(self) -> int:
        """Number of the sample that is to be heard now."""
        return int(self._sample + (self.now_s() - self._since_s) * self._rate_hz)

    def until_sample_s(self, sample: int) -> float:
        elapsed_s = self.now_s() - self._since_s
        return (sample - self._sample) / self._rate_hz - elapsed_s

    def drift(self, share: float) -> None:
        self._sample += (self.now_s() - self._since_s) * self._rate_hz
        self._since_s = self.now_s()
        self._rate_hz = SAMPLE_RATE_HZ * (1 + share)

    def samples(self, first: int, count: int) -> Float32Array:
        """What is to be heard from a sample on, shape (count,)."""
        start = first % len(self.sound)
        return self._twice[start : start + count]

    # --- what sounddevice has -----------------------------------------------------------------

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "hostapi": 0, "max_input_channels": 1, "default_samplerate": 16_000.0}
            for name in self._list
        ]

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def _terminate(self) -> None:
        assert self.stream is None or self.stream.closed, "a stream is open"
        if not self._initialised:
            raise self.PortAudioError("not initialised")
        self._initialised = False

    def _initialize(self) -> None:
        self._refuse("initialise")
        self._busy = self._refusals["open"] > 0  # at any rate
        self._refusals["open"] -= self._busy
        self._initialised = True
        self._look()

    def RawInputStream(self, **settings: Any) -> Stream:
        assert self._initialised
        assert self.stream is None or self.stream.closed, "a stream is open"
        kind = ALSA if "hw:" in self._list[settings["device"]] else SERVER
        if not self._plugged[kind] or self._address_of(kind) != self._list[settings["device"]]:
            raise self.PortAudioError("No such device")
        if self._busy:
            raise self.PortAudioError("Device unavailable")
        self.stream = Stream(self, kind, settings["callback"])
        return self.stream

    def _refuse(self, what: str) -> None:
        if self._refusals[what]:
            self._refusals[what] -= 1
            raise self.PortAudioError(f"cannot {what}")

    def _address_of(self, kind: str) -> str:
        return kind.format(self._address)

    def _look(self) -> None:
        self._list = [self._address_of(kind) for kind, plugged in self._plugged.items() if plugged]
        there = self._plugged[self._default]
        index = self._list.index(self._address_of(self._default)) if there else -1
        self.default.device = (index, -1)

    # --- faults -------------------------------------------------------------------------------

    def _have_a_fault(self) -> None:
        if not self.faults_left:
            return
        self.after(self.rng.uniform(*self._between_s), self._have_a_fault)
        stream = self.stream
        if stream is None or not stream.delivering:
            return  # one that nobody notices does not count
        kinds = [self.unplugged, self.stalls, self.dies, self.default_changes]
        kinds += [self.is_late, self.calls_without_audio, self.reader_away, self.suspended]
        kinds += [self.default_moves, self.clock_is_set, self.rate_changes, self.refusals_to_come]
        kinds += [self.overruns] * 2 if stream.kind == ALSA else [self.loses_silently] * 2
        kind = kinds[int(self.rng.integers(len(kinds)))]
        kind()
        self.faults_left -= 1
        self.last_fault_s = self.now_s()
        self.happened[kind.__name__] = self.happened.get(kind.__name__, 0) + 1

    def _stream(self) -> Stream:
        assert self.stream is not None
        return self.stream

    def clock_is_set(self) -> None:
        self.wall_s += self.rng.uniform(-1e9, 1e9)

    def rate_changes(self) -> None:
        self.drift(self.rng.uniform(-1e-3, 1e-3))

    def refusals_to_come(self) -> None:
        what = list(self._refusals)[int(self.rng.integers(len(self._refusals)))]
        self._refusals[what] = int(self.rng.integers(1, 4))

    def reader_away(self) -> None:
        self.reader_away_s = self.rng.choice([self.rng.uniform(1, 9), self.rng.uniform(10, 25)])

    def unplugged(self) -> None:
        stream = self._stream()
        stream.delivering = False
        stream.active = bool(self.rng.integers(2))
        stream.refuses = {name for name in ("abort", "close") if self.rng.random() < 0.3}
        self._unplug(stream.kind, self.rng.uniform(0.1, 30.0))

    def _unplug(self, kind: str, duration_s: float) -> None:
        self._plugged[kind] = False

        def plug_in_again() -> None:
            self._plugged[kind] = True
            self._address = int(self.rng.integers(1, 9))

        self.after(duration_s, plug_in_again)

    def default_changes(self) -> None:
        stream = self._stream()
        stream.delivering = stream.active = False
        self._set_default(SERVER if stream.kind == ALSA else ALSA)
        self._unplug(stream.kind, self.rng.uniform(0.1, 5.0))

    def default_moves(self) -> None:
        """To another device, while the one before goes on; and perhaps back again at once."""
        for kind, plugged in self._plugged.items():
            if plugged and self.rng.random() < 0.8:
                self._set_default(kind)
        with self._settings.open("a") as settings:
            settings.write("#")

    def _set_default(self, kind: str) -> None:
        if kind != self._default:
            self._default, self._default_since_s = kind, self.awake_s

    def follows_default(self, kind: str) -> bool:
        """Whether the default device is listened to, or has just become it."""
        return kind == self._default or self.awake_s - self._default_since_s < FOLLOWED_S

    def stalls(self) -> None:
        self._stream().delivering = False

    def dies(self) -> None:
        stream = self._stream()
        stream.delivering = stream.active = False

    def is_late(self) -> None:
        self._stream().late_s = self.rng.uniform(0.1, 4.0)

    def calls_without_audio(self) -> None:
        self._stream().call(self.samples(0, 0), overflow=False)

    def suspended(self) -> None:
        self._stream().skip()
        self.asleep_s += self.rng.uniform(1.0, 3_600.0)
        self._stream().resume()

    def overruns(self) -> None:
        self._stream().skip(round(self.rng.uniform(0, 3) * SAMPLE_RATE_HZ), overflow=True)

    def loses_silently(self) -> None:
        self._stream().skip(round(self.rng.uniform(0.4, 4) * SAMPLE_RATE_HZ))


class Stream:
    """Stands for sounddevice.RawInputStream."""

    def __init__(self, world: World, kind: str, callback: Callable[..., None]) -> None:
        self.kind = kind
        self.closed = False
        self.active = False
        self.delivering = False
        self.refuses: set[str] = set()
        self.late_s = 0.0
        self._overflow = False
        self._world = world
        self._callback = callback
        self._next = 0  # number of the first sample of the next block
        self._turn = 0  # what has been planned before another is void

    def start(self) -> None:
        world = self._world
        world._refuse("start")
        self.active = True
        self._next = world.sample_now()
        if world._refusals["first"]:
            world._refusals["first"] -= 1
            return
        self.delivering = True
        self._plan()

    def abort(self) -> None:
        self.delivering = self.active = False
        if "abort" in self.refuses:
            raise self._world.PortAudioError("abort")

    def close(self) -> None:
        self.closed = True
        if "close" in self.refuses:
            raise self._world.PortAudioError("close")

    def skip(self, samples: int = 0, overflow: bool = False) -> None:
        """Lose samples that are about to be delivered."""
        self._next += samples
        self._overflow |= overflow
        self._plan()

    def resume(self) -> None:
        """Go on after the machine was suspended."""
        self._next = max(self._next, self._world.sample_now())
        self._plan()

    def call(self, samples: Float32Array, overflow: bool) -> None:
        """Call the callback as PortAudio does: with memory that is not valid any longer."""
        buffer = bytearray(samples.tobytes())
        self._callback(buffer, len(samples), None, SimpleNamespace(input_overflow=overflow))
        buffer[:] = b"\xff" * len(buffer)

    def _plan(self) -> None:
        self._turn += 1
        turn = self._turn
        wait_s = self._world.until_sample_s(self._next + BLOCK_FRAMES)
        late_s, self.late_s = self.late_s, 0.0
        wait_s = max(0.0, wait_s) + self._world.rng.uniform(0, JITTER_S) + late_s
        self._world.after(wait_s, lambda: self._deliver(turn))

    def _deliver(self, turn: int) -> None:
        if turn != self._turn or not self.delivering:
            return
        world = self._world
        assert world.follows_default(self.kind)
        # What has come in the meantime follows at once.
        while world.sample_now() >= self._next + BLOCK_FRAMES:
            self.call(world.samples(self._next, BLOCK_FRAMES), self._overflow)
            self._overflow = False
            self._next += BLOCK_FRAMES
        self._plan()
