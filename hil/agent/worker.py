"""The child that owns the accelerator: builds, loads and runs engines; may crash, alone.

Reads one JSON line, answers with events and one result or error, until stdin ends. During a run
that may go on it reads the host's answers, one line each, when it needs them.
"""

import importlib
import json
import os
import sys
import time

from . import checks, libraries, loadloop, packing, wire
from .clock import to_ns
from .errors import AgentError, from_exception
from .tensors import default_input

_RUNTIMES = {"tensorrt": "trt_dialect", "onnxruntime": "ort_runtime"}


class Worker:
    """State between requests: the engine that is loaded.

    Args:
        root: the board's root folder.
        emit: sends an event.
        hear: waits for the next message; None at the end of the input.
        plugin: name of a module with runtimes beside the agent's own, for an agent on the host's
            own machine: `runtime(name, package)` gives one, `versions()` tells what there is.
    """

    def __init__(self, root, emit, hear, plugin=None):
        self._root = root
        self._emit = emit
        self._hear = hear
        self._plugin = plugin
        self._engine = None

    def handle(self, method, params):
        """Carries out one request; returns its result."""
        table = {
            "versions": self._versions,
            "identity": self._identity,
            "build": self._build,
            "load": self._load,
            "run": self._run,
            "hold": self._hold,
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
        told = {
            "tensorrt": _version("tensorrt", "__version__"),
            "pycuda": _version("pycuda", "VERSION_TEXT"),
            "numpy": _version("numpy", "__version__"),
            "onnxruntime": _version("onnxruntime", "__version__"),
        }
        if self._plugin is not None:
            try:
                told["host_runtimes"] = importlib.import_module(self._plugin).versions()
            except ImportError as error:
                told["host_runtimes"] = {"refused": str(error)}
        return told

    def _identity(self, params):
        return self._runtime(params["runtime"]).identity()

    def _runtime(self, name):
        if name in _RUNTIMES:
            return importlib.import_module("." + _RUNTIMES[name], __package__)
        if self._plugin is None:
            raise AgentError(
                "no_runtime",
                "the agent has no runtime %s" % name,
                "it belongs to the host's own Python",
                "name it in a device file of driver local",
            )
        return importlib.import_module(self._plugin).runtime(name, __package__)

    def _build(self, params):
        runtime = self._runtime(params["runtime"])
        begin_s = time.monotonic()
        result = runtime.build(params)
        result["build_s"] = time.monotonic() - begin_s
        return result

    def _load(self, params):
        self.close()
        begin_s = time.monotonic()
        self._engine = engine = self._runtime(params["runtime"]).load(
            params["engine"], params.get("shapes")
        )
        load_s = time.monotonic() - begin_s
        starts, stops = packing.series(), packing.series()
        first = getattr(engine, "first", None)
        if first is not None:  # loading had to run it once
            load_s -= first[1] - first[0]
            starts.append(first[0])
            stops.append(first[1])
        for tensor in engine.inputs:
            path = params["inputs"].get(tensor.name)
            engine.set_input(tensor.name, _bytes(path, tensor) if path else default_input(tensor))
        _known(params["inputs"], engine)
        if params.get("cuda_graph"):
            _captured(engine)
        self._emit({"kind": "start", "load_ns": to_ns(load_s)})
        for _ in range(params["warmup"]):
            starts.append(time.monotonic())
            engine.step()
            stops.append(time.monotonic())
        for event in packing.events("warmup", 0, starts, stops):
            self._emit(event)
        return {"copies": engine.copies, "outputs": [t.as_dict() for t in engine.outputs]}

    def _run(self, params):
        plan = params["plan"]
        scratch = params["scratch"]
        load = loadloop.Load(self._engine.step, plan["rate_hz"], self._root, scratch, self._emit)
        loadloop.run(load, plan, self._go_on)
        return {}

    def _go_on(self, block):
        """What the host answers about the evidence through a block; time may stand still."""
        message = self._hear() or {}
        answer = message.get("answer")
        if not isinstance(answer, dict) or answer.get("block") != block:
            raise checks.bad("an answer about block %d was due, not %r" % (block, message))
        return answer["go"]

    def _hold(self, params):
        window = loadloop.back_to_back(self._engine.step, params["duration_s"])
        mark = window.mark("on", 0)
        return {name: mark[name] for name in ("start_ns", "stop_ns", "inferences")}

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
        engine, count = self._engine, params["iterations"]
        by_events = getattr(engine, "device_ms", None)
        inspect = getattr(engine, "structure", None)
        told = {
            "device_ms": None if by_events is None else by_events(count),  # before it is slowed
            "structure": None if inspect is None else inspect(),
        }
        rows = [{"name": name, "time_ms": time_ms} for name, time_ms in engine.layers(count)]
        return dict(told, layers=rows)


def main(root, plugin=None):
    """Serves the agent on stdin and stdout until stdin ends; returns the exit status."""
    out = os.dup(1)
    os.dup2(2, 1)  # a library's prints, C or Python, must not look like answers
    sys.stdout = sys.stderr
    libraries.leave_out()

    def send(message):
        data = memoryview(wire.encode(message))
        while data:
            data = data[os.write(out, data) :]

    def hear():
        line = sys.stdin.buffer.readline()
        return json.loads(line.decode("ascii")) if line else None

    worker = Worker(root, lambda event: send({"event": event}), hear, plugin)
    for request in iter(hear, None):
        if "method" in request:  # an answer that nobody waited for is dropped
            send(_answer(worker, request))
    worker.close()
    return 0


def _answer(worker, request):
    try:
        return {"result": worker.handle(request["method"], request["params"])}
    except Exception as error:  # noqa: BLE001 - the boundary: every failure is named and sent
        return {"error": from_exception(error).as_dict()}


def _captured(engine):
    capture = getattr(engine, "capture", None)
    if capture is None:
        raise AgentError(
            "no_runtime",
            "this runtime has no CUDA graphs",
            "they are TensorRT's",
            "leave cuda_graph out",
        )
    capture()


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
