"""A run depends on how many parts a batch has, not on which device or process computed which."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.fit import rendezvous
from train.fit.rendezvous import Cluster, WorkerMissing, meet
from train.model.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[3]
STEPS = 24


def ports(count: int) -> list[int]:
    """Ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return found


def cluster(count: int) -> list[str]:
    """Values of ``TF_CONFIG``."""
    workers = [f"127.0.0.1:{port}" for port in ports(count)]
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}})
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "told",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a", "b:2"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:0", "b:2"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_broken_cluster(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.fit.distributed import cluster_of_environment

    monkeypatch.setenv("TF_CONFIG", told)
    with pytest.raises(EdgelidError, match="TF_CONFIG is not understood: it must be such as"):
        cluster_of_environment()


def test_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    from train.fit.distributed import cluster_of_environment

    def told(jobs: dict[str, list[str]], kind: str, index: int) -> Cluster | None:
        text = json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
        monkeypatch.setenv("TF_CONFIG", text)
        return cluster_of_environment()

    assert told({"worker": ["a:1", "b:2"]}, "worker", 1) == Cluster(("a:1", "b:2"), 1)
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    assert told(jobs, "chief", 0) == Cluster(("c:3", "a:1", "b:2"), 0)
    assert told(jobs, "worker", 1) == Cluster(("c:3", "a:1", "b:2"), 2)
    assert told({"worker": ["a:1"]}, "worker", 0) is None
    monkeypatch.delenv("TF_CONFIG")
    assert cluster_of_environment() is None


def met(plans: list[str], wait_s: float = 20.0, addresses: list[str] | None = None) -> list[Any]:
    """What became of workers that meet, one for each plan."""
    addresses = addresses or [f"127.0.0.1:{port}" for port in ports(len(plans))]
    results: list[Any] = [None] * len(plans)

    def work(worker: int) -> None:
        try:
            meet(Cluster(tuple(addresses), worker), plans[worker], wait_s)
            results[worker] = "met"
        except EdgelidError as error:
            results[worker] = error

    threads = [threading.Thread(target=work, args=(i,)) for i, p in enumerate(plans) if p]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_workers_meet() -> None:
    assert met(["plan"] * 3) == ["met"] * 3


def test_workers_disagree() -> None:
    for error in met(["one", "other"]):
        assert "start all with the same" in str(error)
        assert error.status == 1


def test_workers_do_not_come() -> None:
    chief, _ = met(["plan", ""], 0.5)
    assert isinstance(chief, WorkerMissing)
    assert str(chief).startswith("waited in vain for the worker at 127.0.0.1:")
    _, other = met(["", "plan"], 0.5)
    assert isinstance(other, WorkerMissing)
    assert str(other).startswith("waited in vain for the chief at 127.0.0.1:")
    assert chief.status == other.status == os.EX_TEMPFAIL


def test_strangers_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "HELLO_S", 0.2)
    addresses = [f"127.0.0.1:{port}" for port in ports(2)]
    port = int(addresses[0].rpartition(":")[2])

    def intrude() -> None:
        for said in (b"GET / HTTP/1.0\r\n\r\n", b'{"worker": 7, "agreement": "plan"}\n', b""):
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port)) as stranger:
                        stranger.sendall(said)
                        assert not stranger.recv(10)
                    break
                except ConnectionError:
                    pass

    results: list[Any] = []
    chief = threading.Thread(
        target=lambda: results.extend(met(["plan", ""], 30.0, addresses)), daemon=True
    )
    chief.start()
    intrude()
    meet(Cluster(tuple(addresses), 1), "plan", 20.0)
    chief.join()
    assert results[0] == "met"


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EdgelidError, match=f"cannot listen on port {port}, of TF_CONFIG"):
            meet(Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0), "plan")


def python(*code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *code],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


MIRRORED = """
import dataclasses, sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from train.config import read_config
from train.fit.distributed import Devices
from train.fit.sampling import Batch
from train.fit.trainer import Trainer

config = read_config(sys.argv[1])
clips, frames = config.optimiser.batch_clips // 2, int(config.optimiser.clip_s * 100)


def part(step, number):
    rng = np.random.default_rng([step, number])
    labels = rng.integers(0, 4, clips).astype(np.int32)
    return Batch(
        rng.normal(size=(clips, frames, config.front_end.mels)).astype(np.float32),
        labels,
        (rng.random((clips, 4, frames // 4)) < 0.5).astype(np.float32),
        rng.integers(0, 9, (clips, frames // 4)).astype(np.int32),
        np.ones((clips, frames // 4), np.float32),
    )


def trained(devices, accumulation, precision, frozen):
    plan = dataclasses.replace(
        config.optimiser, accumulation=accumulation, teacher_weight=0.0 if frozen else 1.0
    )
    run = dataclasses.replace(config, optimiser=plan)
    trainer = Trainer(run, 0 if frozen else 9, devices, precision, frozen)
    before = [w.numpy() for w in trainer.weights]
    losses = []
    for step in range(5):
        figures = trainer.step([part(step, number) for number in range(2)])
        losses.append([float(figure) for figure in figures])
    moved = [not np.array_equal(a, w.numpy()) for a, w in zip(before, trainer.weights)]
    assert all(moved[len(trainer.trunk.weights):])
    assert all(moved) != frozen and any(moved[:len(trainer.trunk.weights)]) != frozen
    return losses, trainer


mirrored = Devices(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for precision, frozen in (("float32", False), ("mixed_float16", True)):
    one, alone = trained(Devices(), 2, precision, frozen)
    two, both = trained(mirrored, 1, precision, frozen)
    np.testing.assert_allclose(two, one, rtol=1e-5)
    found, wanted = both.state(), alone.state()
    assert found.keys() == wanted.keys() and int(both.done.numpy()) == 5
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    both.restore(wanted, 5)
print("the same")
"""


@pytest.mark.slow
def test_two_devices_as_one(tiny_toml: Path) -> None:
    process = python("-c", MIRRORED, str(tiny_toml))
    out, error = process.communicate(timeout=300)
    assert out == "the same\n", error


class Runs:
    """Runs of one plan, in processes of their own."""

    def __init__(self, toml: Path, corpus: Path, cache: Path) -> None:
        self.toml, self.corpus, self.cache = toml, corpus, cache

    def start(self, run: Path, told: str = "") -> subprocess.Popen[str]:
        options = ["--run", str(run), "--corpus", str(self.corpus), "--cache", str(self.cache)]
        command = ["-m", "train.cli", "fit", str(self.toml), *options, "--workers", "1"]
        return python(*command, TF_CONFIG=told)


@pytest.fixture
def runs(tiny_toml: Path, tiny_corpus: Path, tiny_cache: Path, tmp_path: Path) -> Runs:
    toml = tmp_path / "run.toml"
    text = tiny_toml.read_text().replace("steps = 120\n", f"steps = {STEPS}\n")
    toml.write_text(text.replace("evaluate_every_steps = 40", "evaluate_every_steps = 4"))
    return Runs(toml, tiny_corpus, tiny_cache)


def finished(*processes: subprocess.Popen[str]) -> list[str]:
    """What processes that succeed print."""
    ended = [process.communicate(timeout=300) for process in processes]
    for process, (_, error) in zip(processes, ended, strict=True):
        assert process.returncode == 0, error
    return [out for out, _ in ended]


def saved(run: Path) -> int:
    """When the run was last saved."""
    last = run / "last.npz"
    return last.stat().st_mtime_ns if last.exists() else 0


def assert_the_same(run: Path, other: Path) -> None:
    one, two = load_checkpoint(run / "last.npz"), load_checkpoint(other / "last.npz")
    assert one.step == two.step == STEPS
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_allclose(two.arrays[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_workers_as_one(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And if one is killed, the other ends; started again, both end with the same."""
    alone, undisturbed, disturbed = (tmp_path / name for name in ("alone", "both", "disturbed"))
    text = runs.toml.read_text()
    runs.toml.write_text(text.replace("batch_clips = 16", "batch_clips = 16\naccumulation = 2"))
    finished(runs.start(alone))
    runs.toml.write_text(text)
    told = cluster(2)
    chief, other = finished(*(runs.start(undisturbed, each) for each in told))
    assert chief.splitlines()[-1].startswith("best checkpoint: step ")
    assert other == "done: the chief has the checkpoints\n"
    assert_the_same(alone, undisturbed)

    told = cluster(2)
    for killed in (0, 1):
        before = saved(disturbed)
        workers = [runs.start(disturbed, each) for each in told]
        while saved(disturbed) == before:
            assert workers[0].poll() is None
            time.sleep(0.01)
        workers[killed].send_signal(signal.SIGKILL)
        _, error = workers[1 - killed].communicate(timeout=120)
        workers[killed].communicate()
        assert workers[1 - killed].returncode == os.EX_TEMPFAIL
        assert error.splitlines()[-1] == (
            "edgelid-train: another worker has gone: started again, all go on from the last "
            "checkpoint"
        )
    finished(*(runs.start(disturbed, each) for each in told))
    assert_the_same(undisturbed, disturbed)
