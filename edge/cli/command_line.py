"""The command line of ``edgelid``: its grammar, and the exit status of whatever happens."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from edge import __version__
from edge.cli import (
    bench,
    classify,
    config,
    devices,
    info,
    listen,
    report,
    schema,
    service,
    teach,
    wyoming,
)
from edge.cli.options import Log, Messages, Parser, complain
from edge.cli.signals import Stopped, die_of
from edge.errors import EdgelidError
from edge.outputs.stdout import standard_output
from edge.system.native_stderr import log_stream

# In the order of `edgelid --help`.
COMMANDS = (listen, classify, teach, devices, info, report, schema, bench, config, service, wyoming)


def parser() -> Parser:
    """The grammar of the command line."""
    top = Parser(
        prog="edgelid", description="Tells which language is being spoken, on this device."
    )
    top.add_argument("--version", action="version", version=f"edgelid {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="newline-delimited JSON")
    common.add_argument("--verbose", action="store_true", help="say more on standard error")
    for command in COMMANDS:
        command.add(commands, common)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        with standard_output() as output:
            words = sys.argv[1:] if arguments is None else arguments
            options = parser().parse_args(bench.joined(words))
            log = Log(log_stream())
            log.setFormatter(Messages())
            level = logging.INFO if options.verbose else logging.WARNING
            logging.basicConfig(level=level, handlers=[log])
            return int(options.run(options, output))
    except EdgelidError as error:
        complain(str(error))
        return error.status
    except Stopped as stopped:
        return die_of(stopped.number)
    except KeyboardInterrupt:
        return die_of(signal.SIGINT)
    except BrokenPipeError:
        return die_of(signal.SIGPIPE)
