"""``edgelid service``: listen whenever the device is on, with systemd."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from edge.cli.options import Parser, path
from edge.outputs.stdout import Output

if TYPE_CHECKING:
    from edge.service.unit import Service


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    service = commands.add_parser("service", help="listen whenever the device is on, with systemd")
    actions = service.add_subparsers(required=True, metavar="ACTION")
    scope = Parser(add_help=False)
    of_whom = scope.add_mutually_exclusive_group()
    for name, meaning in (("user", "of this user"), ("system", "of the device (root's default)")):
        of_whom.add_argument(
            f"--{name}", dest="scope", action="store_const", const=name, help=f"service {meaning}"
        )
    install = actions.add_parser(
        "install", parents=[common, scope], help="write the unit, and start the service"
    )
    install.add_argument("--config", type=path, required=True, metavar="FILE", help="its settings")
    install.add_argument("--dry-run", action="store_true", help="only print the unit")
    install.set_defaults(run=run_service_install)
    uninstall = actions.add_parser(
        "uninstall", parents=[common, scope], help="stop the service, and delete the unit"
    )
    uninstall.set_defaults(run=run_service_uninstall)
    status = actions.add_parser("status", parents=[common, scope], help="how the service is")
    status.set_defaults(run=run_service_status)


def run_service_install(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service install``."""
    service = _service(options)
    if options.dry_run:
        text = service.unit(options.config)
        if options.json:
            output.record({"path": str(service.path), "unit": text})
        else:
            output.write(text)
        return 0
    _tell_done(options, output, service.install(options.config))
    return 0


def run_service_uninstall(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service uninstall``."""
    _tell_done(options, output, _service(options).uninstall())
    return 0


def run_service_status(options: argparse.Namespace, output: Output) -> int:
    """``edgelid service status``: the exit status is that of ``systemctl status``."""
    from edge.service.unit import NOT_INSTALLED, NOT_RUNNING

    found = _service(options).status()
    if options.json:
        output.record(found)
    else:
        for key, value in found.items():
            output.line(f"{key:<20} {value}")
    if found["LoadState"] == "not-found":
        return NOT_INSTALLED
    return 0 if found["ActiveState"] in ("active", "reloading") else NOT_RUNNING


def _service(options: argparse.Namespace) -> Service:
    from edge.service.unit import Service, default_scope

    return Service(options.scope or default_scope())


def _tell_done(options: argparse.Namespace, output: Output, sentence: str) -> None:
    if options.json:
        output.record({"done": sentence})
    else:
        output.line(sentence)
