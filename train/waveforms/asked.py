"""What a large model and its teachers make of augmented windows, kept in a folder.

Asking takes far longer than all that is made of the answers, and most of it is Whisper's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.system.atomic import atomic_file
from train.folder import make_folder
from train.model.unreadable import UNREADABLE
from train.waveforms.bank import Segments
from train.waveforms.checkpoint import fingerprint
from train.waveforms.draws import Drawer
from train.waveforms.hearing import fingerprint as bank_fingerprint
from train.waveforms.large import Large, large_front_end
from train.waveforms.lessons import augmented_waves, clean_waves, room_constants
from train.waveforms.sound import filterbank, log_mel, samples_of
from train.waveforms.stepper import BATCH, compiled
from train.waveforms.voices import draw_voices, voice_maps, voiced
from train.waveforms.whisper import normalised
from train.waveforms.whisper_languages import WhisperLanguages

WINDOWS = {3.0: 8800, 1.0: 8800, 5.0: 2800, 2.0: 3200}  # augmented, by their seconds
OTHER_VOICES = 0.6  # of the windows: Whisper is asked what it says of voices that nobody has, too


@dataclass(frozen=True)
class Asked:
    """Windows of one length.

    Attributes
    ----------
    tokens : ndarray, shape (windows, tokens, dim), float16
        Of the large model's last layer. Half precision: all lengths are in memory together.
    rows : ndarray, shape (windows, rows)
        Means of the log-probabilities, of all languages of Whisper, that those who were asked
        gave: they err apart.
    labels : ndarray, shape (windows,)
        What is spoken.
    """

    tokens: np.ndarray
    rows: Float32Array
    labels: NDArray[np.int32]

    def save(self, file: Path, name: str) -> None:
        """Keep it, under a name that tells who was asked about what."""
        with atomic_file(file) as opened:
            np.savez(opened, tokens=self.tokens, rows=self.rows, labels=self.labels, name=name)

    @classmethod
    def load(cls, file: Path, name: str) -> Asked:
        """Read it.

        Raises
        ------
        EdgelidError
            If it is damaged, or others were asked.
        """
        try:
            with np.load(file, allow_pickle=False) as kept:
                told, found = str(kept["name"]), cls(kept["tokens"], kept["rows"], kept["labels"])
        except UNREADABLE as error:
            raise EdgelidError(f"{file} is damaged: remove it") from error
        if told != name:
            raise EdgelidError(f"{file} is of other models, or of another bank: give a new folder")
        return found


def ask(
    model: Large,
    whisper: WhisperLanguages,
    others: Sequence[WhisperLanguages | Large],
    segments: Segments,
    labels: Sequence[str],
    seed: int,
    folder: Path | None,
    told: Callable[[str], None],
) -> list[Asked]:
    """Ask all of them about windows of several lengths.

    Parameters
    ----------
    model : Large
        Whose layers are the first of Whisper's, or began as these.
    whisper : WhisperLanguages
        Goes on from the model's tokens.
    others : sequence of WhisperLanguages or Large
        Hear the windows themselves; a large model says what its decoder does.
    segments : Segments
        The decoded bank.
    labels : sequence of str
    seed : int
        Of what is drawn.
    folder : Path or None
        Where each length is kept that is done, and found again.
    told : callable
        Gets a line for each length.

    Returns
    -------
    list of Asked
    """
    if folder is not None:
        make_folder(folder)
    asked = fingerprint([model.encoder, whisper, *others])
    bank, found = None, []
    for turn, (s, count) in enumerate(WINDOWS.items()):
        name = f"{asked} {bank_fingerprint(segments)} {seed} {s:g} {count} {OTHER_VOICES:g}"
        file = None if folder is None else folder / f"windows-{s:g}s.npz"
        if file is not None and file.exists():
            found.append(Asked.load(file, name))
        else:
            if bank is None:
                bank = ops.convert_to_tensor(np.asarray(segments.samples))  # once: gigabytes
            # Each length has draws of its own, whether or not those before are drawn again.
            drawer = Drawer(segments, labels, seed + turn)
            drawer.check(labels)
            found.append(_asked(model, whisper, others, segments, drawer, bank, s, count))
            if file is not None:
                found[-1].save(file, name)
        told(f"{len(found[-1].labels)} windows of {s:g} s")
    return found


def _asked(
    model: Large,
    whisper: WhisperLanguages,
    others: Sequence[WhisperLanguages | Large],
    segments: Segments,
    drawer: Drawer,
    bank: Any,
    length_s: float,
    count: int,
) -> Asked:
    front_end, layers = large_front_end(), len(model.encoder.stack)
    filters, maps = ops.convert_to_tensor(filterbank(front_end)), voice_maps(front_end)
    frames = round(length_s * 100)
    samples = samples_of(frames)
    constants = room_constants(segments, drawer, samples) | {"bank": bank}

    def call(draw: Any, constants: Any) -> Any:
        wave = augmented_waves(clean_waves(draw, constants, samples), draw, constants)
        features = voiced(log_mel(wave, front_end, filters), draw, maps)
        tokens = model.encoder(normalised(features))
        said = [whisper.decoded(whisper.heard_from(layers, tokens))]
        said += [_rows(other, features) for other in others]
        return tokens, sum(ops.log_softmax(rows) for rows in said) / len(said)

    fast = compiled(call)
    tokens, rows, labels = [], [], []
    for _ in range(count // BATCH):
        draw = drawer.batch(BATCH, samples, frames, front_end.mels)
        draw |= draw_voices(drawer.rng, draw["rate"], OTHER_VOICES)
        some, said = fast(draw, constants)
        tokens.append(np.asarray(some).astype(np.float16))
        rows.append(np.asarray(said))
        labels.append(draw["labels"])
    return Asked(np.concatenate(tokens), np.concatenate(rows), np.concatenate(labels))


def _rows(teacher: WhisperLanguages | Large, features: Any) -> Any:
    """What it says of all languages, shape (batch, rows), of log-mel frames."""
    if isinstance(teacher, Large):
        return teacher.languages(teacher.told(teacher.tokens(features)))
    return teacher.decoded(teacher.heard(features))
