"""Accuracy of a model file: int8, through the very code that listens on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from edge.classifier import StreamingClassifier, softmax
from edge.errors import EdgelidError
from edge.frontend import Float32Array, Float64Array
from edge.interpreter import Graphs, open_graphs
from edge.modelfile import NONSPEECH, OTHER, ModelFile, read_model
from train.cuts import Cut, balanced, cuts, load_cut
from train.manifest import read_manifest

CALIBRATION_BINS = 15
CONFIDENT = 0.6  # posterior above which an answer is taken seriously
SEED = 1  # of the cuts
TINY = 1e-30  # whose logarithm stands for that of nothing


@dataclass(frozen=True)
class Scored:
    """A model's answers for cuts of one duration.

    Attributes
    ----------
    cuts : list of Cut
    log_probabilities : ndarray, shape (cuts, classes), float64
    labels : tuple of str
        Classes.
    """

    cuts: list[Cut]
    log_probabilities: Float64Array
    labels: tuple[str, ...]

    @property
    def wanted(self) -> np.ndarray:
        """Index of the true class of each cut, shape (cuts,)."""
        return np.array([self.labels.index(cut.language) for cut in self.cuts])


def score_audio(classifier: StreamingClassifier, samples: Float32Array) -> Float64Array:
    """Log-probabilities of one recording, streamed from its beginning to its end.

    Parameters
    ----------
    classifier : StreamingClassifier
        With one window, at least as long as the recording.
    samples : ndarray, shape (n,), float32

    Returns
    -------
    ndarray, shape (classes,)
    """
    classifier.reset()
    last = None
    for windows in classifier.process(samples):
        last = windows[0]
    for windows in classifier.flush():
        last = windows[0]
    assert last is not None, "flush answers for any audio"
    log_probabilities: Float64Array = np.log(last.probabilities + TINY)
    return log_probabilities


def score_cuts(model: ModelFile, graphs: Graphs, cuts: Sequence[Cut], corpus: Path) -> Scored:
    """Stream every cut through a model.

    Parameters
    ----------
    cuts : sequence of Cut
        Of one duration.
    corpus : Path
        Folder of their audio.

    Raises
    ------
    EdgelidError
        If audio is missing or damaged.
    """
    classifier = StreamingClassifier(model, graphs, [cuts[0].duration_s])
    progress = tqdm(cuts, f"{cuts[0].duration_s:g} s", unit="cut")
    scores = [score_audio(classifier, load_cut(cut, corpus)) for cut in progress]
    return Scored(list(cuts), np.stack(scores), model.labels)


def among(scored: Scored, labels: Sequence[str]) -> Scored:
    """The same answers with only some classes possible, as ``--languages`` does.

    Parameters
    ----------
    scored : Scored
    labels : sequence of str
        The classes that stay possible.
    """
    possible = np.array([label in labels for label in scored.labels])
    scores = np.where(possible, scored.log_probabilities, -np.inf)
    return Scored(scored.cuts, np.log(softmax(scores) + TINY), scored.labels)


def accuracy_report(scored: Scored) -> dict[str, Any]:
    """Accuracy, balanced accuracy and calibration error of target languages.

    Returns
    -------
    dict
        ``accuracy`` over cuts, ``macro_accuracy`` over languages, ``ece``, ``by_language``,
        ``by_source`` and ``confusion`` (rows are truth).
    """
    wanted = scored.wanted
    answers = scored.log_probabilities.argmax(axis=1)
    hit = answers == wanted
    by_language = _means(hit, [cut.language for cut in scored.cuts])
    confusion: dict[str, dict[str, int]] = {}
    for truth, answer in zip(wanted, answers, strict=True):
        row = confusion.setdefault(scored.labels[truth], {})
        row[scored.labels[answer]] = row.get(scored.labels[answer], 0) + 1
    return {
        "cuts": len(hit),
        "accuracy": round(float(hit.mean()), 4),
        "macro_accuracy": round(float(np.mean(list(by_language.values()))), 4),
        "ece": round(expected_calibration_error(np.exp(scored.log_probabilities), wanted), 4),
        "by_language": by_language,
        "by_source": _means(hit, [f"{cut.language}/{cut.source}" for cut in scored.cuts]),
        "confusion": confusion,
    }


def _means(values: np.ndarray, groups: Iterable[str]) -> dict[str, float]:
    names = np.array(list(groups))
    return {str(n): round(float(values[names == n].mean()), 4) for n in np.unique(names)}


def expected_calibration_error(probabilities: Float64Array, wanted: np.ndarray) -> float:
    """Mean gap between confidence and accuracy, in equal bins of confidence.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    wanted : ndarray, shape (n,)

    Returns
    -------
    float
        Naeini et al. 2015, with 15 bins.
    """
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == wanted
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        abs(float(hit[bins == b].mean() - confidence[bins == b].mean())) * float((bins == b).mean())
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def fit_temperature(log_probabilities: Float64Array, wanted: np.ndarray) -> float:
    """Temperature of the least negative log-likelihood (Guo et al. 2017).

    Parameters
    ----------
    log_probabilities : ndarray, shape (n, classes)
        At temperature 1.
    wanted : ndarray, shape (n,)

    Returns
    -------
    float
        Between 0.2 and 10.
    """
    # One parameter and a smooth, single-dipped loss: a fine grid needs no optimiser.
    grid = np.exp(np.linspace(np.log(0.2), np.log(10.0), 400))
    rows = np.arange(len(wanted))
    losses = [-np.mean(np.log(softmax(log_probabilities / t)[rows, wanted] + 1e-12)) for t in grid]
    return float(grid[int(np.argmin(losses))])


def evaluate_model(
    path: Path,
    corpus: Path,
    split: str,
    durations_s: Sequence[float],
    per_language: int,
) -> dict[str, Any]:
    """Score a model file on cuts of a split.

    Parameters
    ----------
    path : Path
        Model file.
    corpus : Path
    split : str
    durations_s : sequence of float
    per_language : int
        Cuts of each language and duration at most.

    Returns
    -------
    dict
        ``durations`` maps a duration to two reports: ``languages`` (the model restricted to its
        languages) and ``open`` (all classes possible, so that an answer ``other`` or
        ``nonspeech`` is an error), and to ``other``, the answers for speech in no language of
        the model.

    Raises
    ------
    EdgelidError
        If model or corpus cannot be read, or the split has no speech of that length.
    """
    if not durations_s or per_language < 1:
        raise EdgelidError("there is nothing to score: give a duration, and at least one cut")
    model = read_model(path)
    graphs = open_graphs(model)
    clips = [c for c in read_manifest(corpus) if c.split == split and c.kind == "human"]
    report: dict[str, Any] = {
        "model": model.description.name,
        "sha256": model.sha256,
        "split": split,
        "durations": {},
    }
    for duration_s in durations_s:
        found = balanced(
            cuts(clips, duration_s=duration_s, seed=SEED), per_language=per_language, seed=SEED
        )
        known = [cut for cut in found if cut.language in model.languages]
        if not known:
            raise EdgelidError(f"split {split} has no {duration_s:g} s of speech of any speaker")
        everything = score_cuts(model, graphs, known, corpus)
        entry = {
            # The cuts are known to be speech, and the yardstick knows no silence.
            "languages": accuracy_report(among(everything, model.languages)),
            "open": accuracy_report(everything),
        }
        strangers = [cut for cut in found if cut.language not in model.labels]
        if strangers:
            answers = score_cuts(model, graphs, strangers, corpus).log_probabilities
            entry["other"] = _strangers(answers, model.labels)
        report["durations"][f"{duration_s:g}"] = entry
    return report


def _strangers(log_probabilities: Float64Array, labels: tuple[str, ...]) -> dict[str, Any]:
    answers = log_probabilities.argmax(axis=1)
    confident = log_probabilities.max(axis=1) > np.log(CONFIDENT)
    spoken = np.array([label not in (OTHER, NONSPEECH) for label in labels])[answers]
    return {
        "cuts": len(answers),
        "taken_for_a_language": round(float(spoken.mean()), 4),
        "taken_confidently": round(float((spoken & confident).mean()), 4),
    }
