"""Whether this Python, on this board, carries the agent: tried, part by part, without a network.

One JSON line on standard output: {"python", "checks": [{"name", "ok", "detail"}]}.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import zipfile

from . import packing, procs, wire
from .blobs import Store
from .clock import board_sleep, boottime_s, now_ns
from .errors import AgentError

_OPTIONAL = ("trt_dialect", "trt_build", "trt_engine", "trt_eight", "trt_named", "ort_runtime")


def main():
    """Tries every part; returns 0 where all of them work."""
    tried = [_tried(name, part) for name, part in _PARTS]
    json.dump({"python": platform.python_version(), "checks": tried}, sys.stdout)
    sys.stdout.write("\n")
    return 0 if all(one["ok"] for one in tried) else 1


def _tried(name, part):
    try:
        return {"name": name, "ok": True, "detail": part()}
    except Exception as error:  # noqa: BLE001 - a self-test reports whatever breaks
        return {"name": name, "ok": False, "detail": "%s: %s" % (type(error).__name__, error)}


def _modules():
    with zipfile.ZipFile(sys.argv[0]) as own:
        names = sorted(n[:-3].split("/") for n in own.namelist() if n.count("/") == 1)
    for package, module in names:
        if module not in _OPTIONAL:  # these load the board's libraries, which may be absent
            importlib.import_module("%s.%s" % (package, module))
    return "%d modules" % len(names)


def _clock():
    before_ns, before_s = now_ns(), boottime_s()
    board_sleep(0.05, lambda: None)
    passed_ms = (now_ns() - before_ns) / 1e6
    if not 45 <= passed_ms or boottime_s() < before_s:
        raise ValueError("0.05 s of sleep were %.1f ms" % passed_ms)
    return "0.05 s of sleep were %.1f ms" % passed_ms


def _protocol():
    line = wire.encode({"id": 7, "method": "ping", "params": {}})
    whole = wire.LineBuffer().feed(line)
    request = wire.parse(whole[0])
    if (request.id, request.method) != (7, "ping"):
        raise ValueError("a request came back as %r" % (request,))
    series = packing.series()
    series.append(1.5)
    return "a request survives, %d stamp kept" % len(series)


def _children():
    children = procs.Children()
    child = children.spawn(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if procs.stop(children, child) == 0:
        raise ValueError("a child that was told to end ended by itself")
    return "a child is started and ended with its group"


def _store():
    store = Store(os.path.join(os.path.expanduser("~"), ".hil"))
    store.prepare()
    path = store.fresh()
    with open(path, "wb") as file:
        file.write(b"hil")
    sha256 = store.adopt(path)
    os.unlink(store.blob_path(sha256))
    try:
        store.blob_path("../etc/passwd")
    except AgentError:
        kept = "files are kept by their hash, and no other name is taken"
        if store.refused is None:
            return kept
        return "%s; in %s, since %s" % (kept, store.folder, store.refused)
    raise ValueError("a name outside the store was taken")


_PARTS = (
    ("modules", _modules),
    ("clock", _clock),
    ("protocol", _protocol),
    ("children", _children),
    ("store", _store),
)
