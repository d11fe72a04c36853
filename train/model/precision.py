"""Mixed precision: 16-bit arithmetic where a GPU is faster with it; weights stay in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

AUTO, FLOAT32 = "auto", "float32"
BFLOAT16, FLOAT16 = "mixed_bfloat16", "mixed_float16"
PRECISIONS = (AUTO, FLOAT32, BFLOAT16, FLOAT16)
# Tensor cores came with the first, and bfloat16, which needs no scaled loss, with the second.
FLOAT16_CAPABILITY, BFLOAT16_CAPABILITY = (7, 0), (8, 0)


def choose(wanted: str) -> str:
    """Precision of the trunk's arithmetic: what is wanted, or what suits all GPUs here."""
    if wanted != AUTO:
        return wanted
    import tensorflow as tf  # checkpoints are read where there is none

    return by_capability(
        [
            tf.config.experimental.get_device_details(device).get("compute_capability") or (0, 0)
            for device in tf.config.list_physical_devices("GPU")
        ]
    )


def by_capability(capabilities: list[tuple[int, int]]) -> str:
    """What suits GPUs of these CUDA compute capabilities; a CPU gains nothing."""
    weakest = min(capabilities, default=(0, 0))
    if weakest >= BFLOAT16_CAPABILITY:
        return BFLOAT16
    return FLOAT16 if weakest >= FLOAT16_CAPABILITY else FLOAT32


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Layers that are made within compute in this precision."""
    import keras  # takes seconds, which a command line that needs the names alone does not have

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
