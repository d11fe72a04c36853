"""Distribution of a run: over one device, all GPUs of a machine, or several machines.

A batch has ``parts``: as many as there are devices, times the parts that each computes one after
the other. Every part is drawn, and its dropout seeded, by its number; gradients and statistics
are means over the parts. So a run depends on how many parts there are, not on where each was.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from edge.errors import EdgelidError
from train.fit.rendezvous import Cluster, meet

CLUSTER_VARIABLE = "TF_CONFIG"
# Between the workers' meeting and their servers' connections; none of them is busy then.
CONNECT_S = 120
WORD = np.dtype(np.int64)  # in which bytes are shared: every device can add these


@dataclass(frozen=True)
class Devices:
    """What takes part in a run.

    Attributes
    ----------
    strategy : tf.distribute.Strategy
    workers : int
        Processes.
    worker : int
        Which of them this one is; 0 is the chief, who alone reads and writes the run's folder.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    workers: int = 1
    worker: int = 0

    @property
    def chief(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """Devices of all workers."""
        return int(self.strategy.num_replicas_in_sync)

    def part_numbers(self, accumulation: int) -> list[int]:
        """Parts of a batch that this process computes, device by device."""
        here = self.replicas // self.workers * accumulation
        return list(range(self.worker * here, (self.worker + 1) * here))

    def place(self, arrays: list[Any]) -> Any:
        """One value for each device of this process."""
        if len(arrays) == 1:
            return arrays[0]
        first = self.worker * len(arrays)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.nest.map_structure(
                tf.convert_to_tensor, arrays[context.replica_id_in_sync_group - first]
            )
        )

    def share(self, data: bytes) -> bytes:
        """What the chief has, on every worker."""
        if self.workers == 1:
            return data
        length = int(self._of_chief(np.array([len(data)], WORD))[0])
        words = np.zeros(-(-length // WORD.itemsize), WORD)
        if self.chief:
            words.view(np.uint8)[:length] = np.frombuffer(data, np.uint8)
        return self._of_chief(words).tobytes()[:length]

    def _of_chief(self, values: np.ndarray) -> np.ndarray:
        @tf.function  # type: ignore[untyped-decorator]
        def total(mine: Any) -> Any:
            def add(mine: Any) -> Any:
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group == 0
                return context.all_reduce(
                    tf.distribute.ReduceOp.SUM, tf.where(first, mine, tf.zeros_like(mine))
                )

            return self.strategy.run(add, (mine,))

        return np.asarray(self.strategy.experimental_local_results(total(values))[0])


def local_devices() -> Devices:
    """The GPUs of this machine, or its one device."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    return Devices(tf.distribute.MirroredStrategy(gpus)) if len(gpus) > 1 else Devices()


def open_devices(agreement: str) -> Devices:
    """Find the devices; with ``TF_CONFIG``, the other workers too.

    Parameters
    ----------
    agreement : str
        What all workers must have in common.

    Raises
    ------
    EdgelidError
        If ``TF_CONFIG`` is wrong, its port is taken, or workers do not come or do not agree.
    """
    cluster = cluster_of_environment()
    if cluster is None:
        return local_devices()
    meet(cluster, agreement)
    # TensorFlow waits for an hour, deaf to everything, for a worker that ended after the meeting.
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(CONNECT_S)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Devices(strategy, len(cluster.addresses), cluster.worker)


def cluster_of_environment() -> Cluster | None:
    """What ``TF_CONFIG`` says; None where it is not set, or names one worker.

    Raises
    ------
    EdgelidError
        If it is not what TensorFlow's documentation says.
    """
    text = os.environ.get(CLUSTER_VARIABLE)
    if not text:
        return None
    try:
        told = json.loads(text)
        jobs, task = told["cluster"], told["task"]
        kind, index = task["type"], int(task["index"])
        # TensorFlow numbers them in this order, and the first is the chief.
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
        unknown = sorted(set(jobs) - {"chief", "worker"})
        worker = index + (len(jobs.get("chief", [])) if kind == "worker" else 0)
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not 0 < int(port) < 65536:
                raise ValueError(address)
        if unknown or index < 0 or index >= len(jobs[kind]) or len(set(addresses)) < len(addresses):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EdgelidError(
            f"{CLUSTER_VARIABLE} is not understood: it must be such as "
            '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from error
    return Cluster(tuple(addresses), worker) if len(addresses) > 1 else None
