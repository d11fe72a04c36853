"""Where in a stream one answer ended and the next began.

That a language has changed is known seconds later than it happened. Once it is known, the two
languages are given, and the question left is an easier one: which of the short windows since then
speak for the old one, which for the new one, and which for neither. Short windows say little about
a language and much about a time.

The stretches follow one another, so that the best division of all is found by sums over the
windows (the Viterbi algorithm for three states from left to right; Rabiner 1989, section III.B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.classifier import Window
from edge.frontend import Float64Array

FINE_S = 0.5  # length of the windows that borders are found by
HISTORY_S = 16.0  # how far back a border may be
PAUSE_S = 0.5  # a shorter pause between two languages is no stretch of its own
# Speech between two languages that sounds like neither: the beginning of the new one, which takes
# time to show; unless it goes on for longer.
UNCLEAR_S = 3.0
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


def find_borders(
    windows: Sequence[Window], old: int | None, new: int | None, nonspeech: int | None, hop_s: float
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

    Returns
    -------
    Borders
        In stream time.
    """
    evidence = np.log(np.maximum([w.probabilities for w in windows], MIN_LIKELIHOOD))
    # What is as likely as any class by chance speaks for none.
    neither = np.full(len(windows), -np.log(evidence.shape[1]))  # (windows,)
    if nonspeech is None or nonspeech in (old, new):
        quiet, between = np.zeros(len(windows), bool), neither
    else:
        quiet = evidence[:, nonspeech] > neither + TIE
        between = np.maximum(evidence[:, nonspeech], neither)
    first, last = _divide(
        between if old is None else evidence[:, old],
        between,
        between if new is None else evidence[:, new],
    )
    if new is None:
        last = len(windows)
    found = np.flatnonzero(quiet[first:last])
    pause_end = first + int(found[-1]) + 1 if len(found) else first
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


def _divide(old: Float64Array, between: Float64Array, new: Float64Array) -> tuple[int, int]:
    """Best division into old, between and new.

    Parameters
    ----------
    old, between, new : ndarray, shape (windows,)
        Log-likelihood of each window under each.

    Returns
    -------
    (int, int)
        Index of the first window that is not old, and of the first that is new.
    """
    longer_old, later_new = (
        np.concatenate([[0.0], np.cumsum(np.where(np.abs(each) < TIE, 0.0, each))])
        for each in (old - between, between - new)
    )  # (windows + 1,)
    last = int((np.maximum.accumulate(longer_old) + later_new).argmax())
    return int(longer_old[: last + 1].argmax()), last
