"""The child that owns the accelerator: builds, loads and runs engines; may crash, alone.

Reads one JSON line, answers with events and one result or error, until stdin ends.
"""

import importlib
import json
import os
import sys
import time

from . import checks, loadloop, wire
from .errors import AgentError, from_exception
from .tensors import default_input

_RUNTIMES = {"tensorrt": "trt_dialect", "onnxruntime": "ort_runtime"}


class Worker:
    """State between requests: the engine that is loaded."""

    def __init__(self, root, emit):
        self._root = root
        self._emit = emit
        self._engine = None

    def handle(self, method, params):
        """Carries out one request; returns its result."""
        table = {
            "versions": self._versions,
            "identity": self._identity,
            "build": self._build,
            "load": self._load,
            "run": self._run,
            "infer": self._infer,
            "layers": self._layers,
        }
        if method not in table:
            raise checks.bad("the worker knows no method %r" % (method,))
        return table[method](params)

    def close(self):
        """Frees what the engine holds."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _versions(self, _):
        return {
            "tensorrt": _version("tensorrt", "__version__"),
            "pycuda": _version("pycuda", "VERSION_TEXT"),
            "numpy": _version("numpy", "__version__"),
            "onnxruntime": _version("onnxruntime", "__version__"),
        }

    def _identity(self, params):
        return _runtime(params["runtime"]).identity()

    def _build(self, params):
        runtime = _runtime(params["runtime"])
        begin_s = time.monotonic()
        result = runtime.build(params)
        result["build_s"] = time.monotonic() - begin_s
        return result

    def _load(self, params):
        self.close()
        self._engine = engine = _runtime(params["runtime"]).load(params["engine"])
        for tensor in engine.inputs:
            path = params["inputs"].get(tensor.name)
            engine.set_input(tensor.name, _bytes(path, tensor) if path else default_input(tensor))
        _known(params["inputs"], engine)
        for _ in range(params["warmup"]):
            engine.step()
        return {"copies": engine.copies, "outputs": [t.as_dict() for t in engine.outputs]}

    def _run(self, params):
        loadloop.run(self._engine.step, params["plan"], self._root, self._emit)
        return {}

    def _infer(self, params):
        engine, count = self._engine, params["count"]
        _known(params["inputs"], engine)
        missing = [t.name for t in engine.inputs if t.name not in params["inputs"]]
        if missing:
            raise checks.bad("no values for input(s) %s" % ", ".join(missing))
        feeds = [(t, _opened(params["inputs"][t.name], t, count)) for t in engine.inputs]
        sinks = [(t, open(path, "wb")) for t, path in zip(engine.outputs, params["outputs"])]
        try:
            for _ in range(count):
                for tensor, file in feeds:
                    engine.set_input(tensor.name, file.read(tensor.nbytes()))
                engine.step()
                for tensor, file in sinks:
                    file.write(engine.output(tensor.name))
        finally:
            for _, file in feeds + sinks:
                file.close()
        return {"outputs": [dict(t.as_dict(), shape=t.stacked_shape(count)) for t, _ in sinks]}

    def _layers(self, params):
        layers = self._engine.layers(params["iterations"])
        return {"layers": [{"name": name, "time_ms": time_ms} for name, time_ms in layers]}


def main(root):
    """Serves the agent on stdin and stdout until stdin ends; returns the exit status."""
    out = os.dup(1)
    os.dup2(2, 1)  # a library's prints, C or Python, must not look like answers
    sys.stdout = sys.stderr

    def send(message):
        data = memoryview(wire.encode(message))
        while data:
            data = data[os.write(out, data) :]

    worker = Worker(root, lambda event: send({"event": event}))
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line.decode("ascii"))
        send(_answer(worker, request))
    worker.close()
    return 0


def _answer(worker, request):
    try:
        return {"result": worker.handle(request["method"], request["params"])}
    except Exception as error:  # noqa: BLE001 - the boundary: every failure is named and sent
        return {"error": from_exception(error).as_dict()}


def _runtime(name):
    return importlib.import_module("." + _RUNTIMES[name], __package__)


def _version(module, attribute):
    """The version of a library of the board, None where it cannot be imported."""
    try:
        return str(getattr(importlib.import_module(module), attribute, "unknown"))
    except (ImportError, OSError):
        return None


def _known(inputs, engine):
    names = [tensor.name for tensor in engine.inputs]
    strangers = sorted(set(inputs) - set(names))
    if strangers:
        raise checks.bad(
            "the engine has no input(s) %s; it has %s" % (", ".join(strangers), ", ".join(names))
        )


def _bytes(path, tensor):
    with _opened(path, tensor, 1) as file:
        return file.read()


def _opened(path, tensor, count):
    needed = tensor.nbytes() * count
    found = os.path.getsize(path)
    if found != needed:
        raise AgentError(
            "bad_request",
            "the values for %s hold %d bytes, %d samples of %s %s need %d"
            % (tensor.name, found, count, tensor.dtype, list(tensor.shape), needed),
        )
    return open(path, "rb")
