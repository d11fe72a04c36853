"""A microphone without a sound card: a private PulseAudio whose null sink is the microphone.

The device ``pulse`` exists for PortAudio only if a server answers when it looks. Whatever records
must therefore run in a process of its own, started with `VirtualMicrophone.env`.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SINK_NAME = "virtmic"
SINK_RATE_HZ = 48_000
START_TIMEOUT_S = 20.0


class VirtualMicrophone:
    """A virtual microphone, until it is ended.

    Parameters
    ----------
    folder : Path
        For everything that the sound server writes.
    rate_hz, channels : int
        Of the microphone.

    Attributes
    ----------
    env : dict of str to str
        Environment for a process that shall record: its PortAudio device ``pulse`` hears what
        `play` plays.
    """

    def __init__(self, folder: Path, rate_hz: int, channels: int) -> None:
        self.env = _private_environment(folder)
        self._format = rate_hz, channels
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def daemon_pid(self) -> int:
        """Process id of the sound server."""
        assert self._daemon is not None
        return self._daemon.pid

    def start(self) -> None:
        """Run the sound server.

        Raises
        ------
        RuntimeError
            If it does not answer.
        """
        self._daemon = _start_daemon(self.env, *self._format)
        _wait_until_it_answers(self._daemon, self.env)
        self._run("pactl", "set-default-sink", SINK_NAME)
        self.make_default(SINK_NAME)

    def kill(self) -> None:
        """End the sound server at once, as a crash would."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def end(self) -> None:
        """End the sound server, if it runs."""
        if self._daemon is not None:
            _end(self._daemon)

    def play(self, wav: Path, name: str = SINK_NAME) -> None:
        """Play an audio file into the microphone and return when it has been played."""
        self._run("paplay", "--device", name, str(wav))

    def add(self, name: str) -> None:
        """Make another microphone like the first."""
        self._run("pactl", "load-module", "module-null-sink", f"sink_name={name}")

    def make_default(self, name: str) -> None:
        """Have the sound server take a microphone for the default one."""
        self._run("pactl", "set-default-source", f"{name}.monitor")

    def is_heard(self, name: str) -> bool:
        """Whether someone records from a microphone."""
        sources = self._run("pactl", "list", "short", "sources").splitlines()
        (index,) = (line.split()[0] for line in sources if line.split()[1] == f"{name}.monitor")
        streams = self._run("pactl", "list", "short", "source-outputs").splitlines()
        return index in (line.split()[1] for line in streams)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.env, check=True, timeout=120, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


def missing_packages() -> list[str]:
    """Names of the Debian packages that `virtual_microphone` needs and cannot find.

    Returns
    -------
    list of str
        Empty if everything is there.
    """
    plugin_folders = [Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-*")]
    found = {
        "libportaudio2": ctypes.util.find_library("portaudio") is not None,
        "pulseaudio": shutil.which("pulseaudio") is not None,
        "pulseaudio-utils": all(shutil.which(tool) for tool in ("pactl", "paplay")),
        "libasound2-plugins": any(
            (folder / "alsa-lib/libasound_module_pcm_pulse.so").exists()
            for folder in plugin_folders
        ),
        "util-linux": shutil.which("setpriv") is not None,
    }
    return [package for package, is_there in found.items() if not is_there]


@contextlib.contextmanager
def virtual_microphone(
    rate_hz: int = SINK_RATE_HZ, channels: int = 1
) -> Iterator[VirtualMicrophone]:
    """Run a private PulseAudio with a virtual microphone for the length of a ``with`` block.

    Everything it writes goes to a temporary folder. The daemon dies with the block, and with
    this process even if that is killed.

    Yields
    ------
    VirtualMicrophone

    Raises
    ------
    RuntimeError
        If the server does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="virtmic-") as folder:
        microphone = VirtualMicrophone(Path(folder), rate_hz, channels)
        try:
            microphone.start()
            yield microphone
        finally:
            microphone.end()


def _private_environment(folder: Path) -> dict[str, str]:
    env = dict(os.environ)
    for variable in ("XDG_RUNTIME_DIR", "HOME"):
        private = folder / variable.lower()
        private.mkdir(mode=0o700)
        env[variable] = str(private)
    env["PULSE_SERVER"] = f"unix:{env['XDG_RUNTIME_DIR']}/native"
    # These would lead PulseAudio's clients back to the server of the person at this machine.
    for variable in ("PULSE_RUNTIME_PATH", "PULSE_COOKIE", "XDG_CONFIG_HOME", "DISPLAY"):
        env.pop(variable, None)
    return env


def _start_daemon(env: dict[str, str], rate_hz: int, channels: int) -> subprocess.Popen[bytes]:
    # setpriv replaces itself by the daemon, so the process id is the daemon's; the kernel kills
    # it when the thread that started it ends, however that comes about.
    command = ["setpriv", "--pdeathsig", "KILL", "pulseaudio", "-n"]
    command += ["--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
    command += ["--disable-shm=yes", "--realtime=no", "--high-priority=no"]
    socket = env["PULSE_SERVER"].removeprefix("unix:")
    command += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    sink = f"sink_name={SINK_NAME} rate={rate_hz} channels={channels} format=s16le"
    command += ["-L", f"module-null-sink {sink}"]
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], env: dict[str, str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise RuntimeError(f"pulseaudio ended with status {daemon.returncode}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            asked = subprocess.run(
                ["pactl", "info"], env=env, capture_output=True, check=False, timeout=5
            )
            if asked.returncode == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"pulseaudio did not answer within {START_TIMEOUT_S:.0f} s")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=5)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
