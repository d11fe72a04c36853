"""Voices that households are made of: speakers of a split, heard once by the int8 model.

What is kept of each is what a lesson would keep, and what the model says: pooled statistics and
scores of its windows, one a second. All else about lessons is arithmetic on these. A file holds
them, so that the same speech is heard by a model once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.lessons.book import RECORDING, Lesson
from edge.model.interpreter import Graphs, Int8Array
from edge.model.modelfile import ModelFile
from edge.system.atomic import atomic_file, check_writable
from train.corpus.cuts import read_audio
from train.corpus.manifest import TEST, Clip, file_sizes
from train.evaluation.conditions import CLEAN, Sounds, disturb
from train.folder import make_folder
from train.model.unreadable import UNREADABLE
from train.parallel.progress import bar

LENGTHS_S = (1.0, 3.0, 10.0)  # of windows
MAIN_S = 3.0
MOST_S = 250.0  # heard of one speaker
OTHERS_S = 60.0  # of those that say too little to teach
CONDITIONS = (CLEAN, "room", "noise-10")
SEED = 1
STEP_S = 1.0
VERSION = 1  # of what is kept


@dataclass(frozen=True)
class Windows:
    """Windows of one speaker, of one length.

    Attributes
    ----------
    start_s, end_s : ndarray, shape (windows,)
    pooled : ndarray, shape (windows, 2 * embedding), int8
    scores : ndarray, shape (windows, classes), float64
        Of the model as it is.
    """

    start_s: Float64Array
    end_s: Float64Array
    pooled: Int8Array
    scores: Float64Array

    def where(self, chosen: np.ndarray) -> Windows:
        """Some of them."""
        return Windows(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))

    def apart(self, length_s: float) -> Windows:
        """Those that do not overlap."""
        kept, last_s = [], -np.inf
        for i, (start_s, end_s) in enumerate(zip(self.start_s, self.end_s, strict=True)):
            if start_s >= last_s - 1e-6 and end_s - start_s >= length_s - 1e-6:
                kept.append(i)
                last_s = end_s
        return self.where(np.array(kept, int))


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes
    ----------
    name, language : str
    target : bool
    said_s : float
    heard : dict of (str, float) to Windows
        By condition and length of the windows, one a second.
    """

    name: str
    language: str
    target: bool
    said_s: float
    heard: Mapping[tuple[str, float], Windows]

    def lesson(self, language: str, from_s: float, to_s: float, condition: str = CLEAN) -> Lesson:
        """What it teaches in a stretch."""
        windows = self.heard[condition, MAIN_S]
        chosen = (windows.start_s >= from_s - 1e-6) & (windows.end_s <= to_s + 1e-6)
        return Lesson(language, 0.0, RECORDING, windows.pooled[chosen])


class Hearing:
    """Hears speakers with a model.

    Parameters
    ----------
    model : ModelFile
    graphs : Graphs
    sounds : Sounds

    Attributes
    ----------
    identity : list of str
        What decides what is heard, besides the speech.
    """

    def __init__(self, model: ModelFile, graphs: Graphs, sounds: Sounds) -> None:
        self._graphs, self._sounds = graphs, sounds
        self._classifier = StreamingClassifier(model, graphs, LENGTHS_S)
        self.identity = [
            model.description.graph_sha256,
            # Sizes stand in for the contents, as of the speech.
            *(f"{path} {path.stat().st_size}" for path in (*sounds.noises, *sounds.rooms)),
        ]

    def voice(
        self, name: str, clip: Clip, samples: Float32Array, conditions: Sequence[str]
    ) -> Voice:
        """A speaker of these samples; `clip` is one of its clips."""
        heard: dict[tuple[str, float], Windows] = {}
        for condition in conditions:
            disturbed = disturb(samples, condition, name, self._sounds)
            for length_s, windows in zip(LENGTHS_S, self.windows(disturbed), strict=True):
                heard[condition, length_s] = windows
        said_s = len(samples) / SAMPLE_RATE_HZ
        return Voice(name, clip.language, clip.target, said_s, heard)

    def windows(self, samples: Float32Array) -> list[Windows]:
        """Of each length, one a second."""
        classifier = self._classifier
        classifier.reset()
        found: list[list[tuple[float, float, Int8Array]]] = [[] for _ in LENGTHS_S]
        next_s = [0.0] * len(LENGTHS_S)
        for hop in classifier.process(samples):
            for i, (length_s, window) in enumerate(zip(LENGTHS_S, hop, strict=True)):
                if window.end_s - window.start_s < length_s - 1e-6 or window.end_s < next_s[i]:
                    continue
                next_s[i] = window.end_s + STEP_S - classifier.hop_s / 2
                found[i].append((window.start_s, window.end_s, classifier.pooled(i)))
        return [self._scored(rows) for rows in found]

    def _scored(self, rows: Sequence[tuple[float, float, Int8Array]]) -> Windows:
        graphs = self._graphs
        pooled = np.array([row[2] for row in rows], np.int8)
        scores = np.array([graphs.head(each) for each in pooled], np.float64)
        return Windows(
            np.array([row[0] for row in rows]),
            np.array([row[1] for row in rows]),
            pooled,
            graphs.scores.scale * (scores - graphs.scores.zero_point),
        )


def speakers_of(clips: Sequence[Clip], needed_s: float) -> dict[str, list[Clip]]:
    """Clips of each speaker, by name.

    Parameters
    ----------
    clips : sequence of Clip
    needed_s : float
        Speakers of development speech who say less are taken together, first those of a language
        and source, then all of a language: there are too few people for households of it. In the
        test split each is heard apart.
    """
    found: dict[str, list[Clip]] = {}
    left = list(clips)
    names: tuple[Callable[[Clip], str], ...] = (
        lambda clip: f"{clip.language}/{clip.source}/{clip.speaker}",
        lambda clip: f"{clip.language}/{clip.source}",
        lambda clip: clip.language,
    )
    for number, name in enumerate(names):
        groups: dict[str, list[Clip]] = defaultdict(list)
        for clip in left:
            groups[name(clip)].append(clip)
        last = number + 1 == len(names)
        left = []
        for key, own in groups.items():
            joined = own[0].target and own[0].split != TEST
            if last or not joined or sum(clip.duration_s for clip in own) >= needed_s:
                found[key] = own
            else:
                left += own
    return dict(sorted(found.items()))


def hear(
    hearing: Hearing, clips: Sequence[Clip], root: Path, needed_s: float, cache: Path
) -> list[Voice]:
    """All voices of some clips.

    Parameters
    ----------
    hearing : Hearing
    clips : sequence of Clip
    root : Path
        Folder that their paths begin in.
    needed_s : float
        Who says less cannot teach, and is heard for a shorter time, in no noise.
    cache : Path
        Folder where what was heard is kept.

    Raises
    ------
    EdgelidError
        If a clip cannot be read, or the folder not written to, or what was kept is damaged.
    """
    speakers = speakers_of(clips, needed_s)
    told = json.dumps(
        {
            "version": VERSION,
            "hearing": hearing.identity,
            "needed_s": needed_s,
            "root": str(root.resolve()),
            "clips": {name: [clip.path for clip in own] for name, own in speakers.items()},
            "sizes": file_sizes([clip.path for clip in clips], root).tolist(),
            "heard": [LENGTHS_S, MOST_S, OTHERS_S, CONDITIONS, SEED, STEP_S],
        },
        sort_keys=True,
    )
    file = cache / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.npz"
    make_folder(cache)  # before the work, which takes long
    if file.exists():
        try:
            return _read(file)
        except UNREADABLE as error:
            raise EdgelidError(f"{file} is damaged: delete it, and all is heard again") from error
    check_writable(file)
    voices = [*_heard(hearing, speakers, root, needed_s)]
    with atomic_file(file) as written:
        np.savez(written, **_arrays(voices))  # type: ignore[arg-type]
    return voices


def _heard(
    hearing: Hearing, speakers: Mapping[str, Sequence[Clip]], root: Path, needed_s: float
) -> Iterator[Voice]:
    for name, clips in bar(speakers.items(), "hearing"):
        own = list(clips)
        random.Random(f"{SEED}/{name}").shuffle(own)
        can_teach = sum(clip.duration_s for clip in own) >= needed_s
        most_s = MOST_S if can_teach else OTHERS_S
        parts, length_s = [], 0.0
        for clip in own:
            parts.append(read_audio(root / clip.path))
            length_s += clip.duration_s
            if length_s >= most_s:
                break
        samples = np.concatenate(parts)[: round(most_s * SAMPLE_RATE_HZ)]
        yield hearing.voice(name, own[0], samples, CONDITIONS if can_teach else (CLEAN,))


def _arrays(voices: Sequence[Voice]) -> dict[str, np.ndarray]:
    """Voices as the arrays of one file; `_read` is the inverse."""
    told = [
        {
            **{name: getattr(voice, name) for name in ("name", "language", "target", "said_s")},
            "heard": [*voice.heard],
        }
        for voice in voices
    ]
    arrays = {"voices": np.array(json.dumps(told))}
    for i, voice in enumerate(voices):
        for j, windows in enumerate(voice.heard.values()):
            for field in dataclasses.fields(Windows):
                arrays[f"{i}/{j}/{field.name}"] = getattr(windows, field.name)
    return arrays


def _read(file: Path) -> list[Voice]:
    voices = []
    with np.load(file) as arrays:
        told: list[dict[str, Any]] = json.loads(str(arrays["voices"]))
        for i, one in enumerate(told):
            heard = {
                (condition, length_s): Windows(
                    *(arrays[f"{i}/{j}/{field.name}"] for field in dataclasses.fields(Windows))
                )
                for j, (condition, length_s) in enumerate(one.pop("heard"))
            }
            voices.append(Voice(**one, heard=heard))
    return voices
