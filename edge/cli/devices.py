"""``edgelid devices``: list the microphones."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from edge.cli.options import Parser
from edge.errors import EdgelidError
from edge.outputs.stdout import Output


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    devices = commands.add_parser("devices", parents=[common], help="list the microphones")
    devices.set_defaults(run=run_devices)


def run_devices(options: argparse.Namespace, output: Output) -> int:
    """``edgelid devices``."""
    from edge.audio.devices import list_devices, what_opens

    devices = list_devices()
    if not devices:
        raise EdgelidError("there is no device that can record: plug in a microphone.")
    for device in devices:
        opens = what_opens(device)
        if options.json:
            told = [{"rate_hz": rate, "channels": channels} for rate, channels in opens.items()]
            output.record({**dataclasses.asdict(device), "opens": told})
        else:
            mark = "*" if device.is_default else " "
            output.line(
                f"{mark} {device.index:>3}  {device.name}  ({device.host_api}, "
                f"{device.max_input_channels} channels, {device.default_rate_hz} Hz)"
            )
            rates = ", ".join(f"{rate} Hz x {'/'.join(map(str, n))}" for rate, n in opens.items())
            output.line(f"       opens at {rates}" if opens else "       does not open now")
    return 0
