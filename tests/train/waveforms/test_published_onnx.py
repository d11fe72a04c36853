"""Whisper's weights from the 8-bit graphs of transformers.js."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.waveforms.published import read_whisper
from train.waveforms.published_onnx import DECODER, ENCODER
from train.waveforms.whisper_languages import WhisperLanguages

onnx = pytest.importorskip("onnx", reason="needs onnx (in the extra test)")

DIM, MELS, TOKENS = 64, 80, 51_865
Arrays = dict[str, np.ndarray]


def layer(side: str, rng: np.random.Generator) -> Arrays:
    """A layer as Hugging Face names it."""
    attentions = ["self_attn"] + ["encoder_attn"] * (side == "decoder")
    shapes: dict[str, tuple[int, ...]] = {"fc1": (4 * DIM, DIM), "fc2": (DIM, 4 * DIM)}
    for attention in attentions:
        shapes |= {f"{attention}.{x}_proj": (DIM, DIM) for x in ("q", "k", "v", "out")}
    out: Arrays = {}
    for name, shape in shapes.items():
        out[f"{name}.weight"] = rng.normal(size=shape)
        if "k_proj" not in name:
            out[f"{name}.bias"] = rng.normal(size=shape[:1])
    for norm in (*(f"{name}_layer_norm" for name in attentions), "final_layer_norm"):
        out |= {f"{norm}.{part}": rng.normal(size=DIM) for part in ("weight", "bias")}
    return {f"{side}.layers.0.{name}": x.astype(np.float32) for name, x in out.items()}


@pytest.fixture(scope="module")
def weights() -> Arrays:
    rng = np.random.default_rng(0)

    def made(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    out = layer("encoder", rng) | layer("decoder", rng)
    for side in ("encoder", "decoder"):
        out |= {f"{side}.layer_norm.{part}": made(DIM) for part in ("weight", "bias")}
    out |= {"encoder.conv1.weight": made(DIM, MELS, 3), "encoder.conv1.bias": made(DIM)}
    out |= {"encoder.conv2.weight": made(DIM, DIM, 3), "encoder.conv2.bias": made(DIM)}
    out["decoder.embed_tokens.weight"] = made(TOKENS, DIM)
    out["decoder.embed_positions.weight"] = made(448, DIM)
    return out


def write_graph(file: Path, weights: Arrays, prefix: str, branches: bool) -> None:
    """Matrices as integers, and nodes that tell which layer each is of."""
    from onnx import helper, numpy_helper

    nodes, stored = [], []
    merged = "_merged_0" * branches

    def integers(name: str, x: np.ndarray) -> None:
        scale = np.float32(np.abs(x).max() / 100)
        stored.append(
            numpy_helper.from_array(np.round(x / scale + 128).astype(np.uint8), name + "_quantized")
        )
        stored.append(numpy_helper.from_array(np.uint8(128), name + "_zero_point"))
        stored.append(numpy_helper.from_array(scale, name + "_scale"))

    for i, (name, x) in enumerate(weights.items()):
        layer_name = prefix + name.removesuffix(".weight").split(".", 1)[1]
        if x.ndim == 1 or "positions" in name:
            stored.append(numpy_helper.from_array(x, prefix + name.split(".", 1)[1] + merged))
        elif "conv" in name or "tokens" in name:
            inner = prefix + name.split(".", 1)[1] + merged
            integers(inner, x)
            kind = "ConvInteger" if "conv" in name else "Gather"
            inputs = [f"x{i}", inner + "_quantized"][:: 1 if "conv" in name else -1]
            nodes.append(helper.make_node(kind, inputs, [f"y{i}"], name=f"/{layer_name}/Node"))
        else:
            inner = f"onnx::MatMul_{i}{merged}"
            integers(inner, x.T)
            path = "/" + layer_name.replace("layers.0.", "layers.0/").replace(".", "/")
            path = path.replace("layers/0", "layers.0").replace("/layers.", "/layers.")
            nodes.append(
                helper.make_node(
                    "MatMulInteger",
                    [f"x{i}", inner + "_quantized"],
                    [f"y{i}"],
                    name=f"{path}/MatMul_quant",
                )
            )
    if branches:
        inner_graph = helper.make_graph(nodes, "branch", [], [])
        nodes = [
            helper.make_node("If", ["c"], ["y"], then_branch=inner_graph, else_branch=inner_graph)
        ]
    graph = helper.make_graph(nodes, "whisper", [], [], initializer=stored)
    onnx.save(helper.make_model(graph), str(file))


@pytest.fixture(scope="module")
def folder(weights: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    for side, file in (("encoder", ENCODER), ("decoder", DECODER)):
        part = {name: x for name, x in weights.items() if name.startswith(side)}
        prefix = "model.decoder." if side == "decoder" else ""
        write_graph(folder / file, part, prefix, branches=side == "decoder")
    return folder


def test_every_matrix_is_found(folder: Path, weights: Arrays) -> None:
    arrays = read_whisper(folder)
    for ours, theirs in {
        "encoder/conv1/weight": "encoder.conv1.weight",
        "encoder/layer_0/ffn/linear_0/weight": "encoder.layers.0.fc1.weight",
        "encoder/layer_0/self_attention/linear_1/bias": "encoder.layers.0.self_attn.out_proj.bias",
        "decoder/layer_0/attention/linear_0/weight": "decoder.layers.0.encoder_attn.q_proj.weight",
        "decoder/layer_norm/gamma": "decoder.layer_norm.weight",
        "decoder/embeddings/weight": "decoder.embed_tokens.weight",
        "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
    }.items():
        wanted = weights[theirs]
        np.testing.assert_allclose(arrays[ours], wanted, atol=np.abs(wanted).max() / 190)
    keys = arrays["decoder/layer_0/self_attention/linear_0/weight"][DIM : 2 * DIM]
    wanted = weights["decoder.layers.0.self_attn.k_proj.weight"]
    np.testing.assert_allclose(keys, wanted, atol=np.abs(wanted).max() / 190)
    assert WhisperLanguages(arrays, ("de", "en")).labels[:2] == ("de", "en")


def test_what_is_missing_or_damaged_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="cannot read"):
        read_whisper(tmp_path)
    for name in (ENCODER, DECODER):
        (tmp_path / name).write_bytes(b"\x00\x01 no graph")
    with pytest.raises(EdgelidError, match="is no 8-bit graph of Whisper"):
        read_whisper(tmp_path)
    for name in (ENCODER, DECODER):
        write_graph(tmp_path / name, {}, "", branches=False)
    with pytest.raises(EdgelidError, match="are not Whisper's"):
        read_whisper(tmp_path)
