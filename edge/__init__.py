"""Continuous spoken language identification on small devices.

For programs that embed it: `load_model`, `Listener`, `classify`, and the error they raise,
`EdgelidError`. Everything else is internal. What they need, numpy and an interpreter, is imported
when one of them is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.errors import EdgelidError
    from edge.interface import Listener, classify, load_model

__version__ = "0.1.0"
__all__ = ["EdgelidError", "Listener", "classify", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edge import interface

    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
