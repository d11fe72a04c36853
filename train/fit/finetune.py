"""Fine-tuning: a run that begins with another one's trunk, and what its head knows already."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from edge.errors import EdgelidError
from edge.model.modelfile import OTHER
from train.config import RunConfig
from train.model.checkpoint import Checkpoint, build_model, load_checkpoint

log = logging.getLogger(__name__)


def initial_weights(config: RunConfig, path: Path) -> list[np.ndarray]:
    """Weights of trunk and head that a run on other languages begins with.

    Classes that both runs have keep their rows of the last layer. A new language begins with the
    row of ``other``, which is what it was until now.

    Parameters
    ----------
    config : RunConfig
        Of the new run.
    path : Path
        Run, or checkpoint, to begin with.

    Raises
    ------
    EdgelidError
        If it is none, or of another front end or network.
    """
    other = load_checkpoint(path)
    if (other.config.model, other.config.front_end) != (config.model, config.front_end):
        raise EdgelidError(
            f"{path} cannot be begun with: its [model] and [front_end] must be those of the "
            "configuration"
        )
    trunk, head = build_model(other.config)
    count = len(trunk.weights)
    weights = _weights(other, path, [tuple(w.shape) for w in trunk.weights + head.weights])
    known = other.config.data.labels
    rows = [known.index(label if label in known else OTHER) for label in config.data.labels]
    *kept, kernel, bias = weights[count:]  # (hidden, classes), (classes,)
    new = [label for label in config.data.labels if label not in known]
    log.info("beginning with %s; new to it: %s", path, ", ".join(new) or "nothing")
    return [*weights[:count], *kept, kernel[:, rows], bias[rows]]


def known_classes(config: RunConfig, path: Path) -> list[bool]:
    """Which classes of a new run the one at `path` has as well.

    Raises
    ------
    EdgelidError
        If it has all of them.
    """
    known = load_checkpoint(path).config.data.labels
    found = [label in known for label in config.data.labels]
    if all(found):
        raise EdgelidError(
            f"{path} knows all these languages: with --freeze known, none is to learn"
        )
    return found


def _weights(checkpoint: Checkpoint, path: Path, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Those of the finished model, or the averages of a run that goes on."""
    arrays = checkpoint.arrays
    if "average/0" in arrays:
        found = [arrays.get(f"average/{i}") for i in range(len(shapes))]
    else:
        names = [*_numbered(arrays, "trunk"), *_numbered(arrays, "head")]
        found = [arrays[name] for name in names]
    weights = [array for array in found if array is not None]
    if [array.shape for array in weights] != shapes:
        raise EdgelidError(f"the weights in {path} do not fit its configuration: it is damaged")
    return weights


def _numbered(arrays: dict[str, np.ndarray], kind: str) -> list[str]:
    count = sum(name.startswith(f"{kind}/") for name in arrays)
    names = [f"{kind}/{i}" for i in range(count)]
    return [name for name in names if name in arrays]
