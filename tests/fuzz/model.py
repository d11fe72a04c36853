"""Fuzz what reads model files: ``python -m tests.fuzz.model --seconds 3600 --work FOLDER``.

Guided by the coverage of `edge.modelfile` and `edge.graphcheck` (atheris, which is libFuzzer). What
these admit goes on: the graph is built and run in a child process as by `edge.trial`, and what
survives that is listened with, as the process would that opened the file. To be found are

- errors other than EdgelidError, and memory taken, while reading;
- whatever goes wrong after a trial that went well.

Such inputs are kept in ``FOLDER/findings``; those that crashed a trial, which is what it is for, in
``FOLDER/absorbed``, one a kind. ``FOLDER/model.json`` tells how far it is.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import logging
import os
import re
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edge.modelfile", "edge.graphcheck", "numpy.lib"]):
    import edge.graphcheck
    import edge.modelfile

import ai_edge_litert.interpreter  # before any fork: each would import it anew
import numpy as np

from edge import interpreter, trial
from edge.errors import EdgelidError
from edge.info import describe, table
from edge.interpreter import run_model
from edge.listen import Listener
from edge.modelfile import ModelFile, model_of_bytes
from tests.fuzz.child import give_way, in_child
from tests.fuzz.hostile import mutated
from tests.fuzz.seeds import MODELS

MAX_INPUT_BYTES = 1 << 16
TRIAL_S = 20
MAX_GROWTH_BYTES = 64 << 20  # of this process, by reading one file of that size
STATE_EVERY_S = 5.0


class Harness:
    """Executes inputs and keeps the books."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._start_s = time.monotonic()
        self._told_s = 0.0
        self._counts: collections.Counter[str] = collections.Counter()
        self._kinds: set[str] = set()
        for folder in ("findings", "absorbed", "corpus"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        self._peak_bytes = 0

    def one(self, data: bytes) -> None:
        self._counts["executions"] += 1
        self._counts[self._outcome(data)] += 1
        now_s = time.monotonic()
        if now_s - self._told_s > STATE_EVERY_S:
            self._told_s = now_s
            state = {"seconds": round(now_s - self._start_s), **dict(self._counts.most_common())}
            (self._work / "model.json").write_text(json.dumps(state, indent=1))

    def _outcome(self, data: bytes) -> str:
        try:
            model = model_of_bytes(Path("fuzz.tflite"), data)
        except EdgelidError as error:
            if "\n" in str(error) or not str(error).endswith("."):
                return self._keep("findings", data, f"no sentence: {error}")
            return "refused: " + str(error).partition(" as ")[2][:60]
        except Exception:
            return self._keep("findings", data, traceback.format_exc(limit=-2))
        finally:
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            grown, self._peak_bytes = peak_bytes - self._peak_bytes, peak_bytes
            if grown > MAX_GROWTH_BYTES and self._counts["executions"] > 100:
                self._keep("findings", data, f"grew by {grown >> 20} MiB")
        try:
            edge.graphcheck.check_graph(model.graph)
        except edge.graphcheck.UnfitGraph as error:
            return f"not admitted: {error}"
        except Exception:
            return self._keep("findings", data, traceback.format_exc(limit=-2))
        status, text = in_child(lambda: _tried(model), TRIAL_S, trial.MAX_BYTES)
        if status or text.startswith("raised"):
            return self._keep("absorbed", data, f"status {status} {text}")
        if text:
            return "refused in trial"
        status, text = in_child(lambda: _listened(model), TRIAL_S, trial.MAX_BYTES)
        if status or text.startswith("raised"):
            return self._keep("findings", data, f"after trial: status {status} {text}")
        return "ran" + text

    def _keep(self, folder: str, data: bytes, what: str) -> str:
        kind = folder + ": " + re.sub(r"0x[0-9a-f]+|\d{4,}", "N", what.strip())[:300]
        if kind not in self._kinds:
            self._kinds.add(kind)
            name = hashlib.sha1(data).hexdigest()[:12]
            (self._work / folder / f"{name}.tflite").write_bytes(data)
            (self._work / folder / f"{name}.txt").write_text(what)
        return kind


def _tried(model: ModelFile) -> str:
    try:
        run_model(model, 1)
    except EdgelidError as error:
        return str(error)
    return ""


def _listened(model: ModelFile) -> str:
    """What `edgelid info` and `edgelid listen` do; empty if all went well."""
    try:
        interpreter.admit = lambda model, threads: None  # it has been
        facts = describe(model)
        table(facts)
        json.dumps(facts, allow_nan=False)
        listener = Listener(model, run_model(model, 1), model.description.decoder)
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(16_000).astype(np.float32)
        loud, quiet = np.clip(noise, -1, 1), np.zeros(16_000, np.float32)
        for heard in listener.hear([loud, quiet, 0.01 * noise, loud]):
            for window in heard.windows:
                if not abs(window.probabilities.sum() - 1) < 1e-6:
                    raise ArithmeticError("probabilities do not add up")
    except EdgelidError:
        return ", then refused"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    give_way()
    logging.disable()
    # TensorFlow, where it is installed, is no part of the device.
    interpreter.CANDIDATES = interpreter.CANDIDATES[:1]
    harness = Harness(options.work)
    seeds = [path.read_bytes() for path in sorted(MODELS.glob("seed-*"))]

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
    atheris.Setup(arguments, harness.one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    assert ai_edge_litert.interpreter is not None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
