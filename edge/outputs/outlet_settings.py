"""The settings of an outlet, and what every outlet has to offer."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

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
    labels : tuple of str
        Classes of the model at the start, with languages that lessons have added.
    monitor : Monitor or None
        What those who look on read from.
    outlets : sequence of Running
        All that there are, as they come to be.
    """

    labels: tuple[str, ...]
    monitor: Monitor | None
    outlets: Sequence[Running]


@dataclass(frozen=True)
class OutletSettings(Keys):
    """The keys of an outlet, and what does its work.

    They are read whenever settings are, so they stand apart from the work, which is imported only
    where it is asked for.

    Attributes
    ----------
    switch : str
        The key that asks for the outlet, if it is not empty.
    module : str
        Where `check` and `open_outlet` are, as `OutletModule` has them.
    looks_on : bool
        Whether it shows what a `Monitor` knows, and what becomes of the others. It is then opened
        after them, and only where there is a monitor.
    """

    switch: ClassVar[str]
    module: ClassVar[str]
    looks_on: ClassVar[bool] = False

    @classmethod
    def asked_for(cls, settings: Self) -> bool:
        """Whether there shall be this outlet."""
        return bool(getattr(settings, cls.switch))

    @classmethod
    def work(cls) -> OutletModule:
        """What checks and opens it."""
        return cast(OutletModule, importlib.import_module(cls.module))


class OutletModule(Protocol):
    """What the module of an outlet offers; the settings are of its own kind."""

    def check(self, settings: Any) -> None:
        """Find out whether it can be used as it is set, as far as that shows without using it.

        Raises
        ------
        ConfigError
            If it cannot.
        """

    def open_outlet(self, settings: Any, surroundings: Surroundings) -> Running:
        """Set it up.

        Raises
        ------
        EdgelidError
            If it is configured wrongly, or needs a package that is missing.
        """
