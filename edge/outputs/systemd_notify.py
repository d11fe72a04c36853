"""Notifications to systemd of how the service is: sd_notify(3), a datagram of lines."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """What the service manager is told; without one, nothing happens.

    Parameters
    ----------
    environment : mapping of str to str
        In which the manager left the address of its socket, and the interval of its watchdog.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in no file system.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # A quarter of it: the manual recommends half, and a busy device may be late.
        self._interval_s = int(watchdog_us) / 4e6 if watchdog_us.isdecimal() and for_us else None
        self._alive_s = float("-inf")
        self._status = ""

    def ready(self) -> None:
        """Audio is flowing; also the end of a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a few words what is going on, if it is not what it was."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Keep the watchdog quiet; to be called whenever audio has been processed."""
        now_s = time.monotonic()
        if self._interval_s is not None and now_s - self._alive_s >= self._interval_s:
            self._alive_s = now_s
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.setblocking(False)
                speaker.sendto(state.encode(), self._address)
        except OSError as error:  # a manager that restarts is no reason to stop listening
            logger.debug("the service manager cannot be told %r: %s", state, error)
