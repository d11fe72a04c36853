"""What can be got back of speech from the statistics that lessons keep.

``python -m train.evaluation.inversion MODEL --corpus CORPUS`` plays the attacker: somebody who has
the lesson book, the model, and as many other recordings as they like. Ridge regression learns from
other speakers' windows to tell the log-mel spectrogram from the statistics, and is scored on
speakers it has not met: how much of the variance it explains of the window's mean spectrum (what
voice, which microphone), and of the course of the spectrum around that (what was said). With the
course a vocoder could speak; the share of it says how much of it there is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, Float64Array, FrontEnd
from edge.lessons.adapting import WINDOW_S
from edge.model.interpreter import Graphs, open_graphs
from edge.model.modelfile import ModelFile, read_model
from train.command import run
from train.corpus.cuts import balanced, cuts, load_cuts
from train.corpus.manifest import TEST, TRAIN, clips_of, corpus_dir, open_manifest

SLOT_FRAMES = 15  # of the course: 150 ms, about a syllable
RIDGE = (1e1, 1e2, 1e3, 1e4)  # of which the attacker takes the best
PER_LANGUAGE = 60
SEED = 1


def statistics_and_spectrogram(
    model: ModelFile, graphs: Graphs, audio: Sequence[Float32Array]
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """What a lesson keeps of the last window of each recording, and what it does not.

    Returns
    -------
    statistics : ndarray, shape (recordings, 2 * embedding)
    mean : ndarray, shape (recordings, mels)
        Of the log-mel frames of the window.
    course : ndarray, shape (recordings, slots * mels)
        Mean of each slot, less that.
    """
    classifier = StreamingClassifier(model, graphs, [WINDOW_S])
    front_end = FrontEnd(model.description.front_end, model.filterbank)
    frames = round(WINDOW_S * FRAMES_PER_SECOND)
    statistics, means, courses = [], [], []
    for samples in audio:
        classifier.reset()
        for _ in classifier.process(samples):
            pass
        for _ in classifier.flush():
            pass
        statistics.append(classifier.pooled(0).astype(np.float64))
        spectrogram = front_end.log_mel(samples)[-frames:].astype(np.float64)
        mean = spectrogram.mean(axis=0)
        slots = spectrogram[: frames // SLOT_FRAMES * SLOT_FRAMES]
        slots = slots.reshape(-1, SLOT_FRAMES, len(mean)).mean(axis=1)
        means.append(mean)
        courses.append((slots - mean).ravel())
    return np.array(statistics), np.array(means), np.array(courses)


def explained(
    known: Float64Array, wanted: Float64Array, attacked: Float64Array, truth: Float64Array
) -> float:
    """Share of the variance of `truth` that regression explains, by the best of several penalties.

    Parameters
    ----------
    known, wanted : ndarray, shape (recordings, n), (recordings, m)
        What the attacker learns from.
    attacked, truth : ndarray, shape (others, n), (others, m)
    """
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-9
    inputs, attacked = (known - mean) / spread, (attacked - mean) / spread
    middle = wanted.mean(axis=0)
    total = float(((truth - middle) ** 2).sum())
    gram, product = inputs.T @ inputs, inputs.T @ (wanted - middle)
    shares = []
    for penalty in RIDGE:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), product)
        error = float(((attacked @ weights + middle - truth) ** 2).sum())
        shares.append(1.0 - error / total)
    return max(shares)


def attack(model_path: Path, corpus: Path) -> dict[str, float]:
    """Shares of the variance explained, of ``mean`` and ``course``.

    Raises
    ------
    EdgelidError
        If the model does not stream, or the corpus cannot be read or has too little speech.
    """
    model = read_model(model_path)
    graphs = open_graphs(model)
    needed_s = WINDOW_S + model.description.stream.receptive_field_frames / FRAMES_PER_SECOND
    manifest = open_manifest(corpus)
    parts = []
    for split in (TRAIN, TEST):
        rows = manifest.rows.filter((manifest.rows["split"] == split) & manifest.rows["target"])
        found = cuts(clips_of(rows), duration_s=needed_s, seed=SEED)
        chosen = balanced(found, per_language=PER_LANGUAGE, seed=SEED)
        if not chosen:
            raise EdgelidError(
                f"the {split} split of {corpus} has no {needed_s:.1f} s of any speaker"
            )
        audio = load_cuts(chosen, manifest.root)
        parts.append(statistics_and_spectrogram(model, graphs, audio))
    (known, mean, course), (attacked, true_mean, true_course) = parts
    return {
        "mean": round(explained(known, mean, attacked, true_mean), 3),
        "course": round(explained(known, course, attacked, true_course), 3),
    }


def main() -> int:
    """Print what an attacker gets."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.inversion", description=__doc__
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", type=Path, help="manifest or folder (default: EDGELID_CORPUS)")
    options = parser.parse_args()

    def tell() -> None:
        found = attack(options.model, options.corpus or corpus_dir())
        print(f"of the mean spectrum {found['mean']:.0%} of the variance comes back")
        print(f"of its course over time {found['course']:.0%} of the variance comes back")

    return run("train.evaluation.inversion", tell, "nothing was told")


if __name__ == "__main__":
    sys.exit(main())
