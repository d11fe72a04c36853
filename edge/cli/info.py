"""``edgelid info``: describe a model file."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.options import Parser, add_lessons, model_path, named_model
from edge.outputs.stdout import Output


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    tell = commands.add_parser("info", parents=[common], help="describe a model file")
    tell.add_argument(
        "model", nargs="?", type=named_model, metavar="MODEL", help="a file, or `large` or `xlarge`"
    )
    add_lessons(tell)
    tell.set_defaults(run=run_info)


def run_info(options: argparse.Namespace, output: Output) -> int:
    """``edgelid info``."""
    from edge.model.info import describe, table
    from edge.model.interpreter import open_file

    model, graphs = open_file(model_path(options))
    facts: dict[str, Any] = describe(model, graphs.runtime)
    if options.lessons is not None:
        from edge.lessons.book import read_book
        from edge.lessons.telling import told

        facts["lessons"] = told(options.lessons, read_book(options.lessons, model))
    if options.json:
        output.record(facts)
    else:
        for line in table(facts):
            output.line(line)
        if options.lessons is not None:
            from edge.lessons.telling import lines

            for line in lines(facts["lessons"]):
                output.line(line)
    return 0
