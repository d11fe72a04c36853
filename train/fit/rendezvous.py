"""The meeting of a run's workers, before TensorFlow connects them.

TensorFlow waits for a missing worker for an hour, and cannot be interrupted while it does. So the
workers first say hello to the chief, at the address that its server will have, and begin together.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass

from edge.errors import EdgelidError

WAIT_S = 600.0  # for workers that still compute features, say
HELLO_S = 5.0  # for what is sent at once
RETRY_S = 0.5
LONGEST = 4096  # bytes of a line
GO, DIFFERS = b"go\n", b"differs\n"


class WorkerMissing(EdgelidError):
    """Another worker is not there, or no longer: to be tried again."""

    status = os.EX_TEMPFAIL


@dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    Attributes
    ----------
    addresses : tuple of str
        ``HOST:PORT`` of every one; the first is the chief.
    worker : int
        Which of them this process is.
    """

    addresses: tuple[str, ...]
    worker: int

    def address(self, worker: int) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.addresses[worker].rpartition(":")
        return host.strip("[]"), int(port)


def meet(cluster: Cluster, agreement: str, wait_s: float = WAIT_S) -> None:
    """Return in all workers at about the same time.

    Parameters
    ----------
    cluster : Cluster
    agreement : str
        What all must have in common.
    wait_s : float

    Raises
    ------
    EdgelidError
        If this worker's port is taken, or they disagree; as WorkerMissing, if not all come.
    """
    _, port = cluster.address(cluster.worker)
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise EdgelidError(
            f"cannot listen on port {port}, of TF_CONFIG: {error.strerror}"
        ) from error
    with server:
        if cluster.worker == 0:
            _gather(server, cluster, agreement, time.monotonic() + wait_s)
            return
    _report(cluster, agreement, time.monotonic() + wait_s)


def _gather(server: socket.socket, cluster: Cluster, agreement: str, deadline: float) -> None:
    """The chief's part: until all have come."""
    here: dict[int, socket.socket] = {}
    try:
        while missing := set(range(1, len(cluster.addresses))) - here.keys():
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                visitor, _ = server.accept()
            except TimeoutError as error:
                names = ", ".join(cluster.addresses[worker] for worker in sorted(missing))
                raise WorkerMissing(f"waited in vain for the worker at {names}") from error
            visitor.settimeout(HELLO_S)
            hello = _hello(visitor)
            if hello is None or hello[0] not in range(1, len(cluster.addresses)):
                visitor.close()  # a stranger
                continue
            worker, theirs = hello
            if worker in here:
                here.pop(worker).close()  # it began anew
            here[worker] = visitor
            if theirs != agreement:
                for each in here.values():
                    each.sendall(DIFFERS)
                raise EdgelidError(
                    f"the worker at {cluster.addresses[worker]} has another configuration, corpus, "
                    "software or options: start all with the same"
                )
        for each in here.values():
            each.sendall(GO)
        for each in here.values():
            each.recv(1)  # until they have hung up, or the port would stay in use for a minute
    except (ConnectionError, TimeoutError) as error:
        raise WorkerMissing("another worker has gone already") from error
    finally:
        for each in here.values():
            each.close()


def _hello(visitor: socket.socket) -> tuple[int, str] | None:
    try:
        with visitor.makefile("rb") as lines:
            told = json.loads(lines.readline(LONGEST))
        return int(told["worker"]), str(told["agreement"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _report(cluster: Cluster, agreement: str, deadline: float) -> None:
    """The other workers' part: until the chief says go."""
    hello = json.dumps({"worker": cluster.worker, "agreement": agreement}).encode() + b"\n"
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(cluster.address(0), min(left_s, HELLO_S)) as chief:
                chief.sendall(hello)
                chief.settimeout(left_s)
                with chief.makefile("rb") as lines:
                    answer = lines.readline(LONGEST)
        except OSError:
            answer = b""
        if answer == GO:
            return
        if answer == DIFFERS:
            raise EdgelidError(
                "the workers have different configurations, corpora, software or options: start "
                "all with the same"
            )
        time.sleep(RETRY_S)
    raise WorkerMissing(f"waited in vain for the chief at {cluster.addresses[0]}")
