"""Where in a stream one answer ended and the next began.

That a language has changed is known seconds later than it happened. Once it is known, the two
languages are given, and the question left is an easier one: which of the short windows since then
speak for the old one, which for the new one, and which for neither. Short windows say little about
a language and much about a time.

The stretches follow one another, so that the best division of all is found by sums over the
windows (the Viterbi algorithm for three states from left to right; Rabiner 1989, section III.B).

Where only some languages are expected, all others are one answer, ``other``, and are still spoken
one at a time. What a window says for that answer is what it says for one of them, and going over
to another of them has its price. Their sum would outweigh the language that is spoken wherever a
window hears none clearly, as short ones do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.classifier import Window
from edge.frontend import Float64Array

FINE_S = 0.5  # length of the windows that borders are found by
HISTORY_S = 16.0  # how far back a border may be
PAUSE_S = 0.5  # a shorter pause between two languages is no stretch of its own
# Speech between two languages that sounds like neither: the beginning of the new one, which takes
# time to show; unless it goes on for longer.
UNCLEAR_S = 3.0
# A short window is one of silence from this probability on: any speech in it outweighs the silence.
# Between two languages less will do than for a stretch that is told as silence.
SILENCE, SILENCE_BETWEEN = 0.5, 0.2
# What one hop may say against a class: a single wild window must not outweigh all before it.
MIN_LIKELIHOOD = 1e-3
TIE = 1e-9  # what rounding may make of likelihoods that are alike


@dataclass(frozen=True)
class Borders:
    """Stretches between an old answer and a new one; those of no length are not there.

    Attributes
    ----------
    old_end_s : float
        Where the old answer ends, and a pause begins.
    pause_end_s : float
        Where that ends, and speech in neither language begins.
    new_start_s : float
        Where the new answer begins.
    """

    old_end_s: float
    pause_end_s: float
    new_start_s: float


def heard_as(windows: Sequence[Window], answer: int, other: int | None) -> Float64Array:
    """What windows say for an answer.

    Parameters
    ----------
    windows : sequence of Window
        At least one.
    answer : int
        Index of its class.
    other : int or None
        Index of the class of all languages that are not expected.

    Returns
    -------
    ndarray, shape (windows, classes)
        Log-likelihoods of the classes that it may be: of `other`, also those of these languages.
    """
    probabilities = np.array([w.probabilities for w in windows])
    masked = probabilities == 0
    if answer == other and masked.any():
        apart = np.array([w.probabilities if w.apart is None else w.apart for w in windows])
        masked[:, other] = True
        of_answer = np.where(masked, apart, 0.0)[:, masked.any(axis=0)]
    else:
        of_answer = probabilities[:, [answer]]
    logs: Float64Array = np.log(np.maximum(of_answer, MIN_LIKELIHOOD))
    return logs


def _silence(windows: Sequence[Window], nonspeech: int, least: float) -> Float64Array:
    """What windows say for silence against speech in any language, whichever, shape (windows,).

    Of speech that sounds like no one language, silence may well be as likely as each of them. So
    it is silence whose probability is `least` that is as likely as a language by chance.
    """
    heard = np.array([window.probabilities[nonspeech] for window in windows])
    odds = np.maximum(heard, MIN_LIKELIHOOD) / np.maximum(1 - heard, MIN_LIKELIHOOD)
    logs: Float64Array = np.log(odds * (1 - least) / least)
    return np.clip(logs, np.log(MIN_LIKELIHOOD), -np.log(MIN_LIKELIHOOD))


def find_borders(
    windows: Sequence[Window],
    old: int | None,
    new: int | None,
    nonspeech: int | None,
    hop_s: float,
    other: int | None = None,
) -> Borders:
    """Divide windows between an answer and the next one.

    Parameters
    ----------
    windows : sequence of Window
        Short ones, a hop apart, of the time in which the change must have been; at least one.
    old, new : int or None
        Index of the class before and behind; None where that may be anything.
    nonspeech : int or None
        Index of that class.
    hop_s : float
    other : int, optional
        Index of the class of all languages that are not expected.

    Returns
    -------
    Borders
        In stream time.
    """
    # What is as likely as any class by chance speaks for none.
    neither = np.full(len(windows), -np.log(len(windows[0].probabilities)))  # (windows,)
    quiet, silence, between = np.zeros(len(windows), bool), neither, neither
    if nonspeech is not None:
        least = SILENCE if nonspeech in (old, new) else SILENCE_BETWEEN
        silence = neither + _silence(windows, nonspeech, least)
        if old != nonspeech:
            quiet = silence > neither + TIE
        if nonspeech not in (old, new):
            between = np.maximum(silence, neither)

    def heard(answer: int | None) -> Float64Array:
        if answer is None:
            return between[:, None]
        return silence[:, None] if answer == nonspeech else heard_as(windows, answer, other)

    # One wild moment is in all windows over it: what it says against a class, and for one.
    moment = max(1.0, windows[-1].length_s / hop_s)
    first, last = _divide(
        heard(old),
        between,
        heard(new),
        quiet,
        -np.log(MIN_LIKELIHOOD) * moment,
        -neither[0] * moment,
    )
    if new is None:
        last = len(windows)
    pause, pause_end = _longest_run(quiet[first:last])
    first, pause_end = first + pause, first + pause_end
    if new is not None and old is not None and (last - pause_end) * hop_s < UNCLEAR_S:
        if new == nonspeech:
            first = pause_end = last  # whatever it is, it is speech
        else:
            last = pause_end

    def starts(index: int) -> float:
        """Where the first window begins that holds nothing but what follows."""
        return windows[index].start_s if index < len(windows) else windows[-1].end_s

    def ends(index: int) -> float:
        """Where the last window ends that holds nothing but what was before."""
        return windows[index].end_s - hop_s if index < len(windows) else windows[-1].end_s

    def turns(index: int) -> float:
        """The middle between two languages: windows go with the one that fills more of them."""
        if index == 0:
            return ends(0)
        return (windows[index - 1].start_s + windows[index - 1].end_s) / 2

    # Any speech in a window outweighs the silence in it.
    if old == nonspeech:
        old_end_s = ends(first)
    elif pause_end > first or new == nonspeech:
        old_end_s = starts(first)
    else:
        old_end_s = turns(first)
    pause_end_s = ends(pause_end) if pause_end > first else old_end_s
    if pause_end_s - old_end_s < PAUSE_S:
        old_end_s = pause_end_s = (old_end_s + pause_end_s) / 2
    if last == pause_end and old is not None:
        new_start_s = pause_end_s
    elif new == nonspeech:
        new_start_s = starts(last)
    elif old is None or old == nonspeech:
        new_start_s = ends(last)
    else:
        new_start_s = turns(last)
    pause_end_s = max(old_end_s, pause_end_s)
    return Borders(old_end_s, pause_end_s, max(pause_end_s, new_start_s))


def _longest_run(quiet: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest stretch without a break begins and ends; (0, 0) where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    best = int((ends - begins).argmax())
    return int(begins[best]), int(ends[best])


def _divide(
    old: Float64Array,
    between: Float64Array,
    new: Float64Array,
    quiet: NDArray[np.bool_],
    switch: float,
    pause: float,
) -> tuple[int, int]:
    """Best division into old, between and new.

    Parameters
    ----------
    old, new : ndarray, shape (windows, classes)
        Log-likelihood of each window under each class that it may be.
    between : ndarray, shape (windows,)
    quiet : ndarray of bool, shape (windows,)
        Which of them hear a pause.
    switch : float
        Price of going over from one of the classes to another, with or without a pause.
    pause : float
        Price of going on with the same one behind a pause.

    Returns
    -------
    (int, int)
        Index of the first window that is not old, and of the first that is new.
    """
    longer_old = _best_sums(old - between[:, None], quiet, switch, pause)
    longer_new = _best_sums((new - between[:, None])[::-1], quiet[::-1], switch, pause)[::-1]
    last = int((np.maximum.accumulate(longer_old) + longer_new).argmax())
    return int(longer_old[: last + 1].argmax()), last


def _best_sums(
    gains: Float64Array, quiet: NDArray[np.bool_], switch: float, pause: float
) -> Float64Array:
    """Most that the first windows can gain, for each number of them.

    Parameters
    ----------
    gains : ndarray, shape (windows, classes)
        Of each window, by the class that it is taken for.
    quiet : ndarray of bool, shape (windows,)
        Which of them hear a pause: silence speaks against no class that goes on behind it.
    switch : float
        Price of going over to another class. Windows in between may be taken for none.
    pause : float
        Price of a pause of the same class.

    Returns
    -------
    ndarray, shape (windows + 1,)
    """
    gains = np.where(np.abs(gains) < TIE, 0.0, gains)
    if gains.shape[1] == 1:
        return _best_sums_of_one(gains[:, 0], quiet, pause)
    sums = np.zeros(len(gains) + 1)
    by_class, left = np.zeros(gains.shape[1]), -np.inf
    paused = gone = np.full(gains.shape[1], -np.inf)
    for index, (gain, is_quiet) in enumerate(zip(gains, quiet.tolist(), strict=True)):
        left = max(left, by_class.max() - switch)
        paused = np.maximum(paused, by_class - pause) if is_quiet else gone
        by_class = np.maximum(np.maximum(by_class, left) + gain, paused)
        sums[index + 1] = by_class.max()
    return sums


def _best_sums_of_one(gains: Float64Array, quiet: NDArray[np.bool_], pause: float) -> Float64Array:
    """The same of a single class: without a pause, the sums of its gains."""
    if not quiet.any():
        return np.concatenate([[0.0], np.cumsum(gains)])
    # In Python: on single numbers, numpy's calls cost more than the arithmetic.
    sums = [0.0]
    paused = -math.inf
    for gain, is_quiet in zip(gains.tolist(), quiet.tolist(), strict=True):
        paused = max(paused, sums[-1] - pause) if is_quiet else -math.inf
        sums.append(max(sums[-1] + gain, paused))
    return np.array(sums)
