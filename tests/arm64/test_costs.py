"""Instructions on emulated Raspberry Pis are those of the budget, and recomputing takes more."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS, ModelFile, read_model
from tests.arm64.costs import (
    MAX_INSTRUCTIONS,
    MAX_OPINION,
    MIN_RECOMPUTING,
    OPINIONS,
    PER,
    TOTAL,
    Figures,
    against_budget,
    measure_budget,
    read_budget,
    recomputing,
    table,
)
from tests.arm64.counting import missing_compiler
from tests.arm64.emulated_pi import PROCESSORS


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return read_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def figures(emulation_folder: Path) -> Figures:
    if missing := missing_compiler():
        pytest.skip(f"needs from apt: {' '.join(missing)}")
    return measure_budget(emulation_folder)


@pytest.mark.emulation
@pytest.mark.parametrize("processor", PROCESSORS)
def test_instructions_are_those_of_the_budget(figures: Figures, processor: str) -> None:
    assert against_budget(figures, read_budget(), processor) == []
    assert figures["instructions_per_s"][processor][TOTAL] <= MAX_INSTRUCTIONS
    most = MAX_OPINION.get(processor, math.inf)
    for key in OPINIONS:
        assert figures[key][processor][TOTAL] <= most


@pytest.mark.emulation
def test_the_budget_is_of_what_is_shipped(figures: Figures) -> None:
    for name in ("model_sha256", "large_model_sha256", "xlarge_model_sha256"):
        assert figures[name] == read_budget()[name]


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("every_ms", MIN_RECOMPUTING)
def test_recomputing_takes_more(processor: str, every_ms: int) -> None:
    """To say what a stream says, as it was counted for the budget."""
    times = recomputing(read_budget(), processor, every_ms, of_stream=True)
    assert times >= MIN_RECOMPUTING[every_ms]


def test_a_budget_notices_more_and_less() -> None:
    budget = read_budget()
    assert against_budget(budget, budget, "cortex-a53") == []
    assert against_budget(with_step(budget, 1.009), budget, "cortex-a53") == []
    (more,) = against_budget(with_step(budget, 1.011), budget, "cortex-a53")
    assert more.startswith("step on cortex-a53: ")
    assert more.endswith("+1.1% against the budget")
    (less,) = against_budget(with_step(budget, 0.989), budget, "cortex-a53")
    assert less.endswith("lower the budget: python -m tests.arm64 --update")
    assert against_budget(with_step(budget, 1.011), budget, "cortex-a76") == []
    slower = copy.deepcopy(budget)
    slower["instructions_per_opinion"]["cortex-a72"]["window"] *= 1.02
    (sentence,) = against_budget(slower, budget, "cortex-a72")
    assert sentence.startswith("window on cortex-a72: ")
    assert "instructions per second opinion, +2.0%" in sentence
    # What takes next to nothing differs by chance.
    slower = copy.deepcopy(budget)
    slower["instructions_per_opinion"]["cortex-a72"]["rest"] += 4_999
    assert against_budget(slower, budget, "cortex-a72") == []
    slower["instructions_per_opinion"]["cortex-a72"]["rest"] += 2
    assert len(against_budget(slower, budget, "cortex-a72")) == 1


def with_step(budget: Figures, times: float) -> Figures:
    """Other instructions of one stage on one processor."""
    changed = copy.deepcopy(budget)
    changed["instructions_per_s"]["cortex-a53"]["step"] *= times
    return changed


def test_the_table_tells_all(model: ModelFile) -> None:
    budget = read_budget()
    text = "\n".join(table(budget))
    for name in PER:
        for stage in budget[name]["cortex-a53"]:
            assert f"  {stage}  " in text
    assert budget["model_sha256"] == model.sha256
    for name, path in SECOND_OPINIONS.items():
        assert budget[f"{name}_model_sha256"] == read_model(path).sha256
    for processor, most in MAX_OPINION.items():
        for key in OPINIONS:
            assert budget[key][processor][TOTAL] <= most
