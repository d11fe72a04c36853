"""All that a model's graphs give, to be run as a script wherever there is an interpreter.

`python guest_outputs.py MODEL AUDIO.npy ANSWERS.npz [ANSWERS.npz]` writes the outputs, hop by hop,
and prints, as JSON, where it ran. Given other answers, it scores the windows in those.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import platform
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.classifier import pool, quantise
from edge.frontend import Float32Array, FrontEnd
from edge.model.interpreter import (
    CANDIDATES,
    TRUNK_SIGNATURE,
    Graphs,
    WindowGraph,
    run_model,
)
from edge.model.modelfile import ModelFile, read_model

Arrays = dict[str, npt.NDArray[Any]]

AT_HWCAP = 16  # of getauxval(3)


def streamed(
    model: ModelFile, frames: Float32Array, distribution: str, windows: Arrays | None
) -> Arrays:
    """Outputs of a model that streams, with the states that the graph itself hands on."""
    graphs = run_model(model, 1)
    assert isinstance(graphs, Graphs)
    step = interpreter(model, distribution).get_signature_runner(TRUNK_SIGNATURE)
    stream = model.description.stream
    silence = {
        name: np.full(details["shape"], details["quantization"][1], np.int8)
        for name, details in step.get_input_details().items()
    }
    states = {name: value for name, value in silence.items() if name != "frames"}
    quantised = quantise(frames, graphs.frames)
    hops: dict[str, list[npt.NDArray[Any]]] = defaultdict(list)
    sums = np.zeros(1 + 2 * stream.embedding, np.int64)
    for start in range(0, len(quantised) - stream.hop_frames + 1, stream.hop_frames):
        hop = quantised[start : start + stream.hop_frames]
        out = step(frames=hop[None, :, None, :], **states)
        states = {name: out[f"{name}_next"] for name in states}
        x = out["embeddings"][0, :, 0].astype(np.int64) - graphs.embeddings.zero_point
        w = out["weights"][0, :, 0].astype(np.int64) - graphs.weights.zero_point
        sums = sums + np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
        pooled = quantise(pool(sums, graphs.embeddings, graphs.weights), graphs.pooled)
        for name, value in {"frames": hop, "pooled": pooled, **out}.items():
            hops[name].append(value)
    told = {name: np.stack(values) for name, values in hops.items()}
    given = told if windows is None else windows
    told["scores"] = np.stack([graphs.head(pooled).copy() for pooled in given["pooled"]])
    return told


def windowed(model: ModelFile, frames: Float32Array, graph: WindowGraph) -> Arrays:
    """Scores of a model of whole windows."""
    stream = model.description.stream
    size = stream.receptive_field_frames
    starts = range(0, len(frames) - size + 1, stream.hop_frames)
    return {"scores": np.stack([graph.scores(frames[i : i + size]) for i in starts])}


def interpreter(model: ModelFile, distribution: str) -> Any:
    """The one of that package."""
    (candidate,) = (c for c in CANDIDATES if c.distribution == distribution)
    value: Any = importlib.import_module(candidate.module)
    for name in candidate.attribute.split("."):
        value = getattr(value, name)
    return value(model_content=model.graph, num_threads=1)


def main() -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    file, audio, answers, *others = sys.argv[1:]
    model = read_model(Path(file))
    graph = run_model(model, 1)  # a trial would start qemu's guest again, without qemu
    samples = np.load(audio)
    frames = FrontEnd(model.description.front_end, model.filterbank).process(samples)
    if isinstance(graph, WindowGraph):
        told = windowed(model, frames, graph)
    else:
        windows = dict(np.load(others[0])) if others else None
        told = streamed(model, frames, graph.runtime.name, windows)
    np.savez(answers, **told)
    facts = {
        "machine": platform.machine(),
        "capabilities": ctypes.CDLL(None).getauxval(AT_HWCAP),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "name": graph.runtime.name,
        "version": graph.runtime.version,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
