"""How much processor time second opinions may take."""

from __future__ import annotations

from collections import deque

SPAN_S = 60.0
FEW = 10  # opinions a minute: a machine that cannot afford them is too slow for the share


class Budget:
    """A share of one core, over any minute.

    What the next answer will take is not known: for what there is to compute, it is expected to
    take as long as the longest so far. One that is expected to take more than all of a minute's
    share comes as seldom as keeps to the share, and what it takes is the new expectation: it may
    have been slow only once.

    Parameters
    ----------
    share : float
        Above 0, at most 1.
    expected_s : float
        Of the first answer about a whole window.
    """

    def __init__(self, share: float, expected_s: float) -> None:
        self._share = share
        self._expected_s = expected_s
        self._longest_s = 0.0
        self._spent: deque[tuple[float, float]] = deque()  # when, and how much
        self._last_s: float | None = None  # when something was spent, or first asked for

    def change(self, share: float) -> None:
        """Go on with another share."""
        self._share = share

    @property
    def is_scarce(self) -> bool:
        """Whether it is for fewer than `FEW` answers a minute."""
        return self._next_s() * FEW > self._share * SPAN_S

    def allows(self, now_s: float, work: float = 1.0) -> bool:
        """Whether another answer fits into the minute that ends now.

        Parameters
        ----------
        now_s : float
        work : float
            How much there is to compute for it, as a share of that for a whole window.
        """
        while self._spent and self._spent[0][0] <= now_s - SPAN_S:
            self._spent.popleft()
        if self._last_s is None:
            self._last_s = now_s
        next_s = work * self._next_s()
        if self._is_seldom(work):
            return now_s - self._last_s >= next_s / self._share
        return sum(took_s for _, took_s in self._spent) + next_s <= self._share * SPAN_S

    def spend(self, now_s: float, took_s: float, work: float | None = 1.0) -> None:
        """Take note of what an answer took until now, or, where it has no work, something else."""
        self._spent.append((now_s, took_s))
        self._last_s = now_s
        if work is not None:
            longest_s = 0.0 if self._is_seldom(work) else self._longest_s
            self._longest_s = max(longest_s, took_s / work)

    def _is_seldom(self, work: float) -> bool:
        """Whether an answer is expected to take more than a minute's share."""
        return work * self._next_s() > self._share * SPAN_S

    def _next_s(self) -> float:
        return self._longest_s or self._expected_s
