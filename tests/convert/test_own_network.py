"""Networks of the user's: made plain, and their outputs understood, however they end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import convert.apart
from convert.apart import Plan, convert_apart, mark_layers
from convert.own_network import Fed, Scores, as_scores, log_probabilities, plain
from convert.parity import judged
from convert.proof import Limits, NotProven, OwnProof
from convert.streaming_graph import save_graph, window_function
from edge.classifier import softmax
from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.model.interpreter import WINDOW_SIGNATURE

SHAPE = (12, 6)
REPORT = json.dumps({"reason": "no such operator"})
WINDOWS = list(np.random.default_rng(1).uniform(0, 9, (8, *SHAPE)).astype(np.float32))
LABELS = ("de", "en", "fr")


def body(classes: int = 3) -> tuple[Any, Any]:
    """Input and scores."""
    keras.utils.set_random_seed(2)
    frames = keras.Input(SHAPE)
    x = layers.Conv1D(5, 3, activation="relu", name="early")(frames)
    return frames, layers.Dense(classes, name="late")(layers.GlobalAveragePooling1D()(x))


def scored(network: Any, labels: tuple[str, ...] = LABELS) -> Scores:
    return as_scores(network, Fed(SHAPE, SHAPE[0], turned=False), labels, WINDOWS)


def nested(frames: Any, scores: Any) -> Any:
    inner = keras.Sequential([keras.Input((3,)), layers.Softmax()])
    return inner(keras.Model(frames, scores)(frames))


ENDS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "scores": (lambda f, s: s, "scores"),
    "layer": (lambda f, s: layers.Softmax()(s), "probabilities"),
    "activation": (lambda f, s: layers.Activation("softmax")(s), "probabilities"),
    "ops": (lambda f, s: ops.softmax(s), "probabilities"),
    "nested": (nested, "probabilities"),
    "reshaped": (lambda f, s: layers.Reshape((3, 1))(ops.softmax(s)), "probabilities"),
    "branches": (lambda f, s: (ops.softmax(s) + ops.softmax(2 * s)) / 2, "probabilities"),
    "dictionary": (lambda f, s: {"language": ops.softmax(s)}, "probabilities"),
    "two outputs": (lambda f, s: {"language": s, "embedding": f[:, 0]}, "scores"),
    "logarithms": (lambda f, s: ops.log_softmax(s), "scores"),
    "sigmoids": (lambda f, s: ops.sigmoid(s), "sigmoids"),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_the_outputs_are(end: str) -> None:
    frames, scores = body()
    finish, kind = ENDS[end]
    found = scored(keras.Model(frames, finish(frames, scores)))
    assert found.kind == kind
    wanted = softmax(np.asarray(keras.Model(frames, scores)(np.stack(WINDOWS)), np.float64))
    if end == "branches":
        twice = softmax(2 * np.log(wanted))
        wanted = (wanted + twice) / 2
    if end == "sigmoids":
        given = np.asarray(keras.Model(frames, ops.sigmoid(scores))(np.stack(WINDOWS)))
        wanted = given / given.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_probabilities(found, WINDOWS)), wanted, atol=1e-5)


@pytest.mark.parametrize(("end", "kind"), [("sigmoid", "probability"), ("linear", "score")])
def test_one_output_of_two_classes(end: str, kind: str) -> None:
    """The second one's, as Keras counts."""
    frames, score = body(1)
    found = scored(keras.Model(frames, layers.Activation(end)(score)), LABELS[:2])
    assert found.kind == kind
    second = ops.sigmoid(keras.Model(frames, score)(np.stack(WINDOWS)))
    np.testing.assert_allclose(
        np.exp(log_probabilities(found, WINDOWS))[:, 1], np.asarray(second)[:, 0], atol=1e-5
    )


def test_outputs_of_no_use() -> None:
    frames, scores = body()
    with pytest.raises(EdgelidError, match="which does not fit 2 labels"):
        scored(keras.Model(frames, scores), LABELS[:2])
    with pytest.raises(EdgelidError, match="more than one of which fits"):
        scored(keras.Model(frames, {"a": scores, "b": 2 * scores}))
    with pytest.raises(EdgelidError, match="scores that are no numbers"):
        scored(keras.Model(frames, ops.log(-1 - scores * scores)))
    with pytest.raises(EdgelidError, match="the same scores whatever it hears"):
        scored(keras.Model(frames, 0 * scores))


def test_bands_before_frames_and_colours() -> None:
    """As `librosa` has them, and as networks for pictures do."""
    keras.utils.set_random_seed(2)
    taken = keras.Input((SHAPE[1], SHAPE[0], 3))
    turned = keras.Model(taken, layers.Dense(3)(layers.Flatten()(taken)))
    scores = as_scores(turned, Fed((6, 12, 3), 12, turned=True), LABELS, WINDOWS)
    picture = np.repeat(np.swapaxes(np.stack(WINDOWS), 1, 2)[..., None], 3, axis=-1)
    np.testing.assert_allclose(
        np.exp(log_probabilities(scores, WINDOWS)),
        softmax(np.asarray(turned(picture), np.float64)),
        atol=1e-5,
    )


def test_made_plain() -> None:
    """Loops unrolled, wherever they are, half precision made single, batches made free."""
    keras.utils.set_random_seed(2)
    taken = keras.Input(SHAPE, batch_size=2)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(taken)
    x = layers.Dense(4, dtype="mixed_float16")(x)
    x = keras.Sequential([layers.GRU(4), layers.Dense(3)])(x)
    given = keras.Model(taken, x)
    made = plain(given)
    assert made.get_layer("both").forward_layer.unroll
    assert made.layers[-1].layers[0].unroll
    assert {layer.compute_dtype for layer in made.layers} == {"float32"}
    wanted = np.asarray(given(np.stack(WINDOWS[:2])), np.float32)
    np.testing.assert_allclose(np.asarray(made(np.stack(WINDOWS[:1])))[0], wanted[0], atol=0.01)
    frames, scores = body()
    as_it_is = keras.Model(frames, scores)
    assert plain(as_it_is) is as_it_is


def test_loops_too_long_to_unroll() -> None:
    taken = keras.Input((600, 6))
    x = layers.Bidirectional(layers.GRU(4))(taken)
    with pytest.raises(EdgelidError, match="GRU layers take 600 steps, too many for a device"):
        plain(keras.Model(taken, layers.Dense(3)(x)))


# --- in a process of its own -------------------------------------------------------------------


def plan(**changed: Any) -> Plan:
    return Plan(**{"int8": True, "min_agreement": 0.9, "max_mean_difference": 0.05, "floats": (),
                   "kinds": {"early": "Conv1D", "late": "GRU"}, **changed})  # fmt: skip


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(convert.apart, "COMMAND", ("-c", code))


@pytest.mark.parametrize(
    ("int8", "remedy"), [(True, "try --type float32"), (False, "build it of other layers")]
)
def test_whatever_dies_is_one_sentence(
    int8: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    with pytest.raises(EdgelidError) as refused:
        convert_apart(lambda folder: None, plan(int8=int8), WINDOWS, np.zeros((8, 3)))
    assert str(refused.value) == (
        "TensorFlow's converter died of SIGSEGV on this network of Conv1D, GRU: "
        f"{remedy}; nothing was written"
    )


def end_converter(number: int) -> None:
    """Send a signal to the converter of this process, as soon as it runs."""
    mine = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in Path(mine).read_text().split():
            with contextlib.suppress(OSError):
                if b"convert.apart" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), number)
                    return
        time.sleep(0.01)


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs Linux's /proc, to find the converter"
)
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "died of SIGKILL, as where memory is short"),
        (signal.SIGTERM, "died of SIGTERM"),
        (signal.SIGSEGV, "died of SIGSEGV"),
    ],
)
def test_the_converter_is_killed(number: int, words: str) -> None:
    """The real one, by a real signal."""
    killer = threading.Thread(target=end_converter, args=(number,))

    def save(folder: str) -> None:
        killer.start()

    with pytest.raises(EdgelidError, match=f"TensorFlow's converter {words} on this network of"):
        convert_apart(save, plan(), WINDOWS, np.zeros((8, 3)))
    killer.join()


@pytest.mark.slow
def test_a_loop_that_the_converter_does_not_survive() -> None:
    """What `plain` is for: TensorFlow's converter quantises no loop, and may crash."""
    keras.utils.set_random_seed(2)
    taken = keras.Input(SHAPE)
    network = keras.Model(taken, layers.Dense(3)(layers.GRU(4)(taken)))
    scores = scored(network)
    kinds = mark_layers(network)

    def save(folder: str) -> None:
        save_graph(folder, [scores], {WINDOW_SIGNATURE: window_function(scores, SHAPE)})

    with pytest.raises(EdgelidError) as refused:
        convert_apart(save, plan(kinds=kinds), WINDOWS, log_probabilities(scores, WINDOWS))
    assert re.match(r"TensorFlow's converter (died of SIG|gave up)", str(refused.value))
    assert "on this network of InputLayer, GRU, Dense: try --type float32" in str(refused.value)


def full(_: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for what the converter is given, nor for a folder at all."""
    truth, words = np.zeros((8, 3)), r"cannot write its temporary files.*make room there, or set TM"
    with pytest.raises(EdgelidError, match=words):
        convert_apart(full, plan(), WINDOWS, truth)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(EdgelidError, match=words):
        convert_apart(lambda folder: None, plan(), WINDOWS, truth)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_converter_that_cannot_write(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why by its status, as there may be no room for a report."""
    child(
        monkeypatch,
        "import sys, convert.apart\n"
        "def fail(_):\n"
        f"    raise OSError({number}, 'no')\n"
        "convert.apart._main = fail\n"
        "sys.exit(convert.apart.main(sys.argv[1]))",
    )
    with pytest.raises(EdgelidError, match=rf"temporary files.*\({os.strerror(number)}\): make ro"):
        convert_apart(lambda folder: None, plan(), WINDOWS, np.zeros((8, 3)))


def test_a_converter_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(convert.apart.subprocess, "Popen", fail)
    with pytest.raises(EdgelidError, match=r"cannot start a process \(Cannot allocate memory\)"):
        convert_apart(lambda folder: None, plan(), WINDOWS, np.zeros((8, 3)))


def test_a_reason_that_is_given_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    child(
        monkeypatch,
        "import sys, pathlib\n"
        f"pathlib.Path(sys.argv[1], 'report.json').write_text({REPORT!r})\n"
        "sys.exit(1)",
    )
    with pytest.raises(EdgelidError, match=r"converter gave up \(no such operator\) on this net"):
        convert_apart(lambda folder: None, plan(), WINDOWS, np.zeros((8, 3)))


def test_no_child_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ends the wait ends the child."""
    told = tmp_path / "pid"
    child(
        monkeypatch,
        "import os, pathlib, time\n"
        f"part = pathlib.Path({str(told) + '.part'!r})\n"
        "part.write_text(str(os.getpid()))\n"
        f"part.rename({str(told)!r})\n"
        "time.sleep(600)",
    )

    def interrupted(_: int, __: object) -> None:
        raise KeyboardInterrupt

    def interrupt() -> None:
        until_s = time.monotonic() + 120
        while not told.exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        time.sleep(0.2)  # it is being waited for
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupted)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            convert_apart(lambda folder: None, plan(), WINDOWS, np.zeros((8, 3)))
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_layers_tell_themselves_apart() -> None:
    frames, scores = body()
    network = keras.Model(frames, keras.Sequential([layers.Softmax(name="end")])(scores))
    kinds = mark_layers(network)
    assert kinds["early"] == "Conv1D"
    assert kinds["end"] == "Softmax"
    assert np.asarray(network(np.stack(WINDOWS))).shape == (8, 3)


# --- the proof ---------------------------------------------------------------------------------


def proof(right: float, floats: Float32Array | None = None) -> OwnProof:
    """Of sixty windows, so many of them answered rightly."""
    wanted = np.arange(60) % 3
    answered = np.where(np.arange(60) < 60 * right, wanted, (wanted + 1) % 3)
    converted = np.log(np.full((60, 3), 0.1) + 0.7 * np.eye(3)[answered])
    found = judged(converted if floats is None else floats, converted, wanted, ["a"] * 60)
    return OwnProof(
        {"1": found}, [], [], None, {}, Limits(), ("a note",), ("pool",),
        ("early (in float32, 0.01 of the probability moves)",),
    )  # fmt: skip


def test_near_chance_is_said() -> None:
    poor = proof(0.4)
    assert poor.as_dict()["windows"]["1"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert any("NEAR CHANCE: right for 40% of the held-out win" in line for line in poor.table())
    assert "right for 33%" in poor.as_dict()["warnings"][0]
    good = proof(0.9)
    assert good.warnings() == []
    table = "\n".join(good.table())
    assert "note: a note" in table
    assert "in float32, for which 8 bits are too few: pool" in table
    assert "accuracy trained" in table
    assert "chance" in table


def test_a_refusal_names_what_helps() -> None:
    floats = np.log(np.full((60, 3), 0.1) + 0.7 * np.eye(3)[np.arange(60) % 3])
    with pytest.raises(NotProven, match=r"int8 hurts early .*--float early .*or --type float32"):
        proof(0.4, floats).check()
    proof(0.9).check()
