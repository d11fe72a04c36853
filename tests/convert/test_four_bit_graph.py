"""Matrices of 4 bits take the place of those of 8 that a converter wrote."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from convert.four_bit_graph import with_four_bits
from convert.rounding import BLOCK, Blocks, rounded
from convert.streaming_graph import any_window_function, any_window_to_tflite
from edge.errors import EdgelidError
from edge.model.graphcheck import check_graph

INPUTS, HIDDEN, OUTPUTS = BLOCK, 2 * BLOCK, 8


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(HIDDEN, "relu", bias_initializer="normal"),
        keras.layers.Dense(OUTPUTS, bias_initializer="normal"),
    ]
    made = keras.Sequential(layers)
    made.build((1, INPUTS))
    return made


@pytest.fixture(scope="module")
def blocks(network: keras.Model) -> list[Blocks]:
    """Of both layers, which have these matrices from now on."""
    found = []
    for layer in network.layers:
        kernel, bias = layer.get_weights()
        found.append(rounded(kernel, np.eye(len(kernel))))
        layer.set_weights([found[-1].matrix, bias])
    return found


@pytest.fixture(scope="module")
def graph(network: keras.Model, blocks: list[Blocks]) -> bytes:
    def scores(frames: object) -> object:
        return network(keras.ops.reshape(frames, (-1, INPUTS)))

    return any_window_to_tflite(network, any_window_function(scores, INPUTS))


def answers(graph: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=graph)
    run = interpreter.get_signature_runner("window")
    return np.asarray(run(frames=x[None])["scores"])


def test_it_computes_with_the_rounded_matrices(
    network: keras.Model, blocks: list[Blocks], graph: bytes
) -> None:
    narrow = with_four_bits(graph, blocks)
    check_graph(narrow)
    # Half of a byte is left of one, 2 come for each block, and 12 of each output go.
    weights = sum(each.steps.size for each in blocks)
    scales = sum(each.scales.size for each in blocks)
    gone = weights // 2 - 2 * scales + 12 * (HIDDEN + OUTPUTS)
    assert len(narrow) == pytest.approx(len(graph) - gone, abs=500)
    x = np.random.default_rng(2).normal(size=(3, INPUTS)).astype(np.float32)
    wanted = np.asarray(network(x))
    found = answers(narrow, x)
    # Inputs are of 8 bits in both graphs, as they are computed.
    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()
    other = [replace(each, steps=-each.steps) for each in blocks]
    with pytest.raises(EdgelidError, match="0 matrices where one of 256 by 128 was expected"):
        with_four_bits(graph, other)


def test_no_matrix_is_taken_twice(graph: bytes, blocks: list[Blocks]) -> None:
    with pytest.raises(EdgelidError, match=r"0 matrices where .*: convert with --type int8"):
        with_four_bits(graph, [blocks[0], blocks[0]])
