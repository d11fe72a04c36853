"""What a command that is run at every change takes."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config import key
from edge.outputs.outlet_settings import OutletSettings, Running, Surroundings


@dataclass(frozen=True)
class HookSettings(OutletSettings):
    """See `edge.outputs.hooks`."""

    on_change: str = key(
        "",
        "Command to run, without a shell, when the language changes, for at most 10 s; in its "
        "arguments {language}, {previous}, {confidence}, {start_s}, {decided_s} and {time} are "
        'filled in. "" is none.',
        restart=True,
    )

    def asked_for(self) -> bool:
        return bool(self.on_change)

    def check(self) -> None:
        from edge.outputs.hooks import command_words

        command_words(self.on_change)

    def open(self, surroundings: Surroundings) -> Running:
        from edge.outputs.hooks import Hook

        return Hook(self.on_change)
