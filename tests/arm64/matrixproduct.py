"""A large matrix product in int8: what XNNPACK's kernels can do at their best."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

ROWS, INPUTS, OUTPUTS = 256, 1024, 1024
MACS = ROWS * INPUTS * OUTPUTS


def write_matrix_product(path: Path) -> None:
    """Write a TFLite graph of one fully connected layer, (ROWS, INPUTS) to (ROWS, OUTPUTS)."""
    random = np.random.default_rng(0)
    weights = tf.constant(random.standard_normal((INPUTS, OUTPUTS)), tf.float32)
    product = tf.function(
        lambda rows: tf.linalg.matmul(rows, weights),
        input_signature=[tf.TensorSpec((ROWS, INPUTS))],
    )

    def samples() -> Iterator[list[np.ndarray]]:
        yield [random.standard_normal((ROWS, INPUTS)).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([product.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
