"""``edgelid info``: describe a model file."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.options import Parser, model_of, path
from edge.outputs.stdout import Output


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    tell = commands.add_parser("info", parents=[common], help="describe a model file")
    tell.add_argument("model", nargs="?", type=path, metavar="MODEL")
    tell.set_defaults(run=run_info)


def run_info(options: argparse.Namespace, output: Output) -> int:
    """``edgelid info``."""
    from edge.model.info import describe, table

    facts: dict[str, Any] = describe(model_of(options))
    if options.json:
        output.record(facts)
    else:
        for line in table(facts):
            output.line(line)
    return 0
