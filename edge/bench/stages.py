"""Stopwatches around the stages of listening.

What is measured is the code that listens, not a copy of it: a watch stands around the calls that
a :class:`edge.listener.Listener` makes, or a large model that is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Call = Callable[..., Any]
Around = Callable[[str, Call], Call]


class Staged(Protocol):
    """What works in stages: a `Listener`, or an `Expert`."""

    def stages(self) -> dict[str, tuple[object, str]]:
        """What does the work of each stage: an object, and the name of its method."""


def watch(staged: Staged, around: Around) -> None:
    """Put something around every call of a stage, from now on.

    Parameters
    ----------
    staged : Staged
    around : callable
        Takes a stage's name and the call that does its work, and gives the call to make instead.
    """
    for name, (owner, method) in staged.stages().items():
        setattr(owner, method, around(name, getattr(owner, method)))


def unwatch(staged: Staged) -> None:
    """Take away whatever stands around the calls of its stages."""
    for owner, method in staged.stages().values():
        vars(owner).pop(method, None)
