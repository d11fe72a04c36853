"""Whose speech is drawn how often."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from edge.frontend import SAMPLE_RATE_HZ
from train.waveforms.bank import NOISE, TRAIN, Segments
from train.waveforms.draws import SPEAKER_S, Drawer

LABELS = ["de", "en", "other", "nonspeech"]


def bank_of(said: list[tuple[str, str, float, bool]]) -> Segments:
    """A bank in which nothing is heard: language, speaker, seconds, and whether through a codec."""
    said = [*said, ("en", "eve", 10.0, False), ("sv", "siv", 10.0, False)]
    rows: list[dict[str, Any]] = [
        {
            "role": TRAIN,
            "language": language,
            "source": f"{language}-corpus",
            "speaker": speaker,
            "kind": "human",
            "coded": coded,
        }
        for language, speaker, _, coded in said
    ]
    rows.append(dict.fromkeys(rows[0], "") | {"role": NOISE, "kind": "street"})
    lengths = np.array([round(s * SAMPLE_RATE_HZ) for *_, s, _ in said] + [SAMPLE_RATE_HZ])
    samples = np.zeros(1, np.int16)  # what is drawn are places alone
    return Segments(samples, np.cumsum(lengths) - lengths, lengths, rows)


def shares(segments: Segments, label: str) -> dict[str, float]:
    """How often each speaker of a language is drawn."""
    indices, chances = Drawer(segments, LABELS, seed=1).choices[LABELS.index(label)]
    found: dict[str, float] = defaultdict(float)
    for i, p in zip(indices, chances, strict=True):
        found[segments.rows[i]["speaker"]] += float(p)
    return dict(found)


def test_who_says_much_is_drawn_no_more_often_than_who_says_enough() -> None:
    many = [("de", f"speaker-{i}", SPEAKER_S, False) for i in range(9)]
    found = shares(bank_of([("de", "anna", 100 * SPEAKER_S, False), *many]), "de")
    np.testing.assert_allclose(list(found.values()), 0.1)


def test_clicks_are_no_noise_where_there_is_any() -> None:
    segments = bank_of([])
    rows = [*segments.rows, segments.rows[-1]]
    starts = np.append(segments.starts, segments.starts[-1])
    both = Segments(segments.samples, starts, np.append(segments.lengths, 216), rows)
    drawer = Drawer(both, LABELS, seed=1)
    assert drawer.noise.tolist() == drawer.quiet.tolist() == [len(rows) - 2]
    lengths = np.append(segments.lengths[:-1], [300, 216])
    drawer = Drawer(Segments(segments.samples, starts, lengths, rows), LABELS, seed=1)
    assert drawer.noise.tolist() == drawer.quiet.tolist() == [len(rows) - 2, len(rows) - 1]


def test_who_says_little_is_drawn_by_the_root_of_it() -> None:
    found = shares(bank_of([("de", "anna", 40.0, False), ("de", "bob", 10.0, False)]), "de")
    assert found["anna"] == 2 * found["bob"]


def test_a_copy_through_a_codec_makes_nobody_two_people() -> None:
    said = [("de", "anna", 300.0, False), ("de", "anna", 150.0, True), ("de", "bob", 300.0, False)]
    segments = bank_of(said)
    found = shares(segments, "de")
    np.testing.assert_allclose(found["anna"], found["bob"])
    indices, chances = Drawer(segments, LABELS, seed=1).choices[0]
    drawn = dict(zip(indices.tolist(), chances.tolist(), strict=True))
    np.testing.assert_allclose(drawn[0], 2 * drawn[1])  # by how long each is
