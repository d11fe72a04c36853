"""``edgelid report``: what an event log tells of hours, days and weeks."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.options import Parser, path
from edge.outputs.stdout import Output


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    sheet = commands.add_parser(
        "report", parents=[common], help="make a page or a picture of event logs"
    )
    sheet.add_argument(
        "files", nargs="+", type=path, metavar="EVENTS", help="event logs or --json streams"
    )
    sheet.add_argument(
        "-o", "--output", type=path, required=True, metavar="FILE", help=".html or .png"
    )
    sheet.add_argument(
        "--skip-bad", action="store_true", help="leave out, and count, lines that are no events"
    )
    sheet.set_defaults(run=run_report)


def run_report(options: argparse.Namespace, output: Output) -> int:
    """``edgelid report``."""
    from edge.outputs.report.words import facts
    from edge.outputs.report.write import report, summary

    found = report(options.files, options.output, options.skip_bad)
    if options.json:
        output.record(summary(found))
    else:
        told = ", ".join(f"{figure} {what}" for figure, what in facts(found))
        output.line(f"{options.output}: {told}.")
    return 0
