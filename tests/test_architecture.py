"""The house stays easy to see: one-way imports, no cycles, heavy libraries only where named."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hil"
LAYERS = (
    "cli",
    "bench",
    "report",
    "synth",
    "tasks",
    "net",
    "measure",
    "device",
    "emulator",
    "agent",
    "core",
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
HEAVY = {"torch", "onnx", "onnxruntime", "paramiko", "sklearn", "plotly", "torch_pruning"}
HEAVY |= {"optuna", "botorch", "gpytorch", "PIL", "defusedxml"}
# Who may import what is heavy, at all; everything else must stay light.
DOORS = {
    "torch": (
        "net/",
        "tasks/",
        "synth/workbench",
        "synth/stimuli",
        "synth/tensors",
        "synth/emitting",
        "synth/peers/scbo",
    ),
    "torch_pruning": ("net/",),
    "onnx": ("net/", "emulator/"),
    "onnxruntime": ("net/", "emulator/", "agent/"),
    "paramiko": ("device/", "emulator/"),
    "sklearn": ("tasks/",),
    "PIL": ("tasks/readers/pictures",),
    "defusedxml": ("tasks/readers/xml_boxes",),
    "plotly": ("report/",),
    "optuna": ("synth/peers/optuna_peers",),
    "botorch": ("synth/peers/scbo",),
    "gpytorch": ("synth/peers/scbo",),
}


def modules() -> dict[str, Path]:
    """Return dotted module names of the package and their files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


def imports(path: Path, package: str) -> set[str]:
    """Return absolute names imported anywhere in the file (type-checking imports too)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: -node.level + 1 or None]
                base = ".".join([*above, base]).strip(".")
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "hil" and parts[1] in LAYERS else None


def edges() -> list[tuple[str, str]]:
    known = modules()
    result = []
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        result += [(name, target) for target in imports(path, package) if target in known]
    return result


def test_imports_point_down_only():
    upward = [
        f"{source} imports {target}"
        for source, target in edges()
        if (low := layer_of(source)) and (high := layer_of(target))
        if LAYERS.index(high) < LAYERS.index(low)
    ]
    assert not upward


def test_what_synthesizes_and_measures_never_sees_the_emulator():
    peeking = [
        f"{source} imports {target}"
        for source, target in edges()
        if layer_of(target) == "emulator"
        and layer_of(source) in {"synth", "net", "tasks", "measure"}
    ]
    assert not peeking
    for layer in ("synth", "net", "tasks", "measure"):
        for path in (PACKAGE / layer).rglob("*.py"):
            assert "emulator/boards" not in path.read_text(encoding="utf-8"), path


def test_the_agent_imports_nothing_from_hil():
    outside = [
        f"{s} imports {t}" for s, t in edges() if layer_of(s) == "agent" and layer_of(t) != "agent"
    ]
    assert not outside


def test_there_are_no_import_cycles():
    graph: dict[str, set[str]] = {}
    for source, target in edges():
        if source != target and not source.startswith(target + "."):
            graph.setdefault(source, set()).add(target)
    done: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> None:
        assert node not in path, " -> ".join((*path[path.index(node) :], node))
        if node in done:
            return
        for target in sorted(graph.get(node, ())):
            visit(target, (*path, node))
        done.add(node)

    for name in sorted(graph):
        visit(name, ())


def test_heavy_libraries_enter_only_where_named():
    strangers = []
    for path in modules().values():
        inside = path.relative_to(PACKAGE).as_posix()
        for name in imports(path, ""):
            door = DOORS.get(name.split(".")[0])
            if door and not inside.startswith(door):
                strangers.append(f"{inside} imports {name}")
    assert not strangers


@pytest.mark.parametrize("command", ["import hil.cli.app", "import hil.core.errors"])
def test_the_command_line_starts_without_heavy_libraries(command):
    code = f"{command}; import sys; print(sorted({HEAVY!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.strip() == "[]"


def test_files_and_functions_stay_small():
    too_long = []
    for name, path in modules().items():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE_LINES:
            too_long.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{name}.{node.name}: {lines} lines")
    assert not too_long
