"""What is drawn for a batch: which stretches of speech, and what is done to them.

All chance is here, in numpy; the arithmetic on the accelerator is the same for every draw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from train.features.noise import KINDS_WITH_SPEECH
from train.waveforms.bank import DEVELOPMENT, NOISE, ROOM, TRAIN, Segments

OTHER_SHARE = 0.15
NONSPEECH_SHARE = 0.10
EQ_POINTS = 10
MASKS = 2
CODED_SHARE = 0.15  # of clips, at a low rate
SPEAKER_S = 60.0  # of a speaker's speech that count: or one who says much is what a language is
NOISE_S = 1.0  # of a noise at least, where there are any so long
SLOWEST, FASTEST = 0.84, 1.19  # that clips are played

Draw = dict[str, np.ndarray]


class Drawer:
    """Draws batches from a decoded bank.

    Parameters
    ----------
    segments : Segments
    labels : sequence of str
        Languages, then ``other`` and ``nonspeech``.
    seed : int
    tts_weight : float
        How much a minute of synthetic speech counts against a minute of human speech.
    known : ndarray, shape (segments,), optional
        How many samples of each segment of speech may be drawn; all, if not given.
    """

    def __init__(
        self,
        segments: Segments,
        labels: Sequence[str],
        seed: int,
        tts_weight: float = 0.6,
        known: np.ndarray | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.segments = segments
        self.lengths = segments.lengths.copy()
        if known is not None:
            speech = np.array([row["role"] == TRAIN for row in segments.rows])
            self.lengths[speech] = np.minimum(segments.lengths, known)[speech]
        self.classes = len(labels)
        languages = {name: i for i, name in enumerate(labels[:-2])}
        rows = segments.rows
        per_class: dict[int, dict[tuple[str, str], list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for i, row in enumerate(rows):
            if row["role"] == TRAIN and self.lengths[i] > SAMPLE_RATE_HZ // 4:
                label = languages.get(row["language"], len(labels) - 2)
                per_class[label][(row["language"], row["source"])].append(i)
        self.choices: list[tuple[np.ndarray, np.ndarray]] = []
        for label in range(len(labels) - 1):
            indices, weights = [], []
            by_language: dict[str, float] = defaultdict(float)
            found = []
            for (language, _), members in per_class[label].items():
                seconds = self.lengths[members] / SAMPLE_RATE_HZ
                _, who = np.unique([rows[i]["speaker"] for i in members], return_inverse=True)
                said = np.bincount(who, seconds)
                counted = np.minimum(said, SPEAKER_S)
                kind = tts_weight if rows[members[0]]["kind"] == "tts" else 1.0
                # The square root lies between every source or speaker alike and every second alike.
                total = kind * np.sqrt(counted.sum())
                inner = (np.sqrt(counted) / said)[who] * seconds
                found.append((language, members, total * inner / inner.sum()))
                by_language[language] += total
            for language, members, weight in found:
                indices.extend(members)
                # Of `other`, languages count by the root of what there is of them.
                weights.extend(weight / np.sqrt(by_language[language]))
            p = np.array(weights)
            self.choices.append((np.array(indices), p / p.sum()))
        noise = [i for i, r in enumerate(rows) if r["role"] == NOISE]
        # What is over at once is no noise that anybody speaks in; over and over, it is a tone.
        long = [i for i in noise if self.lengths[i] >= NOISE_S * SAMPLE_RATE_HZ]
        self.noise = np.array(long or noise)
        voiceless = {i for i in noise if rows[i]["kind"] not in KINDS_WITH_SPEECH}
        self.quiet = np.array(sorted(voiceless.intersection(long) or voiceless))
        self.rooms = [i for i, r in enumerate(rows) if r["role"] == ROOM]

    def check(self, labels: Sequence[str]) -> None:
        """Raise EdgelidError unless there is something of each of these classes to draw."""
        counts = [len(indices) for indices, _ in self.choices] + [len(self.quiet)]
        names = [*(f"speech in {language}" for language in labels[:-2])]
        names += ["speech in another language", "noise without voices"]
        for name, count in zip(names, counts, strict=True):
            if not count:
                raise EdgelidError(f"the bank has no {name} to train on, or it was not heard yet")

    def batch(self, clips: int, samples: int, masks_frames: int, mels: int) -> Draw:
        """Draw stretches of `samples`, and their augmentation.

        Returns
        -------
        dict of ndarray
            Arguments of `train.waveforms.sound`.
        """
        rng, uniform = self.rng, self.rng.uniform
        spoken = self.classes - 2
        shares = [(1 - OTHER_SHARE - NONSPEECH_SHARE) / spoken] * spoken
        labels = rng.choice(self.classes, clips, p=[*shares, OTHER_SHARE, NONSPEECH_SHARE])
        chosen = np.empty(clips, np.int64)
        for label in range(self.classes):
            here = np.flatnonzero(labels == label)
            if label == self.classes - 1:
                chosen[here] = rng.choice(self.quiet, len(here))
            else:
                indices, p = self.choices[label]
                chosen[here] = rng.choice(indices, len(here), p=p)
        speech = labels < self.classes - 1
        rate = np.where(rng.random(clips) < 0.4, 1.0, uniform(SLOWEST, FASTEST, clips))
        starts, counts, lead = self._places(chosen, samples, rate)
        noise = rng.choice(self.noise, clips)
        noise_starts, noise_counts, _ = self._places(noise, samples, np.ones(clips))
        snr = np.where(rng.random(clips) < 0.4, 80.0, uniform(0.0, 30.0, clips))
        rooms = np.where(rng.random(clips) < 0.5, 0, rng.integers(0, 1 + len(self.rooms), clips))
        points = rng.normal(0, 1, (clips, EQ_POINTS)) * rng.choice([0.0, 2.0, 5.0], (clips, 1))
        high = np.where(rng.random(clips) < 0.7, 20_000.0, uniform(3_000, 7_500, clips))
        low = np.where(rng.random(clips) < 0.7, 1.0, uniform(50, 350, clips))
        telephone = rng.random(clips) < 0.1
        high, low = np.where(telephone, 3_400, high), np.where(telephone, 300, low)
        kind = rng.random(clips)
        peak_db = np.select(
            [kind < 0.55, kind < 0.85, kind < 0.93],
            [uniform(-24, -1, clips), uniform(-56, -24, clips), uniform(-1, 14, clips)],
            -6.0,
        )
        # Of what is no speech, some is nearly or wholly silent.
        silent = ~speech & (rng.random(clips) < 0.2)
        peak_db = np.where(silent, uniform(-110, -60, clips), peak_db)
        times = np.empty((clips, MASKS, 2))
        times[..., 0] = uniform(0, masks_frames, (clips, MASKS))
        times[..., 1] = times[..., 0] + uniform(0, min(30, masks_frames // 6), (clips, MASKS))
        bands = np.empty((clips, MASKS, 2))
        bands[..., 0] = uniform(0, mels, (clips, MASKS))
        bands[..., 1] = bands[..., 0] + uniform(0, mels // 8, (clips, MASKS))
        coded = rng.random(clips) < CODED_SHARE
        unmasked = rng.random(clips) < 0.3
        times[unmasked], bands[unmasked] = -1.0, -1.0
        floats = {
            "rate": rate,
            "snr_db": np.where(speech, snr, 80.0),
            "eq_db": points,
            "high_hz": high,
            "low_hz": low,
            "peak_db": peak_db,
            "times": times,
            "bands": bands,
            "companded": rng.random(clips) < np.where(telephone, 0.5, 0.04),
            "coded_floor": np.where(coded, uniform(4, 12, clips), np.inf),
            "coded_from": uniform(0.4, 0.8, clips) * mels,
        }
        integers = {
            "labels": labels,
            "segments": chosen,
            "starts": starts,
            "counts": counts,
            "lead": lead,
            "rooms": rooms,
            "noise_starts": noise_starts,
            "noise_counts": noise_counts,
        }
        return {k: v.astype(np.float32) for k, v in floats.items()} | {
            k: v.astype(np.int32) for k, v in integers.items()
        }

    def _places(
        self, chosen: np.ndarray, samples: int, rate: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start and length in the bank, and silence before, of windows of so many samples."""
        need = np.ceil(samples * rate).astype(np.int64) + 2
        lengths = self.lengths[chosen]
        room = np.maximum(lengths - need, 0)
        offset = (self.rng.random(len(chosen)) * (room + 1)).astype(np.int64)
        counts = np.minimum(lengths - offset, need)
        # What is shorter than the window lies somewhere in it.
        spare = np.maximum(samples - counts / rate, 0)
        lead = (self.rng.random(len(chosen)) * spare).astype(np.int64)
        return self.segments.starts[chosen] + offset, counts, lead


def development_windows(
    segments: Segments,
    labels: Sequence[str],
    samples: int,
    most_per_speaker: int = 12,
    most_per_source: int = 60,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Windows of the speech held out for decisions.

    Returns
    -------
    starts : ndarray, shape (windows,), int64
    labels : ndarray, shape (windows,)
    sources : list of str
        ``language/source`` of each.
    """
    starts, wanted, sources = [], [], []
    counts: dict[str, int] = defaultdict(int)
    for row, start, length in zip(segments.rows, segments.starts, segments.lengths, strict=True):
        if row["role"] != DEVELOPMENT:
            continue
        source = f"{row['language']}/{row['source']}"
        label = labels.index(row["language"]) if row["language"] in labels[:-2] else len(labels) - 2
        for k in range(min(int(length // samples), most_per_speaker)):
            if counts[source] >= most_per_source:
                break
            counts[source] += 1
            starts.append(start + k * samples)
            wanted.append(label)
            sources.append(source)
    return np.array(starts), np.array(wanted), sources


def macro_accuracy(
    scores: np.ndarray, labels: np.ndarray, sources: Sequence[str], languages: int
) -> dict[str, Any]:
    """Accuracy among the languages: macro, by language, and by source."""
    hit = scores[:, :languages].argmax(-1) == labels
    names = np.array(sources)
    by_language = {}
    by_source = {s: round(float(hit[names == s].mean()), 3) for s in sorted(set(sources))}
    for label in range(languages):
        here = labels == label
        if here.any():
            by_language[label] = float(hit[here].mean())
    return {
        "macro": round(float(np.mean(list(by_language.values()))), 4),
        "by_language": {k: round(v, 3) for k, v in by_language.items()},
        "by_source": by_source,
        "n": int((labels < languages).sum()),
    }
