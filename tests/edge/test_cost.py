"""What listening costs, in counts and bytes, which unlike times are the same on every machine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bench.measure import SAMPLE
from edge.bench.startup import listen_once
from edge.classifier import StreamingClassifier, quantise
from edge.frontend import SAMPLE_RATE_HZ, Float64Array, FrontEnd, frame_count
from edge.model.interpreter import Graphs, Int8Array, open_graphs
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, read_model
from tests.edge.test_cli import DEVICES, ahead, sounddevice

AUDIO_S = 60
TRIES = 4
LEFT_ON_S = 3.0
MAX_PEAK_BYTES = 70_000_000


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return read_model(DEFAULT_MODEL)


def test_each_frame_is_computed_once(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    front_end_frames = 0
    trunk_hops: list[Int8Array] = []
    heads = 0
    mel_power, step, head = FrontEnd.mel_power, Graphs.step, Graphs.head

    def counted_mel_power(self: FrontEnd, frames: Float64Array) -> Float64Array:
        nonlocal front_end_frames
        front_end_frames += len(frames)
        return mel_power(self, frames)

    def counted_step(self: Graphs, frames: Int8Array) -> Any:
        trunk_hops.append(frames.copy())
        return step(self, frames)

    def counted_head(self: Graphs, pooled: Int8Array) -> Int8Array:
        nonlocal heads
        heads += 1
        return head(self, pooled)

    description = model.description
    random = np.random.default_rng(0)
    samples = (0.1 * random.standard_normal(AUDIO_S * SAMPLE_RATE_HZ)).astype(np.float32)
    frames = FrontEnd(description.front_end, model.filterbank).process(samples)
    graphs = open_graphs(model)
    windows_s = description.stream.windows_s
    classifier = StreamingClassifier(model, graphs, windows_s)

    monkeypatch.setattr(FrontEnd, "mel_power", counted_mel_power)
    monkeypatch.setattr(Graphs, "step", counted_step)
    monkeypatch.setattr(Graphs, "head", counted_head)
    start = 0
    while start < len(samples):
        size = int(random.integers(1, 8_000))
        list(classifier.process(samples[start : start + size]))
        start += size
    list(classifier.flush())

    expected = frame_count(len(samples), description.front_end)
    assert front_end_frames == expected
    hops = -(-expected // description.stream.hop_frames)
    late_hops = description.stream.delay_frames // description.stream.hop_frames
    # The last hop may be filled up with silence, and what is late then waits for no other frames.
    assert len(trunk_hops) == hops + late_hops
    through_trunk = np.concatenate(trunk_hops)
    whole = expected // description.stream.stride_frames * description.stream.stride_frames
    assert np.array_equal(through_trunk[:whole], quantise(frames[:whole], graphs.frames))
    silence = quantise(np.zeros_like(frames[:1]), graphs.frames)
    assert (through_trunk[whole:] == silence).all()
    assert heads == hops * len(windows_s)


def test_listening_needs_little_memory() -> None:
    start = listen_once(SAMPLE, DEFAULT_MODEL, 1, "ai-edge-litert")
    assert start.peak_bytes is not None
    assert start.peak_bytes < MAX_PEAK_BYTES
    # What only streams of a network, and whoever names a language, have a use for.
    assert not {"ssl", "unicodedata"}.intersection(start.modules)


def sleeps(process: subprocess.Popen[Any]) -> int:
    """How often the thread that listens has gone to sleep."""
    status = Path(f"/proc/{process.pid}/task/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


@pytest.mark.parametrize("source", [["--input", str(SAMPLE), "--realtime"], []])
def test_what_is_left_on_sleeps_longer_than_a_hop(
    source: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Also where PortAudio calls back twenty times a second."""
    (tmp_path / "sounddevice.py").write_text(sounddevice(DEVICES))
    command = [sys.executable, "-m", "edge.cli", "listen", "--json", "--windows", "3", *source]
    with subprocess.Popen(
        command, env=ahead(environment, tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()  # the first answer
            # A busy machine can make it wait for memory or a file, but not all the time.
            rates = []
            for _ in range(TRIES):
                before, start_s = sleeps(process), time.monotonic()
                time.sleep(LEFT_ON_S)
                rates.append((sleeps(process) - before) / (time.monotonic() - start_s))
                if 0 < rates[-1] < 6:
                    break
        finally:
            process.terminate()
            process.communicate()
    assert 0 < rates[-1] < 6, rates
