"""What listening costs on this machine: ``python -m tests.benchmark_cost [--json]``.

Listening as `edgelid` does it, every frame once, is compared with recomputing a window of 3 s
every 0.25 s, which is how a sliding window is commonly done: the same front end, the same graph
with the same weights, the same head. The two take turns of 5 s of audio. What is told is
processor time, of all threads: on a machine that is also doing something else, a clock on the
wall would charge the longer computation with more of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge import __version__
from edge.classifier import StreamingClassifier, pool, quantise
from edge.frontend import Float32Array, FrontEnd
from edge.interpreter import Int8Array, open_graphs
from edge.modelfile import DEFAULT_MODEL, ModelFile, read_model
from edge.sources import FileSource

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "edge/samples/languages.opus"
WINDOW_S = 3.0
RECOMPUTE_EVERY_S = 0.25
TURN_S = 5.0
STARTS = 5

MIN_RATIO = 10.0
MAX_PEAK_BYTES = 80_000_000
MAX_START_S = 1.5

# Runs the command and tells the peak of its memory. The kernel's own account of a child's peak
# begins with its parent's.
LISTEN = """
import sys
from edge.cli import main
status = main(["listen", *sys.argv[1:]])
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print("peak_kb", line.split()[1], file=sys.stderr)
sys.exit(status)
"""


class Recomputation:
    """A sliding window as it is commonly done: all of it, each time.

    Parameters
    ----------
    model : ModelFile
    """

    def __init__(self, model: ModelFile) -> None:
        self._graphs = open_graphs(model)
        self._front_end = FrontEnd(model.description.front_end, model.filterbank)
        stream = model.description.stream
        self._hop_frames = stream.hop_frames
        self._stride_frames = stream.stride_frames

    def scores(self, window: Float32Array, lead_in_frames: int = 0) -> Int8Array:
        """Scores of the classes for a window of samples, shape (n,).

        With a lead-in of the receptive field, they are to the bit those of the stream: without
        it, the first embeddings of the window hear silence where the stream hears what came
        before. The lead-in has whole embeddings, and is not scored itself.
        """
        self._front_end.reset()
        self._graphs.reset()
        frames = quantise(self._front_end.process(window), self._graphs.frames)
        steps = [self._graphs.step(hop) for hop in self._hops(frames)]
        first = lead_in_frames // self._stride_frames
        x = np.concatenate([e for e, _ in steps])[first:].astype(np.int64)  # (embeddings, channels)
        w = np.concatenate([w for _, w in steps])[first:].astype(np.int64)[:, None]  # (.., 1)
        x -= self._graphs.embeddings.zero_point
        w -= self._graphs.weights.zero_point
        sums = np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
        pooled = pool(sums, self._graphs.embeddings, self._graphs.weights)
        return self._graphs.head(quantise(pooled, self._graphs.pooled))

    def _hops(self, frames: Int8Array) -> list[Int8Array]:
        """The frames in hops, the last one of them a whole hop too."""
        count = -(-len(frames) // self._hop_frames)
        missing = count * self._hop_frames - len(frames)
        return np.split(np.pad(frames, ((0, missing), (0, 0)), mode="edge"), count)


def summary(times_ms: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {
        "median_ms": round(float(np.median(times_ms)), 3),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 3),
    }


def read_audio(path: Path) -> Float32Array:
    """All of a file, 16 kHz mono."""
    with FileSource(path) as source:
        return np.concatenate(list(source.blocks()))


class Timer:
    """Processor time of calls, by name."""

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str, call: Callable[..., T], *arguments: Any) -> T:
        """Call, and note what it took."""
        start_ns = time.process_time_ns()
        answer = call(*arguments)
        self.times_ms[name].append((time.process_time_ns() - start_ns) / 1e6)
        return answer


def processing_times(model: ModelFile, samples: Float32Array) -> dict[str, list[float]]:
    """Milliseconds of every hop, of its parts, and of every recomputed window."""
    config, stream = model.description.front_end, model.description.stream
    hop_samples = stream.hop_frames * config.hop_samples
    window_samples = round(WINDOW_S * config.sample_rate_hz)
    recompute_samples = round(RECOMPUTE_EVERY_S * config.sample_rate_hz)

    classifier = StreamingClassifier(model, open_graphs(model), [WINDOW_S])
    graphs = open_graphs(model)
    front_end = FrontEnd(config, model.filterbank)
    pooled = np.zeros(2 * stream.embedding, np.int8)
    recomputation = Recomputation(model)
    timer = Timer()

    turn_samples = round(TURN_S * config.sample_rate_hz)
    for turn in range(0, len(samples) - turn_samples + 1, turn_samples):
        blocks = np.split(
            samples[turn : turn + turn_samples], range(hop_samples, turn_samples, hop_samples)
        )
        for block in blocks:
            timer("hop", lambda block=block: list(classifier.process(block)))
        for block in blocks:
            frames = timer("front_end", front_end.process, block)
            if len(frames) == stream.hop_frames:  # all hops but the first and the last
                timer("step", graphs.step, quantise(frames, graphs.frames))
                timer("head", graphs.head, pooled)
        ends = range(max(turn, window_samples), turn + turn_samples, recompute_samples)
        for end in ends:
            timer("recomputed", recomputation.scores, samples[end - window_samples : end])
    return timer.times_ms


def listen_cost(path: Path, model: Path = DEFAULT_MODEL) -> tuple[float, int]:
    """Listen to a file in a process of its own.

    Returns
    -------
    first_decision_s : float
        From starting the process to its first change of language.
    peak_bytes : int
        The most memory it had resident.
    """
    command = [sys.executable, "-c", LISTEN, "--json", "--input", str(path), "--model", str(model)]
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first_decision_s = time.perf_counter() - start
        _, errors = process.communicate(timeout=300)
    peaks = [int(line.split()[1]) for line in errors.splitlines() if line.startswith("peak_kb")]
    if process.returncode != 0 or not peaks:
        raise RuntimeError(f"edgelid listen ended with status {process.returncode}: {errors}")
    return first_decision_s, 1024 * peaks[0]


def machine() -> dict[str, str]:
    """Kind of machine, and the code that was measured."""
    told = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "cpu": told.get("Model") or told.get("model name") or platform.machine(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "edgelid": __version__,
        "commit": commit.stdout.strip() or "unknown",
    }


def measure(samples: Float32Array, model: ModelFile) -> dict[str, Any]:
    """All figures, by name."""
    stream, config = model.description.stream, model.description.front_end
    hop_s = stream.hop_frames * config.hop_samples / config.sample_rate_hz
    times = processing_times(model, samples)
    hop_ms, recomputed_ms = np.median(times["hop"]), np.median(times["recomputed"])
    starts = [listen_cost(SAMPLE) for _ in range(STARTS)]
    return {
        **machine(),
        "interpreter": str(open_graphs(model).runtime),
        "model": model.description.name,
        "model_sha256": model.sha256,
        "audio_s": round(len(samples) / config.sample_rate_hz, 2),
        "hop_s": hop_s,
        **{name: summary(values) for name, values in times.items()},
        "processor_share": round(float(hop_ms / hop_s / 1e3), 5),
        "processor_share_recomputed": round(float(recomputed_ms / RECOMPUTE_EVERY_S / 1e3), 5),
        "ratio_per_answer": round(float(recomputed_ms / hop_ms), 1),
        "ratio_per_second": round(float(recomputed_ms / RECOMPUTE_EVERY_S / (hop_ms / hop_s)), 1),
        "peak_memory_mb": round(max(peak for _, peak in starts) / 1e6, 1),
        "first_decision_s": round(float(np.median([start_s for start_s, _ in starts])), 2),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines for a person."""
    f = figures
    rows = {
        "machine": f"{f['cpu']}, {f['architecture']}, Python {f['python']}, numpy {f['numpy']}",
        "interpreter": f["interpreter"],
        "model": f"{f['model']}, SHA-256 {f['model_sha256'][:16]}",
        "code": f"edgelid {f['edgelid']}, commit {f['commit']}",
    }
    lines = [f"{name:<12} {value}" for name, value in rows.items()]
    lines += ["", f"{'processor time':<44} {'median':>9} {'95 %':>9}"]
    names = {
        "hop": f"a hop of {f['hop_s'] * 1e3:.0f} ms of audio, all of it",
        "front_end": "  front end",
        "step": "  step of the trunk",
        "head": "  head",
        "recomputed": f"a window of {WINDOW_S:g} s, recomputed",
    }
    lines += [
        f"{name:<44} {f[key]['median_ms']:>6.2f} ms {f[key]['p95_ms']:>6.2f} ms"
        for key, name in names.items()
    ]
    share, recomputed = f["processor_share"], f["processor_share_recomputed"]
    measured = [
        ("share of one core, listening", f"{share:.2%}", ""),
        (f"  recomputing every {RECOMPUTE_EVERY_S:g} s", f"{recomputed:.2%}", ""),
        ("recomputing costs, per answer", f"{f['ratio_per_answer']:.1f} x", f">= {MIN_RATIO:g} x"),
        ("  per second of audio", f"{f['ratio_per_second']:.1f} x", f">= {MIN_RATIO:g} x"),
        (
            "peak memory of edgelid listen",
            f"{f['peak_memory_mb']:.1f} MB",
            f"< {MAX_PEAK_BYTES / 1e6:.0f} MB",
        ),
        ("start to first decision", f"{f['first_decision_s']:.2f} s", f"< {MAX_START_S:g} s"),
    ]
    return lines + [""] + [f"{n:<44} {v:>9} {t:>9}".rstrip() for n, v, t in measured]


def main() -> int:
    """Measure and print; fails if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark_cost", description="Measures what listening costs here."
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = measure(read_audio(SAMPLE), read_model(DEFAULT_MODEL))
    print(json.dumps(figures) if options.json else "\n".join(table(figures)))
    met = (
        min(figures["ratio_per_answer"], figures["ratio_per_second"]) >= MIN_RATIO
        and figures["peak_memory_mb"] * 1e6 < MAX_PEAK_BYTES
        and figures["first_decision_s"] < MAX_START_S
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
