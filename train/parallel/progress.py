"""How far work is, on a terminal only: in a file, a bar would be thousands of lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from tqdm import tqdm

T = TypeVar("T")


@overload
def bar(items: Iterable[T], what: str = ..., total: int = ..., **options: Any) -> tqdm[T]: ...


@overload
def bar(items: None, what: str, total: int | None, **options: Any) -> tqdm[Any]: ...


def bar(
    items: Iterable[Any] | None,
    what: str | None = None,
    total: int | None = None,
    is_shown: bool = True,
    **options: Any,
) -> tqdm[Any]:
    """A bar on standard error, if that is a terminal.

    Parameters
    ----------
    items : iterable or None
        To go through; None where the caller says what is done.
    what : str, optional
        Before the bar.
    total : int, optional
        How many there are, where `items` does not tell.
    is_shown : bool
        Whether there is to be a bar at all.
    **options
        Of `tqdm.tqdm`.
    """
    # None has tqdm ask the stream whether it is a terminal.
    return tqdm(items, what, total, disable=None if is_shown else True, **options)
