"""Held-out audio that the proof and the calibration are made on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.representative_audio import MAX_CLIP_S
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import NONSPEECH, OTHER
from train.corpus.cuts import Cut, balanced, cuts, load_cuts, read_audio
from train.corpus.manifest import DEV, Clip
from train.features.noise import NoiseClip

log = logging.getLogger(__name__)

CUTS_PER_LANGUAGE = 40
CUTS_OTHER = 60
SEED = 1


@dataclass(frozen=True)
class HeldOut:
    """Speech and noise of one length.

    Attributes
    ----------
    audio : ndarray, shape (items, samples), float32
    wanted : ndarray, shape (items,)
        Class of each item.
    spoken : ndarray of bool, shape (items,)
        Which are speech in a language of the model.
    natural : ndarray of bool, shape (items,)
        Which are speech of the split ``dev``: sentences, as people say them. Sources that a run
        holds out besides are prompts, words and machines, too.
    speakers : tuple of str
        Of each item; of noise, the recording.
    """

    audio: Float32Array
    wanted: np.ndarray
    spoken: np.ndarray
    natural: np.ndarray
    speakers: tuple[str, ...]


def held_out_audio(
    clips: Sequence[Clip],
    corpus: Path,
    noises: Sequence[NoiseClip],
    noise_folder: Path,
    durations_s: Sequence[float],
    labels: Sequence[str],
    per_language: int = CUTS_PER_LANGUAGE,
) -> dict[float, HeldOut]:
    """Read held-out audio, every file once.

    Parameters
    ----------
    clips : sequence of Clip
        Speech that the model was not trained on.
    corpus, noise_folder : Path
        Folders of the audio.
    noises : sequence of NoiseClip
    durations_s : sequence of float
    labels : sequence of str
        Classes of the model.
    per_language : int
        Cuts of each language that is one of these, at most.

    Returns
    -------
    dict of float to HeldOut
        By duration, in the order given, those that anybody speaks for.

    Raises
    ------
    EdgelidError
        If there is no held-out speech of any duration, or a file is missing or damaged.
    """
    chosen = {
        duration_s: _choose(clips, duration_s, labels, per_language) for duration_s in durations_s
    }
    chosen = {duration_s: found for duration_s, found in chosen.items() if found}
    _check(chosen, durations_s, labels)
    audio = iter(load_cuts([cut for found in chosen.values() for cut in found], corpus))
    quiet = _nonspeech(noises, noise_folder, max(durations_s))
    of_dev = {clip.path for clip in clips if clip.split == DEV}
    sets = {}
    for duration_s, found in chosen.items():
        samples = round(duration_s * SAMPLE_RATE_HZ)
        noise = [clip[-samples:] for clip in quiet if len(clip) >= samples]
        languages = [cut.language if cut.language in labels else OTHER for cut in found]
        classes = [*languages, *[NONSPEECH] * len(noise)]
        sets[duration_s] = HeldOut(
            audio=np.stack([*(next(audio) for _ in found), *noise]),
            wanted=np.array([labels.index(name) for name in classes]),
            spoken=np.array([name not in (OTHER, NONSPEECH) for name in classes]),
            natural=np.array(
                [*(cut.pieces[0][0] in of_dev for cut in found), *[False] * len(noise)]
            ),
            speakers=(
                *(f"{cut.source}/{cut.speaker}" for cut in found),
                *(f"noise {i}" for i in range(len(noise))),
            ),
        )
    return sets


def _choose(
    clips: Sequence[Clip], duration_s: float, labels: Sequence[str], per_language: int
) -> list[Cut]:
    """Cuts balanced by language; those in no language of the model share a quota.

    None, if nobody says so much in any language of the model.
    """
    found = cuts(clips, duration_s=duration_s, seed=SEED)
    known = [cut for cut in found if cut.language in labels]
    if not known:
        return []
    chosen = balanced(known, per_language=per_language, seed=SEED)
    strangers = [cut for cut in found if cut.language not in labels]
    if strangers:
        share = max(1, CUTS_OTHER // len({cut.language for cut in strangers}))
        chosen += balanced(strangers, per_language=share, seed=SEED)
    return chosen


def _check(
    chosen: dict[float, list[Cut]], durations_s: Sequence[float], labels: Sequence[str]
) -> None:
    """Name the lengths and languages that take no part.

    Raises
    ------
    EdgelidError
        If there is no length that anybody speaks for.
    """
    if not chosen:
        raise EdgelidError(
            f"the development speech holds no {min(durations_s):g} s of any speaker in clips of "
            "1 s or more: calibration is impossible; hold more out with edgelid-train split"
        )
    if missing := [f"{each:g}" for each in durations_s if each not in chosen]:
        log.warning(
            "nobody held out speaks for %s s: such windows are calibrated as the longest that "
            "somebody does, and not compared",
            ", ".join(missing),
        )
    for duration_s, found in chosen.items():
        heard = {cut.language for cut in found}
        absent = [each for each in labels if each not in (OTHER, NONSPEECH, *heard)]
        if absent:
            log.warning(
                "no %g s of held-out speech of %s: no part in that calibration",
                duration_s,
                ", ".join(absent),
            )


def _nonspeech(noises: Sequence[NoiseClip], folder: Path, longest_s: float) -> list[Float32Array]:
    """What follows in recordings without speech on what the quantiser has been shown of them."""
    samples = round(longest_s * SAMPLE_RATE_HZ)
    most_s = MAX_CLIP_S + longest_s
    clips = (read_audio(folder / noise.path, most_s) for noise in noises if not noise.has_speech)
    return [clip[-samples:] for clip in clips]
