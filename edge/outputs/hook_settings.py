"""Settings of the hook, the command that is run when the language changes."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config import key
from edge.outputs.outlet_settings import OutletSettings


@dataclass(frozen=True)
class HookSettings(OutletSettings):
    """See `edge.outputs.hooks`."""

    switch = "on_change"
    module = "edge.outputs.hooks"

    on_change: str = key(
        "",
        "Command to run, without a shell, when the language changes, for at most 10 s; in its "
        "arguments {language}, {previous}, {confidence}, {start_s}, {decided_s} and {time} are "
        'filled in. "" is none.',
        restart=True,
    )
