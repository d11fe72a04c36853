"""``edgelid wyoming``: answer voice satellites."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.options import (
    SHARE_ALONE,
    Parser,
    add_gain,
    add_hold,
    add_second_opinion,
    add_second_opinion_share,
    complain,
    model_options,
    model_path,
)
from edge.errors import EdgelidError
from edge.outputs.stdout import Output


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    serve = commands.add_parser(
        "wyoming",
        parents=[common, model_options(threads=1)],
        help="answer voice satellites, of Home Assistant and others, over their protocol",
    )
    serve.add_argument(
        "--uri",
        default="tcp://127.0.0.1:10700",
        metavar="tcp://HOST:PORT",
        help="where (default: port 10700, for this device alone)",
    )
    add_hold(serve, 0.0)
    add_gain(serve)
    add_second_opinion(serve)
    add_second_opinion_share(serve)
    serve.set_defaults(run=run_wyoming)


def run_wyoming(options: argparse.Namespace, output: Output) -> int:
    """``edgelid wyoming``."""
    from edge.config import ListenSettings, gain_db
    from edge.opinion.expert import check_another

    try:
        from edge.wyoming_server import Wyoming
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "wyoming":
            raise
        raise EdgelidError(
            'the package wyoming is missing: pip install "edgelid[wyoming]".'
        ) from error

    if options.json:
        raise EdgelidError("satellites are answered over their protocol: leave out --json.")
    if options.second_opinion_share is not None and not options.second_opinion:
        raise EdgelidError(SHARE_ALONE)
    if options.second_opinion:
        check_another(options.second_opinion, model_path(options))
    server = Wyoming(
        options.uri,
        model_path(options),
        options.languages,
        options.threads,
        options.second_opinion or "",
        options.second_opinion_share or ListenSettings.second_opinion_share,
        options.threshold,
        options.hold,
        gain_db(options.gain),
    )
    server.run(lambda uri: complain(f"answering satellites at {uri}; Ctrl-C or SIGTERM ends it."))
    return 0
