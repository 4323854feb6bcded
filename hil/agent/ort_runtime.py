"""ONNX Runtime on the CPU: the runtime of hosts without TensorRT.

A plan is one line of JSON (format, input shapes) and then the optimised ONNX file, so that it is
complete and named by its hash like any other. One thread, so that its figures repeat.
"""

import json
import os
import platform
import tempfile
import time

from .errors import AgentError
from .tensors import Tensor

_FORMAT = "hil/ort-plan@1"
_DTYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "int8": "int8",
    "uint8": "uint8",
    "bool": "bool",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
}


def identity():
    """Release of ONNX Runtime and the kind of machine."""
    return {"version": _import().__version__, "platform": "cpu-" + platform.machine()}


def build(want):
    """Optimises `want["onnx"]` and writes the plan to `want["engine"]` (paths).

    Raises:
        AgentError: as `trt_dialect.build`.
    """
    ort = _import()
    if want["precision"] != "fp32":
        raise AgentError(
            "build_failed",
            "ONNX Runtime runs a network in the precision it is stored in",
            "%s was asked" % want["precision"],
            "set `runtime: {name: onnxruntime, precision: fp32}` in the device file",
        )
    if want.get("profiles"):
        raise AgentError(
            "unknown_shape",
            "ONNX Runtime has no optimisation profiles",
            "they are TensorRT's",
            "give one shape of each open input (--shape), and leave --shapes out",
        )
    optimised = want["engine"] + ".onnx"
    options = _options(ort)
    # "Extended" is the highest level whose result may be stored: above it, layouts depend on
    # the CPU's own vector width.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = optimised
    try:
        session = _session(ort, want["onnx"], options)
        _check_shapes(session, want["shapes"])
        with open(optimised, "rb") as file, open(want["engine"], "wb") as plan:
            header = {"format": _FORMAT, "shapes": want["shapes"]}
            plan.write(json.dumps(header, sort_keys=True).encode("ascii") + b"\n")
            plan.write(file.read())
    finally:
        if os.path.exists(optimised):
            os.unlink(optimised)
    return _describe(load(want["engine"]))


def load(path, shapes=None):  # noqa: ARG001 - one call for all runtimes
    """Makes a plan ready to run, at the shapes it was built for."""
    return Engine(_import(), path)


class Engine:
    """A session with its inputs in place. There is no device, so there are no copies.

    `first` holds the stamps before and after the one inference that making it takes.
    """

    copies = "excluded"

    def __init__(self, ort, path, profile_prefix=None):
        import numpy

        self._numpy = numpy
        self._ort = ort
        self._path = path
        header, model = _read_plan(path)
        options = _options(ort)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        self._session = _session(ort, model, options)
        self.inputs = [_input(node, header["shapes"]) for node in self._session.get_inputs()]
        self._feed = {tensor.name: self._array(tensor) for tensor in self.inputs}
        self._results = {}
        names = [node.name for node in self._session.get_outputs()]
        run, feed = self._session.run, self._feed

        def step():
            self._results = run(names, feed)

        self.step = step
        before = time.monotonic()
        step()  # output shapes that depend on the data are known only afterwards
        self.first = (before, time.monotonic())
        self.outputs = [
            Tensor(name, str(value.dtype), value.shape) for name, value in zip(names, self._results)
        ]

    def set_input(self, name, data):
        """Replaces the values of one input."""
        old = self._feed[name]
        self._feed[name] = self._numpy.frombuffer(data, old.dtype).reshape(old.shape)

    def output(self, name):
        """The bytes of one output, C order."""
        names = [tensor.name for tensor in self.outputs]
        return self._numpy.ascontiguousarray(self._results[names.index(name)]).tobytes()

    def layers(self, iterations):
        """[(node, mean ms)] by ONNX Runtime's own profiler, in a session of its own."""
        with tempfile.TemporaryDirectory() as folder:
            profiled = Engine(self._ort, self._path, os.path.join(folder, "profile"))
            profiled._feed.update(self._feed)
            for _ in range(iterations):
                profiled.step()
            with open(profiled._session.end_profiling(), encoding="utf-8") as file:
                events = json.load(file)
        return _mean_ms(events, iterations + 1)  # making the engine ran it once

    def close(self):
        """Ends the session."""
        self._session = None

    def _array(self, tensor):
        return self._numpy.zeros(tensor.shape, tensor.dtype)


def _import():
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise AgentError(
            "no_runtime",
            "there is no ONNX Runtime here",
            str(error),
            "install it (pip install onnxruntime), or use `runtime: {name: tensorrt}`",
        )
    return onnxruntime


def _options(ort):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(ort, model, options):
    """Opens a model (path or bytes), its refusals sorted into our codes.

    ONNX Runtime's exceptions share no base class but Exception, so they are told apart by where
    they come from and by their words.
    """
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "onnxruntime" not in type(error).__module__:
            raise
        raise _refusal(error)


def _refusal(error):
    said = str(error).strip()
    lower = said.lower()
    if "opset" in lower or "ir version" in lower:
        return AgentError(
            "unsupported_opset", "this ONNX Runtime is older than the network", said, "export anew"
        )
    if "not a registered function/op" in lower or type(error).__name__ == "NotImplemented":
        return AgentError(
            "unsupported_operator", "ONNX Runtime does not know an operator of this network", said
        )
    return AgentError("parse_failed", "ONNX Runtime cannot read this network", said)


def _read_plan(path):
    with open(path, "rb") as file:
        first, model = file.readline(65536), file.read()
    try:
        header = json.loads(first.decode("ascii"))
    except ValueError:
        header = {}
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise AgentError(
            "bad_request", "the engine is no ONNX Runtime plan", None, "build it again"
        )
    return header, model


def _open(node):
    return [dim for dim in node.shape if not isinstance(dim, int) or dim < 0]


def _check_shapes(session, shapes):
    nodes = session.get_inputs()
    missing = [node.name for node in nodes if _open(node) and node.name not in shapes]
    if missing:
        raise AgentError(
            "unknown_shape",
            "the shape of input(s) %s is not fixed in the network" % ", ".join(missing),
            "; ".join("%s is %s" % (n.name, n.shape) for n in nodes if n.name in missing),
            "give it: " + " ".join("--shape %s=1x3x224x224" % name for name in missing),
        )
    strangers = sorted(set(shapes) - {node.name for node in nodes})
    if strangers:
        raise AgentError("unknown_shape", "the network has no input %s" % ", ".join(strangers))
    for node in nodes:
        want = shapes.get(node.name, node.shape)
        pairs = list(zip(node.shape, want))
        if len(want) != len(node.shape) or any(isinstance(h, int) and h != w for h, w in pairs):
            raise AgentError(
                "unknown_shape",
                "input %s is %s in the network, %s was asked" % (node.name, node.shape, want),
            )


def _input(node, shapes):
    kind = node.type.replace("tensor(", "").rstrip(")")
    if kind not in _DTYPES:
        raise AgentError("build_failed", "input %s has the type %s" % (node.name, node.type))
    return Tensor(node.name, _DTYPES[kind], shapes.get(node.name, node.shape))


def _describe(engine):
    try:
        return {
            "inputs": [tensor.as_dict() for tensor in engine.inputs],
            "outputs": [tensor.as_dict() for tensor in engine.outputs],
            "device_memory_bytes": None,
            "messages": [],
        }
    finally:
        engine.close()


def _mean_ms(events, runs):
    """Mean per run of each node's kernel time; the profile counts microseconds."""
    total_us = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            node = name[: -len("_kernel_time")]
            total_us[node] = total_us.get(node, 0) + event["dur"]
    return [(node, total / 1000.0 / runs) for node, total in total_us.items()]
