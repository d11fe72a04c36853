"""Evidence that comes late: what is believed is as if it had come in time."""

from __future__ import annotations

import numpy as np
import pytest

from edge.belief import MEMORY_S, OPINION_WEIGHT, TRUST_S, Belief, Opinion, RevisableBelief
from edge.classifier import Window
from edge.frontend import Float64Array

HOP_S = 0.1
CLASSES = 4
FILTERING = (CLASSES, HOP_S / 30.0, HOP_S / 3.0)


def stream(hops: int) -> Float64Array:
    """Windows of a compact model that knows little: shape (hops, classes)."""
    return np.random.default_rng(1).dirichlet(np.full(CLASSES, 3.0), hops)


def opinion(start_s: float, end_s: float, favoured: int, share: float = 0.94) -> Opinion:
    probabilities = np.full(CLASSES, (1 - share) / (CLASSES - 1))
    probabilities[favoured] = share
    return Opinion(start_s, end_s, 3.0, probabilities, 0.1)


def heard(hops: int, opinions: dict[int, list[Opinion]]) -> RevisableBelief:
    """Hear windows, and take opinions after so many of them."""
    belief = RevisableBelief(*FILTERING, HOP_S)
    for number, probabilities in enumerate(stream(hops), 1):
        belief.update(probabilities, number * HOP_S)
        for each in opinions.get(number, []):
            belief.revise(each)
    return belief


def test_without_opinions_it_is_the_plain_filter_bit_for_bit() -> None:
    plain = Belief(*FILTERING)
    for number, probabilities in enumerate(stream(500), 1):
        plain.update(probabilities, number * HOP_S)
    belief = heard(500, {})
    assert belief.values == plain.values == belief.alone.values


@pytest.mark.parametrize("delay_hops", [1, 7, 60])
def test_late_is_as_good_as_in_time(delay_hops: int) -> None:
    said = opinion(2.0, 5.0, favoured=2)
    in_time = heard(120, {50: [said]})
    late = heard(120, {50 + delay_hops: [said]})
    assert late.values == in_time.values
    assert late.alone.values == in_time.alone.values


def test_what_an_opinion_says_of_hops_to_come_counts_at_once_and_once() -> None:
    belief = heard(50, {50: [opinion(2.5, 5.5, favoured=2)]})
    known = heard(50, {50: [opinion(2.0, 5.0, favoured=2)]})
    weights = [
        [weight for hop in each._hops for _, weight in hop.opinions] for each in (belief, known)
    ]
    assert sum(weights[0]) == pytest.approx(sum(weights[1]))
    assert len(weights[0]) == len(weights[1]) - 5
    assert belief.values[2] > heard(50, {50: [opinion(2.5, 5.0, favoured=2)]}).values[2]
    belief.update(stream(51)[50], 51 * HOP_S)
    assert belief._hops[-1].opinions == []


def test_where_no_opinion_is_to_be_had_the_compact_model_counts_in_full() -> None:
    said = opinion(2.0, 5.0, favoured=2)
    trusting, alone = heard(50, {50: [said]}), heard(50, {50: [said]})
    plain = Belief(*FILTERING)
    plain._states = alone._states
    alone.stand_alone()
    for number, probabilities in enumerate(stream(90)[50:], 51):
        for belief in (trusting, alone, plain):
            belief.update(probabilities, number * HOP_S)
    assert alone.values == plain.values != trusting.values
    # What comes late about what was heard before changes that, and not that it stood alone.
    alone.revise(opinion(1.0, 3.0, favoured=1))
    known = heard(50, {50: [said, opinion(1.0, 3.0, favoured=1)]})
    plain._states = known._states
    for number, probabilities in enumerate(stream(90)[50:], 51):
        plain.update(probabilities, number * HOP_S)
    assert alone.values == plain.values


def test_opinions_count_for_a_while_and_until_none_is_to_be_had() -> None:
    said, behind = opinion(2.0, 5.0, favoured=2), round((5.0 + TRUST_S) / HOP_S)
    assert not heard(40, {}).counts_opinions
    assert heard(50, {50: [said]}).counts_opinions
    assert heard(behind, {50: [said]}).counts_opinions
    assert not heard(behind + 1, {50: [said]}).counts_opinions
    belief = heard(50, {50: [said]})
    belief.stand_alone()
    assert belief.counts_opinions  # of what is yet to be heard they are not
    belief.update(stream(1)[0], 51 * HOP_S)
    assert not belief.counts_opinions
    assert not belief.alone.counts_opinions


def test_the_order_in_which_opinions_come_does_not_matter() -> None:
    first, second = opinion(1.0, 4.0, 0), opinion(3.0, 6.0, 1)
    one = heard(80, {60: [first, second]})
    other = heard(80, {61: [second], 75: [first]})
    np.testing.assert_allclose(one.values, other.values, rtol=1e-12)


def test_an_opinion_moves_the_belief_and_leaves_that_of_the_compact_model_alone() -> None:
    before, after = heard(60, {}), heard(60, {60: [opinion(3.0, 6.0, favoured=3)]})
    assert int(np.argmax(after.values)) == 3
    assert after.values[3] > 0.8
    assert after.alone.values == before.values


def test_the_same_stretch_heard_twice_is_no_second_evidence() -> None:
    said = opinion(3.0, 6.0, favoured=3)
    once, twice = heard(60, {60: [said]}), heard(60, {60: [said, said]})
    np.testing.assert_allclose(twice.values, once.values, rtol=1e-12)


def test_less_that_was_heard_says_less() -> None:
    shares = [
        heard(60, {60: [opinion(start_s, 6.0, favoured=3)]}).values[3]
        for start_s in (5.5, 5.0, 4.0, 3.0)
    ]
    assert shares == sorted(shares)


def test_what_is_too_old_does_not_count() -> None:
    hops = round(2 * MEMORY_S / HOP_S)
    belief = heard(hops, {})
    before = belief.values
    assert not belief.revise(opinion(0.0, 3.0, favoured=1))
    assert belief.values == before


def test_an_opinion_is_evidence_of_each_language_that_is_not_expected_by_itself() -> None:
    """Once it was what all of them have together, so that many unlikely ones became likely."""
    english, other, classes = 0, 11, 12
    belief = RevisableBelief(classes, *FILTERING[1:], HOP_S, other)
    flat = np.full(classes, 1 / classes)
    expected = tuple(index in (english, other) for index in range(classes))
    said = np.full(classes, 0.7 / (classes - 1))
    said[english] = 0.3
    answers = np.where(expected, said, 0.0)
    answers[other] = 0.7
    for number in range(1, 31):
        belief.update(flat, number * HOP_S, expected)
    assert belief.values[english] == pytest.approx(0.5)
    assert belief.revise(Opinion(0.0, 3.0, 3.0, answers, 0.1, said))
    # As likely beforehand as all others together, it is as much likelier now as than any of them;
    # what the filter forgets takes a little of that back.
    likelier = (0.3 / (0.7 / (classes - 1))) ** OPINION_WEIGHT
    assert belief.values[english] == pytest.approx(likelier / (likelier + 1), abs=0.02)


def test_other_languages_to_expect_are_no_news_of_what_was_heard() -> None:
    belief = RevisableBelief(*FILTERING, HOP_S, other=3)
    windows = stream(60)
    for number, probabilities in enumerate(windows[:40], 1):
        belief.update(probabilities, number * HOP_S, (True, False, False, True))
    assert belief.revise(opinion(1.0, 4.0, favoured=3))
    before = belief.values
    belief.update(windows[40], 41 * HOP_S, (True, True, False, True))
    states = list(belief._states)
    # What was asked about the hops before, which are forgotten, changes nothing any more.
    assert not belief.revise(opinion(1.0, 4.0, favoured=3))
    assert belief._states == states
    # Class 1 was part of `other`, and is what it was; only the last hop has spoken.
    assert before[3] > 0.9
    assert belief.values[1] + belief.values[3] == pytest.approx(before[3], abs=0.1)


def test_masked_classes_stay_impossible() -> None:
    belief = RevisableBelief(*FILTERING, HOP_S)
    masked = np.array([0.5, 0.5, 0.0, 0.0])
    for number in range(1, 40):
        belief.update(masked, number * HOP_S)
    belief.revise(Opinion(1.0, 3.9, 3.0, np.array([0.9, 0.1, 0.0, 0.0]), 0.1))
    assert belief.values[2:] == [0.0, 0.0]
    assert sum(belief.values) == pytest.approx(1.0)


def test_hindsight_of_what_no_opinion_heard_is_of_the_answers() -> None:
    other, expected = 3, (True, False, False, True)
    belief = RevisableBelief(*FILTERING, HOP_S, other)
    hops = 60
    # What is spoken is a language that is not expected.
    for number in range(1, hops + 1):
        belief.update(np.array([0.1, 0.8, 0.05, 0.05]), number * HOP_S, expected)
    said = np.array([0.01, 0.97, 0.01, 0.01])
    assert belief.revise(Opinion(0.0, 1.0, 3.0, np.array([0.01, 0.0, 0.0, 0.99]), 0.1, said))
    end_s = hops * HOP_S
    apart = np.full(CLASSES, 1 / CLASSES)
    window = Window(end_s - 1.0, end_s, 1.0, np.array([0.25, 0.0, 0.0, 0.75]), apart)
    (told,) = belief.hindsight([window])
    np.testing.assert_allclose(told.probabilities, belief.values, atol=5e-3)
    assert told.probabilities[other] > 0.5
    # That is one language, of which borders are to hear, and not all of them.
    assert told.apart is not None
    assert told.apart[1] > 2 * told.apart[other]


def test_priors_are_in_proportion_to_what_is_favoured() -> None:
    belief = Belief(*FILTERING)
    assert belief.priors == [0.25] * 4
    belief.favour([1.0, 2.0, 1.0, 1.0], 0.9)
    np.testing.assert_allclose(belief.priors, [0.2, 0.4, 0.2, 0.2])
    belief.reset()
    assert belief.priors == [0.25] * 4


def test_no_prior_is_more_than_half_of_the_way_to_an_answer() -> None:
    belief = Belief(*FILTERING)
    belief.favour([1.0, 9.0, 4.0, 1.0], 0.65)
    assert belief.priors[1] == pytest.approx(0.45)
    assert sum(belief.priors) == pytest.approx(1)
    # The others keep their order, and are as much closer to even.
    np.testing.assert_allclose(belief.priors, 0.25 + 4 / 7 * (np.array([1, 9, 4, 1]) / 15 - 0.25))
    belief.favour([1.0, 9.0, 4.0, 1.0], 0.2)
    np.testing.assert_allclose(belief.priors, 0.25)


def test_what_is_not_expected_shares_the_prior_of_other() -> None:
    belief = Belief(*FILTERING, other=3)
    belief.favour([1.0, 2.0, 5.0, 1.0], 1.0)
    belief.update(np.array([0.4, 0.4, 0.1, 0.1]), HOP_S, (True, True, False, True))
    np.testing.assert_allclose(belief.priors, [0.25, 0.5, 0.0, 0.25])


def test_opinions_that_come_late_find_what_is_favoured_too() -> None:
    belief = RevisableBelief(*FILTERING, HOP_S)
    belief.favour([1.0, 1.0, 4.0, 1.0], 1.0)
    assert belief.priors == belief.alone.priors
    even = heard(60, {60: [opinion(2.0, 5.0, favoured=2, share=0.4)]})
    for number, probabilities in enumerate(stream(60), 1):
        belief.update(probabilities, number * HOP_S)
    belief.revise(opinion(2.0, 5.0, favoured=2, share=0.4))
    assert belief.values[2] > even.values[2]
    assert belief.alone.values[2] > even.alone.values[2]
