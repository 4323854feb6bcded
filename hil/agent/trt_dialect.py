"""TensorRT as the board has it: which dialect it speaks, what it builds, what it loads.

Three dialects, chosen by feature tests and never by comparing versions:

* `trt_eight`: 8.2, tensors by index (bindings), `max_workspace_size`, FP16 by a flag;
* `trt_named`: 8.5 to 10, tensors by name, memory pools, FP16 by a flag;
* `trt_typed`: 11, as `trt_named`, but a network is strongly typed: its precision is its own.

What the first two share is in `trt_flagged`, what all three share in `trt_build` and
`trt_engine`. A test holds every TensorRT name of these files against NVIDIA's own lists of the
releases that the file is for.
"""

from . import trt_build, trt_eight, trt_named, trt_typed
from .buffers import open_device
from .errors import AgentError
from .stderrlog import StderrLog
from .trt_engine import Engine


def choose(trt):
    """The dialect (a module) that this TensorRT speaks."""
    if not hasattr(trt.ICudaEngine, "num_io_tensors"):
        return trt_eight
    return trt_named if hasattr(trt.BuilderFlag, "FP16") else trt_typed


def identity():
    """Release of TensorRT, its dialect, the GPU that a plan is good for, and how it is reached."""
    trt = _import()
    device = open_device()
    try:
        return {
            "version": trt.__version__,
            "platform": "sm_%s" % device.capability(),
            "dialect": choose(trt).NAME,
            "via": device.via,
        }
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
    device = open_device()  # TensorRT wants a context to measure its kernels in
    try:
        notes = trt_build.build(trt, choose(trt), want, log)
    finally:
        device.close()
    return _describe(want["engine"], want["shapes"], notes + log.lines())


def load(path, shapes=None):
    """Makes a plan ready to run, at given shapes of inputs that change.

    Raises:
        AgentError: `build_failed` where this TensorRT does not take the plan.
    """
    trt = _import()
    return Engine(trt, choose(trt), open_device(), path, shapes)


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


def _describe(path, shapes, messages):
    loaded = load(path, shapes)
    try:
        return {
            "inputs": [one.as_dict() for one in loaded.inputs],
            "outputs": [one.as_dict() for one in loaded.outputs],
            "device_memory_bytes": loaded.device_memory_bytes,
            "messages": messages,
            "profiles": loaded.ranges,
            "profile": loaded.profile,
        }
    finally:
        loaded.close()
