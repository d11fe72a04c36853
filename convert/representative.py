"""The representative dataset: real speech, noise and silence at the levels of real microphones."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEnd
from train.cuts import read_audio
from train.features import seed_of
from train.manifest import Clip
from train.noise import NoiseClip

PER_LANGUAGE = 8
NOISES = 12
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


def representative(
    clips: Sequence[Clip],
    corpus: Path,
    noises: Sequence[NoiseClip],
    noise_folder: Path,
    front_end: FrontEnd,
    seed: int,
) -> Representative:
    """Read the chosen clips and compute their features.

    Parameters
    ----------
    clips : sequence of Clip
        Training clips to choose from.
    corpus, noise_folder : Path
    noises : sequence of NoiseClip
    front_end : FrontEnd
    seed : int

    Raises
    ------
    EdgelidError
        If a file is missing or damaged.
    """
    rng = seed_of("noise", seed)
    quiet = [noises[i] for i in rng.permutation(len(noises))[:NOISES]]
    files = [(corpus / clip.path, clip.path) for clip in choose(clips, seed)]
    files += [(noise_folder / noise.path, f"noise/{noise.path}") for noise in quiet]
    frames = []
    for turn, (path, _) in enumerate(files):
        samples = read_audio(path, MAX_CLIP_S)
        gain = 10 ** (GAINS_DB[turn % len(GAINS_DB)] / 20)
        front_end.reset()
        frames.append(front_end.process(np.clip(samples * np.float32(gain), -1, 1)))
    front_end.reset()
    frames.append(front_end.process(np.zeros(SAMPLE_RATE_HZ, np.float32)))
    return Representative(frames, (*(name for _, name in files), "silence"))
