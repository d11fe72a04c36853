"""A Debian with a systemd of its own: a virtual machine, built once and thrown away after each use.

The guest has no network. What it needs of this checkout lies in a folder that it reads, and qemu's
guest agent runs commands in it. Time in it is counted in instructions: on a busy machine it passes
more slowly, and audio is no more lost there than anywhere. KVM could not do that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.arm64.emulated_pi import ROOT, makes_environments, new_environment, run

CACHE_VARIABLE = "EDGELID_VM"  # a folder to keep the image in, for the next time
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = (
    "linux-image-amd64",  # the kernel for clouds has no sound
    "systemd-sysv",
    "dbus-user-session",
    "libpam-systemd",
    "udev",
    "python3-venv",
    "libportaudio2",
    "alsa-utils",
    "pulseaudio",
    "libasound2-plugins",
    "qemu-guest-agent",
)
WHEEL_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
ENVIRONMENT = "/opt/edgelid"
SHARE = "/mnt"
USER = "pi"
# Run in the root that is being made, `$1`.
HOOKS = (
    f'chroot "$1" useradd --create-home --groups audio {USER}',
    'echo snd-aloop >"$1/etc/modules-load.d/microphone.conf"',
    'echo options snd-aloop pcm_substreams=1 >"$1/etc/modprobe.d/microphone.conf"',
    f'echo "share {SHARE} 9p ro,trans=virtio,version=9p2000.L" >>"$1/etc/fstab"',
    f'chroot "$1" python3 -m venv {ENVIRONMENT}',
    f'chroot "$1" sh -c "{ENVIRONMENT}/bin/pip install -q --no-index --no-deps /wheels/*.whl"',
    'rm -r "$1/wheels"',
)
IMAGE_BYTES = 3 << 30  # sparse
MEMORY_MB = 1024
LOG2_INSTRUCTION_NS = 2  # 250 million a second
TIMEOUT_S = 900.0  # whatever takes this long hangs
POLL_S = 0.1


def missing_packages() -> list[str]:
    """Names of the Debian packages that `guest` needs and cannot find."""
    found = {
        "mmdebstrap": shutil.which("mmdebstrap") is not None,
        "genext2fs": shutil.which("genext2fs") is not None,
        "qemu-system-x86": shutil.which("qemu-system-x86_64") is not None,
        "python3-venv": makes_environments(sys.executable),
    }
    return [package for package, is_there in found.items() if not is_there]


class Guest:
    """A virtual machine that has started.

    Parameters
    ----------
    agent : Path
        Socket of its guest agent, which answers once the guest has booted.
    """

    def __init__(self, agent: Path) -> None:
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.settimeout(TIMEOUT_S)
        self._agent.connect(str(agent))
        self._answers = self._agent.makefile("rb")
        self.ask("guest-ping")

    def ask(self, command: str, **arguments: Any) -> Any:
        """Have the agent do something; returns its answer.

        Raises
        ------
        RuntimeError
            If it cannot.
        """
        words = {"execute": command, "arguments": arguments}
        self._agent.sendall(json.dumps(words).encode() + b"\n")
        line = self._answers.readline()
        if not line:
            raise ConnectionError("the guest has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer["return"]

    def start(self, command: str) -> int:
        """Start a command of the shell as root; returns its process id in the guest."""
        words = {"path": "/bin/sh", "arg": ["-c", command], "capture-output": True}
        return int(self.ask("guest-exec", **words)["pid"])

    def wait(self, pid: int) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a command that was started."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not (status := self.ask("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"process {pid} of the guest does not end")
            time.sleep(POLL_S)
        out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
        code = status.get("exitcode", -status.get("signal", 0))
        return subprocess.CompletedProcess((), code, out.decode(), err.decode())

    def run(self, command: str, status: int | None = 0) -> str:
        """Run a command of the shell as root; returns its standard output.

        Raises
        ------
        AssertionError
            If it ends with another status than that one; None allows any.
        """
        done = self.wait(self.start(command))
        assert status in (None, done.returncode), f"`{command}`: {done}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        self.run(f"cat >{path} <<'END'\n{text}END")


@contextlib.contextmanager
def guest(folder: Path, share: Path) -> Iterator[Guest]:
    """Build an image if there is none yet, and run it for the length of a ``with`` block.

    Parameters
    ----------
    folder : Path
        Of the image, unless `CACHE_VARIABLE` names another; and of what comes of this run.
    share : Path
        What the guest sees as `SHARE`.

    Raises
    ------
    RuntimeError
        If it cannot be built, or does not start.
    """
    built = _image(Path(os.environ.get(CACHE_VARIABLE) or folder).resolve())
    console, agent = folder / "console", folder / "agent"
    command: list[str | Path] = ["qemu-system-x86_64", "-nodefaults", "-display", "none"]
    command += ["-accel", "tcg", "-cpu", "max", "-m", f"{MEMORY_MB}M", "-no-reboot"]
    command += ["-icount", f"shift={LOG2_INSTRUCTION_NS}", "-rtc", "clock=vm"]
    command += ["-kernel", built / "vmlinuz", "-initrd", built / "initrd.img"]
    command += ["-append", "root=/dev/vda rw console=ttyS0 panic=-1", "-serial", f"file:{console}"]
    command += ["-drive", f"file={built / 'image'},format=raw,if=virtio,snapshot=on"]
    option = "mount_tag=share,security_model=none,readonly=on"
    command += ["-virtfs", f"local,path={share},{option}"]
    command += ["-chardev", f"socket,path={agent},server=on,wait=off,id=agent"]
    command += ["-device", "virtio-serial"]
    command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    with subprocess.Popen(command) as machine:
        try:
            while machine.poll() is None and not agent.exists():
                time.sleep(POLL_S)
            try:
                found = Guest(agent)
            except OSError as error:
                told = console.read_text(errors="replace")[-3000:] if console.exists() else ""
                raise RuntimeError(f"the guest does not start: {error}\n{told}") from error
            yield found
        finally:
            machine.kill()


def _image(cache: Path) -> Path:
    """Folder of an image, its kernel and its initrd; built if it is not there yet."""
    recipe = repr((RELEASE, PACKAGES, HOOKS, (ROOT / "constraints/edge.txt").read_text()))
    built = cache / f"{RELEASE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if built.exists():
        return built
    unfinished = cache / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "wheels").mkdir(parents=True)
    python = new_environment(sys.executable, unfinished / "pip")
    options = ["--no-deps", f"--python-version={PYTHON}", "--implementation=cp"]
    options += [f"--platform={name}" for name in WHEEL_PLATFORMS]
    download = ["download", "--quiet", "--only-binary=:all:", "--dest", unfinished / "wheels"]
    run(python, "-m", "pip", *download, *options, "-r", ROOT / "constraints/edge.txt")
    hooks = [f"copy-in {unfinished / 'wheels'} /", *HOOKS]
    hooks += [f"download /{name} {unfinished / name}" for name in ("vmlinuz", "initrd.img")]
    image = unfinished / "image"
    command: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=apt", "--format=ext2"]
    command += [f"--include={','.join(PACKAGES)}"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    run(*command, RELEASE, image)
    os.truncate(image, IMAGE_BYTES)
    run("e2fsck", "-p", "-f", image)
    run("resize2fs", image)
    for waste in ("wheels", "pip"):
        shutil.rmtree(unfinished / waste)
    unfinished.rename(built)
    return built
