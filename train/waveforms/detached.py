"""A large model's checkpoint without its encoder, where that is Whisper's own.

Eight layers of Whisper small are 117 MB in half precision, and whoever has the weights has them:
the repository keeps what was made here, a tenth of it: head, decoder, and what the encoder learnt
beside its matrices (`train.waveforms.adapters`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.waveforms.adapters import learnt_beside, put_on
from train.waveforms.checkpoint import DETACHED, fingerprint, load_parts, save_parts
from train.waveforms.large import decoder_shape, empty_large, large_of
from train.waveforms.published import read_encoder

PARTS = ("gate", "centre", "scores", "decoder", "said", "rows")


def detach(file: Path, output: Path) -> None:
    """Leave out the encoder.

    Parameters
    ----------
    file, output : Path
        As of `train.waveforms.checkpoint.load_parts`.

    Raises
    ------
    EdgelidError
        If it is no checkpoint of a large model with a decoder.
    """
    arrays, told = load_parts(file)
    if "large/0" not in arrays or decoder_shape(told["config"]) is None:
        raise EdgelidError(f"{file} is no checkpoint of a large model with a decoder")
    model, _ = large_of(arrays, told)
    kept = {
        f"{DETACHED}{part}/{i}": value
        for part in PARTS
        for i, value in enumerate(getattr(model, part).get_weights())
    }
    beside = learnt_beside(arrays)
    whose = told["adapted"] if beside else fingerprint([model.encoder])
    encoder = {"dim": model.dim, "fingerprint": whose}
    save_parts(output, kept | beside, told | {"encoder": encoder})


def attach(file: Path, weights: Path, output: Path) -> None:
    """Put the encoder back.

    Parameters
    ----------
    file : Path
        Of :func:`detach`.
    weights : Path
        Whisper's, see `train.waveforms.published.read_whisper`.
    output : Path
        As of `train.waveforms.checkpoint.save_parts`.

    Raises
    ------
    EdgelidError
        If it is another file, or these are other weights.
    """
    arrays, told = load_parts(file)
    if "encoder" not in told:
        raise EdgelidError(f"{file} is no checkpoint without its encoder")
    config = told["config"]
    model = empty_large(config, told["encoder"]["dim"], decoder_shape(config))
    try:
        theirs = read_encoder(weights, config["large"]["layers"])
        model.encoder.load({name: halved(weight) for name, weight in theirs.items()})
    except (KeyError, ValueError) as error:
        raise EdgelidError(f"{weights} is of another Whisper than {file}") from error
    if fingerprint([model.encoder]) != told["encoder"]["fingerprint"]:
        raise EdgelidError(f"{weights} is of another Whisper than {file}")
    beside = learnt_beside(arrays)
    put_on(model.encoder, beside)
    for part in PARTS:
        layer = getattr(model, part)
        count = len(layer.get_weights())
        layer.set_weights([arrays[f"{DETACHED}{part}/{i}"] for i in range(count)])
    del told["encoder"]
    save_parts(output, model.arrays() | beside, told)


def halved(weight: np.ndarray) -> Float32Array:
    """In the precision that checkpoints keep."""
    return np.asarray(weight).astype(np.float16).astype(np.float32)
