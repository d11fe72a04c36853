"""Inspection of model files: what is in one, and how two of them differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from convert.flatbuffer import CUSTOM, Graph, Operator, Tensor, read_graphs
from edge.errors import EdgelidError
from edge.model.modelfile import LENGTHS_FORMAT_VERSION, ModelFile
from edge.model.trust import admit
from edge.system.native_stderr import stderr_to_log

SHOWN_DIGITS = 4
# What two files always differ in, or what is told elsewhere.
NOT_COMPARED = {"path", "sha256", "tensors"}


def inspect(model: ModelFile) -> dict[str, Any]:
    """Facts of a model file.

    Parameters
    ----------
    model : ModelFile

    Returns
    -------
    dict
        For JSON. ``problems`` are sentences; a model that streams must have none. Of a model that
        takes windows of several lengths, shapes and multiply-adds are those of the longest.

    Raises
    ------
    EdgelidError
        If the graph or the metadata cannot be read, or make no sense.
    """
    try:
        return _facts(model)
    except EdgelidError:
        raise
    # Foreign bytes: an operator may lack anything, and the metadata say anything.
    except Exception as error:
        raise EdgelidError(
            f"the model {str(model.path)!r} cannot be inspected: its graph or its metadata make no "
            "sense"
        ) from error


def _facts(model: ModelFile) -> dict[str, Any]:
    graphs = read_graphs(model.graph, _shapes(model))
    description = model.description
    config, stream = description.front_end, description.stream
    operators = [operator for graph in graphs for operator in graph.operators]
    macs = {graph.name: sum(operator.macs for operator in graph.operators) for graph in graphs}
    hop_s = stream.hop_frames * config.hop_samples / config.sample_rate_hz
    metadata = asdict(description)
    clips = metadata["provenance"].pop("representative_clips", [])
    return {
        "path": str(model.path),
        "name": description.name,
        "mode": description.mode,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "graph_bytes": len(model.graph),
        "labels": list(model.labels),
        "parameters": sum(weight.elements for weight in _weights(operators)),
        "macs": macs,
        # Every hop runs each graph once: the trunk's step, and the head for one window.
        "macs_per_second": round(sum(macs.values()) / hop_s),
        "operators": dict(sorted(Counter(operator.kind for operator in operators).items())),
        "layers": [_layer(operator) for operator in operators],
        "states": _states(graphs),
        "tensors": [_tensor(tensor) for graph in graphs for tensor in graph.tensors],
        "problems": problems(graphs) if description.mode == "stream" else [],
        "metadata": metadata | {"representative_clips": len(clips)},
    }


def _shapes(model: ModelFile) -> dict[int, tuple[int, ...]]:
    """Of the tensors of a graph of windows of any length, by number, for the longest of them."""
    description = model.description
    if description.format_version != LENGTHS_FORMAT_VERSION:
        return {}
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    admit(model, 1)  # what follows may not survive a stranger's graph
    with stderr_to_log("ai-edge-litert"):
        # A delegate would keep the sizes of what it computes to itself.
        interpreter = Interpreter(
            model_content=model.graph,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        (frames,) = interpreter.get_input_details()
        shape = (1, description.window_frames[1], description.front_end.features)
        interpreter.resize_tensor_input(frames["index"], shape)
        interpreter.allocate_tensors()
        details = interpreter.get_tensor_details()
    return {each["index"]: tuple(each["shape"].tolist()) for each in details}


def problems(graphs: Iterable[Graph]) -> list[str]:
    """What keeps graphs from running in int8 alone, as sentences."""
    found = []
    for graph in graphs:
        for operator in graph.operators:
            floats = [t for t in (*operator.inputs, *operator.outputs) if "FLOAT" in t.type]
            if operator.kind == CUSTOM:
                found.append(f"{graph.name}: {operator.name} is a custom operator")
            elif floats:
                found.append(
                    f"{graph.name}: {operator.kind} {operator.name} has the "
                    f"{floats[0].type.lower()} tensor {floats[0].name}"
                )
    return found


def _weights(operators: Iterable[Operator]) -> Iterator[Tensor]:
    """Kernels and biases, each once, however many operators share it."""
    seen: set[tuple[str, str, str]] = set()
    for operator in operators:
        for weight in operator.weights:
            key = (weight.graph, weight.name, weight.sha256)
            if key not in seen:
                seen.add(key)
                yield weight


def _layer(operator: Operator) -> dict[str, Any]:
    output = operator.outputs[0]
    return {
        "graph": operator.graph,
        "operator": operator.kind,
        "name": operator.name,
        "output_type": output.type,
        "output_shape": list(output.shape),
        "output_scale": output.scales[0] if output.scales else None,
        "output_zero_point": output.zero_points[0] if output.zero_points else None,
        "parameters": sum(weight.elements for weight in operator.weights),
        "bytes": sum(weight.bytes for weight in operator.weights),
        "macs": operator.macs,
        "weights_sha256": [weight.sha256 for weight in operator.weights],
    }


def _states(graphs: Sequence[Graph]) -> list[dict[str, Any]]:
    """From the front of the trunk to its end; a signature has them by name, 10 before 2."""
    return [
        {"name": name, **_tensor(graph.inputs[name]), "bytes": graph.inputs[name].elements}
        for graph in graphs
        for name in sorted(graph.inputs, key=lambda name: (len(name), name))
        if f"{name}_next" in graph.outputs
    ]


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "graph": tensor.graph,
        "tensor": tensor.name,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "scales": list(tensor.scales),
        "zero_points": sorted(set(tensor.zero_points)),
        "bytes": tensor.bytes,
    }


def inspection_table(facts: dict[str, Any]) -> list[str]:
    """The facts that a person looks for, as lines."""
    metadata = facts["metadata"]
    provenance = metadata["provenance"]
    macs = ", ".join(f"{graph} {count:,}" for graph, count in facts["macs"].items())
    if metadata["format_version"] == LENGTHS_FORMAT_VERSION:
        macs += f" in windows of {max(metadata['stream']['windows_s']):g} s"
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["operators"].items())
    rows = {
        "model": f"{facts['name']} ({facts['mode']}, format {metadata['format_version']})",
        "file": f"{facts['path']}, {facts['size_bytes']:,} bytes "
        f"(of the graph {facts['graph_bytes']:,})",
        "sha256": facts["sha256"],
        "classes": " ".join(facts["labels"]),
        "parameters": f"{facts['parameters']:,}",
        "multiply-adds": f"{macs}; {facts['macs_per_second']:,} a second",
        "operators": kinds,
        "made with": f"TensorFlow {provenance.get('tensorflow', 'of unknown version')}, "
        f"edgelid-convert {provenance.get('converter', 'of unknown version')}",
    }
    lines = [f"{name:<14} {value}" for name, value in rows.items()]
    lines += ["", f"{'layer':<34} {'operator':<18} {'output':<16} {'scale':>10} {'zero':>5}"]
    lines[-1] += f" {'bytes':>8} {'multiply-adds':>14}"
    lines += [_layer_line(layer) for layer in facts["layers"]]
    if facts["states"]:
        lines += [
            "",
            f"{'state':<34} {'':<18} {'shape':<16} {'scale':>10} {'zero':>5} {'bytes':>8}",
        ]
        for state in facts["states"]:
            shape, scale = _by(state["shape"]), _number(_first(state["scales"]))
            zero = _number(_first(state["zero_points"]))
            lines.append(
                f"{state['name']:<34} {'':<18} {shape:<16} {scale:>10} {zero:>5} "
                f"{state['bytes']:>8,}"
            )
    return [_one_line(line) for line in lines]


def _layer_line(layer: dict[str, Any]) -> str:
    name = f"{layer['graph']}: {layer['name']}"
    scale, zero = _number(layer["output_scale"]), _number(layer["output_zero_point"])
    if layer["output_type"] != "INT8":
        scale = layer["output_type"].lower()
    return (
        f"{name[-34:]:<34} {layer['operator']:<18} {_by(layer['output_shape']):<16} {scale:>10} "
        f"{zero:>5} {layer['bytes']:>8,} {layer['macs']:>14,}"
    )


def _first(values: Sequence[float]) -> float | None:
    return values[0] if values else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.{SHOWN_DIGITS}g}"


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def difference(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]]:
    """Facts that two model files do not share.

    Parameters
    ----------
    first, second : dict
        From :func:`inspect`.

    Returns
    -------
    dict of str to [first, second]
        By the path of the fact, such as ``metadata.decoder.stay_s``; None where a file lacks it.
    """
    flat = [dict(_flat(_comparable(facts))) for facts in (first, second)]
    names = [*flat[0], *(name for name in flat[1] if name not in flat[0])]
    pairs = {name: [each.get(name) for each in flat] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _comparable(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in facts.items() if name not in NOT_COMPARED}
    # By number and name: the same layer has the same place in models of one shape.
    kept["layers"] = {
        f"{i} {layer['graph']}/{layer['name']} {layer['operator']}": layer
        | {"weights_sha256": " ".join(digest[:8] for digest in layer["weights_sha256"])}
        for i, layer in enumerate(facts["layers"])
    }
    kept["states"] = {state["name"]: state for state in facts["states"]}
    return kept


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def difference_table(found: dict[str, list[Any]]) -> list[str]:
    """Differences as lines."""
    if not found:
        return ["the two models are the same"]
    lines = []
    for name, (first, second) in found.items():
        lines += [name, f"  - {first}", f"  + {second}"]
    return [_one_line(line) for line in lines]


def _one_line(text: str) -> str:
    """A line in which a name of a stranger's begins no other."""
    return text.replace("\n", "\\n")
