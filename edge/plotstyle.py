"""How the plots of this project look, for matplotlib."""

from __future__ import annotations

from typing import Any

INK, GREY, LIGHT = "#22303c", "#7b8794", "#d9dee3"
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
