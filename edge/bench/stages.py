"""Stopwatches around the stages of listening.

What is measured is the code that listens, not a copy of it: a watch stands around the calls that
a :class:`edge.listener.Listener` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.listener import Listener

Call = Callable[..., Any]
Around = Callable[[str, Call], Call]


def watch(listener: Listener, around: Around) -> None:
    """Put something around every call of a stage, from now on.

    Parameters
    ----------
    listener : Listener
    around : callable
        Takes a stage's name and the call that does its work, and gives the call to make instead.
    """
    for name, (owner, method) in listener.stages().items():
        setattr(owner, method, around(name, getattr(owner, method)))


def unwatch(listener: Listener) -> None:
    """Take away whatever stands around the calls of its stages."""
    for owner, method in listener.stages().values():
        vars(owner).pop(method, None)
