"""A plan on the GPU, ready to run: one dialect, one device, buffers for every tensor."""

import json

from . import trt_shapes
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
_MOST_STRUCTURE = 4 << 20


class Engine:
    """A plan on the GPU with its buffers; copies are no part of `step`.

    Args:
        trt: the TensorRT module.
        dialect: `trt_eight`, `trt_named` or `trt_typed`.
        device: memory and one stream (`buffers`); closed with the engine.
        path: the plan.
        shapes: of changing inputs; None, and inputs left out, are what their profile is best at.

    Attributes:
        ranges: {input: (smallest, best, largest)} of changing inputs for each optimisation
            profile; empty where no input changes.
        profile: number of the one in use; None where there is none.

    Raises:
        AgentError: `build_failed`, `out_of_memory`; `unknown_shape` where no profile holds them.
    """

    copies = "excluded"

    def __init__(self, trt, dialect, device, path, shapes=None):
        self._device = device
        self._graph = None
        try:
            self._open(trt, dialect, path, shapes or {})
        except BaseException:
            self.close()
            raise

    def _open(self, trt, dialect, path, shapes):
        self._trt = trt
        self._logger = trt.Logger(trt.Logger.WARNING)
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
        self.device_memory_bytes = dialect.device_memory_bytes(self._engine)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise AgentError(
                "out_of_memory",
                "the board has too little memory free to run this engine",
                "TensorRT could not make an execution context, which needs %.1f MiB"
                % (self.device_memory_bytes / 1048576.0),
                "close other programs on the board, or use a smaller network or batch",
            )
        self._io = dialect.Tensors(trt, self._engine, self._context)
        names = self._io.names()
        self._fix_shapes([name for name, is_input in names if is_input], shapes)
        known = {name: Tensor(name, self._dtype(name), self._io.shape(name)) for name, _ in names}
        self.inputs = [known[name] for name, is_input in names if is_input]
        self.outputs = [known[name] for name, is_input in names if not is_input]
        self._known = known
        self._addresses = {name: self._device.allocate(known[name].nbytes()) for name, _ in names}
        self._enqueue = self._io.enqueue(self._addresses, self._device.stream)
        self.step = self._stepping(self._enqueue)

    def _fix_shapes(self, inputs, shapes):
        """Chooses the profile that shapes are run in, and gives changing inputs their shape."""
        self.ranges = self._io.ranges(inputs)
        changing = list(self.ranges[0]) if self.ranges else []
        if not changing:
            self.ranges, self.profile = [], None
            return
        wanted = {name: dims for name, dims in shapes.items() if name in changing}
        self.profile = trt_shapes.choose(self.ranges, wanted)
        if self.profile > 0:
            self._io.use(self.profile, self._device.stream)
            self._device.synchronize()
        for name in changing:
            self._io.fix_input(name, wanted.get(name, self.ranges[self.profile][name][1]))

    def capture(self):
        """Makes `step` launch one CUDA graph instead of every kernel by itself.

        For networks whose kernels are shorter than their launches. Runs the network once.

        Raises:
            AgentError: `no_runtime` where the CUDA runtime is not there or refuses.
        """
        self.step()  # TensorRT sets up lazily, which no capture may contain
        self._graph = self._device.capture(self._enqueue)
        self.step = self._stepping(self._graph.launch)

    def set_input(self, name, data):
        """Copies one input to the device."""
        self._device.upload(self._addresses[name], data)

    def output(self, name):
        """Copies one output back."""
        return self._device.download(self._addresses[name], self._known[name].nbytes())

    def device_ms(self, iterations):
        """Mean time of one inference between two CUDA events, in ms: without the host's part."""
        return self._device.time_ms(self._enqueue, iterations) / iterations

    def layers(self, iterations):
        """[(layer, mean ms)] in the order of execution, by TensorRT's own profiler."""
        profiler = _profiler(self._trt)
        step = self._stepping(self._enqueue)  # a graph's layers cannot be told apart
        self._context.profiler = profiler
        for _ in range(iterations):
            step()
        return [(name, total / iterations) for name, total in profiler.total_ms.items()]

    def structure(self):
        """What the plan is made of, by TensorRT's own inspector: JSON's value, or its text.

        Layer names alone, unless the plan was built with `detailed`; None where it is too long
        to be sent.
        """
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        if len(text) > _MOST_STRUCTURE:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def close(self):
        """Frees engine and buffers, in that order."""
        if self._graph is not None:
            self._graph.close()
        self.step = self._enqueue = self._io = self._context = self._engine = None
        self._graph = self._runtime = None
        self._device.close()

    def _stepping(self, start):
        wait = self._device.synchronize

        def step():
            start()
            wait()

        return step

    def _dtype(self, name):
        kind = str(self._io.dtype(name)).split(".")[-1]
        if kind not in _DTYPES:
            raise AgentError("build_failed", "%s has the data type %s, unknown here" % (name, kind))
        return _DTYPES[kind]


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
