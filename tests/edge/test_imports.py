"""The device needs no training stack: what is imported, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge", "convert", "train")
MAY_IMPORT = {"edge": set(), "train": {"edge"}, "convert": {"edge", "train"}}
HEAVY = {"tensorflow", "keras", "librosa", "scipy", "numba", "sklearn", "train", "convert"}
# Loaded only when a microphone, a file, a resampler, an interpreter or a plot is asked for.
LATE = {"sounddevice", "soundfile", "soxr", "ai_edge_litert", "tflite_runtime", "matplotlib"}
# Of outlets, whose modules are only imported when they are asked for.
OUTLETS = {"rich", "starlette", "uvicorn", "prometheus_client", "paho"}

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "edge").rglob("*.py")
    if path.parent.name != "web" or path.stem in ("__init__", "address", "outlet", "settings")
)


def loaded_by(script: str, environment: dict[str, str]) -> set[str]:
    """Top-level modules in a new process once a script has run."""
    script += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_runtime_pulls_in_none_of_the_training_stack(environment: dict[str, str]) -> None:
    assert len(MODULES) > 10
    loaded = loaded_by("\n".join(f"import {module}" for module in MODULES), environment)
    assert "numpy" in loaded
    assert loaded.isdisjoint(HEAVY | LATE | OUTLETS - {"rich"})


def test_nor_does_an_answer(environment: dict[str, str], sample: Path) -> None:
    script = f"""
from edge.cli import main
assert main(["classify", "--json", {str(sample)!r}]) == 0
"""
    loaded = loaded_by(script, environment)
    assert loaded.isdisjoint(HEAVY | OUTLETS | {"sounddevice", "soxr"})  # the sample is at 16 kHz


def test_nor_what_only_others_need(environment: dict[str, str], sample: Path) -> None:
    """The version of a package that does not tell it, and a place for large models."""
    script = f"""
import sys
before = set(sys.modules)  # of whatever the environment has imported at every start
from edge.cli import main
assert main(["info"]) == 0
assert not {{"importlib.metadata", "tempfile"}} & (set(sys.modules) - before)
assert main(["listen", "--json", "--input", {str(sample)!r}]) == 0
assert "importlib.metadata" not in set(sys.modules) - before
"""
    loaded_by(script, environment)


def test_the_command_line_alone_does_not_even_load_numpy(environment: dict[str, str]) -> None:
    assert "numpy" not in loaded_by("import edge.cli; edge.cli.parser()", environment)


def imported(path: Path) -> set[str]:
    """Top-level names that a source imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "__import__")
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_direction_of_imports(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    sources = list((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        ours = imported(path) & set(PACKAGES)
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {ours - allowed}"


def test_the_runtime_uses_only_what_its_extra_installs() -> None:
    needed = set().union(*(imported(path) for path in (ROOT / "edge").rglob("*.py")))
    assert needed - set(sys.stdlib_module_names) - {"edge"} <= {"numpy", "wyoming", *LATE, *OUTLETS}
