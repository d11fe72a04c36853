"""Corpora as they are published, each read by a module of its own.

A module of this package named as in `NAMES` has ``LAYOUT``, the folders it looks for, and
``rows(root)``, which yields a `train.corpus.importers.row.Row` for every clip and a
`train.corpus.importers.row.Fault` for whatever it cannot make sense of. It opens no audio. If its
corpus may be packed, it has ``unpack`` as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.corpus.importers.row import Fault, Row

NAMES = (
    "common-language",
    "common-voice",
    "fleurs",
    "folders",
    "hugging-face",
    "librivox-kaggle",
    "mls",
    "voxforge",
    "voxlingua107",
)


class Importer(NamedTuple):
    """How to read a corpus.

    Attributes
    ----------
    rows
        From the root of the corpus to its clips and faults.
    layout
        What it looks for, for the message that nothing was found.
    unpack
        Takes what is packed below a root out into a folder, of the wanted languages (all if that
        is empty), with a call for every clip; returns whether there was anything. None where
        nothing is ever packed.
    """

    rows: Callable[[Path], Iterator[Row | Fault]]
    layout: str
    unpack: Callable[[Path, Path, set[str], Callable[[], object]], bool] | None = None


def importer(name: str) -> Importer:
    """The importer of one of `NAMES`; only now what it needs is loaded."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return Importer(module.rows, module.LAYOUT, getattr(module, "unpack", None))
