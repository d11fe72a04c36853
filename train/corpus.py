"""All that training reads: manifests, features, noise, and what a teacher heard."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import EdgelidError
from train.config import RunConfig
from train.distil import Teacher
from train.features import CachedFeatures, prepare
from train.manifest import Clip, check_files, read_manifest
from train.noise import NoiseClip, read_noise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """All that training reads, decoded and cached.

    Attributes
    ----------
    train, development : list of int
        Clips (indices into `clips`) to learn from, and held out.
    """

    clips: list[Clip]
    features: CachedFeatures
    train: list[int]
    development: list[int]
    noises: list[NoiseClip]
    noise_features: CachedFeatures
    teacher: Teacher | None

    def digest(self) -> str:
        """Changes with the clips, their lengths, the noises and the teacher's units."""
        digest = hashlib.sha256(
            repr((self.clips, self.train, self.development, self.noises)).encode()
        )
        tables = [self.features.lengths, self.features.speeds, self.noise_features.lengths]
        if self.teacher:
            tables += [self.teacher.units, self.teacher.starts, self.teacher.lengths]
        for table in tables:
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()


def open_corpus(
    config: RunConfig,
    folder: Path,
    cache: Path,
    workers: int,
    teachers: Sequence[Path] = (),
    further: Sequence[Path] = (),
) -> Corpus:
    """Read manifests and compute, or find, the features.

    Parameters
    ----------
    folder : Path
        Of the corpus; noise and room responses lie beside it, in ``noise`` and ``rir``.
    cache : Path
        Folder for feature caches.
    workers : int
        Processes.
    teachers : sequence of Path, optional
        Embeddings that ``python -m train.teacher`` wrote, one a corpus.
    further : sequence of Path, optional
        Folders of more corpora to learn from.

    Raises
    ------
    EdgelidError
        If anything is missing or does not fit.
    """
    folders = (folder, *further)
    parts = _training_clips(folders)
    clips = [clip for part in parts for clip in part]
    _check_sources(clips, config.data.development)
    held_out = held_out_speakers(clips, config.data.development)
    train = [i for i, c in enumerate(clips) if c.speaker not in held_out]
    development = [i for i, c in enumerate(clips) if c.speaker in held_out]
    missing = set(config.data.languages) - {clips[i].language for i in train}
    if missing:
        raise EdgelidError(f"no training speech in {', '.join(sorted(missing))}")
    _warn_of_lone_speakers([clips[i] for i in train], config.data.languages)
    if config.optimiser.teacher_weight and not teachers:
        raise EdgelidError("this configuration learns from a teacher: give its file (--teacher)")
    taught = Teacher.load(teachers, [clips[i] for i in train]) if teachers else None
    rooms = [folder.parent / "rir" / c.path for c in read_noise(folder.parent / "rir", "train")]
    noises = read_noise(folder.parent / "noise", "train")
    features = CachedFeatures.join(
        [
            prepare(
                each,
                [c.path for c in part],
                cache,
                config.front_end,
                config.data.variants,
                rooms,
                workers,
            )
            for each, part in zip(folders, parts, strict=True)
        ]
    )
    noise_features = prepare(
        folder.parent / "noise", [c.path for c in noises], cache, config.front_end, 0, [], workers
    )
    return Corpus(clips, features, train, development, noises, noise_features, taught)


def _training_clips(folders: Sequence[Path]) -> list[list[Clip]]:
    """What each corpus has to learn from; corpora that overlap are refused."""
    manifests = [read_manifest(folder) for folder in folders]
    tested = {clip.speaker for clips in manifests for clip in clips if clip.split == "test"}
    parts = [[clip for clip in clips if clip.split == "train"] for clips in manifests]
    seen: set[str] = set()  # a clip's path is its name everywhere
    for clip in (clip for part in parts for clip in part):
        if clip.path in seen:
            raise EdgelidError(f"two of the corpora have a clip {clip.path}: rename one's folders")
        if clip.speaker in tested:
            raise EdgelidError(
                f"the speaker {clip.speaker} is in train in one corpus and in test in another: "
                "keep each speaker in one split"
            )
        seen.add(clip.path)
    for folder, part in zip(folders, parts, strict=True):
        if not part:
            raise EdgelidError(f"the corpus {folder} has no clips in its training split")
        check_files(part, folder)
    return parts


def _warn_of_lone_speakers(clips: Sequence[Clip], languages: Sequence[str]) -> None:
    speakers = {(clip.language, clip.speaker) for clip in clips}
    voices = Counter(language for language, _ in speakers)
    lone = [language for language in languages if voices[language] == 1]
    if lone:
        log.warning("only one speaker of %s: the model may learn the voice", ", ".join(lone))


def _check_sources(clips: list[Clip], development: dict[str, list[str]]) -> None:
    """Refuse a misspelt source, which would silently be trained on."""
    for language, sources in development.items():
        known = {clip.source for clip in clips if clip.language == language}
        unknown = sorted(set(sources) - known)
        if unknown:
            raise EdgelidError(
                f"the corpus has no training clips in {language} from {', '.join(unknown)}: "
                "correct [data.development] of the configuration"
            )


def held_out_speakers(clips: list[Clip], development: dict[str, list[str]]) -> set[str]:
    """Speakers of the development sources; whatever else they recorded is held out with them."""
    return {c.speaker for c in clips if c.source in development.get(c.language, ())}
