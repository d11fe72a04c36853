"""The directions of a transformer's residual stream that most of it is about.

All layers add to one stream and read from it, so one orthogonal basis serves all of them (Ashkboos
et al. 2024, "SliceGPT: compress large language models by deleting rows and columns"): what a layer
reads and writes is told in coordinates along the principal components of the stream, and those of
little power are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array
from edge.system.atomic import atomic_file
from train.model.unreadable import UNREADABLE

LEAST_VARIANCE = 1e-12  # of a channel, which divides it


@dataclass(frozen=True)
class StreamBasis:
    """Coordinates of a teacher's stream.

    Attributes
    ----------
    places : ndarray, shape (tokens, dim)
        Mean of the first layer's outputs at each place in a window: a transformer's stream is full
        of where it is, which a student in an endless stream cannot know.
    deviations : ndarray, shape (dim,)
        Of the channels: a few of them are large and say little.
    directions : ndarray, shape (dim, width)
        Orthonormal.
    kept : ndarray, shape (layers,)
        Share of each layer's power that the coordinates have.
    """

    places: Float32Array
    deviations: Float32Array
    directions: Float32Array
    kept: Float32Array

    @property
    def kernel(self) -> Float32Array:
        """From the stream, less what is usual at its place, to coordinates, (dim, width)."""
        return self.directions / self.deviations[:, None]

    def coordinates(self, tokens: Float32Array) -> Float32Array:
        """Of tokens of many clips, less their mean at each place.

        Parameters
        ----------
        tokens : ndarray, shape (clips, tokens, dim)

        Returns
        -------
        ndarray, shape (clips, tokens, width)
        """
        return np.asarray((tokens - tokens.mean(axis=0)) @ self.kernel)

    def save(self, file: Path, teacher: str) -> None:
        """Write atomically, with what tells the teacher from another.

        Raises
        ------
        EdgelidError
            If the file cannot be written.
        """
        with atomic_file(file) as out:
            np.savez(out, allow_pickle=False, teacher=np.array(teacher), **asdict(self))

    @classmethod
    def load(cls, file: Path, teacher: str, width: int) -> StreamBasis:
        """Read what :meth:`save` wrote.

        Raises
        ------
        EdgelidError
            If it is damaged, of another teacher or of another width.
        """
        try:
            with np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
            theirs, basis = str(found.pop("teacher")), cls(**found)
        except UNREADABLE as error:
            raise EdgelidError(f"{file} is damaged: remove its folder to begin anew") from error
        if theirs != teacher or basis.directions.shape[1:] != (width,):
            raise EdgelidError(
                f"{file.parent} was heard by another teacher or for another width: give another "
                "folder as --hearing"
            )
        return basis


def fit_basis(
    batches: Iterable[Float32Array], group: int, width: int, rng: np.random.Generator
) -> StreamBasis:
    """Find the directions that have most of the power of all layers together.

    Parameters
    ----------
    batches : iterable of ndarray, shape (clips, layers, tokens, dim)
        What the layers put out.
    group : int
        Tokens whose mean the student tells at once; divides their number.
    width : int
        Number of directions, at most dim.
    rng : Generator
        Of a rotation among the directions, after which all coordinates have about the same spread:
        8-bit integers then fit each of them alike.
    """
    sums, products, clips = np.zeros(()), np.zeros(()), 0
    for batch in batches:
        sums = sums + batch.sum(axis=0, dtype=np.float64)
        products = products + _products(_grouped(batch, group))
        clips += len(batch)
    places = sums / clips  # (layers, tokens, dim)
    usual = _grouped(places[None], group)
    tokens = clips * usual.shape[2]
    covariances = products / tokens - _products(usual) / usual.shape[2]  # (layers, dim, dim)
    variances = np.einsum("lii->li", covariances)
    deviations = np.sqrt(np.maximum(variances.mean(axis=0), LEAST_VARIANCE))
    covariances /= deviations[:, None] * deviations
    powers = np.trace(covariances, axis1=1, axis2=2)
    _, axes = np.linalg.eigh((covariances / powers[:, None, None]).sum(axis=0))
    rotation, _ = np.linalg.qr(rng.normal(size=(width, width)))
    directions = axes[:, -width:] @ rotation
    kept = np.einsum("dw,lde,ew->l", directions, covariances, directions, optimize=True) / powers
    found = (places[0], deviations, directions, kept)
    return StreamBasis(*(x.astype(np.float32) for x in found))


def _grouped(tokens: Float64Array | Float32Array, group: int) -> Float64Array:
    """Means of groups of tokens, (clips, layers, tokens / group, dim)."""
    clips, layers, count, dim = tokens.shape
    means = tokens.reshape(clips, layers, count // group, group, dim).mean(axis=3, dtype=np.float64)
    return np.asarray(means)


def _products(tokens: Float64Array) -> Float64Array:
    """Sums over clips and tokens of products of channels, (layers, dim, dim)."""
    flat = np.moveaxis(tokens, 1, 0).reshape(tokens.shape[1], -1, tokens.shape[3])
    return np.asarray(np.swapaxes(flat, 1, 2) @ flat)
