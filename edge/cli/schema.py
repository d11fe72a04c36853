"""``edgelid schema``: print the JSON Schema of the events."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge.cli.options import Parser
from edge.outputs.stdout import Output

EVENT_SCHEMA = Path(__file__).parents[1] / "schema" / "events.schema.json"


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    schema = commands.add_parser(
        "schema", parents=[common], help="print the JSON Schema of the events"
    )
    schema.set_defaults(run=run_schema)


def run_schema(options: argparse.Namespace, output: Output) -> int:
    """``edgelid schema``."""
    text = EVENT_SCHEMA.read_text(encoding="utf-8")
    if options.json:
        output.record(json.loads(text))
    else:
        output.write(text)
    return 0
