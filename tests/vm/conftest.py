"""The guest that all tests here share, with edgelid installed as a person would install it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from edge.bench.measure import SAMPLE
from edge.frontend import SAMPLE_RATE_HZ
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, pack_model, read_model
from tests.arm64.emulated_pi import ROOT, new_environment, run
from tests.edge.model.test_trust import without_quantisation
from tests.fuzz.hostile import edited
from tests.fuzz.seeds import STREAM_SEED
from tests.vm.guest import ENVIRONMENT, SHARE, Guest, guest, missing_packages
from train.corpus.cuts import read_audio

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    if missing := missing_packages():
        pytest.skip(f"needs from apt: {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("vm")
    share = folder / "share"
    share.mkdir()
    _fill(share, folder)
    with guest(folder, share) as found:
        found.run(f"{ENVIRONMENT}/bin/pip install -q --no-index --no-deps {SHARE}/*.whl")
        found.run(f"mkdir /opt/models && cp {SHARE}/*.tflite /opt/models")
        yield found


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Has a measured figure printed at the end."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"figure: {line}")


def _fill(share: Path, scratch: Path) -> None:
    """What the guest needs of this checkout: edgelid, models of one's own, something to hear."""
    python = new_environment(sys.executable, scratch / "pip")
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", share, ROOT)
    shutil.copy(Path(__file__).with_name("probe.py"), share)
    soundfile.write(share / "sample.wav", read_audio(SAMPLE), SAMPLE_RATE_HZ, subtype="PCM_16")
    # Bytes that are not those of the model that comes along.
    own = edited(read_model(DEFAULT_MODEL).graph, lambda model: setattr(model, "description", b""))
    _write(share / "own.tflite", read_model(DEFAULT_MODEL), own)
    hostile = edited(read_model(STREAM_SEED).graph, without_quantisation)
    _write(share / "hostile.tflite", read_model(STREAM_SEED), hostile)


def _write(path: Path, model: ModelFile, graph: bytes) -> None:
    path.write_bytes(pack_model(graph, model.labels, model.description, model.filterbank))
