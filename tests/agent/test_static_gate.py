"""What runs on a board is Python 3.6, needs nothing but the board, and calls what exists there."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hil.agent

FOLDER = Path(hil.agent.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
STANDARD = """
    argparse array base64 collections ctypes errno fcntl gc getpass glob hashlib importlib json
    math os platform re select shutil signal stat struct subprocess sys tempfile threading time
    traceback uuid
"""
OF_THE_BOARD = {
    "trt_dialect.py": {"tensorrt"},
    "ort_runtime.py": {"onnxruntime", "numpy"},
}
# Newer than 3.6, or board time where liveness is meant (see hil/agent/clock.py).
BANNED_NAMES = {"monotonic_ns", "perf_counter_ns", "perf_counter", "time_ns", "capture_output"}
BANNED_CALLS = {
    ("subprocess", "run"),
    ("subprocess", "call"),
    ("subprocess", "check_output"),
    ("os", "system"),
    ("os", "popen"),
    ("time", "time"),
}
BOARD_CLOCK = {
    "clock.py": {"monotonic", "sleep"},
    "loadloop.py": {"monotonic"},
    "worker.py": {"monotonic"},
}


def parsed():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def test_the_agent_is_python_3_6():
    options = ["-t=3.6-", "--no-tips", "--violations"]
    done = subprocess.run(
        [sys.executable, "-c", "from vermin import main; main()", *options, str(FOLDER)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_import_is_on_the_board():
    strangers = []
    for path, tree in parsed():
        allowed = set(STANDARD.split()) | OF_THE_BOARD.get(path.name, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module).split(".")[0]]
            else:
                continue
            strangers += [f"{path.name}: {name}" for name in names if name not in allowed]
    assert not strangers


def test_the_boards_own_libraries_are_imported_only_when_needed():
    libraries = {"tensorrt", "onnxruntime", "numpy", "pycuda"}
    early = []
    for path, tree in parsed():
        for node in tree.body:
            if isinstance(node, ast.Import):
                early += [f"{path.name}: {a.name}" for a in node.names if a.name in libraries]
    assert not early


def test_nothing_newer_than_3_6_and_no_shell():
    found = []
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if node.attr in BANNED_NAMES or (owner, node.attr) in BANNED_CALLS:
                    found.append(f"{path.name}:{node.lineno} {owner}.{node.attr}")
            if isinstance(node, ast.keyword) and node.arg in {"capture_output", "text", "shell"}:
                found.append(f"{path.name}:{node.value.lineno} {node.arg}=")
            if isinstance(node, ast.keyword) and node.arg == "timeout":
                found.append(f"{path.name}:{node.value.lineno} subprocess timeouts are board time")
    assert not found


def test_only_the_files_named_read_the_boards_clock():
    found = []
    for path, tree in parsed():
        for node in ast.walk(tree):
            plain = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if not plain or node.value.id != "time" or node.attr not in {"monotonic", "sleep"}:
                continue
            if node.attr not in BOARD_CLOCK.get(path.name, set()):
                found.append(f"{path.name}:{node.lineno} time.{node.attr}")
    assert not found


def test_every_relative_import_is_shipped():
    shipped = {path.stem for path in FILES} | {"__version__"}
    missing = []
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, path
                names = [node.module] if node.module else [alias.name for alias in node.names]
                missing += [f"{path.name}: {name}" for name in names if name not in shipped]
    assert not missing


def api(version):
    """Every name in NVIDIA's list of one release."""
    roots = [Path(__file__).parents[1] / "data", Path(__file__).parents[2] / "hil/emulator/data"]
    for root in roots:
        for path in (root / "tensorrt_api" / version, root / version):
            if path.exists():
                lists = json.loads(path.read_text(encoding="utf-8"))
                return set(lists) | {n for v in lists.values() if isinstance(v, list) for n in v}
    raise AssertionError(f"no {version} here (looked in {', '.join(map(str, roots))})")


# What trt_dialect.py and trt_later.py touch that is no TensorRT: Python's, the agent's own, and
# names of the module that the lists, which hold classes only, leave out.
OTHERS = {
    "trt_dialect.py": """
        path exists rename join splitlines split isdigit append items values get read write lower
        inputs outputs device_memory_bytes close step set_input output names dtype fix_input
        as_dict nbytes allocate upload download stream synchronize capability lines total_ms
        scan NamedTensors fits set_workspace copies
        init_libnvinfer_plugins
    """,
    "trt_later.py": "append items synchronize stream",
}


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("trt_dialect.py", "api_tensorrt_source-8.2.1.json"),
        ("trt_later.py", "api_tensorrt_source-8.5.3.json"),
    ],
)
def test_every_tensorrt_name_exists_in_that_release(file, version):
    known = api(version)
    used = {}
    for node in ast.walk(ast.parse((FOLDER / file).read_text(encoding="utf-8"))):
        name = None
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"hasattr", "getattr"}:
            name = getattr(node.args[1], "value", None)
        if name is not None and not name.startswith("_"):
            used[name] = node.lineno
    later = {"device_memory_size_v2"}  # 11's name, behind its own feature test
    allowed = known | later | set(OTHERS[file].split())

    assert {name: line for name, line in used.items() if name not in allowed} == {}
    assert len(used) > 10
