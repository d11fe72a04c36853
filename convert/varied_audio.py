"""Recordings as they may reach a microphone: in rooms and noise, through codecs, slower and faster.

What is rounded by clean speech alone loses most where it is heard from far away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.representative_audio import (
    MAX_CLIP_S,
    Files,
    Representative,
    at_a_level,
)
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, FrontEnd
from train.corpus.cuts import read_audio
from train.evaluation.conditions import add_noise, draw_noise
from train.features.augmentation import augment_waveform, draw_speed
from train.features.cache import seed_of
from train.features.noise import NoiseClip, read_noise

NOISY_SHARE = 0.6
SNR_DB = (0.0, 30.0)
MIN_S = 0.5  # what is shorter stays as it is


@dataclass(frozen=True)
class Surroundings:
    """Where recordings may have been made.

    Attributes
    ----------
    rooms : list of ndarray
        Impulse responses, 16 kHz.
    noises : list of Path
    """

    rooms: list[Float32Array]
    noises: list[Path]

    @classmethod
    def of(cls, sounds: Path, noises: Sequence[NoiseClip]) -> Surroundings:
        """Those of training.

        Parameters
        ----------
        sounds : Path
            Folder that holds ``noise`` and ``rir``.
        noises : sequence of NoiseClip

        Raises
        ------
        EdgelidError
            If rooms are missing or damaged.
        """
        rooms = read_noise(sounds / "rir", "train")
        return cls(
            [read_audio(sounds / "rir" / room.path) for room in rooms],
            [sounds / "noise" / noise.path for noise in noises],
        )

    def varied(self, files: Files, front_end: FrontEnd, seed: int) -> Representative:
        """Features of recordings, each somewhere else.

        Parameters
        ----------
        files : list of (Path, str)
        front_end : FrontEnd
        seed : int

        Raises
        ------
        EdgelidError
            If a file is missing or damaged.
        """
        frames = []
        for turn, (path, name) in enumerate(files):
            samples = read_audio(path, MAX_CLIP_S)
            if len(samples) >= MIN_S * SAMPLE_RATE_HZ:
                samples = self._elsewhere(samples, f"{name} {seed}")
            frames.append(at_a_level(samples, turn, front_end))
        return Representative(frames, tuple(f"{name}, varied" for _, name in files))

    def _elsewhere(self, samples: Float32Array, key: str) -> Float32Array:
        rng = seed_of("varied", key)
        samples = augment_waveform(samples, draw_speed(rng), self.rooms, rng)
        if rng.random() < NOISY_SHARE:
            noise = draw_noise(self.noises, len(samples), key)
            samples = add_noise(samples, noise, rng.uniform(*SNR_DB))
        return samples
