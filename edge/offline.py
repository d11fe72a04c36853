"""Classification of whole recordings: one answer for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.audio.sources import AudioSource, FileSource
from edge.classifier import StreamingClassifier, Window
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.model.interpreter import Graphs, WindowGraph
from edge.model.modelfile import NONSPEECH, ModelFile

# What libsndfile reads, by the endings people give such files.
AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aiff",
        ".aif",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
    ]
)


@dataclass(frozen=True)
class Classification:
    """The language of a recording.

    Attributes
    ----------
    language : str
        Likeliest class.
    confidence : float
        Its probability.
    probabilities : dict of str to float
    duration_s : float
    """

    language: str
    confidence: float
    probabilities: dict[str, float]
    duration_s: float


class RecordingClassifier:
    """Classifies recordings one after another.

    A recording up to the longest window is one window. A longer one is cut into such windows,
    and its answer is their mean, each window counting for as much speech as it adds.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs or WindowGraph
    languages : sequence of str, optional
        The only languages to expect.
    """

    def __init__(
        self,
        model: ModelFile,
        graphs: Graphs | WindowGraph,
        languages: Sequence[str] | None = None,
    ) -> None:
        self._longest_s = max(model.description.stream.windows_s)
        self._classifier = StreamingClassifier(model, graphs, [self._longest_s], languages)

    def classify(self, source: AudioSource) -> Classification:
        """Classify all that a source gives.

        Raises
        ------
        EdgelidError
            If it cannot be read to its end.
        """
        self._classifier.reset()
        samples = 0

        def windows() -> Iterator[Window]:
            nonlocal samples
            for block in source.blocks():
                if not isinstance(block, np.ndarray):  # what was lost says nothing
                    continue
                samples += len(block)
                yield from (found[0] for found in self._classifier.process(block))
            yield from (found[0] for found in self._classifier.flush())

        chosen: list[Window] = []
        last: Window | None = None
        for last in windows():
            if last.end_s - (chosen[-1].end_s if chosen else 0.0) >= self._longest_s:
                chosen.append(last)
        if last is None:
            raise EdgelidError(f"{source.name!r} gave no audio: see what feeds it.")
        if not chosen or last.end_s > chosen[-1].end_s:
            chosen.append(last)
        return self._answer(chosen, samples / SAMPLE_RATE_HZ)

    def _answer(self, windows: list[Window], duration_s: float) -> Classification:
        labels = self._classifier.labels
        probabilities = np.stack([window.probabilities for window in windows])
        # The last window overlaps the one before: it counts for what only it has heard.
        shares = np.diff([0.0, *(window.end_s for window in windows)])
        if NONSPEECH in labels:
            shares *= 1.0 - probabilities[:, labels.index(NONSPEECH)] + 1e-6
        mean = shares @ probabilities / shares.sum()
        best = int(mean.argmax())
        return Classification(
            language=labels[best],
            confidence=float(mean[best]),
            probabilities={label: float(p) for label, p in zip(labels, mean, strict=True)},
            duration_s=duration_s,
        )


def find_recordings(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are given, and the audio files in folders, sorted, at any depth.

    A folder without any stands for itself, for :func:`classify_file` to complain of.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and not p.is_dir()
        )
        found.extend(inside or [path])
    return found


def classify_file(classifier: RecordingClassifier, path: Path) -> Classification:
    """Classify an audio file.

    Raises
    ------
    EdgelidError
        If it cannot be read.
    """
    if path.is_dir():
        raise EdgelidError(f"{str(path)!r} is a folder without any audio files: check the path.")
    with FileSource(path) as source:
        return classifier.classify(source)
