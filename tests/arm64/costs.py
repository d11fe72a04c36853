"""What listening costs emulated Raspberry Pis: counted, held to a budget, and told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from convert.flatbuffer import read_graphs
from edge.bench.measure import SAMPLE
from edge.model.interpreter import TRUNK_SIGNATURE
from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS, read_model
from tests.arm64.counting import Count, count, counting_plugin
from tests.arm64.emulated_pi import PROCESSORS, emulated_pi
from tests.arm64.matrixproduct import MACS, write_matrix_product
from train.corpus.cuts import read_audio

# What is held to the budget, and what of.
HELD_TO_THE_BUDGET = ("listening", "opinion", "xlarge_opinion")  # tasks
PER = {
    "instructions_per_s": "second of audio",
    "instructions_per_opinion": "second opinion",
    "instructions_per_xlarge_opinion": "second opinion of the extra-large model",
}
# Models that are asked, by what they are called.
OPINIONS = {"instructions_per_opinion": "large", "instructions_per_xlarge_opinion": "extra-large"}

BUDGET = Path(__file__).with_name("budget.json")
TOLERANCE = 0.01
CHANCE = 5_000  # instructions that a count may be off by: of what takes next to none, that is more
COMMAND = "python -m tests.arm64 --update"

MODEL_STAGES = ("step", "head")
TOTAL = "total"
WORKERS = 2

# Per second of audio.
MAX_INSTRUCTIONS = 70e6  # 7 % of a core of a Zero 2 W
MAX_OUTSIDE_THE_MODEL = 0.35
MAX_OPINION = {"cortex-a76": 1.5e9}  # instructions of one answer
# Times that recomputing at every so many milliseconds costs.
MIN_RECOMPUTING = {320: 8.0, 160: 15.0}
MAX_TRUNK_TO_MATRIX_PRODUCT = 2.0

Figures = dict[str, Any]


def measure(folder: Path) -> Figures:
    """Count everything.

    Parameters
    ----------
    folder : Path
        For what has to be built, as for :func:`tests.arm64.emulated_pi.emulated_pi`.

    Returns
    -------
    dict
        ``instructions_per_s`` are those of a second of audio, ``instructions_per_opinion`` of an
        answer of the large model about 3 s, ``instructions_per_xlarge_opinion`` of one of the
        extra-large model, by processor and stage.

    Raises
    ------
    RuntimeError
        If something cannot be built, or fails.
    """
    product = folder / "product.tflite"
    write_matrix_product(product)
    audio = _audio(folder)
    counts = _counts(
        folder,
        {
            **dict.fromkeys(HELD_TO_THE_BUDGET, audio),
            **dict.fromkeys(("recomputing", "recomputing_stream"), audio),
            "running": product,
        },
    )
    trunk_macs_per_s = _trunk_macs_per_s()
    return {
        **_held_to_the_budget(counts),
        "by_owner_per_s": {p: _by_owner(counts[p, "listening"]) for p in PROCESSORS},
        "outside_the_model": {p: _outside_the_model(counts[p, "listening"]) for p in PROCESSORS},
        "instructions_per_recomputed_window": {
            p: round(counts[p, "recomputing"].of()) for p in PROCESSORS
        },
        "instructions_per_recomputed_window_of_stream": {
            p: round(counts[p, "recomputing_stream"].of()) for p in PROCESSORS
        },
        "instructions_per_mac": {
            p: {
                "trunk": counts[p, "listening"].of(region="step") / trunk_macs_per_s,
                "matrix_product": counts[p, "running"].of() / MACS,
            }
            for p in PROCESSORS
        },
    }


def measure_budget(folder: Path) -> Figures:
    """Count what `against_budget` compares, and nothing else; otherwise like `measure`."""
    return _held_to_the_budget(_counts(folder, dict.fromkeys(HELD_TO_THE_BUDGET, _audio(folder))))


def _audio(folder: Path) -> Path:
    """The sample, as a guest can read it."""
    path = folder / "audio.npy"
    np.save(path, read_audio(SAMPLE))
    return path


def _counts(folder: Path, tasks: dict[str, Path]) -> dict[tuple[str, str], Count]:
    """What tasks take on every processor, by processor and task, given what each is to read."""
    pi, plugin = emulated_pi(folder), counting_plugin(folder)
    runs = [(processor, task) for processor in PROCESSORS for task in tasks]
    with ThreadPoolExecutor(WORKERS) as pool:
        counted = pool.map(lambda run: count(pi, plugin, *run, tasks[run[1]]), runs)
        return dict(zip(runs, counted, strict=True))


def _held_to_the_budget(counts: dict[tuple[str, str], Count]) -> Figures:
    return {
        "model_sha256": read_model(DEFAULT_MODEL).sha256,
        "versions": next(iter(counts.values())).versions,
        "large_model_sha256": read_model(SECOND_OPINIONS["large"]).sha256,
        "xlarge_model_sha256": read_model(SECOND_OPINIONS["xlarge"]).sha256,
        "instructions_per_s": {p: _by_stage(counts[p, "listening"]) for p in PROCESSORS},
        "instructions_per_opinion": {p: _by_stage(counts[p, "opinion"]) for p in PROCESSORS},
        "instructions_per_xlarge_opinion": {
            p: _by_stage(counts[p, "xlarge_opinion"]) for p in PROCESSORS
        },
    }


def _trunk_macs_per_s() -> float:
    model = read_model(DEFAULT_MODEL)
    config, stream = model.description.front_end, model.description.stream
    (trunk,) = (graph for graph in read_graphs(model.graph) if graph.name == TRUNK_SIGNATURE)
    hop_s = stream.hop_frames * config.hop_samples / config.sample_rate_hz
    return sum(operator.macs for operator in trunk.operators) / hop_s


def _by_stage(counted: Count) -> dict[str, int]:
    found = {stage: round(counted.of(region=stage)) for stage in counted.regions}
    return {**found, TOTAL: round(counted.of())}


def _by_owner(counted: Count) -> dict[str, int]:
    owners = sorted({owner for _, owner in counted.instructions})
    return {owner: round(counted.of(owner=owner)) for owner in owners}


def _outside_the_model(counted: Count) -> float:
    """Share of what is done outside the stages that run the model's graphs."""
    inside = sum(counted.of(region=stage) for stage in MODEL_STAGES)
    return 1 - inside / counted.of()


def against_budget(found: Figures, budget: Figures, processor: str) -> list[str]:
    """What differs from the budget, in sentences; none if all is well."""
    sentences = [
        sentence
        for name, per in PER.items()
        for sentence in _differences(
            found[name][processor], budget[name][processor], processor, per
        )
    ]
    if sentences and (found["versions"] != budget["versions"]):
        sentences.append(f"counted with {found['versions']}, the budget with {budget['versions']}")
    return sentences


def _differences(
    counted: dict[str, int], allowed: dict[str, int], processor: str, per: str
) -> Iterator[str]:
    if counted.keys() != allowed.keys():
        yield f"the stages of {per} are {', '.join(counted)}: {COMMAND}"
        return
    for stage, instructions in counted.items():
        change = instructions / allowed[stage] - 1
        if abs(change) > TOLERANCE and abs(instructions - allowed[stage]) > CHANCE:
            advice = "" if change > 0 else f"; lower the budget: {COMMAND}"
            yield (
                f"{stage} on {processor}: {instructions / 1e6:.3f} M instructions per {per}, "
                f"{change:+.1%} against the budget{advice}"
            )


def recomputing(figures: Figures, processor: str, every_ms: int, of_stream: bool = False) -> float:
    """How many times the instructions recomputing takes, without or with the lead-in."""
    name = "instructions_per_recomputed_window" + ("_of_stream" if of_stream else "")
    per_s = figures[name][processor] * 1e3 / every_ms
    return float(per_s / figures["instructions_per_s"][processor][TOTAL])


def trunk_to_matrix_product(figures: Figures, processor: str) -> float:
    """How many times the instructions of a large matrix product the trunk takes, by MACs."""
    per_mac = figures["instructions_per_mac"][processor]
    return float(per_mac["trunk"] / per_mac["matrix_product"])


def table(figures: Figures) -> Iterator[str]:
    """The figures as lines for a person."""
    processors = list(figures["instructions_per_s"])

    def row(name: str, values: list[float], form: str, target: str = "") -> str:
        cells = "".join(f"{value:>12{form}}" for value in values)
        return f"{name:<44}{cells}  {target}".rstrip()

    yield f"{'':<44}" + "".join(f"{p:>12}" for p in processors)
    yield "million instructions per second of audio"
    for stage in figures["instructions_per_s"][processors[0]]:
        values = [figures["instructions_per_s"][p][stage] / 1e6 for p in processors]
        target = f"<= {MAX_INSTRUCTIONS / 1e6:g}" if stage == TOTAL else ""
        yield row(f"  {stage}", values, ".3f", target)
    for key, name in OPINIONS.items():
        yield f"million instructions of an answer of the {name} model"
        for stage in figures[key][processors[0]]:
            values = [figures[key][p][stage] / 1e6 for p in processors]
            limits = " ".join(f"<= {most / 1e6:g} ({p})" for p, most in MAX_OPINION.items())
            yield row(f"  {stage}", values, ".1f", limits if stage == TOTAL else "")
    yield "of the second of audio, in the code of"
    for owner in figures["by_owner_per_s"][processors[0]]:
        values = [figures["by_owner_per_s"][p][owner] / 1e6 for p in processors]
        yield row(f"  {owner}", values, ".3f")
    yield row(
        "share outside step and head",
        [figures["outside_the_model"][p] for p in processors],
        ".1%",
        f"<= {MAX_OUTSIDE_THE_MODEL:.0%}",
    )
    for every_ms, least in MIN_RECOMPUTING.items():
        yield f"times that, recomputing every {every_ms} ms"
        values = [recomputing(figures, p, every_ms) for p in processors]
        yield row("  as it is commonly done", values, ".1f", f">= {least:g}")
        values = [recomputing(figures, p, every_ms, of_stream=True) for p in processors]
        yield row("  with the same posteriors", values, ".1f", f">= {least:g}")
    yield "instructions per multiply-accumulate"
    for name in ("trunk", "matrix_product"):
        values = [figures["instructions_per_mac"][p][name] for p in processors]
        yield row(f"  {name.replace('_', ' ')}", values, ".3f")
    values = [trunk_to_matrix_product(figures, p) for p in processors]
    yield row("  ratio", values, ".2f", f"<= {MAX_TRUNK_TO_MATRIX_PRODUCT:g}")


def read_budget() -> Figures:
    """The figures that are committed."""
    budget: Figures = json.loads(BUDGET.read_text())
    return budget
