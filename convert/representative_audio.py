"""The representative dataset: real speech, noise and silence at the levels of real microphones."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.audio.formats import find_recordings
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEnd
from train.corpus.cuts import read_audio
from train.corpus.manifest import Clip
from train.features.cache import seed_of
from train.features.noise import NoiseClip

PER_LANGUAGE = 8
NOISES = 12
OWN_FILES = 100  # of a folder: more do not change the ranges
MAX_CLIP_S = 4.0
# Gains, in dB, that clips are given in turn: from across the room to too close.
GAINS_DB = (-20.0, -10.0, 0.0, 0.0, 6.0)


@dataclass(frozen=True)
class Representative:
    """Features that the activations' ranges are measured on.

    Attributes
    ----------
    frames : list of ndarray, shape (frames, mels), float32
    ids : tuple of str
        Paths of the clips within the corpus.
    """

    frames: list[Float32Array]
    ids: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of all the features."""
        digest = hashlib.sha256()
        for frames in self.frames:
            digest.update(frames.tobytes())
        return digest.hexdigest()


def choose(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """Clips balanced by language, then source and speaker.

    Parameters
    ----------
    clips : sequence of Clip
        Of the training split.
    seed : int
    """
    by_language: dict[str, dict[tuple[str, str], list[Clip]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for clip in clips:
        if clip.duration_s >= 0.5:
            by_language[clip.language][clip.source, clip.speaker].append(clip)
    chosen = []
    for language, voices in sorted(by_language.items()):
        rng = seed_of("representative", seed, language)
        # The other languages are many: one clip of each is a fair share.
        count = PER_LANGUAGE if next(iter(voices.values()))[0].target else 1
        keys = sorted(voices)
        order = [keys[i] for i in rng.permutation(len(keys))]
        for turn in range(count):
            voice = voices[order[turn % len(order)]]
            chosen.append(voice[rng.integers(len(voice))])
    return chosen


# Where a recording is, and what the model file calls it.
Files = list[tuple[Path, str]]


def of_corpus(
    clips: Sequence[Clip],
    corpus: Path,
    noises: Sequence[NoiseClip],
    noise_folder: Path,
    seed: int,
) -> Files:
    """Clips of a corpus, as :func:`choose` does, and noises.

    Parameters
    ----------
    clips : sequence of Clip
        Training clips to choose from.
    corpus, noise_folder : Path
    noises : sequence of NoiseClip
    seed : int
    """
    files = [(corpus / clip.path, clip.path) for clip in choose(clips, seed)]
    return files + of_noise(noises, noise_folder, seed)


def of_noise(noises: Sequence[NoiseClip], folder: Path, seed: int) -> Files:
    """Noises, chosen by chance."""
    rng = seed_of("noise", seed)
    quiet = [noises[i] for i in rng.permutation(len(noises))[:NOISES]]
    return [(folder / noise.path, f"noise/{noise.path}") for noise in quiet]


def of_folder(folder: Path, seed: int) -> Files:
    """The user's own recordings, as many as are useful.

    Raises
    ------
    EdgelidError
        If there are none.
    """
    found = [path for path in find_recordings([folder]) if path != folder]
    if not found:
        raise EdgelidError(f"the folder {folder} has no audio files to quantise with")
    rng = seed_of("own", seed)
    chosen = sorted(found[i] for i in rng.permutation(len(found))[:OWN_FILES])
    return [(path, path.relative_to(folder).as_posix()) for path in chosen]


def representative(files: Files, front_end: FrontEnd) -> Representative:
    """Read the chosen recordings and compute their features.

    Parameters
    ----------
    files : list of (Path, str)
    front_end : FrontEnd

    Raises
    ------
    EdgelidError
        If a file is missing or damaged.
    """
    frames = []
    for turn, (path, _) in enumerate(files):
        frames.append(at_a_level(read_audio(path, MAX_CLIP_S), turn, front_end))
    frames.append(front_end.log_mel(np.zeros(SAMPLE_RATE_HZ, np.float32)))
    return Representative(frames, (*(name for _, name in files), "silence"))


def at_a_level(samples: Float32Array, turn: int, front_end: FrontEnd) -> Float32Array:
    """Features, (frames, mels), of a recording at one of the levels, which come in turn."""
    gain = 10 ** (GAINS_DB[turn % len(GAINS_DB)] / 20)
    return front_end.log_mel(np.clip(samples * np.float32(gain), -1, 1))
