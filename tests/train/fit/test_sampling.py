"""Batches: balanced, of one speaker a clip, and the same whenever they are drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from tests.synthetic import rows_of, write_features
from train.config import RunConfig
from train.corpus.manifest import Clip
from train.features.cache import CachedFeatures
from train.features.noise import NoiseClip
from train.fit.distillation import FRAMES_PER_TEACHER_FRAME, Teacher
from train.fit.sampling import (
    MAX_GAP_FRAMES,
    NONSPEECH_SHARE,
    OTHER_SHARE,
    Batch,
    BatchSampler,
    _bounds,
    _draw,
)

NOISES = [NoiseClip("hum.wav", "nature", "train"), NoiseClip("pub.wav", "babble_places", "train")]
NOISE_VALUE = 0.25  # in the frames of nonspeech, where a clip has its number and more


def clip(number: int, language: str, speaker: str, duration_s: float = 1.0) -> Clip:
    return Clip(
        path=f"{number}.wav",
        language=language,
        target=language in ("de", "en"),
        split="train",
        speaker=speaker,
        source=speaker[0],  # "a1" and "a2" are of one source
        kind="human",
        duration_s=duration_s,
        licence="CC0-1.0",
        origin="",
    )


def clips() -> list[Clip]:
    """Much German, one English clip, and two languages that are no class."""
    made = [clip(i, "de", f"{'ab'[i % 2]}{i % 6}", 0.5 + 0.1 * i) for i in range(30)]
    made += [clip(30, "en", "c0", 0.4)]
    made += [clip(31, "sv", "d0", 5.0), clip(32, "fi", "d1", 0.7), clip(33, "fi", "d2", 0.7)]
    return made


def cached(
    file: Path, lengths: Sequence[int], values: Sequence[float], mels: int
) -> CachedFeatures:
    """Features whose frames all hold the clip's value, in a clean and an augmented variant."""
    clips = [np.full((n, mels), v, np.float16) for n, v in zip(lengths, values, strict=True)]
    return write_features(file, [(clip, clip) for clip in clips])


def plain(frames: Float32Array, *_: object) -> Float32Array:
    return frames


MakeSampler = Callable[..., BatchSampler]


@pytest.fixture
def make(tiny_config: RunConfig, tmp_path: Path) -> MakeSampler:
    """Samplers of clips whose frames hold the number of the clip plus one, not augmented."""

    def sampler(
        made: list[Clip] | None = None, teacher: Teacher | None = None, **changes: object
    ) -> BatchSampler:
        made = clips() if made is None else made
        mels = tiny_config.front_end.mels
        config = dataclasses.replace(tiny_config, **changes)
        lengths = [round(c.duration_s * 100) for c in made]
        drawn = BatchSampler(
            config,
            rows_of(made),
            cached(tmp_path / "speech", lengths, np.arange(len(made)) + 1, mels),
            NOISES,
            cached(tmp_path / "noise", [300, 70], [NOISE_VALUE, 0.75], mels),
            np.linspace(100, 7000, mels).astype(np.float32),
            teacher,
        )
        drawn._augment = plain  # type: ignore[assignment]
        return drawn

    return sampler


def heard(frames: Float32Array) -> list[int]:
    """Numbers of the clips in a stretch, in their order."""
    values = frames[frames[:, 0] >= 1, 0]
    changes = np.flatnonzero(np.diff(values, prepend=-1))
    return [int(v) - 1 for v in values[changes]]


def test_shapes(make: MakeSampler, tiny_config: RunConfig) -> None:
    batch = make().batch(0)
    count, stride = tiny_config.optimiser.batch_clips, tiny_config.model.stride
    assert batch.frames.shape == (count, 200, tiny_config.front_end.mels)
    assert batch.frames.dtype == np.float32
    assert batch.labels.shape == (count,)
    assert batch.masks.shape == (count, 4, 200 // stride)
    assert batch.targets.shape == batch.known.shape == (count, 200 // stride)
    assert not batch.known.any()  # without a teacher


def test_balanced_by_class(make: MakeSampler, tiny_config: RunConfig) -> None:
    sampler = make()
    labels = np.concatenate([sampler.batch(step).labels for step in range(150)])
    counts = np.bincount(labels, minlength=4) / len(labels)
    shares = np.array([1.0, 1.0, OTHER_SHARE, NONSPEECH_SHARE])  # de, en, other, nonspeech
    np.testing.assert_allclose(counts, shares / shares.sum(), atol=0.03)


def test_languages_of_a_class_are_equal_and_sources_share_by_the_root(make: MakeSampler) -> None:
    made = clips()
    sampler = make()
    found: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for step in range(150):
        batch = sampler.batch(step)
        for frames, label in zip(batch.frames, batch.labels, strict=True):
            if label == 2:
                found[made[heard(frames)[0]].language] += 1
            if label == 0:
                sources[made[heard(frames)[0]].source] += 1
    assert found["sv"] / found.total() == pytest.approx(0.5, abs=0.06)
    seconds = {s: sum(c.duration_s for c in made if c.source == s) for s in "ab"}
    share = seconds["a"] ** 0.5 / (seconds["a"] ** 0.5 + seconds["b"] ** 0.5)
    assert sources["a"] / sources.total() == pytest.approx(share, abs=0.06)


def test_joined_clips_are_of_one_speaker(make: MakeSampler) -> None:
    made = clips()
    labels = ("de", "en", "other", "nonspeech")
    joined = 0
    for step in range(20):
        batch = make().batch(step)
        for frames, label in zip(batch.frames, batch.labels, strict=True):
            numbers = heard(frames)
            joined += len(numbers) > 1
            speakers = {(made[n].language, made[n].speaker) for n in numbers}
            assert len(speakers) == (labels[label] != "nonspeech")
            for language, _ in speakers:
                assert labels[label] == (language if language in labels else "other")
    assert joined > 10


def test_nonspeech_has_no_speech_and_no_babble(make: MakeSampler) -> None:
    sampler = make()
    stretches = [
        frames
        for batch in map(sampler.batch, range(40))
        for frames, label in zip(batch.frames, batch.labels, strict=True)
        if label == 3
    ]
    values = {float(v) for frames in stretches for v in np.unique(frames)}
    assert values == {0.0, NOISE_VALUE}
    assert any(not frames.any() for frames in stretches)  # digital silence


def test_gaps_are_short(make: MakeSampler) -> None:
    for frames in make().batch(1).frames:
        silent = np.flatnonzero(np.diff(np.r_[True, frames[:, 0] > 0, True].astype(int)))
        for start, end in pairwise(silent):
            if not frames[start:end].any() and frames.any():
                assert end - start <= MAX_GAP_FRAMES


def test_one_short_clip_is_repeated_and_a_long_one_cut(make: MakeSampler) -> None:
    made = [clip(0, "de", "a0", 0.4), clip(1, "en", "b0", 60.0)]
    for step in range(10):
        batch = make(made).batch(step)
        for frames, label in zip(batch.frames, batch.labels, strict=True):
            loud = (frames[:, 0] > 0).mean()
            if label == 0:
                assert loud > 0.3
            if label == 1:
                assert loud >= 1 - MAX_GAP_FRAMES / len(frames)


def test_depends_on_seed_and_step_alone(make: MakeSampler) -> None:
    sampler = make()
    sampler.batch(3)
    assert same(sampler.batch(7), make().batch(7))
    assert not same(sampler.batch(7), sampler.batch(8))
    assert not same(sampler.batch(7), make(seed=4).batch(7))


def test_the_draws_are_those_of_a_choice_from_objects(make: MakeSampler) -> None:
    """As they were when every clip was an object in a tree, and numpy's `choice` drew."""
    sampler = make()
    expected = [
        "1 19|4 16|15|30||7 1|31|30|30|30|33|||32|1 25|",
        "31|22|32|23|30||33||31|30|31|33|30|19|30|30",
    ]
    for step, numbers in enumerate(expected):
        found = [" ".join(map(str, heard(frames))) for frames in sampler.batch(step).frames]
        assert "|".join(found) == numbers


def test_a_bound_draws_what_a_choice_draws() -> None:
    weights = np.random.default_rng(1).random(1000)
    one, other = np.random.default_rng(2), np.random.default_rng(2)
    bounds = _bounds(weights)
    for _ in range(1000):
        assert _draw(bounds, one) == other.choice(1000, p=weights / weights.sum())


def test_classes_are_in_the_order_of_the_labels(make: MakeSampler) -> None:
    """And in no order of a set of strings, which another process would have another way."""
    made = clips()
    expected = ("de", "en", "other", "nonspeech")
    assert make(made)._classes.items == expected
    assert make(made[::-1])._classes.items == expected


def test_resuming_gives_what_would_have_come(make: MakeSampler) -> None:
    through = list(make().batches(0, 9))
    resumed = list(make().batches(5, 9))
    assert len(through) == 9
    assert len(resumed) == 4
    for (one,), (other,) in zip(through[5:], resumed, strict=True):
        assert same(one, other)
    assert list(make().batches(9, 9)) == []


@pytest.mark.parametrize("loaders", [1, 2])
def test_loaders_change_nothing(make: MakeSampler, loaders: int) -> None:
    alone = list(make().batches(3, 13, (1, 0), 2))
    loaded = list(make().batches(3, 13, (1, 0), 2, loaders))
    assert len(loaded) == 10
    for one, other in zip(alone, loaded, strict=True):
        assert all(map(same, one, other))


def test_loaders_end_early(make: MakeSampler) -> None:
    before = children()
    batches = make().batches(0, 10**9, loaders=2)
    next(batches)
    assert len(children() - before) >= 2
    batches.close()
    # But for the one that Python keeps to tidy up what processes share.
    assert not {child for child in children() - before if "resource_tracker" not in child[1]}


def test_a_loader_that_fails(make: MakeSampler, tmp_path: Path) -> None:
    sampler = make()
    for file in tmp_path.glob("speech*"):
        file.unlink()
    with pytest.raises(EdgelidError, match=r"cannot read .*speech.* any more"):
        list(sampler.batches(0, 3, loaders=1))


def test_loading_needs_no_tensorflow() -> None:
    code = (
        "import sys, train.fit.sampling; print({'tensorflow', 'keras', 'librosa'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_parts_of_a_batch(make: MakeSampler, tiny_config: RunConfig) -> None:
    """They differ, and every worker draws its own as if it were alone."""
    sampler = make()
    ((one, three),) = sampler.batches(7, 8, part_numbers=(1, 3), parts=4)
    assert len(one.labels) == tiny_config.optimiser.batch_clips / 4
    assert same(one, make().batch(7, 1, 4))
    assert same(three, make().batch(7, 3, 4))
    assert not same(one, three)
    assert same(sampler.batch(7, 0, 1), sampler.batch(7))
    with pytest.raises(EdgelidError, match="batch_clips is 16, which must be a multiple of 3"):
        next(sampler.batches(0, 1, (0,), 3))


def children() -> set[tuple[int, str]]:
    """Processes that this one has started, with their command lines."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        started = ""
        with contextlib.suppress(OSError):  # a thread that has just ended
            started = (task / "children").read_text()
        for child in started.split():
            with contextlib.suppress(OSError):
                found.add((int(child), Path(f"/proc/{child}/cmdline").read_text()))
    return found


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_masks(make: MakeSampler, tiny_config: RunConfig) -> None:
    second = 100 // tiny_config.model.stride
    masks = np.concatenate([make().batch(step).masks for step in range(5)])
    embeddings = masks.shape[2]
    assert set(np.unique(masks)) == {0, 1}
    lengths = masks.sum(axis=2)
    assert (lengths[:, 0] == embeddings).all()
    assert (masks[:, 1, :second] == 1).all()
    assert (lengths[:, 1] == second).all()
    assert lengths[:, 2].min() >= second
    assert lengths[:, 2].max() <= 2 * second
    assert lengths[:, 3].min() >= 2 * second
    assert lengths[:, 3].max() <= embeddings
    runs = (np.diff(masks, prepend=0, append=0, axis=2) == 1).sum(axis=2)
    assert (runs == 1).all()  # contiguous


def test_masks_where_a_second_is_no_whole_number_of_embeddings(
    make: MakeSampler, tiny_config: RunConfig
) -> None:
    """Of six frames each: 33 in two seconds, and of one second 16.7."""
    first, second = tiny_config.model.stages
    stages = (dataclasses.replace(first, stride=3, entry_kernel=9), second)
    model = dataclasses.replace(tiny_config.model, stages=stages)
    masks = np.concatenate([make(model=model).batch(step).masks for step in range(5)])
    lengths = masks.sum(axis=2)
    assert (lengths[:, :2] == (33, 16)).all()
    assert lengths[:, 2].min() >= 16
    assert lengths[:, 3].min() >= 32


def test_noise_that_is_too_short(tiny_config: RunConfig, tmp_path: Path) -> None:
    mels = tiny_config.front_end.mels
    features = cached(tmp_path / "speech", [100], [1], mels)
    with pytest.raises(EdgelidError, match="noise holds nothing"):
        BatchSampler(
            tiny_config,
            rows_of([clip(0, "de", "a0")]),
            features,
            NOISES,
            cached(tmp_path / "noise", [40, 400], [1, 1], mels),  # the long one has speech in it
            np.linspace(100, 7000, mels).astype(np.float32),
        )


def test_a_teacher_is_asked_about_the_same_moments(
    make: MakeSampler, tiny_config: RunConfig
) -> None:
    made = clips()
    lengths = [round(c.duration_s * 100) // FRAMES_PER_TEACHER_FRAME for c in made]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    # This one names each clip by its number.
    teacher = Teacher(np.repeat(np.arange(len(made)), lengths), starts, np.array(lengths))
    model = tiny_config.model
    batch = make(made, teacher).batch(2)
    newest = (np.arange(batch.known.shape[1]) + 1) * model.stride - 1
    centres = newest - model.delay_frames
    assert (batch.known[:, centres < 0] == 0).all()
    assert batch.known.mean() > 0.4
    for frames, targets, known in zip(batch.frames, batch.targets, batch.known, strict=True):
        at_centre = np.where(centres >= 0, frames[np.maximum(centres, 0), 0], 0)
        # Where a clip is heard, the teacher speaks of that clip; elsewhere it is silent.
        np.testing.assert_array_equal(known == 1, at_centre >= 1)
        np.testing.assert_array_equal(targets[known == 1], at_centre[known == 1] - 1)
