"""``edgelid config``: the file of settings, explained and checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli.options import Parser, complain, path
from edge.errors import EdgelidError
from edge.outputs.stdout import Output

if TYPE_CHECKING:
    from edge.outputs.settings import Settings


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    config = commands.add_parser("config", help="the configuration file of `edgelid listen`")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser(
        "show", parents=[common], help="print a configuration of all defaults, each explained"
    )
    show.set_defaults(run=run_config_show)
    check = actions.add_parser(
        "check", parents=[common], help="tell all that is wrong with a configuration"
    )
    check.add_argument("file", type=path, metavar="FILE", help="the configuration")
    check.set_defaults(run=run_config_check)


def run_config_show(options: argparse.Namespace, output: Output) -> int:
    """``edgelid config show``."""
    from edge.outputs.settings import documented, reference

    if options.json:
        for row in reference():
            output.record(row)
    else:
        output.line(documented())
    return 0


def run_config_check(options: argparse.Namespace, output: Output) -> int:
    """``edgelid config check``: every problem, not only the first."""
    from edge.config import ConfigError
    from edge.outputs.settings import check_use, read_settings

    problems: list[str] = []
    try:
        settings = read_settings(options.file, {}, {})
        problems += _device_problems(settings, options.file)
        check_use(settings, str(options.file))
    except ConfigError as error:
        problems += error.problems
    if options.json:
        output.record({"path": str(options.file), "problems": problems})
    elif not problems:
        output.line(f"{options.file}: nothing is wrong.")
    for problem in problems:
        complain(problem)
    return ConfigError.status if problems else 0


def _device_problems(settings: Settings, file: Path) -> Iterator[str]:
    """A microphone that is named has to be there; whichever is the default may come later."""
    from edge.audio.devices import check_channel, find_device, list_devices

    if settings.input or not settings.device:
        return
    try:
        check_channel(find_device(settings.device, list_devices()), settings.channel or None)
    except EdgelidError as error:
        yield f"{file}: {error}"
