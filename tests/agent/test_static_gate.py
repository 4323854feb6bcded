"""What runs on a board is Python 3.6, needs nothing but the board, and calls what exists there."""

import ast
import subprocess
import sys
from pathlib import Path

import hil.agent

FOLDER = Path(hil.agent.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
STANDARD = """
    argparse array base64 binascii collections contextlib ctypes errno fcntl functools gc getpass
    glob hashlib importlib json math os platform re select shutil signal stat struct subprocess sys
    tempfile threading time traceback uuid zipfile zlib
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
# What the board takes for the date is a fact about it, told to the host and used for nothing.
WALL_CLOCK = {"surroundings.py"}
BOARD_CLOCK = {
    "clock.py": {"monotonic", "sleep"},
    "loadloop.py": {"monotonic", "sleep"},
    "ort_runtime.py": {"monotonic"},
    "pace.py": {"monotonic", "sleep"},
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
                told = (owner, node.attr) == ("time", "time") and path.name in WALL_CLOCK
                if told:
                    continue
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
