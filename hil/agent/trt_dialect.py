"""TensorRT as the board has it: builds plans from ONNX and runs them.

Written for 8.2 (bindings by index); what later releases call otherwise lives in `trt_later`.
Every TensorRT name in this file exists in 8.2.1; a test holds that against NVIDIA's own list.
"""

import os

from . import onnxscan, trt_later
from .buffers import open_device
from .errors import AgentError
from .stderrlog import StderrLog
from .tensors import Tensor

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_OPSETS = ((8, 2, 13), (8, 5, 17), (10, 0, 20))
"""First release (major, minor) and the newest opset its ONNX parser documents."""


def identity():
    """Release of TensorRT and the GPU that a plan is good for."""
    trt = _import()
    device = open_device()
    try:
        return {"version": trt.__version__, "platform": "sm_%s" % device.capability()}
    finally:
        device.close()


def build(want):
    """Builds `want["onnx"]` into `want["engine"]` (paths); returns what the plan looks like.

    Raises:
        AgentError: `unsupported_opset`, `unsupported_operator`, `parse_failed` with the nodes by
            name; `unknown_shape` with the inputs that need one; `build_failed`;
            `out_of_memory`.
    """
    trt = _import()
    log = StderrLog()
    device = open_device()
    try:
        logger = _logger(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt))
        with open(want["onnx"], "rb") as file:
            _parse(trt, network, logger, file.read())
        config = builder.create_builder_config()
        _set_limits(trt, config, want["workspace_mib"])
        notes = _set_precision(trt, builder, config, want["precision"])
        _set_shapes(builder, config, network, want["shapes"])
        cache = _use_timing_cache(config, want["timing_cache"])
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _build_failure(log.lines())
        _write(want["engine"], memoryview(plan))
        if cache is not None:
            _keep_timing_cache(config, want["timing_cache"])
    finally:
        device.close()
    return _describe(want["engine"], notes + log.lines())


def load(path):
    """Makes a plan ready to run.

    Raises:
        AgentError: `build_failed` where this TensorRT does not take the plan.
    """
    return Engine(_import(), open_device(), path)


class Engine:
    """A plan on the GPU with its buffers; copies are no part of `step`."""

    copies = "excluded"

    def __init__(self, trt, device, path):
        self._device = device
        self._logger = _logger(trt)
        self._runtime = trt.Runtime(self._logger)
        with open(path, "rb") as file:
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise AgentError(
                "build_failed",
                "TensorRT does not take this plan",
                "; ".join(StderrLog(whole=True).lines()[-3:]) or None,
                "a plan runs only on the release and board that built it: build it again",
            )
        self.device_memory_bytes = trt_later.device_memory_bytes(self._engine)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise AgentError("out_of_memory", "TensorRT could not make an execution context")
        self._trt = trt
        self._io = _interface(trt, self._engine, self._context)
        names = self._io.names()
        for name, is_input in names:
            if is_input:
                self._io.fix_input(name)
        tensors = {name: Tensor(name, self._dtype(name), self._io.shape(name)) for name, _ in names}
        self.inputs = [tensors[name] for name, is_input in names if is_input]
        self.outputs = [tensors[name] for name, is_input in names if not is_input]
        self._tensors = tensors
        self._addresses = {name: device.allocate(tensors[name].nbytes()) for name, _ in names}
        self.step = self._io.step(self._addresses, device)

    def set_input(self, name, data):
        """Copies one input to the device."""
        self._device.upload(self._addresses[name], data)

    def output(self, name):
        """Copies one output back."""
        return self._device.download(self._addresses[name], self._tensors[name].nbytes())

    def layers(self, iterations):
        """[(layer, mean ms)] in the order of execution, by TensorRT's own profiler."""
        profile = _profiler(self._trt)
        self._context.profiler = profile
        for _ in range(iterations):
            self.step()
        return [(name, total / iterations) for name, total in profile.total_ms.items()]

    def close(self):
        """Frees engine and buffers, in that order."""
        self.step = self._io = self._context = self._engine = self._runtime = None
        self._device.close()

    def _dtype(self, name):
        kind = str(self._io.dtype(name)).split(".")[-1]
        if kind not in _DTYPES:
            raise AgentError("build_failed", "%s has the data type %s, unknown here" % (name, kind))
        return _DTYPES[kind]


class Bindings:
    """Inputs and outputs by index, as 8.2 has them."""

    def __init__(self, engine, context):
        self._engine = engine
        self._context = context
        self._index = {}

    def names(self):
        """(name, is it an input) in the engine's order."""
        found = []
        for index in range(self._engine.num_bindings):
            name = self._engine.get_binding_name(index)
            self._index[name] = index
            found.append((name, self._engine.binding_is_input(index)))
        return found

    def dtype(self, name):
        """TensorRT's data type."""
        return self._engine.get_binding_dtype(self._index[name])

    def shape(self, name):
        """The full shape, once every input has one."""
        return tuple(self._context.get_binding_shape(self._index[name]))

    def fix_input(self, name):
        """Gives an input of changing shape the one its profile was made for."""
        index = self._index[name]
        if -1 in tuple(self._engine.get_binding_shape(index)):
            best = self._engine.get_profile_shape(0, index)[1]
            self._context.set_binding_shape(index, best)

    def step(self, addresses, device):
        """A call without arguments that runs one inference and waits for it."""
        by_index = sorted((self._index[name], address) for name, address in addresses.items())
        bindings = [address for _, address in by_index]
        execute, wait, stream = self._context.execute_async_v2, device.synchronize, device.stream

        def one():
            execute(bindings, stream)
            wait()

        return one


def _interface(trt, engine, context):
    if trt_later.NamedTensors.fits(engine):
        return trt_later.NamedTensors(trt, engine, context)
    return Bindings(engine, context)


def _import():
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise AgentError(
            "no_runtime",
            "this board has no TensorRT for Python",
            str(error),
            "install JetPack's python3-libnvinfer, or use `runtime: {name: onnxruntime}`",
        )
    return tensorrt


def _logger(trt):
    return trt.Logger(trt.Logger.WARNING)


def _network_flags(trt):
    """8.2 demands an explicit batch; 11 has nothing else and dropped the name."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0


def _parse(trt, network, logger, data):
    plugins = getattr(trt, "init_libnvinfer_plugins", None)
    if plugins is not None:
        plugins(logger, "")
    parser = trt.OnnxParser(network, logger)
    if parser.parse(data):
        return
    opset, nodes = onnxscan.scan(data)
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = [_complaint(error, nodes) for error in errors]
    why = "; ".join(told) or "the parser gave no reason"
    newest = _newest_opset(trt.__version__)
    if opset is not None and newest is not None and opset > newest:
        raise AgentError(
            "unsupported_opset",
            "TensorRT %s takes ONNX opset %d at most, the network has %d"
            % (trt.__version__, newest, opset),
            why,
            "export the network again with opset %d" % newest,
        )
    if any(_unsupported(error) for error in errors):
        raise AgentError(
            "unsupported_operator",
            "TensorRT %s does not know an operator of this network" % trt.__version__,
            why,
            "replace the operator before exporting; `hil check` names what fits",
        )
    raise AgentError("parse_failed", "TensorRT cannot read this network", why, "`hil check` it")


def _complaint(error, nodes):
    """One parser error with the node's own name, which TensorRT gives only as a number."""
    index, said = error.node(), error.desc()
    if 0 <= index < len(nodes):
        name, kind = nodes[index]
        return "node %s (%s): %s" % (name or index, kind, said)
    return said


def _unsupported(error):
    words = "%s %s" % (error.code(), error.desc())
    return "UNSUPPORTED_NODE" in words or "No importer registered" in words


def _newest_opset(version):
    """The newest opset this release documents; None where the release is unreadable."""
    numbers = version.split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return None
    release = (int(numbers[0]), int(numbers[1]))
    fitting = [opset for major, minor, opset in _OPSETS if release >= (major, minor)]
    return fitting[-1] if fitting else None


def _set_limits(trt, config, workspace_mib):
    if not trt_later.set_workspace(trt, config, workspace_mib << 20):
        config.max_workspace_size = workspace_mib << 20


def _set_precision(trt, builder, config, precision):
    """Allows FP16 kernels where asked; returns what a person should know of it."""
    if precision == "fp32":
        return []
    if not hasattr(trt.BuilderFlag, "FP16"):
        raise AgentError(
            "build_failed",
            "TensorRT %s takes the precision from the network alone" % trt.__version__,
            "it has no FP16 flag",
            "ship a network of float16 weights and ask for fp32",
        )
    config.set_flag(trt.BuilderFlag.FP16)
    fast = getattr(builder, "platform_has_fast_fp16", True)
    return [] if fast else ["this GPU has no fast FP16: expect no gain over FP32"]


def _set_shapes(builder, config, network, shapes):
    """Adds the one optimisation profile that inputs of changing shape need."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    changing = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    missing = [tensor.name for tensor in changing if tensor.name not in shapes]
    if missing:
        raise AgentError(
            "unknown_shape",
            "the shape of input(s) %s is not fixed in the network" % ", ".join(missing),
            "; ".join("%s is %s" % (t.name, list(t.shape)) for t in changing),
            "give it: " + " ".join("--shape %s=1x3x224x224" % name for name in missing),
        )
    for tensor in inputs:
        _fits(tensor, shapes)
    strangers = sorted(set(shapes) - {tensor.name for tensor in inputs})
    if strangers:
        raise AgentError("unknown_shape", "the network has no input %s" % ", ".join(strangers))
    if changing:
        profile = builder.create_optimization_profile()
        for tensor in changing:
            shape = tuple(shapes[tensor.name])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _fits(tensor, shapes):
    have, want = tuple(tensor.shape), tuple(shapes.get(tensor.name, tensor.shape))
    same = len(have) == len(want) and all(h in (-1, w) for h, w in zip(have, want))
    if not same:
        raise AgentError(
            "unknown_shape",
            "input %s is %s in the network, %s was asked" % (tensor.name, list(have), list(want)),
        )


def _use_timing_cache(config, path):
    """Lets the builder reuse kernel times measured on this board before; None where not wanted."""
    if path is None:
        return None
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    cache = config.create_timing_cache(data)
    if cache is not None:
        config.set_timing_cache(cache, False)
    return cache


def _keep_timing_cache(config, path):
    _write(path + ".new", memoryview(config.get_timing_cache().serialize()))
    os.rename(path + ".new", path)


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _build_failure(lines):
    why = "; ".join(lines[-4:]) or "TensorRT gave no reason"
    lower = why.lower()
    if "out of memory" in lower or "outofmemory" in lower:
        fix = "close other programs on the board, or lower `workspace_mib`"
        return AgentError("out_of_memory", "the board ran out of memory while building", why, fix)
    return AgentError("build_failed", "TensorRT could not build an engine", why)


def _describe(path, messages):
    engine = load(path)
    try:
        return {
            "inputs": [tensor.as_dict() for tensor in engine.inputs],
            "outputs": [tensor.as_dict() for tensor in engine.outputs],
            "device_memory_bytes": engine.device_memory_bytes,
            "messages": messages,
        }
    finally:
        engine.close()


def _profiler(trt):
    class Profiler(trt.IProfiler):
        """Adds up the time of each layer; TensorRT calls it once per layer and inference."""

        def __init__(self):
            trt.IProfiler.__init__(self)  # pybind11 demands the explicit call
            self.total_ms = {}

        def report_layer_time(self, layer_name, ms):
            """One layer of one inference."""
            self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms

    return Profiler()
