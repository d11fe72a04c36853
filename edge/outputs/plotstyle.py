"""How the plots of this project look, for matplotlib."""

from __future__ import annotations

import logging
from typing import Any

from edge.errors import EdgelidError

INK, NOTE, GREY, LIGHT = "#22303c", "#5b6774", "#7b8794", "#d9dee3"  # to read: the first two
COLOURS = ("#1f6f8b", "#b5651d", "#8a4f7d", "#6b8e23")  # of things side by side
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
# For whole sheets, whose parts have titles of their own.
LOOK: dict[str, Any] = {
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.fontsize": 9,
}
DPI = 150


def check_matplotlib(purpose: str, otherwise: str = "") -> None:
    """Find out whether there is one, before the work whose result it draws.

    Parameters
    ----------
    purpose : str
        What needs it.
    otherwise : str
        What can be done without it.

    Raises
    ------
    EdgelidError
        If there is none.
    """
    # It advises to set a variable where it cannot keep a cache, as in a home that is read-only.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise EdgelidError(
            f'matplotlib is missing, which {purpose} needs: pip install "edgelid[plot]"{otherwise}.'
        ) from error
