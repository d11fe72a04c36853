"""Anchors for a model file: statistics of training speech, which lessons on the device are held to.

What they are, `edge.lessons.anchors` says. They are taken of the training split alone, balanced by
language, source and speaker. Those that are held out are of other sources, so that they tell what
lessons do to people and rooms that the others say nothing of.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from convert.output import write_model
from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, Float32Array
from edge.lessons.adapting import WINDOW_S
from edge.lessons.anchors import MAX_ANCHORS, anchor_members, anchors_in
from edge.model.interpreter import Graphs, Int8Array, open_graphs
from edge.model.modelfile import (
    MAX_MEMBER_BYTES,
    NONSPEECH,
    OTHER,
    ModelFile,
    bytes_of,
    model_of_bytes,
    read_model,
    with_members,
)
from train.command import check_model_output
from train.corpus.cuts import Cut, balanced, cuts, load_cuts, read_audio
from train.corpus.manifest import (
    CLIPS_A_LANGUAGE,
    TEST,
    TRAIN,
    Clip,
    clips_of,
    open_manifest,
    thinned,
)
from train.features.noise import read_noise
from train.features.synthetic_noise import sounds_of
from train.fit.training_data import divide

log = logging.getLogger(__name__)

PER_LANGUAGE = 250
OF_OTHER = 600  # all languages that are no class share it
OF_NOISE = 200
WINDOWS_A_NOISE = 6
HELD_SHARE = 0.25  # of the windows of each class, where its sources allow it
MOST_HELD = 0.35
COMPONENTS = 56
MAX_CLASSES = 127  # as int8
HEADER_BYTES, FLAGS_BYTES = 128, 2  # of the rows' array, and of each row
SEED = 1
CUTS_AT_ONCE = 256


@dataclass(frozen=True)
class Added:
    """What has been written.

    Attributes
    ----------
    anchors, held : int
    classes : dict of str to int
        Anchors of each.
    size_bytes : int
        Of the model file now.
    """

    anchors: int
    held: int
    classes: dict[str, int]
    size_bytes: int


def add_anchors(
    source: Path,
    output: Path,
    corpus: Path,
    sounds: Path | None = None,
    development: dict[str, list[str]] | None = None,
) -> Added:
    """Add anchors to a model file, in place of any that it has.

    Parameters
    ----------
    source, output : Path
        Model files; may be the same. Of one in parts, a whole file is written beside them, which
        is read in their place.
    corpus : Path
        Manifest or folder of the corpus that the model was trained on.
    sounds : Path, optional
        Folder that holds ``noise``: see `train.features.synthetic_noise`.
    development : dict of str to list of str, optional
        Sources that the training held out, by language: they stay out of the anchors, too.

    Raises
    ------
    EdgelidError
        If the model takes whole windows, or anything is missing or damaged; nothing is written
        then.
    """
    check_model_output(output)
    model = read_model(source)
    contents = bytes_of(model)  # now: what follows takes minutes
    graphs = open_graphs(model)
    if len(model.labels) > MAX_CLASSES:
        raise EdgelidError(f"a model of more than {MAX_CLASSES} classes cannot carry anchors")
    manifest = open_manifest(corpus)
    rows = manifest.rows.filter(pl.col("split") != TEST)
    learnt, _ = divide(rows, development or {})
    rows = rows[learnt].filter(pl.col("split") == TRAIN)
    pooler = _Pooler(model, graphs)
    clips = clips_of(thinned(rows, CLIPS_A_LANGUAGE))
    found = _chosen(clips, model.labels, pooler.needed_s)
    noise_folder = sounds_of(manifest.root, sounds) / "noise"
    log.info("hearing %d windows of speech, and noise", len(found))
    windows: list[Int8Array] = []
    for first in range(0, len(found), CUTS_AT_ONCE):
        some = load_cuts(found[first : first + CUTS_AT_ONCE], manifest.root)
        windows += [pooler.pooled(samples) for samples in some]
    names = [cut.language if cut.language in model.labels else OTHER for cut in found]
    sources = [cut.source for cut in found]
    if NONSPEECH in model.labels:
        for name, samples in _noise_windows(noise_folder, pooler.needed_s):
            windows.append(pooler.pooled(samples))
            names.append(NONSPEECH)
            sources.append(name)
    classes = np.array([model.labels.index(name) for name in names])
    held = held_out(classes, sources)
    pooled = np.stack(windows)
    scores = np.stack([graphs.head(window) for window in pooled])
    sha256 = model.description.graph_sha256
    members = anchor_members(
        sha256, pooled, scores, classes, held, min(COMPONENTS, pooled.shape[1])
    )
    data = with_members(contents, members)
    anchors_in(data, model_of_bytes(output, data))  # or the device would refuse them
    write_model(output, data)
    counts = np.bincount(classes, minlength=len(model.labels))
    by_class = dict(zip(model.labels, counts.tolist(), strict=True))
    return Added(len(classes), int(held.sum()), by_class, len(data))


def held_out(classes: npt.NDArray[np.int64], sources: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which to hold out: whole sources, about a share of each class where it has several.

    Parameters
    ----------
    classes : ndarray, shape (anchors,)
    sources : sequence of str

    Returns
    -------
    ndarray of bool, shape (anchors,)
    """
    of_source = np.array(sources)
    held = np.zeros(len(classes), bool)
    labels = np.unique(classes)
    for label in labels:
        own = classes == label
        for source in sorted({*of_source[own].tolist()}, key=_draw):
            if held[own].mean() >= HELD_SHARE:
                break
            # A source of many languages may be most of what another class has to learn from.
            candidate = held | (of_source == source)
            if max(candidate[classes == each].mean() for each in labels) <= MOST_HELD:
                held = candidate
    if not held.any() or held.all():
        raise EdgelidError("the corpus has too few sources to hold any out: anchors need several")
    return held


def _draw(name: str) -> str:
    return hashlib.sha256(f"{SEED}/{name}".encode()).hexdigest()


def _chosen(clips: Sequence[Clip], labels: Sequence[str], duration_s: float) -> list[Cut]:
    """Cuts balanced by language; those in no language of the model share a quota."""
    found = cuts(clips, duration_s=duration_s, seed=SEED)
    known = [cut for cut in found if cut.language in labels]
    missing = {*labels} - {cut.language for cut in known} - {OTHER, NONSPEECH}
    if missing:
        raise EdgelidError(
            f"the corpus has no training speech in {', '.join(sorted(missing))}, which the model "
            "knows: give the one it was trained on"
        )
    chosen = balanced(known, per_language=per_language(len(labels)), seed=SEED)
    strangers = [cut for cut in found if cut.language not in labels]
    if strangers and OTHER in labels:
        share = max(1, OF_OTHER // len({cut.language for cut in strangers}))
        chosen += balanced(strangers, per_language=share, seed=SEED)
    return chosen


def per_language(classes: int) -> int:
    """Anchors of each language: of a model of many classes fewer, so that all can be read."""
    row_bytes = COMPONENTS + classes + FLAGS_BYTES
    most = min(MAX_ANCHORS, (MAX_MEMBER_BYTES - HEADER_BYTES) // row_bytes)
    return min(PER_LANGUAGE, (most - OF_OTHER - OF_NOISE) // classes)


def _noise_windows(folder: Path, duration_s: float) -> list[tuple[str, Float32Array]]:
    """Names of recordings without speech, and windows of them."""
    by_noise: dict[str, list[Float32Array]] = defaultdict(list)
    for noise in read_noise(folder, "train"):
        if noise.has_speech:
            continue
        samples = read_audio(folder / noise.path, WINDOWS_A_NOISE * duration_s)
        length = round(duration_s * SAMPLE_RATE_HZ)
        for start in range(0, len(samples) - length + 1, length):
            by_noise[noise.path].append(samples[start : start + length])
    # One of each before the second of any.
    turns = [
        (turn, _draw(name), name, window)
        for name, windows in by_noise.items()
        for turn, window in enumerate(windows)
    ]
    turns.sort(key=lambda each: each[:2])
    return [(name, window) for _, _, name, window in turns[:OF_NOISE]]


class _Pooler:
    """Statistics of windows of a model.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs

    Attributes
    ----------
    needed_s : float
        What must be heard for a window: what comes before it reaches into it, and a window behind
        silence would tell anchors from lessons, which are taken from the middle of speech.
    """

    def __init__(self, model: ModelFile, graphs: Graphs) -> None:
        description = model.description
        self.needed_s = WINDOW_S + description.stream.receptive_field_frames / FRAMES_PER_SECOND
        self._classifier = StreamingClassifier(model, graphs, [WINDOW_S])

    def pooled(self, samples: Float32Array) -> Int8Array:
        """Of the last window of samples, as their stream would have it at its end."""
        classifier = self._classifier
        classifier.reset()
        for _ in classifier.process(samples):
            pass
        for _ in classifier.flush():
            pass
        return classifier.pooled(0)
