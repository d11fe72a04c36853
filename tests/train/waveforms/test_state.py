"""The state of a run is kept, and a run goes on from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from edge.errors import EdgelidError
from train.waveforms.state import Course, digest, state_file
from train.waveforms.stepper import Stepper


def learner() -> Stepper:
    keras.utils.set_random_seed(1)
    layer = keras.layers.Dense(3)
    layer.build((None, 3))

    def loss(outs: Any, draw: Any, constants: Any) -> Any:
        error = ops.mean(ops.square(outs(0, draw["x"]) - 1.0))
        return error, {"error": error}

    return Stepper([layer], loss, lambda _: 0.01, 0.0, 0.9)


def step(stepper: Stepper, number: int) -> dict[str, Any]:
    draw = {"x": np.random.default_rng(number).normal(size=(8, 3)).astype(np.float32)}
    figures: dict[str, Any] = stepper.step(draw, {}, 1.0)
    return figures


def run(course: Course, stepper: Stepper, steps: int, stopped_at: int | None = None) -> list[int]:
    """Take steps, which somebody may stop from the keyboard; after how many it was looked."""
    looked: list[int] = []

    def take(number: int) -> tuple[int, dict[str, Any]]:
        if number == stopped_at:
            raise KeyboardInterrupt
        return 8 * (number + 1), step(stepper, number)

    course.run(steps, take, looked.append, log_every=100)
    return looked


def stop(course: Course, stepper: Stepper, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(course, stepper, 100, stopped_at=after)


def test_who_stops_a_run_from_the_keyboard_loses_nothing(tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    course = Course(file, stepper, 1e9, "this")
    assert (course.begun, course.best) == (0, -math.inf)
    step(stepper, 77)  # of what is new, before the first one that counts
    course.best = 0.5
    stop(course, stepper, 3)
    again = learner()
    course = Course(file, again, 1e9, "this")
    assert (course.begun, course.best) == (3, 0.5)
    stop(course, again, 5)
    assert Course(file, learner(), 1e9, "this").begun == 5
    whole = learner()
    for number in (77, *range(5)):
        step(whole, number)
    for name in ("trained", "first", "second", "average"):
        for x, y in zip(whole.state[name], again.state[name], strict=True):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5)


def test_a_run_that_took_no_step_yet_begins_anew(tmp_path: Path) -> None:
    """What was done before its first step is not known to be done."""
    stepper, file = learner(), tmp_path / "c.npz"
    course = Course(file, stepper, 1e9, "this")
    step(stepper, 77)  # of what is new
    stop(course, stepper, 0)
    assert not state_file(file).exists()


@pytest.mark.parametrize(("every_s", "kept"), [(0.0, True), (1e9, False)])
def test_a_state_is_kept_when_it_is_due(every_s: float, kept: bool, tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    course = Course(file, stepper, 1e9, "this", every_s)

    def take(number: int) -> tuple[int, dict[str, Any]]:
        if number == 1:
            raise EdgelidError("no more")  # as a kill, it keeps nothing
        return 8, step(stepper, number)

    with pytest.raises(EdgelidError):
        course.run(100, take, lambda _: None, log_every=100)
    assert state_file(file).exists() == kept


def test_a_run_is_looked_at_in_the_end_also_where_no_step_was_left(tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    assert run(Course(file, stepper, 1e9, "this"), stepper, 3) == [3]
    again = learner()
    course = Course(file, again, 1e9, "this")
    assert run(course, again, 3) == [3]
    np.testing.assert_array_equal(*(np.asarray(x.state["trained"][0]) for x in (stepper, again)))


def test_a_run_takes_a_step_at_least(tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    assert run(Course(file, stepper, 1e-9, "this"), stepper, 3) == [1]
    again = learner()
    assert run(Course(file, again, 1e-9, "this"), again, 3) == [1]


@pytest.mark.parametrize("change", ["another", "older", "nothing"])
def test_a_state_that_is_not_of_the_run_is_refused(change: str, tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    stop(Course(file, stepper, 1e9, "this"), stepper, 2)
    run, words = "this", "damaged or of another run: remove it"
    if change == "another":
        run = "that"
    elif change == "older":
        with np.load(state_file(file)) as archive:
            arrays = {name: archive[name] for name in archive.files if name != "whose"}
        np.savez(state_file(file), **arrays)
        words = "does not tell of which run it is"
    else:
        state_file(file).write_bytes(b"nothing")
    before = learner()
    with pytest.raises(EdgelidError, match=words):
        Course(file, before, 1e9, run)
    assert int(before.state["step"]) == 0


def test_a_run_may_be_given_more_time(tmp_path: Path) -> None:
    stepper, file = learner(), tmp_path / "c.npz"
    assert run(Course(file, stepper, 1e-9, "this"), stepper, 3) == [1]
    again = learner()
    assert run(Course(file, again, 1e9, "this"), again, 3) == [3]


def test_a_run_is_told_from_others() -> None:
    config = {"seed": 1, "compact": {"rate": 1e-3, "steps": 3}}
    one = digest(config, "start", None, 1.0)
    assert one == digest({"compact": {"steps": 3, "rate": 1e-3}, "seed": 1}, "start", None, 1.0)
    others = [
        digest(config | {"seed": 2}, "start", None, 1.0),
        digest(config, None, "start", 1.0),
        digest(config, "start", None, 0.5),
    ]
    assert len({one, *others}) == 4
