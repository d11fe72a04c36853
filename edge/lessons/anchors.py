"""Anchors: statistics of other people's speech, which a model file may carry.

They are windows of the speech that the model was trained on, pooled as the head sees them and
reduced to their principal components, with the scores that the head gives them. What is learnt from
lessons is held to them, so that nothing known is forgotten. Some are held out, of sources that the
others are not of: they tell what lessons cost.

Three members of the ZIP, which `edgelid-convert anchors` writes and nothing but lessons reads: a
description, the projection, and one row of int8 for each anchor.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import EdgelidError
from edge.frontend import Float64Array
from edge.model.interpreter import Int8Array
from edge.model.modelfile import ModelFile, bytes_of, read_array, read_member

FORMAT_VERSION = 1
DESCRIPTION_MEMBER = "anchors.json"
PROJECTION_MEMBER = "anchors_projection.npy"
ROWS_MEMBER = "anchors.npy"
MAX_ANCHORS = 20_000
MAX_COMPONENTS = 256
COMPONENT_STEP = 1 / 24  # of int8: five standard deviations to either side
# What is coarse compresses: a third of a deviation, and six bits of each direction, are enough.
COARSE_STEPS = 8
MANTISSA_BITS = 5  # of the ten that float16 keeps
_FLAGS = 2  # behind coordinates and scores: the class, and whether it is held out


@dataclass(frozen=True)
class Anchors:
    """Other people's speech.

    Attributes
    ----------
    mean : ndarray, shape (2 * embedding,), float64
        Of windows as the head takes them, in int8 steps.
    projection : ndarray, shape (2 * embedding, components), float64
        Of those, less the mean, to components of unit variance.
    components : ndarray, shape (anchors, components), float64
    scores : ndarray, shape (anchors, classes), int8
        As the head gives them.
    classes : ndarray, shape (anchors,), int64
    held : ndarray of bool, shape (anchors,)
        Which are held out.
    """

    mean: Float64Array
    projection: Float64Array
    components: Float64Array
    scores: Int8Array
    classes: npt.NDArray[np.int64]
    held: npt.NDArray[np.bool_]

    def project(self, windows: Int8Array) -> Float64Array:
        """Components of windows, (n, 2 * embedding) to (n, components)."""
        projected: Float64Array = (windows - self.mean) @ self.projection
        return projected


def read_anchors(model: ModelFile) -> Anchors:
    """Those of a model file.

    Raises
    ------
    EdgelidError
        If it carries none, they are damaged, or the file is not what it was when it was read.
    """
    return anchors_in(bytes_of(model), model)


def anchors_in(data: bytes, model: ModelFile) -> Anchors:
    """Those of a model file of which one has the bytes.

    Raises
    ------
    EdgelidError
        If it carries none, or they are damaged.
    """
    name = repr(str(model.path))
    archive = zipfile.ZipFile(io.BytesIO(data))  # which has been opened before
    if DESCRIPTION_MEMBER not in archive.namelist():
        raise EdgelidError(
            f"the model {name} carries no anchors, without which lessons could make it forget: "
            "`edgelid-convert anchors` adds them."
        )
    try:
        return _anchors(archive, model)
    # Foreign bytes: what the parsers of ZIP, deflate, JSON and numpy may raise is no closed list.
    except Exception as error:
        raise EdgelidError(
            f"the anchors of the model {name} are damaged or of another release: copy it again, "
            "or add them anew with `edgelid-convert anchors`."
        ) from error


def _anchors(archive: zipfile.ZipFile, model: ModelFile) -> Anchors:
    told: Any = json.loads(read_member(archive, DESCRIPTION_MEMBER))
    projection = read_array(read_member(archive, PROJECTION_MEMBER))
    rows = read_array(read_member(archive, ROWS_MEMBER))
    channels, classes = 2 * model.description.stream.embedding, len(model.labels)
    components = projection.shape[1] - 1
    fits = (
        told["format_version"] == FORMAT_VERSION
        and told["graph_sha256"] == model.description.graph_sha256
        and projection.dtype == np.float16
        and projection.shape == (channels, 1 + components)
        and 1 <= components <= MAX_COMPONENTS
        and np.isfinite(projection).all()
        and rows.dtype == np.int8
        and rows.ndim == 2
        and rows.shape[1] == components + classes + _FLAGS
        and 1 <= len(rows) <= MAX_ANCHORS
    )
    if not fits:
        raise ValueError("not what the model's own anchors are")
    truth, held = rows[:, -2].astype(np.int64), rows[:, -1]
    if not ((truth >= 0) & (truth < classes)).all() or not np.isin(held, (0, 1)).all():
        raise ValueError("of no class")
    if not held.any() or held.all():
        raise ValueError("none held out, or all")
    wide = projection.astype(np.float64)
    return Anchors(
        mean=wide[:, 0],
        projection=wide[:, 1:],
        components=rows[:, :components].astype(np.float64) * COMPONENT_STEP,
        scores=rows[:, components : components + classes].copy(),
        classes=truth,
        held=held.astype(bool),
    )


def anchor_members(
    graph_sha256: str,
    windows: Int8Array,
    scores: Int8Array,
    classes: npt.NDArray[np.int64],
    held: npt.NDArray[np.bool_],
    components: int,
) -> dict[str, bytes]:
    """Members of a model file that carry anchors; equal inputs give equal bytes.

    Parameters
    ----------
    graph_sha256 : str
    windows : ndarray, shape (anchors, 2 * embedding), int8
    scores : ndarray, shape (anchors, classes), int8
    classes, held : ndarray, shape (anchors,)
    components : int
        To keep, at most the channels of a window.
    """
    values = windows.astype(np.float64)
    own = values[~held]
    mean = own.mean(axis=0)
    # Channels differ in spread by much more than in what they tell.
    spread = own.std(axis=0) + 1.0
    standard = (own - mean) / spread
    variances, directions = np.linalg.eigh(standard.T @ standard / len(own))
    order = np.argsort(-variances)[:components]
    # Signs of eigenvectors are arbitrary: the largest entry is made positive.
    chosen = directions[:, order]
    chosen *= np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(len(order))])
    projection = chosen / np.sqrt(np.maximum(variances[order], 1e-6)) / spread[:, None]
    stored = np.concatenate([mean[:, None], _coarse(projection)], axis=1).astype(np.float16)
    wide = stored.astype(np.float64)
    most = 127 // COARSE_STEPS
    steps = np.rint((values - wide[:, 0]) @ wide[:, 1:] / (COMPONENT_STEP * COARSE_STEPS))
    rows = np.concatenate(
        [steps.clip(-most, most) * COARSE_STEPS, scores, classes[:, None], held[:, None]], axis=1
    )
    told = {"format_version": FORMAT_VERSION, "graph_sha256": graph_sha256}
    return {
        DESCRIPTION_MEMBER: json.dumps(told, indent=1, sort_keys=True).encode(),
        PROJECTION_MEMBER: _packed(stored),
        # A column's values lie one behind another, as they are alike.
        ROWS_MEMBER: _packed(np.asfortranarray(rows.astype(np.int8))),
    }


def _coarse(values: Float64Array) -> Float64Array:
    """Rounded to so few bits of the mantissa."""
    mantissas, exponents = np.frexp(values)
    scale = 2 ** (MANTISSA_BITS + 1)
    rounded: Float64Array = np.ldexp(np.rint(mantissas * scale) / scale, exponents)
    return rounded


def _packed(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
