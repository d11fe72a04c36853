"""What a student is taught: tokens of the large model, kept before or heard along with it.

Kept tokens cost nothing in a step, and are of the speech as it is in the bank. A teacher who hears
along says what it has of all that a draw makes of a clip that is no matter of microphones and
rooms: another speed, another voice, a second voice beside it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from keras import ops

from train.waveforms.draws import Draw
from train.waveforms.hearing import Hearing, Int64Array, levelled, token_places
from train.waveforms.large import Large, large_front_end
from train.waveforms.sound import filterbank, log_mel
from train.waveforms.stepper import with_values
from train.waveforms.voices import voice_maps, voiced


class Teaching(Protocol):
    """Whence tokens come.

    Attributes
    ----------
    known : ndarray, shape (segments,), int64, or None
        Samples of each segment of the bank that may be drawn; None for all.
    constants : dict of tensor
        What :meth:`tokens` needs besides a draw.
    """

    known: Int64Array | None
    constants: dict[str, Any]

    def place(self, draw: Draw, chosen: np.ndarray) -> Draw:
        """What is to be added to a draw of these segments."""

    def tokens(self, wave: Any, draw: Any, constants: Any, count: int) -> Any:
        """So many tokens of each clip, shape (batch, count, dim), float32.

        Parameters
        ----------
        wave : tensor, shape (batch, samples)
            The clips as they were said.
        draw : dict of tensor
        constants : dict of tensor
        count : int
        """


class Kept:
    """Tokens that `train.waveforms.hearing` kept, see `Teaching`.

    Parameters
    ----------
    hearing : Hearing
    """

    def __init__(self, hearing: Hearing) -> None:
        self.known: Int64Array | None = hearing.samples
        self.constants = {"tokens": ops.convert_to_tensor(np.asarray(hearing.tokens))}
        self._starts = hearing.starts

    def place(self, draw: Draw, chosen: np.ndarray) -> Draw:
        """Where the tokens of the segments begin."""
        return {"first_token": self._starts[chosen].astype(np.int32)}

    def tokens(self, wave: Any, draw: Any, constants: Any, count: int) -> Any:
        """Those of the moments that are played."""
        return ops.cast(ops.take(constants["tokens"], token_places(draw, count), 0), "float32")


class Along:
    """A teacher who hears what the student hears, but for rooms, noise and microphones; see
    `Teaching`.

    Parameters
    ----------
    teacher : Large
        Whose variables' values are ``teacher`` of the constants.
    voices : bool
        Whether draws have other voices (`train.waveforms.voices.draw_voices`).
    """

    def __init__(self, teacher: Large, voices: bool) -> None:
        self.known: Int64Array | None = None
        self._teacher, self._front_end = teacher, large_front_end()
        self._filters = ops.convert_to_tensor(filterbank(self._front_end))
        self._maps = voice_maps(self._front_end) if voices else None
        self.constants: dict[str, Any] = {}

    def place(self, draw: Draw, chosen: np.ndarray) -> Draw:
        """Nothing: it hears."""
        return {}

    def tokens(self, wave: Any, draw: Any, constants: Any, count: int) -> Any:
        """What it makes of the clips, in the voices that the student hears."""
        features = self.features(wave, draw)
        with with_values(self._teacher, constants["teacher"]):
            tokens = self._teacher.tokens(features)
        return ops.stop_gradient(tokens[:, :count])

    def features(self, wave: Any, draw: Any) -> Any:
        """What it hears of the clips, shape (batch, frames, mels)."""
        features = log_mel(levelled(wave), self._front_end, self._filters)
        return voiced(features, draw, self._maps) if self._maps else features
