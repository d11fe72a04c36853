"""A yardstick for our own model: Whisper base, restricted to the nine languages.

Whisper base is 74 M parameters and needs about a second of two desktop cores whatever the length
of the speech; it was trained on 680 000 h. It is scored on the cuts of `train.corpus.cuts`, which
are also those our model is evaluated on: ``edgelid-train evaluate --yardstick OUT`` sets both side
by side.

Run as ``python -m train.evaluation.yardstick --corpus DIR --split test --durations 1,3,5,10 --json
OUT``. It can be stopped and started again: the scores so far are in ``OUT.scores``, one cut a line.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from edge.errors import EdgelidError
from edge.system.atomic import write_atomically
from train.command import run
from train.config import LANGUAGES
from train.corpus.cuts import SEED, Cut, balanced, cuts, load_cut
from train.corpus.manifest import SPLITS, Clip, Manifest, check_files, corpus_dir, open_manifest
from train.fit.teacher import load_whisper, weights_dir
from train.folder import make_place

SAVE_EVERY_CUTS = 20

Scores = dict[str, list[float]]  # key of a cut -> nine log-posteriors
Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # (samples,) -> nine log-posteriors


def restricted_log_posteriors(model: Any, samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score speech with Whisper among `LANGUAGES` only.

    Parameters
    ----------
    model
        From `train.fit.teacher.load_whisper`.
    samples
        (samples,) float32 at 16 kHz, up to 30 s.

    Returns
    -------
    (9,) float64
        Natural logarithms of probabilities that sum to one.
    """
    _, _, languages = model.detect_language(audio=samples)
    probabilities = dict(languages)
    kept = np.maximum([probabilities[language] for language in LANGUAGES], 1e-9)
    return np.asarray(np.log(kept / kept.sum()))


def metrics(languages: Sequence[str], log_posteriors: NDArray[np.float64]) -> dict[str, Any]:
    """Accuracy of scored cuts.

    Parameters
    ----------
    languages
        True language of each of n cuts.
    log_posteriors
        (n, 9), over `LANGUAGES`.

    Returns
    -------
    dict
        ``cuts``, ``accuracy``, ``balanced_accuracy`` (the mean of the recalls), ``recall`` by
        language and ``confusion``: rows are the true languages, columns the answers.
    """
    confusion = np.zeros((len(LANGUAGES), len(LANGUAGES)), int)
    for language, answer in zip(languages, log_posteriors.argmax(axis=1), strict=True):
        confusion[LANGUAGES.index(language), answer] += 1
    total = confusion.sum(axis=1)  # (9,)
    present = total > 0
    recall = np.diag(confusion)[present] / total[present]
    names = np.array(LANGUAGES)[present]
    return {
        "cuts": int(total.sum()),
        "accuracy": round(float(np.trace(confusion) / total.sum()), 4),
        "balanced_accuracy": round(float(recall.mean()), 4),
        "recall": {str(n): round(float(r), 4) for n, r in zip(names, recall, strict=True)},
        "confusion": confusion.tolist(),
    }


def cut_key(cut: Cut, corpus: Path) -> str:
    """Name of a cut in the file of scores; changes with its pieces and what is in their files.

    Raises
    ------
    EdgelidError
        If a file cannot be read.
    """
    pieces = [(*piece, _digest(corpus / piece[0])) for piece in cut.pieces]
    return json.dumps([cut.item_key, cut.duration_s, pieces])


@functools.cache
def _digest(file: Path) -> str:
    """Of a file that stays the same while this process runs."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise EdgelidError(f"cannot read {file}: {error.strerror}") from error


def scores_file(report: Path) -> Path:
    """Where the scores of the cuts are that a report is about."""
    return report.with_name(report.name + ".scores")


@dataclass(frozen=True)
class Yardstick:
    """Answers of another recogniser.

    Attributes
    ----------
    name : str
    languages : tuple of str
        In the order of the scores.
    scores : dict of str to list of float
        Natural logarithms of probabilities, by `cut_key`.
    corpus : Path
        Folder of the speech that it is asked about.
    """

    name: str
    languages: tuple[str, ...]
    scores: Scores
    corpus: Path

    def has(self, cut: Cut) -> bool:
        """Whether it was given that very cut."""
        return cut_key(cut, self.corpus) in self.scores

    def check_knows(self, languages: Sequence[str]) -> None:
        """Raise EdgelidError if it lacks a language."""
        missing = [language for language in languages if language not in self.languages]
        if missing:
            raise EdgelidError(f"the yardstick does not know {', '.join(missing)}: leave it out")

    def log_probabilities(
        self, found: Sequence[Cut], languages: Sequence[str]
    ) -> NDArray[np.float64]:
        """Its answers for cuts that it has, restricted to some of its languages.

        Returns
        -------
        (cuts, languages) float64

        Raises
        ------
        EdgelidError
            If it lacks a language.
        """
        self.check_knows(languages)
        columns = [self.languages.index(language) for language in languages]
        scores = np.array([self.scores[cut_key(cut, self.corpus)] for cut in found])[:, columns]
        return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))


def read_yardstick(report: Path, corpus: Path) -> Yardstick:
    """Read what this script has written, however far it got.

    Parameters
    ----------
    report
        The JSON file; its scores lie beside it.
    corpus
        Folder of the speech to compare on.

    Raises
    ------
    EdgelidError
        If either cannot be read, or is not what it should be.
    """
    try:
        content = json.loads(report.read_text("utf-8"))
        name, languages = str(content["recogniser"]), tuple(map(str, content["languages"]))
    except OSError as error:
        raise EdgelidError(f"cannot read the yardstick {report}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EdgelidError(
            f"{report} is not a report of train.evaluation.yardstick: give the file it wrote"
        ) from error
    scores = _read_scores(scores_file(report))
    if not scores:
        raise EdgelidError(f"the yardstick lacks {scores_file(report)}: keep it beside {report}")
    if any(len(row) != len(languages) for row in scores.values()):
        raise EdgelidError(f"{scores_file(report)} is not of {report}: delete both, and start anew")
    return Yardstick(name, languages, scores, corpus)


def human_speech(corpus: Manifest, split: str) -> list[Clip]:
    """Clips of a split that Whisper is scored on: people, in one of `LANGUAGES`.

    Raises
    ------
    EdgelidError
        If the corpus is not as its manifest says.
    """
    language = pl.col("language").cast(pl.String)
    chosen = corpus.where(
        pl.col("split") == split, pl.col("kind") == "human", language.is_in(list(LANGUAGES))
    )
    clips = chosen.clips()
    check_files(clips, corpus.root)
    return clips


def score_cuts(score: Score, todo: Sequence[Cut], corpus: Path, file: Path) -> Scores:
    """Score the cuts that `file` has no scores of, and keep them there."""
    from train.parallel.progress import bar

    scores = _read_scores(file)
    missing = [cut for cut in todo if cut_key(cut, corpus) not in scores]
    for done, cut in enumerate(bar(missing, unit="cut", mininterval=5), start=1):
        log_posteriors = score(load_cut(cut, corpus))
        scores[cut_key(cut, corpus)] = [round(float(value), 4) for value in log_posteriors]
        if done % SAVE_EVERY_CUTS == 0:
            _write_scores(file, scores)
    _write_scores(file, scores)
    return scores


def _read_scores(file: Path) -> Scores:
    if not file.is_file():
        return {}
    try:
        lines = file.read_text("utf-8").splitlines()
        return {str(key): list(map(float, row)) for key, row in map(json.loads, lines)}
    except OSError as error:
        raise EdgelidError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise EdgelidError(f"{file} is not a file of scores: delete it to start anew") from error


def _write_scores(file: Path, scores: Mapping[str, Sequence[float]]) -> None:
    lines = (json.dumps([key, value]) for key, value in scores.items())
    write_atomically(file, "".join(f"{line}\n" for line in lines).encode())


def score_split(
    corpus: Path,
    split: str,
    durations_s: Sequence[float],
    output: Path,
    *,
    per_language: int | None = None,
    weights: Path,
) -> dict[str, Any]:
    """Score a split of a corpus at each duration.

    Parameters
    ----------
    corpus
        Its manifest, or the folder with its ``manifest.tsv``.
    split
        ``train``, ``dev`` or ``test``. Only human speech in the nine languages is scored.
    durations_s
        Lengths of the cuts, in seconds.
    output
        JSON file, written anew after each duration.
    per_language
        How many cuts a language at most; all by default.
    weights
        Folder for the joined weights of Whisper base.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    EdgelidError
        If the corpus is not as its manifest says, a package is missing, a duration is too short
        or too long, or the file cannot be written.
    """
    manifest = open_manifest(corpus)
    clips = human_speech(manifest, split)
    sets = {duration_s: cuts(clips, duration_s=duration_s, seed=SEED) for duration_s in durations_s}
    if per_language is not None:
        sets = {
            d: balanced(found, per_language=per_language, seed=SEED) for d, found in sets.items()
        }
    empty = [duration_s for duration_s, found in sets.items() if not found]
    if empty:
        raise EdgelidError(f"the {split} split of {corpus} has no cut of {empty[0]:g} s")
    make_place(output)
    score = functools.partial(restricted_log_posteriors, load_whisper(weights))
    result: dict[str, Any] = {
        "recogniser": "Whisper base, int8, faster-whisper, restricted to the nine languages",
        "languages": list(LANGUAGES),
        "split": split,
        "seed": SEED,
        "by_duration_s": {},
    }
    for duration_s, found in sets.items():
        scores = score_cuts(score, found, manifest.root, scores_file(output))
        table = np.array([scores[cut_key(cut, manifest.root)] for cut in found])  # (cuts, 9)
        result["by_duration_s"][f"{duration_s:g}"] = metrics([c.language for c in found], table)
        write_atomically(output, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _durations(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run, print a line a duration."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation.yardstick",
        description="Score Whisper base on cuts of a corpus.",
    )
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="manifest or folder")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--durations", type=_durations, default="1,3,5,10", help="seconds, a list")
    parser.add_argument("--per-language", type=int, help="at most so many cuts of each (all)")
    parser.add_argument("--weights", type=Path, default=weights_dir(), help="Whisper base, joined")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        result = score_split(
            options.corpus,
            options.split,
            options.durations,
            options.json,
            per_language=options.per_language,
            weights=options.weights,
        )
        for duration_s, row in result["by_duration_s"].items():
            print(
                f"{duration_s} s: {row['cuts']} cuts, accuracy {row['accuracy']:.1%}, "
                f"balanced {row['balanced_accuracy']:.1%}"
            )

    return run("train.evaluation.yardstick", work, "the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
