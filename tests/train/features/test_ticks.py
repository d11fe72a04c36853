"""Progress moves with clips, whatever process they are in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from edge.frontend import FrontEnd, FrontEndConfig
from tests.synthetic import speech, write_audio
from tests.waiting import wait_until
from train.features.cache import Extractor, Job
from train.features.filterbank import mel_filterbank
from train.features.shards import ENDING
from train.features.ticks import shown, ticking
from train.parallel.pool import mapped


def test_before_a_shard_is_done(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    with tqdm(total=3) as progress:
        with shown(ticks, progress), ticking(ticks) as tick:
            tick()
            tick()
            wait_until(lambda: progress.n == 2)
            tick()
        assert progress.n == 3
    assert not ticks.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_clip_of_every_process_counts(tmp_path: Path, workers: int) -> None:
    names = [f"{number}.wav" for number in range(6)]
    for name in names:
        write_audio(tmp_path / name, speech("de", name, 0, 0.3))
    config = FrontEndConfig()
    ticks = tmp_path / "ticks"
    extract = Extractor(FrontEnd(config, mel_filterbank(config)), [np.ones(1, np.float32)], ticks)
    jobs = [Job(tmp_path / f"{n}{ENDING}", tmp_path, names[3 * n : 3 * n + 3], 0) for n in range(2)]
    assert len(list(mapped(extract, jobs, workers, chunk_jobs=1))) == 2
    assert ticks.stat().st_size == 6
