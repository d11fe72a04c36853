"""`edgelid bench` as people and programs meet it, and whatever they may get wrong."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

import edge.cli
from edge import __version__
from edge.bench import measure
from edge.bench.compare import compare, read_bench
from edge.bench.measure import ROUNDS, Wanted
from edge.bench.table import figure, table
from edge.bench.warn import warnings
from edge.cli import parser
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, ModelFile
from tests.edge.test_cli import ahead, sentence

Done = subprocess.CompletedProcess[str]
Edgelid = Callable[..., Done]


# --- the figures -----------------------------------------------------------------------------


def figures(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All figures of a document, with their places."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
    for name, each in items:
        yield from figures(each, f"{path}.{name}")


def test_programs_read_one_object(bench_run: tuple[Done, Path], document: dict[str, Any]) -> None:
    done, plot = bench_run
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert (document["format"], document["format_version"]) == ("edgelid bench", 1)
    assert document["edgelid"] == __version__
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
    assert [path.name for path in plot.parent.iterdir()] == ["plot.png"]


def test_what_was_measured(document: dict[str, Any], model: ModelFile) -> None:
    (run,) = document["runs"]
    assert run["model"]["sha256"] == model.sha256
    assert run["interpreter"]["threads"] == 1
    hop_s = run["hop_ms"] / 1e3
    hops = int((0.6 * SAMPLE_RATE_HZ - 240) // (hop_s * SAMPLE_RATE_HZ))
    assert run["audio_s"] == pytest.approx(hops * hop_s)
    assert run["whole"]["hops"] == sum(run["whole"]["histogram"]["hops"]) == ROUNDS * hops
    assert list(run["stages"]) == ["front_end", "step", "head", "decoder", "rest"]
    assert run["paced"]["hops"] == ROUNDS * hops
    assert 0 <= run["paced"]["deadline_misses"] <= ROUNDS * hops
    paced = run["paced"]
    assert paced["cpu_ms_per_audio_s"] == pytest.approx(1e3 * paced["core_share"], rel=1e-4)
    assert len(paced["rounds"]["times_flat_out"]) == ROUNDS
    flat_out_ms = run["whole"]["rounds"]["cpu_ms_per_audio_s"]
    for times, share, flat_ms in zip(
        *(paced["rounds"][name] for name in ("times_flat_out", "core_share")),
        flat_out_ms,
        strict=True,
    ):
        assert times == pytest.approx(1e3 * share / flat_ms, rel=1e-4)
    assert paced["times_flat_out"] in paced["rounds"]["times_flat_out"]
    assert paced["wakeups_per_audio_s"] in paced["rounds"]["wakeups_per_audio_s"]
    for cost in (run["whole"], run["watched"], *run["stages"].values()):
        wall = cost["wall_ms_per_hop"]
        assert wall["p99"] is None  # of so few hops
        assert 0 < wall["p50"] <= wall["p90"] <= wall["max"]
        assert cost["core_share"] == pytest.approx(cost["cpu_ms_per_audio_s"] / 1e3, rel=1e-4)
        assert cost["cpu_ms_per_audio_s"] in cost["rounds"]["cpu_ms_per_audio_s"]
        assert len(cost["rounds"]["cpu_ms_per_audio_s"]) == ROUNDS
    recomputation = run["recomputation"]
    assert recomputation["identical_answers"] == recomputation["answers"] > 0
    start = run["start"]
    assert 0 < start["import_s"] < start["first_decision_s"]
    assert start["first_decision_audio_s"] > 0.5
    assert 10_000_000 < start["resident_bytes"] <= start["peak_bytes"] * 1.01
    assert {"numpy", "edgelid"} <= set(start["installed_bytes"])
    assert "pytest" not in start["installed_bytes"]
    if start["install_bytes"] is not None:
        assert start["install_bytes"] == sum(start["installed_bytes"].values())


def test_every_figure_has_its_unit(document: dict[str, Any]) -> None:
    units = ("_ms", "_s", "_hz", "_bytes", "_share", "_cores", "_c", "_factor", "_hops", "_answers")
    counts = {"hops", "rounds", "cores", "threads", "format_version", "answers", "throttle_events"}
    counts |= {"deadline_misses"}
    for path, value in figures(document):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        parts = [part for part in path.split(".") if part]
        told = any(
            part in counts or part.endswith(units) or any(f"{unit}_per_" in part for unit in units)
            for part in parts
        )
        assert told or {"times_the_stream", "times_flat_out"} & {*parts}, path


def test_people_read_it_in_80_columns(document: dict[str, Any]) -> None:
    lines = table(document)
    assert max(map(len, lines)) <= 80
    for words in (
        "front end",
        "left on",
        "times as much",
        "deadlines",
        "recomputing",
        "resident",
        "posteriors identical",
    ):
        assert any(words in " ".join(lines[i : i + 2]) for i in range(len(lines))), words


def test_what_could_not_be_read_is_a_dash(document: dict[str, Any]) -> None:
    for holder in (
        document["machine"],
        document["state_before"],
        document["state_after"],
        *(run["start"] for run in document["runs"]),
    ):
        for name in holder:
            if name not in ("installed_bytes", "rounds", "kernel", "python", "numpy"):
                holder[name] = None
    document["load"].update(others_cores=None, stolen_cores=None)
    lines = table(document)
    rows = {line[:13].strip(): line[13:] for line in lines}
    assert rows["temperature"] == "– °C before, – °C after"
    assert rows["memory"] == "– resident, – at most"
    assert "None" not in "\n".join(lines)
    assert warnings(document) == [w for w in warnings(document) if "wait" in w]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (0.01234, "0.0123"),
        (9.9999, "10.0"),
        (12.345, "12.3"),
        (98765.4, "98765"),
    ],
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("load", "others_cores"), 0.7, "kept 0.70 cores busy"),
        (("load", "stolen_cores"), 0.3, "withheld 0.30 cores"),
        (("state_after", "throttling"), ["under_voltage"], "held back (under voltage)"),
        (("state_after", "throttle_events"), 3, "slowed down for its temperature"),
        (("state_after", "frequencies_hz"), [600_000_000] * 4, "fell from 1800 to 600 MHz"),
    ],
)
def test_what_spoils_the_figures_is_said(
    document: dict[str, Any], place: tuple[str, str], value: Any, words: str
) -> None:
    calm = {"throttling": [], "throttle_events": 2, "frequencies_hz": [1_800_000_000] * 4}
    document["state_before"].update(calm)
    document["state_after"].update(calm)
    document["load"].update(others_cores=0.0, stolen_cores=0.0)
    for run in document["runs"]:
        run["whole"].update(cpu_ms_per_audio_s=1.0, wall_ms_per_audio_s=1.0)
    assert warnings(document) == []
    document[place[0]][place[1]] = value
    (told,) = warnings(document)
    assert words in told


# --- several models, threads and hops --------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "PACED_S", 0.3)


@pytest.mark.slow
def test_several_setups(short: None, tmp_path: Path) -> None:
    copied = tmp_path / "copy.tflite"
    copied.write_bytes(DEFAULT_MODEL.read_bytes())
    said: list[str] = []
    found = measure.measure(
        Wanted([DEFAULT_MODEL, copied], seconds=0.6, threads=(1, 2), hops_ms=(160, 320)),
        said.append,
    )
    setups = [(run["model"]["path"], run["interpreter"]["threads"]) for run in found["runs"]]
    assert setups == list(itertools.product([str(DEFAULT_MODEL), str(copied)], (1, 2)))
    assert len(found["left_out"]) == 2
    assert "choose 160, which its graph fixes." in found["left_out"][0]
    assert any("2 threads" in words for words in said)
    assert max(map(len, table(found))) <= 80


def test_no_decision_is_no_figure(short: None, tmp_path: Path, speech: Float32Array) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, speech[:4_000], SAMPLE_RATE_HZ)
    found = measure.measure(Wanted([DEFAULT_MODEL], input=path, seconds=0.6), lambda words: None)
    start = found["runs"][0]["start"]
    assert start["first_decision_s"] is start["first_decision_audio_s"] is None
    assert start["peak_bytes"] > 0
    assert max(map(len, table(found))) <= 80


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing.tflite"], "'missing.tflite' does not exist: check the path."),
        (["SHORT"], "no TFLite model"),
        (["--input", "missing.wav"], "'missing.wav' does not exist: check the path."),
        (["--input", "notes.wav"], "is not audio"),
        (["--input", "SHORT"], "lasts 0.1 s, and one answer takes 0.175 s: give a longer"),
        (["--seconds", "0"], "--seconds 0 is not possible: choose 0.1 to 3600."),
        (["--seconds", "-1"], "--seconds -1 is not possible"),
        (["--seconds", "nan"], "--seconds nan is not possible"),
        (["--seconds", "inf"], "--seconds inf is not possible"),
        (["--seconds", "0.15"], "is shorter than one answer: choose at least 0.18."),
        (["--hop-ms", "80"], "--hop-ms 80 is not possible with the model"),
        (["--plot", "no/such/folder.png"], "cannot write no/such/folder.png"),
        (["--plot", "."], "has another ending: use .png."),
        (["--plot", "plot.svg"], "has another ending: use .png."),
        (["--plot", "folder.png"], "cannot write folder.png: it is a folder."),
    ],
)
def test_what_cannot_be_measured(
    edgelid: Edgelid, tmp_path: Path, speech: Float32Array, options: list[str], words: str
) -> None:
    soundfile.write(tmp_path / "short.wav", speech[:1_600], SAMPLE_RATE_HZ)
    (tmp_path / "notes.wav").write_text("Es war einmal ein Text.\n" * 100)
    (tmp_path / "folder.png").mkdir()
    files = sorted(tmp_path.iterdir())
    chosen = ["short.wav" if word == "SHORT" else word for word in options]
    done = edgelid("bench", "--json", *chosen, cwd=tmp_path)
    assert words in sentence(done)
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threads", "many"], "must be whole numbers, such as 1,2,4"),
        (["--threads", "0"], "must be from 1 to 64, not '0'"),
        (["--threads", "1,1000"], "must be from 1 to 64, not '1,1000'"),
        (["--hop-ms", "0"], "must be from 1 to 60000, not '0'"),
        (["--threads", ""], "must be whole numbers"),
        (["--hop-ms", "1.5"], "must be whole numbers"),
        (["--seconds", "long"], "invalid float value: 'long'"),
        (["compare", "A.json"], "the following arguments are required: FILE.json"),
        (["compare", "A.json", "B.json", "C.json"], "unrecognized arguments: C.json"),
        (["compare", "A.json", "B.json", "--plot", "x.png"], "unrecognized arguments: --plot"),
    ],
)
def test_wrong_usage(edgelid: Edgelid, options: list[str], words: str) -> None:
    done = edgelid("bench", *options)
    assert words in sentence(done, status=2)
    assert done.stdout == ""


@pytest.mark.slow
def test_a_full_disk(edgelid: Edgelid) -> None:
    with open("/dev/full", "w") as full:
        done = edgelid(
            *("bench", "--json", "--seconds", "0.2"),
            stdout=full,
            stderr=subprocess.PIPE,
            capture_output=False,
        )
    done.stdout = ""
    assert "standard output cannot be written (No space left on device)" in sentence(done)


def test_no_plots_is_said_before_the_work(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('matplotlib')")
    plot = tmp_path / "plot.png"
    done = edgelid("bench", "missing.tflite", "--plot", plot, env=ahead(environment, tmp_path))
    assert 'which --plot needs: pip install "edgelid[plot]".' in sentence(done)
    assert not plot.exists()


def test_both_commands_have_help() -> None:
    for words in (["bench"], ["bench compare"]):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([*words, "--help"])
        assert ended.value.code == 0


# --- compare ---------------------------------------------------------------------------------


@pytest.fixture
def saved(document: dict[str, Any], tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    def save(name: str, told: dict[str, Any]) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(told))
        return path

    return save


def slower(document: dict[str, Any]) -> dict[str, Any]:
    """On another machine, with a step that takes a thousand times as long."""
    other = copy.deepcopy(document)
    other["machine"]["cpu"] = "Cortex-A53"
    step = other["runs"][0]["stages"]["step"]
    step["cpu_ms_per_audio_s"] *= 1000
    step["rounds"]["cpu_ms_per_audio_s"] = [1000 * v for v in step["rounds"]["cpu_ms_per_audio_s"]]
    return other


def test_compare(edgelid: Edgelid, document: dict[str, Any], saved: Any) -> None:
    one, other = saved("A.json", document), saved("B.json", slower(document))
    done = edgelid("bench", "compare", "--json", one, other)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["differences"] == {"cpu": [document["machine"]["cpu"], "Cortex-A53"]}
    assert found["unpaired"] == [[], []]
    (pair,) = found["pairs"]
    rows = {row["name"].strip(): row for row in pair["figures"]}
    assert rows["step"]["ratio"] == pytest.approx(1000)
    assert rows["step"]["beyond_noise"] is True
    assert [row["beyond_noise"] for row in rows.values()].count(True) == 1
    assert rows["p99"]["one"] is rows["p99"]["ratio"] is None
    done = edgelid("bench", "compare", one, other)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert any(line.startswith("  step ") and line.endswith("1000  more") for line in lines)
    assert any("Cortex-A53 in B" in line for line in lines)
    names = (str(one), str(other))
    assert max(len(line) for line in lines if not line.endswith(names)) <= 80


def test_compare_with_a_bench_that_counted_no_wakeups(document: dict[str, Any], saved: Any) -> None:
    older = copy.deepcopy(document)
    paced = older["runs"][0]["paced"]
    for name in ("times_flat_out", "wakeups_per_audio_s"):
        del paced[name], paced["rounds"][name]
    found = compare(read_bench(saved("A", older)), read_bench(saved("B", document)))
    (pair,) = found["pairs"]
    rows = {row["name"].strip(): row for row in pair["figures"]}
    assert rows["times flat out"]["one"] is rows["times flat out"]["ratio"] is None
    assert rows["wake-ups a second"]["other"] > 0


def test_compare_pairs_equal_setups(edgelid: Edgelid, document: dict[str, Any], saved: Any) -> None:
    other = copy.deepcopy(document)
    second = copy.deepcopy(other["runs"][0])
    second["interpreter"]["threads"] = 4
    other["runs"] = [second, *other["runs"]]
    done = edgelid("bench", "compare", saved("A", document), saved("B", other), "--json")
    found = json.loads(done.stdout)
    (pair,) = found["pairs"]
    assert pair["differences"] == {}
    assert found["unpaired"] == [[], ["edgelid-9, 160 ms, 4 threads"]]


def damaged(document: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Contents that are no output of a bench, or not quite."""
    yield "empty", b""
    yield "text", b"Es war einmal ein Text.\n"
    yield "binary", bytes(range(256))
    yield "list", b"[1, 2]"
    yield "another object", b'{"type": "segment"}'
    yield "deep", b"[" * 100_000
    whole = json.dumps(document).encode()
    yield "truncated", whole[: len(whole) // 2]
    for place in ("machine", "load", "runs", "input", "warnings"):
        yield f"without {place}", json.dumps({**document, place: None}).encode()
    nonsense = copy.deepcopy(document)
    nonsense["runs"][0]["whole"]["wall_ms_per_hop"]["p50"] = "fast"
    yield "a word for a figure", json.dumps(nonsense).encode()
    nonsense["runs"][0]["whole"]["wall_ms_per_hop"]["p50"] = float("nan")
    yield "no number", json.dumps(nonsense).encode()
    for place, value in (
        ("start.peak_bytes", math.inf),
        ("start.resident_bytes", math.inf),
        ("paced.deadline_misses", math.inf),
        ("recomputation.window_alone.times_the_stream", {}),
    ):
        incomplete = copy.deepcopy(document)
        *way, last = place.split(".")
        functools.reduce(dict.__getitem__, way, incomplete["runs"][0])[last] = value
        yield f"{value} for {place}", json.dumps(incomplete).encode()


def test_compare_refuses_what_is_no_bench(
    document: dict[str, Any],
    saved: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = saved("good.json", document)
    for name, data in damaged(document):
        path = tmp_path / "bad.json"
        path.write_bytes(data)
        assert edge.cli.main(["bench", "compare", str(good), str(path)]) == 1, name
        printed = capsys.readouterr()
        assert printed.out == "", name
        assert "bad.json' is no output of a bench: make one with" in printed.err, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.json", "does not exist: check the path."),
        (".", "is a folder: give a file."),
        ("pipe", "is no regular file: give a file."),
        ("newer.json", "has format version 2, and this edgelid reads 1: measure again."),
    ],
)
def test_compare_cannot_read(
    edgelid: Edgelid, document: dict[str, Any], saved: Any, tmp_path: Path, name: str, words: str
) -> None:
    good = saved("good.json", document)
    saved("newer.json", {**document, "format_version": 2})
    os.mkfifo(tmp_path / "pipe")
    assert words in sentence(edgelid("bench", "compare", good, tmp_path / name))


def test_an_interrupt_ends_it(environment: dict[str, str]) -> None:
    """At once, and without a word."""
    script = (
        "import edge.bench.measure, os, signal, edge.cli, sys\n"
        "edge.bench.measure._warm_up = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(edge.cli.main(['bench']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
