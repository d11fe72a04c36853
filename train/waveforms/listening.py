"""What a student hears, augmented, and what the teacher heard there without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from edge.frontend import FrontEndConfig
from train.config import RunConfig
from train.waveforms.bank import Segments
from train.waveforms.company import continued, draw_company, with_second
from train.waveforms.draws import Draw, Drawer
from train.waveforms.hearing import inside
from train.waveforms.lessons import augmented_waves, clean_waves, room_constants
from train.waveforms.sound import filterbank, log_mel, masked, samples_of, without_weak_parts
from train.waveforms.styles import draw_styles, styled
from train.waveforms.teaching import Teaching
from train.waveforms.voices import draw_voices, voice_maps, voiced


@dataclass(frozen=True)
class Student:
    """What has to be known of who listens.

    Attributes
    ----------
    stride : int
        Feature frames of one of its embeddings.
    clip_s : float
    front_end : FrontEndConfig
    labels : tuple of str
        Languages, then ``other`` and ``nonspeech``.
    seed : int
    tts_weight : float
        See `train.waveforms.draws.Drawer`.
    other_voices, other_spectra : float
        Shares of clips that get voices which nobody has, and parts of other clips' spectra.
    second_voices, changes : float
        Shares of clips in which somebody else speaks at the same time, and that another clip
        follows upon: see `train.waveforms.company`.
    """

    stride: int
    clip_s: float
    front_end: FrontEndConfig
    labels: tuple[str, ...]
    seed: int
    tts_weight: float = 0.6
    other_voices: float = 0.0
    other_spectra: float = 0.0
    second_voices: float = 0.0
    changes: float = 0.0

    @classmethod
    def of(cls, config: RunConfig, **shares: float) -> Student:
        """That of a run, with `tts_weight` and shares that are given by their names."""
        return cls(
            config.model.stride,
            config.optimiser.clip_s,
            config.front_end,
            tuple(config.data.labels),
            config.seed + 1,
            **shares,
        )


class Listening:
    """Draws stretches of a bank that a teacher hears, too.

    Parameters
    ----------
    student : Student
    segments : Segments
    teaching : Teaching

    Attributes
    ----------
    frames, count, group : int
        Feature frames of a clip, its embeddings, and the teacher's tokens for one of these.
    bank : tensor, shape (samples,), int16
    constants : dict of tensor
        What the losses need besides a draw.
    rng : Generator
        Of all that is drawn.
    """

    def __init__(
        self,
        student: Student,
        segments: Segments,
        teaching: Teaching,
    ) -> None:
        self._student, stride = student, student.stride
        # The teacher's tokens come in pairs, and an embedding stands for whole ones.
        self.frames = round(student.clip_s * 100) // (4 * stride) * 4 * stride
        self.count, self.group = self.frames // stride, stride // 2
        self._front_end, self._classes = student.front_end, len(student.labels)
        self._filters = ops.convert_to_tensor(filterbank(student.front_end))
        self._segments, self._teaching = segments, teaching
        self._drawer = Drawer(
            segments, student.labels, student.seed, student.tts_weight, teaching.known
        )
        self._drawer.check(student.labels)
        self.bank = ops.convert_to_tensor(np.asarray(segments.samples))
        self._maps = voice_maps(student.front_end)
        rooms = room_constants(segments, self._drawer, samples_of(self.frames))
        self.constants: dict[str, Any] = rooms | {"bank": self.bank} | teaching.constants

    @property
    def rng(self) -> np.random.Generator:
        """Of all that is drawn."""
        return self._drawer.rng

    def begin_at(self, step: int, seed: int) -> None:
        """Draw as a run does at a step."""
        self._drawer.rng = np.random.default_rng((seed, step))

    def draw(self, size: int) -> Draw:
        """What is heard of so many clips."""
        frames = self.frames
        draw = self._drawer.batch(size, samples_of(frames), frames, self._front_end.mels)
        chosen = draw.pop("segments")
        draw["offset"] = (draw["starts"] - self._segments.starts[chosen]).astype(np.int32)
        draw |= self._teaching.place(draw, chosen)
        draw |= draw_voices(self.rng, draw["rate"], self._student.other_voices)
        draw |= draw_styles(self.rng, size, self._student.other_spectra)
        shares = self._student.second_voices, self._student.changes
        if any(shares):
            draw |= draw_company(self.rng, size, self.count, *shares)
        return draw

    def wave(self, draw: Any, constants: Any) -> Any:
        """What is said, shape (batch, samples)."""
        wave = clean_waves(draw, constants, samples_of(self.frames))
        if not self._student.second_voices:
            return wave
        whole = ops.all(self._spoken(draw), axis=1)
        return with_second(wave, draw, ops.logical_not(whole))

    def features(self, wave: Any, draw: Any, constants: Any) -> Any:
        """What the student hears of it, shape (batch, frames, mels)."""
        wave = augmented_waves(wave, draw, constants)
        features = log_mel(wave, self._front_end, self._filters)
        if self._student.other_voices:
            features = voiced(features, draw, self._maps)
        if self._student.other_spectra:
            features = styled(features, draw, draw["labels"] < self._classes - 1)
        if self._student.changes:
            features = continued(features, draw, self._student.stride)
        features = without_weak_parts(features, draw["coded_floor"], draw["coded_from"])
        return masked(features, draw["times"], draw["bands"])

    def _spoken(self, draw: Any) -> Any:
        """Whether somebody speaks at the moment of each token, shape (batch, tokens), bool."""
        speech = (draw["labels"] < self._classes - 1)[:, None]
        return ops.logical_and(inside(draw, self.count * self.group), speech)

    def lesson(self, wave: Any, draw: Any, constants: Any) -> tuple[Any, Any]:
        """What the teacher heard at each moment, and whether there was speech to be heard.

        Returns
        -------
        tokens : tensor, shape (batch, tokens, dim)
        spoken : tensor, shape (batch, tokens, 1)
            One where speech is, zero in what precedes and follows it, and in noise.
        """
        tokens = self._teaching.tokens(wave, draw, constants, self.count * self.group)
        spoken = ops.cast(self._spoken(draw), "float32")[:, :, None]
        if self._student.changes:
            tokens, spoken = (continued(x, draw, self.group) for x in (tokens, spoken))
        return tokens, spoken

    def per_embedding(self, tokens: Any, delay: int) -> Any:
        """Means of the tokens that embeddings are about, as far as these say it in time.

        Parameters
        ----------
        tokens : tensor, shape (batch, tokens, dim)
        delay : int
            Embeddings that the student is late by.

        Returns
        -------
        tensor, shape (batch, count - delay, dim)
        """
        shape = (-1, self.count, self.group, tokens.shape[-1])
        return ops.mean(ops.reshape(tokens, shape), axis=2)[:, : self.count - delay]


def stretch(first: Any, length: int, count: int) -> Any:
    """Which of so many embeddings lie in a stretch of each clip, (batch, count), ones and zeros.

    Parameters
    ----------
    first : tensor, shape (batch, 1)
        May be below zero.
    length, count : int
    """
    place = ops.arange(count)[None]
    return ops.cast(ops.logical_and(place >= first, place < first + length), "float32")
