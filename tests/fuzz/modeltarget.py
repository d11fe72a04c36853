"""What reading a model file comes to: the outcome of one input, for fuzzing and for replaying."""

from __future__ import annotations

import hashlib
import json
import resource
import traceback
from pathlib import Path

import ai_edge_litert.interpreter  # noqa: F401  before any fork: each would import it anew
import numpy as np

from edge.errors import EdgelidError
from edge.listener import Listener
from edge.model import sandbox, trust
from edge.model.graphcheck import UnfitGraph, check_graph
from edge.model.info import describe, table
from edge.model.interpreter import CANDIDATES, WindowGraph, open_model, run_model
from edge.model.modelfile import ModelFile, model_of_bytes
from tests.fuzz.child import in_child

TRIAL_S = 20
MAX_GROWTH_BYTES = 64 << 20  # of this process, by reading one file

REFUSED, NOT_ADMITTED = "refused", "not admitted"
CRASHED, REFUSED_IN_TRIAL = "crashed its trial", "refused in its trial"
RAN, FINDING = "ran", "finding"


def outcome(data: bytes) -> tuple[str, str]:
    """What comes of a model file that a stranger made.

    It is read and checked here. Building and running it, as `edge.model.sandbox` does, is for a
    child process; if it survives that, another listens with it, as the process would that opened
    it.

    Returns
    -------
    str
        One of the above. To be found are errors other than EdgelidError, and memory taken, while
        reading, and whatever goes wrong after a trial that went well.
    str
        The reason.
    """
    before_bytes = _peak_bytes()
    try:
        model = model_of_bytes(Path("fuzz.tflite"), data)
        check_graph(model.graph)
    except EdgelidError as error:
        reason = str(error)
        if "\n" in reason or not reason.endswith("."):
            return FINDING, f"no sentence: {reason}"
        return REFUSED, reason
    except UnfitGraph as error:
        return NOT_ADMITTED, str(error)
    except Exception:
        return FINDING, traceback.format_exc(limit=-2)
    finally:
        grown_bytes = _peak_bytes() - before_bytes
    if grown_bytes > MAX_GROWTH_BYTES:
        return FINDING, f"reading it took {grown_bytes >> 20} MiB"
    status, text = in_child(lambda: _tried(model), TRIAL_S, sandbox.MAX_BYTES)
    if status or text.startswith("raised"):
        return CRASHED, f"status {status} {text}"
    if text:
        return REFUSED_IN_TRIAL, text
    status, text = in_child(lambda: _listened(model), TRIAL_S, sandbox.MAX_BYTES)
    if status or text:
        return FINDING, f"after its trial: status {status} {text}"
    return RAN, ""


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tried(model: ModelFile) -> str:
    try:
        # TensorFlow, where it is installed, is no part of the device.
        graphs = run_model(model, 1, CANDIDATES[:1])
        if isinstance(graphs, WindowGraph):
            graphs.try_all_lengths()
    except EdgelidError as error:
        return str(error)
    return ""


def _listened(model: ModelFile) -> str:
    """What `edgelid info` and `edgelid listen` do."""
    # No second trial, in a process that is itself a trial.
    trust._admitted.add((hashlib.sha256(model.graph).digest(), 1))
    facts = describe(model, open_model(model).runtime)
    table(facts)
    json.dumps(facts, allow_nan=False)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(16_000).astype(np.float32)
    loud, silent = np.clip(noise, -1, 1), np.zeros(16_000, np.float32)
    try:
        listener = Listener(model, run_model(model, 1, CANDIDATES[:1]), model.description.decoder)
        for heard in listener.hear([loud, silent, 0.01 * noise, loud]):
            for window in heard.windows:
                assert abs(window.probabilities.sum() - 1) < 1e-6
    except EdgelidError:  # scores that are no numbers, told in a sentence
        pass
    return ""
