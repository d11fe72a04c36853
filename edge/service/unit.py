"""`edgelid listen` as a service of systemd, locked into what it needs."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import edge
from edge.audio.network import is_url
from edge.config import STATE_FOLDER, of_a_home
from edge.errors import EdgelidError
from edge.model.modelfile import path_of
from edge.model.parts import files_of
from edge.outputs.mqtt import CREDENTIAL as MQTT_CREDENTIAL
from edge.outputs.mqtt import broker_of
from edge.outputs.mqtt_settings import MQTT_PASSWORD_VARIABLE
from edge.outputs.settings import Settings, check_use, read_settings
from edge.outputs.web.address import parse_address
from edge.system.atomic import write_atomically

UNIT = "edgelid.service"
SYSTEM_UNITS = Path("/etc/systemd/system")
# By which a unit is known to be ours to replace and to remove.
MARK = "# Written by `edgelid service install`; `edgelid service uninstall` removes it.\n"
BOOTED = Path("/run/systemd/system")  # as sd_booted(3) finds out
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
LOWEST_PORT = 1_024  # of those that any user may have
NOT_INSTALLED = 4  # exit status, as that of `systemctl status`
NOT_RUNNING = 3
STATUS_KEYS = (
    "LoadState",
    "ActiveState",
    "SubState",
    "StatusText",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "MemoryCurrent",
    "ActiveEnterTimestamp",
)

# Each line costs the service something it does not need. docs/service.md tells what is left.
# ProtectSystem=strict leaves /dev writable, and with ProtectControlGroups, in systemd 252, /run.
_SANDBOX = """\
NoNewPrivileges=yes
PrivateMounts=yes
PrivateTmp=yes
ProtectSystem=strict
ReadOnlyPaths=/run -/dev/mqueue
ProtectHome={protect_home}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=
AmbientCapabilities=
UMask=0077
LimitCORE=0
"""

# Only the manager of the system can do these; a user's JACK shares memory in /dev/shm.
_SYSTEM_SANDBOX = """\
DynamicUser=yes
SupplementaryGroups=audio
StateDirectory=edgelid
StateDirectoryMode=0700
ReadOnlyPaths=-/dev/shm
DevicePolicy=closed
DeviceAllow=char-alsa rw
ProtectProc=invisible
"""

# Whether there is a network is up to the outputs that are asked for.
_NO_NETWORK = """\
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
"""
_NETWORK = """\
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
"""

_UNIT = """\
{mark}[Unit]
Description=edgelid, which tells the language being spoken
{after}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
Restart=on-failure
RestartSec=10
RestartPreventExitStatus=2 78
WatchdogSec=60
TimeoutStopSec=30
MemoryMax=256M
TasksMax=64
StandardOutput={output}
StandardError=journal
{sandbox}
[Install]
WantedBy={wanted_by}
"""


@dataclass(frozen=True)
class Service:
    """A service of the device, or of the user who asks.

    Attributes
    ----------
    scope : str
        ``system`` or ``user``.
    """

    scope: str

    @property
    def path(self) -> Path:
        """Where its unit is."""
        if self.scope == "system":
            return SYSTEM_UNITS / UNIT
        configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(configuration) / "systemd/user" / UNIT

    def unit(self, config: Path) -> str:
        """Text of the unit.

        Parameters
        ----------
        config : Path
            Configuration of `edgelid listen`.

        Raises
        ------
        ConfigError
            If there is something wrong with it.
        EdgelidError
            If the service could not do what it says.
        """
        config = config.absolute()
        settings = read_settings(config, {}, {})
        self._check(settings, config)
        check_use(settings, str(config))
        # -P: nothing is imported from the folder that the service happens to start in.
        words = [sys.executable, "-P", "-m", "edge.cli", "listen", "--config", str(config)]
        if self.scope == "system":
            needed = _needed(settings, config)
            in_home = any(_is_below(path, home) for path in needed for home in HOMES)
            sandbox = _SANDBOX.format(protect_home="read-only" if in_home else "yes")
            after, wanted_by = "After=sound.target\n", "multi-user.target"
            sandbox += _SYSTEM_SANDBOX
            sandbox += _network(settings)
            sandbox += _network_filter(settings)
            sandbox += _credentials(settings)
        else:
            after, wanted_by = "", "default.target"
            # Without PrivateUsers a user's manager can do none of this.
            sandbox = "PrivateUsers=yes\n"
            sandbox += _SANDBOX.format(protect_home="read-only")
            sandbox += _network(settings)
            sandbox += "".join(
                f"ReadWritePaths={_quoted(str(folder))}\n" for folder in _written(settings)
            )
        return _UNIT.format(
            mark=MARK,
            after=after,
            command=" ".join(map(_command_word, words)),
            # The journal keeps what it is told: what was spoken only if the file asks for it.
            output="journal" if settings.output == "json" else "null",
            sandbox=sandbox,
            wanted_by=wanted_by,
        )

    def install(self, config: Path) -> str:
        """Write the unit, and have the service run now and after every start of the device.

        Returns
        -------
        str
            What has been done, as a sentence.

        Raises
        ------
        EdgelidError
            If it cannot be.
        """
        text = self.unit(config)
        if self.scope == "system":
            for path in _needed(read_settings(config, {}, {}), config.absolute()):
                _check_readable_by_all(path)
        self._check_manager()
        before = self._installed()
        if before != text:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EdgelidError(
                    f"{self.path.parent} cannot be made ({error.strerror})."
                ) from error
            write_atomically(self.path, text.encode())
            self.path.chmod(0o644)
        self._manager("daemon-reload")
        self._manager("enable", UNIT)
        # Not waiting for it: it is ready once audio flows, and a microphone may come later.
        self._manager("start" if before == text else "restart", "--no-block", UNIT)
        done = {None: "is installed", text: "was installed already"}.get(
            before, "is installed anew"
        )
        return f"the {self.scope} service {done}, as {self.path}."

    def uninstall(self) -> str:
        """Stop the service and delete its unit; returns and raises as `install`."""
        if self._installed() is None:
            return f"the {self.scope} service is not installed: there is no {self.path}."
        self._check_manager()
        self._manager("disable", "--now", UNIT)
        try:
            self.path.unlink()
        except OSError as error:
            raise EdgelidError(f"{self.path} cannot be deleted ({error.strerror}).") from error
        self._manager("daemon-reload")
        return f"the {self.scope} service is stopped, and {self.path} deleted."

    def status(self) -> dict[str, str]:
        """What the manager says of it: `STATUS_KEYS` and their values; anyone may ask.

        Raises
        ------
        EdgelidError
            If there is no systemd.
        """
        self._check_manager()
        told = self._manager("show", UNIT, f"--property={','.join(STATUS_KEYS)}")
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return {key: found.get(key, "") for key in STATUS_KEYS}

    def _check(self, settings: Settings, config: Path) -> None:
        if settings.input and not is_url(settings.input):
            raise EdgelidError(
                f"{config}: a service listens to a microphone, or to a stream of a network: leave "
                "input empty, or give a URL."
            )
        if settings.record_to and not settings.record_in_service:
            raise EdgelidError(
                f"{config}: record_to would record everything that is heard, for as long as the "
                "service runs: leave it empty, or say record_in_service = true."
            )
        if self.scope == "system" and (homely := of_a_home(Settings, config)):
            raise EdgelidError(
                f"{config}: the system service has no home for ~ to mean: write out the path of "
                f"{', '.join(homely)}."
            )
        # Which root may try at the installation, and the service may not: it would fail for ever.
        if self.scope == "system" and settings.web:
            port = parse_address(settings.web).port
            if 0 < port < LOWEST_PORT:
                raise EdgelidError(
                    f"{config}: the system service may not have port {port} of web, as it is not "
                    f"root: give one from {LOWEST_PORT} on."
                )
        given = os.environ.get(MQTT_PASSWORD_VARIABLE)
        if settings.mqtt and given and not settings.mqtt_password_file:
            raise EdgelidError(
                f"{config}: a service does not have {MQTT_PASSWORD_VARIABLE} of your shell: write "
                "the password to a file, and name it as mqtt_password_file."
            )
        # Which is a link itself, once the service has run.
        places = STATE_FOLDER, Path(os.path.realpath(STATE_FOLDER))
        for folder in _written(settings):
            if self.scope == "system" and not any(_is_below(folder, place) for place in places):
                raise EdgelidError(
                    f"{config}: the system service can write nowhere but in {STATE_FOLDER}: "
                    "put log, record_to, web_token_file and, with learn, lessons there instead of "
                    f"{str(folder)!r}."
                )

    def _check_manager(self) -> None:
        if shutil.which("systemctl") is None or not BOOTED.is_dir():
            raise EdgelidError(
                "systemd does not run this device: have what does run it start `edgelid listen "
                "--config FILE`."
            )

    def _installed(self) -> str | None:
        """Text of the unit that is there.

        Raises
        ------
        EdgelidError
            If it is not ours.
        """
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise EdgelidError(f"{self.path} cannot be read: {error}.") from error
        if not text.startswith(MARK):
            raise EdgelidError(
                f"{self.path} was not written by `edgelid service install`: move it away first."
            )
        return text

    def _manager(self, *words: str) -> str:
        command = ["systemctl", f"--{self.scope}", "--no-ask-password", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = " ".join(done.stderr.split()).rstrip(".")
            raise EdgelidError(f"`{' '.join(command)}` failed: {reason or done.returncode}.")
        return done.stdout


def default_scope() -> str:
    """``system`` for root, and ``user`` for everyone else."""
    return "system" if os.geteuid() == 0 else "user"


def _needed(settings: Settings, config: Path) -> list[Path]:
    """Files that the service reads."""
    lessons = "" if settings.learn else settings.lessons  # which learning begins by itself
    names = [name for name in (settings.model, settings.second_opinion) if name]
    models = [part for name in names for part in files_of(path_of(name))]
    others = [Path(name) for name in (lessons, settings.mqtt_ca_file) if name]
    return [Path(sys.executable), Path(edge.__file__), config, *models, *others]


def _written(settings: Settings) -> Iterator[Path]:
    """Folders that the service writes to."""
    if settings.log:
        yield Path(settings.log).parent
    if settings.record_to:
        yield Path(settings.record_to)
    replaced = [settings.lessons if settings.learn else "", settings.web_token_file]
    for name in filter(None, replaced):
        yield Path(os.path.realpath(name)).parent  # a link is written where it leads to


def _network(settings: Settings) -> str:
    """Lines of the unit that take the network away, as far as no output needs it."""
    return _NETWORK if needs_network(settings) else _NO_NETWORK


def needs_network(settings: Settings) -> bool:
    """Whether the input or an output does."""
    return bool(settings.web or settings.mqtt or is_url(settings.input))


def _network_filter(settings: Settings) -> str:
    """What the manager of the system can add: with whom, and on which port."""
    lines = ""
    # A broker or a stream elsewhere has a name, and whom one asks for its address is up to the
    # network.
    is_elsewhere = bool(settings.mqtt) and not broker_of(settings.mqtt).is_here
    if not is_elsewhere and not is_url(settings.input):
        address = parse_address(settings.web) if settings.web else None
        if address is None or address.is_loopback:
            lines += "IPAddressDeny=any\n"
            lines += "IPAddressAllow=localhost\n" if needs_network(settings) else ""
    if settings.web and not settings.mqtt:  # whose library binds a port of its own, to wake up by
        port = parse_address(settings.web).port
        lines += f"SocketBindDeny=any\nSocketBindAllow={f'tcp:{port}' if port else 'tcp'}\n"
    return lines


def _credentials(settings: Settings) -> str:
    """What the manager of the system reads for the service, which need not be able to."""
    file = settings.mqtt_password_file
    if not settings.mqtt or not file:
        return ""
    return f"LoadCredential={MQTT_CREDENTIAL}:{file.replace('%', '%%')}\n"  # which takes no quotes


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


def _check_readable_by_all(path: Path) -> None:
    """Find out whether the service, which is a user of its own, can read a file.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    real = path.resolve()
    for part in {*path.parents, *real.parents, real}:
        wanted = stat.S_IXOTH if part.is_dir() else stat.S_IROTH
        if not part.stat().st_mode & wanted:
            raise EdgelidError(
                f"the system service is a user of its own, who cannot read {str(path)!r}, as "
                f"{str(part)!r} is closed to others: install edgelid elsewhere, as in /opt, or "
                "use --user."
            )


def _command_word(word: str) -> str:
    """A word of a command line, for systemd, which puts in variables nowhere else."""
    return _quoted(word.replace("$", "$$"))


def _quoted(word: str) -> str:
    """A path, for systemd."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w./+:=@,%-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
