"""What the tests of training and of conversion share: a tiny corpus, and a model trained on it.

All of it is made when a test first asks for it: the tests of the runtime need no TensorFlow.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest

if TYPE_CHECKING:
    from convert.proof import Proof
    from edge.model.modelfile import Description
    from train.config import RunConfig
    from train.fit.training_data import Corpus
    from train.model.checkpoint import Checkpoint

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A shell without job control has what it starts in the background ignore Ctrl-C, and programs
# inherit that: the commands that tests interrupt would not notice. `nohup` does so with SIGHUP.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What is drawn is the same each time: whether a commit passes must not be a matter of luck.
# `--hypothesis-profile explore` draws something new.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("explore", derandomize=False, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")

# With few dropped and no smoothed labels its answers are far from ties, noise against strangers
# included: int8, or the rounding of another processor, turns none of them.
TINY = """
seed = 3

[data]
languages = ["de", "en"]
variants = 1

[data.development]
de = ["attic"]
en = ["attic"]
sv = ["attic"]

[front_end]
mels = 32

[model]
mels = 32
embedding = 12
hidden = 16
dropout = 0.02
stages = [
    { channels = 16, kernel = 3, stride = 2, entry_kernel = 6, blocks = 1, delay = 1 },
    { channels = 16, kernel = 5, stride = 2, entry_kernel = 6, blocks = 1, delay = 0 },
]

[optimiser]
steps = 120
batch_clips = 16
clip_s = 2.0
learning_rate = 0.01
warmup_steps = 4
label_smoothing = 0.0
average_decay = 0.8
evaluate_every_steps = 40
"""


# What takes minutes begins first: no process is to wait for another at the end.
LONGEST = (
    "tests/train/waveforms/test_waveform_fit.py",
    "tests/convert/test_tutorials.py",
    "tests/train/fit/test_loop.py",
    "tests/train/fit/test_distributed.py",
    "tests/train/test_own.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the others stay in their order."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a synthetic corpus, with noise and room responses beside it."""
    from tests.synthetic import write_corpus

    return write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration of a run of seconds."""
    file = tmp_path_factory.mktemp("configuration") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def tiny_config(tiny_toml: Path) -> RunConfig:
    """The same, read."""
    from train.config import read_config

    return read_config(tiny_toml)


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the feature cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_data(tiny_config: RunConfig, tiny_corpus: Path, tiny_cache: Path) -> Corpus:
    """The corpus, opened for training."""
    from train.fit.training_data import Place, open_corpus

    return open_corpus(tiny_config, Place((tiny_corpus,), tiny_cache))


@pytest.fixture(scope="session")
def tiny_run(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a finished run."""
    from train.fit.loop import fit

    run = tmp_path_factory.mktemp("run")
    fit(tiny_config, run, tiny_data)
    return run


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_run: Path) -> Checkpoint:
    """The best one of that run."""
    from train.model.checkpoint import load_checkpoint

    return load_checkpoint(tiny_run)


@pytest.fixture(scope="session")
def short_streams() -> Iterator[None]:
    """Tune decoders on a minute instead of twenty."""
    import convert.from_checkpoint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert.from_checkpoint, "STREAMS", 1)
        patch.setattr(convert.from_checkpoint, "STREAM_S", 60.0)
        yield


@pytest.fixture(scope="session")
def tiny_conversion(
    tiny_checkpoint: Checkpoint,
    tiny_corpus: Path,
    short_streams: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversion:
    """That checkpoint, converted."""
    from convert.from_checkpoint import convert

    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    description, proof = convert(tiny_checkpoint, tiny_corpus, path, "tiny")
    return Conversion(path, description, proof)


class Conversion(NamedTuple):
    """A model file and what its conversion returned."""

    path: Path
    description: Description
    proof: Proof
