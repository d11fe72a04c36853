"""What a service could do beyond its work: run in the guest, as a unit with the sandbox of ours."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KERNEL = {"proc", "sys"}  # where there is nothing to store
CLONE_NEWUSER = 0x10000000


def main() -> None:
    """Print one JSON object: folders that can be written to, and what else succeeded."""
    system = ctypes.CDLL(None, use_errno=True)

    def raising(status: int) -> None:
        if status < 0:
            raise OSError(ctypes.get_errno(), "refused")

    tried: dict[str, Callable[[], Any]] = {
        "IPv4": lambda: socket.socket(socket.AF_INET),
        "IPv6": lambda: socket.socket(socket.AF_INET6),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "UNIX sockets": lambda: socket.socket(socket.AF_UNIX),
        "home": lambda: os.listdir("/home/pi"),
        "root's home": lambda: os.listdir("/root"),
        "processes of others": lambda: Path("/proc/1/cmdline").read_bytes(),
        "disk": lambda: os.open("/dev/vda", os.O_RDONLY),
        "kernel's log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
        "kernel's settings": lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "microphone": lambda: os.open("/dev/snd/pcmC0D0c", os.O_RDWR | os.O_NONBLOCK),
        "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "user namespace": lambda: raising(system.unshare(CLONE_NEWUSER)),
        "priority": lambda: os.nice(-5),
        "another user": lambda: os.setuid(0),
        "bounds of a child": lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    }
    can = []
    for name, attempt in tried.items():
        with contextlib.suppress(OSError):
            attempt()
            can.append(name)
    print(json.dumps({"writes": sorted(_writable()), "can": sorted(can)}))


def _writable() -> list[str]:
    found = []
    for folder, folders, _ in os.walk("/"):
        if folder == "/":
            folders[:] = set(folders) - KERNEL
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder):
            found.append(folder)
    return found


if __name__ == "__main__":
    main()
