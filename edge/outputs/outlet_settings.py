"""What an outlet has to say of itself: which settings it takes, how to check and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edge.config import Keys

if TYPE_CHECKING:
    from edge.outputs.monitor import Monitor


class Running(Protocol):
    """An outlet at work.

    Attributes
    ----------
    name : str
        In messages and metrics.
    lost : int
        Messages that did not get through.
    """

    @property
    def name(self) -> str: ...

    @property
    def lost(self) -> int: ...

    def put(self, record: dict[str, Any]) -> None:
        """Hand over an event; never waits."""

    def close(self) -> None:
        """End within a moment, whatever hangs."""


@dataclass(frozen=True)
class Surroundings:
    """What an outlet may want to know besides its settings.

    Attributes
    ----------
    labels : callable
        Reads the model's classes.
    monitor : Monitor or None
        What those who look on read from.
    outlets : sequence of Running
        All that there are, as they come to be.
    """

    labels: Callable[[], tuple[str, ...]]
    monitor: Monitor | None
    outlets: Sequence[Running]


@dataclass(frozen=True)
class OutletSettings(Keys):
    """The keys of an outlet.

    They are read whenever settings are, so its module is light: what does the work is imported
    where it is checked or opened.

    Attributes
    ----------
    looks_on : bool
        Whether it shows what a `Monitor` knows, and what becomes of the others. It is then opened
        after them, and only where there is a monitor.
    """

    looks_on: ClassVar[bool] = False

    def asked_for(self) -> bool:
        """Whether there shall be this outlet."""
        raise NotImplementedError

    def check(self) -> None:
        """Find out whether it can be used as it is set, as far as that shows without using it.

        Raises
        ------
        ConfigError
            If it cannot.
        """

    def open(self, surroundings: Surroundings) -> Running:
        """Set it up.

        Raises
        ------
        EdgelidError
            If it is configured wrongly, or needs a package that is missing.
        """
        raise NotImplementedError
