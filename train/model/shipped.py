"""The checkpoint that other languages begin with.

It is the network of convolutions that shipped before the compact model had attention. What becomes
of it in other languages has been tried and measured; of attention it has not.
"""

from __future__ import annotations

from pathlib import Path

import train

NAME = "shipped"  # which stands for its path in options
TRUNK = Path(train.__file__).parent / "checkpoints" / "edgelid-9-convolutions.npz"


def resolved(path: Path | None) -> Path | None:
    """What an option names: a path, or the shipped checkpoint by its name."""
    return TRUNK if path == Path(NAME) else path
