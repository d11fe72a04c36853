"""Thresholds on a confidence, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.open_set import (
    detection_curve,
    noise_report,
    operating_point,
    strangers_error_rate,
    threshold_rejecting,
)

KNOWN = np.array([0.9, 0.8, 0.5, 0.3])
STRANGERS = np.array([0.6, 0.2])


def test_curve() -> None:
    assert detection_curve(KNOWN, STRANGERS) == [
        [0.2, 0.0, 1.0],
        [0.3, 0.0, 0.5],
        [0.5, 0.25, 0.5],
        [0.6, 0.5, 0.5],
        [0.8, 0.5, 0.0],
        [0.9, 0.75, 0.0],
    ]


def test_a_long_curve_keeps_its_ends() -> None:
    many = np.linspace(0, 1, 5001)
    curve = detection_curve(many, many)
    assert len(curve) == 200
    assert curve[0] == [0.0, 0.0, 1.0]
    assert curve[-1] == [1.0, 0.9998, 0.0002]


def test_operating_point() -> None:
    draws = np.array([[4.0, 0, 0, 0], [0, 0, 0, 4.0]]), np.ones((2, 2))
    assert operating_point(0.6, KNOWN, STRANGERS, *draws) == {
        "threshold": 0.6,
        "known_rejected": 0.5,
        "strangers_accepted": 0.5,
        "intervals": {"known_rejected": [0.025, 0.975], "strangers_accepted": [0.5, 0.5]},
    }


@pytest.mark.parametrize(("share", "rejected"), [(0.0, 0), (0.1, 10), (0.105, 10), (1.0, 99)])
def test_threshold_for_a_share(share: float, rejected: int) -> None:
    known = np.random.default_rng(1).permutation(100) / 100
    assert (known < threshold_rejecting(known, share)).sum() == rejected


def test_error_rate() -> None:
    assert strangers_error_rate(KNOWN, np.array([0.1, 0.2])) == 0
    assert strangers_error_rate(KNOWN, KNOWN) == 0.5


def test_noise() -> None:
    noise = {"rain": np.array([0.7, 0.1]), "birds": np.array([0.2, 0.3])}
    found = noise_report(KNOWN, noise, 0.6)
    assert found.pop("curve") == detection_curve(KNOWN, np.array([0.7, 0.1, 0.2, 0.3]))
    assert found == {
        "windows": 4,
        "called_a_language": 0.25,
        "equal_error_rate": 0.25,
        "by_kind": {
            "birds": {"windows": 2, "called_a_language": 0.0},
            "rain": {"windows": 2, "called_a_language": 0.5},
        },
    }
