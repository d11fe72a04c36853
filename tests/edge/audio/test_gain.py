"""Automatic gain: what is loud enough stays as it is, what is too quiet is amplified exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from edge.audio.gain import (
    AGAIN_HOPS,
    CEILING,
    LEAST_HOPS,
    MAX_GAIN,
    AutomaticGain,
    amplified,
    decibels,
)
from edge.frontend import Float32Array

HOP_S = 0.16
HOP_SAMPLES = 2_560
MEMORY_HOPS = 62  # ten seconds


def hop_of(peak_db: float, seed: int = 0) -> Float32Array:
    """Noise of that peak."""
    noise = np.random.default_rng(seed).uniform(-1, 1, HOP_SAMPLES)
    return (noise * 10 ** (peak_db / 20) / np.abs(noise).max()).astype(np.float32)


def speech(peak_db: float, hops: int) -> list[Float32Array]:
    """As somebody speaks: one hop of four is a pause, 30 dB below the peak."""
    return [hop_of(peak_db - 30 * (i % 4 == 3), i) for i in range(hops)]


def gains(hops: Sequence[Float32Array]) -> list[float]:
    following = AutomaticGain(HOP_S)
    return [following.of(hop) for hop in hops]


def heard(hops: Sequence[Float32Array]) -> list[Float32Array]:
    """What is heard in the end, of the beginning too."""
    following = AutomaticGain(HOP_S)
    found: list[Float32Array] = []
    for hop in hops:
        earlier, now = following.applied(hop)
        assert len(earlier) in (0, len(found))
        found = [*(earlier or found), now]
    return found


@pytest.mark.parametrize("peak_db", [0.0, -20.0, -40.0, -46.0])
def test_what_is_loud_enough_stays_as_it_is(peak_db: float) -> None:
    hops = speech(peak_db, 200)
    following = AutomaticGain(HOP_S)
    for hop in hops:
        earlier, same = following.applied(hop)
        assert (earlier, same is hop) == ([], True)


@pytest.mark.parametrize(
    ("peak_db", "gain"), [(-49.0, 8.0), (-54.0, 8.0), (-55.0, 16.0), (-61.0, 32.0), (-65.0, 32.0)]
)
def test_what_is_too_quiet_is_amplified_to_the_last_bit(peak_db: float, gain: float) -> None:
    hops = speech(peak_db, 200)
    for quiet, louder in zip(hops, heard(hops), strict=True):
        np.testing.assert_array_equal(louder, quiet * np.float32(gain))
    found = gains(hops)
    assert found[: LEAST_HOPS - 1] == [1.0] * (LEAST_HOPS - 1)
    assert found[LEAST_HOPS - 1 :] == [gain] * (200 - LEAST_HOPS + 1)
    assert gain <= MAX_GAIN == 2.0 ** round(decibels(MAX_GAIN) / 6)


def test_it_falls_with_the_first_loud_hop_and_rises_ten_seconds_after_the_last() -> None:
    quiet = speech(-55.0, 100)
    found = gains([*quiet, *speech(-6.0, 40), *speech(-55.0, 100)])
    assert found[99] == 16.0
    assert found[100:140] == [1.0] * 40
    # 30 of the 40 are loud. A sixteenth of the memory, 3 hops, is no level yet.
    (risen,) = [i for i in range(140, 240) if found[i] > found[i - 1]]
    last_loud = 138
    assert MEMORY_HOPS - 5 <= risen - last_loud <= MEMORY_HOPS
    assert found[risen:] == [16.0] * (240 - risen)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_loud_hop_is_no_reason_to_begin_to_amplify(sign: float) -> None:
    """Whichever side its peak is on."""
    click = np.zeros(HOP_SAMPLES, np.float32)
    click[7] = sign * 0.5
    hops = [*speech(-10.0, 20), *speech(-55.0, 160)]
    risen = gains(hops).index(16.0)
    hops[risen] = click
    found = gains(hops)
    assert found[: risen + 1] == [1.0] * (risen + 1)
    assert found[-1] == 16.0


@pytest.mark.parametrize("peak_db", [-30.0, -18.0, -1.0])
def test_a_loud_hop_is_never_clipped(peak_db: float) -> None:
    """Not even when it is too short to change the level, as of a door or a key."""
    quiet = speech(-55.0, 300)
    quiet[200] = quiet[201] = hop_of(peak_db)
    found = gains(quiet)
    assert found[199] == found[202] == 16.0
    peak = 10 ** (peak_db / 20)
    assert found[200] == found[201]
    assert found[200] == 1.0 or CEILING / 2 < found[200] * peak <= CEILING
    assert max(found[150:]) == 16.0 == sorted(found[150:])[2]


@pytest.mark.parametrize("peak_db", [-45.0, -55.0, -64.0])
def test_steady_noise_and_silence_are_left_alone(peak_db: float) -> None:
    assert set(gains([hop_of(peak_db, i) for i in range(200)])) == {1.0}
    assert set(gains([np.zeros(HOP_SAMPLES, np.float32)] * 200)) == {1.0}
    last_bit = [np.float32(2.0**-15) * np.sign(hop_of(0.0, i)) * (i % 3 == 0) for i in range(200)]
    assert set(gains(last_bit)) == {1.0}


def test_a_pause_keeps_the_gain() -> None:
    """Nobody who speaks says nothing about how loudly they do."""
    found = gains([*speech(-55.0, 100), *(hop_of(-85.0, i) for i in range(500))])
    assert found[-1] == 16.0


def test_only_a_beginning_is_heard_once_more() -> None:
    pause = [hop_of(-85.0, i) for i in range(AGAIN_HOPS)]
    following = AutomaticGain(HOP_S)
    again = [len(following.applied(hop)[0]) for hop in [*pause, *speech(-55.0, 100)]]
    assert (set(again), following.gain) == ({0}, 16.0)
    following.reset()
    again = [len(following.applied(hop)[0]) for hop in [*pause[:5], *speech(-55.0, 100)]]
    assert [number for number in again if number] == [LEAST_HOPS - 1]


def test_a_recording_begins_with_what_its_first_seconds_ask_for() -> None:
    following = AutomaticGain(HOP_S)
    for hops, gain in (
        (speech(-55.0, 100), 16.0),
        (speech(-50.0, 4), 8.0),
        ([*speech(-55.0, 30), *speech(-10.0, 100)], 1.0),
        ([*speech(-55.0, 80), *speech(-10.0, 80)], 16.0),
        ([*speech(-10.0, 10), *speech(-55.0, 10)], 1.0),
    ):
        following.foresee(np.concatenate(hops))
        found = [following.applied(hop) for hop in hops]
        assert [earlier for earlier, _ in found] == [[]] * len(hops)
        for hop, (_, louder) in zip(hops[:20], found, strict=False):
            np.testing.assert_array_equal(louder, hop * np.float32(gain))
    following.foresee(np.zeros(0, np.float32))
    assert following.gain == 1.0


def test_any_length_of_hop() -> None:
    def halves() -> Iterator[Float32Array]:
        for hop in speech(-55.0, 200):
            yield from np.split(hop, 2)

    for hop_s, hops in ((0.08, [*halves()]), (0.5, speech(-55.0, 60))):
        following = AutomaticGain(hop_s)
        assert [following.of(hop) for hop in hops][-1] == 16.0


def test_a_stretch_is_amplified_as_its_hops_are() -> None:
    quiet = np.concatenate(speech(-55.0, 40))
    np.testing.assert_array_equal(amplified(quiet, 16.0), quiet * np.float32(16.0))
    slam = quiet.copy()
    slam[30_000] = 0.3
    found = amplified(slam, 16.0)
    assert np.abs(found).max() <= 0.3
    np.testing.assert_array_equal(found[:20_000], quiet[:20_000] * np.float32(16.0))
    untouched = amplified(slam, 1.0)
    np.testing.assert_array_equal(untouched, slam)
    untouched[:] = 0  # a copy: what is kept stays as it is
    assert slam[30_000] == np.float32(0.3)
    assert amplified(np.empty(0, np.float32), 2.0).shape == (0,)
