"""What TensorRT's ONNX parser complains of, by the nodes' own names."""

from . import onnxscan
from .errors import AgentError

_OPSETS = ((8, 2, 13), (8, 5, 17), (10, 0, 20))
"""First release (major, minor) and the newest opset its ONNX parser documents."""
_UNKNOWN = ("UNSUPPORTED_NODE", "No importer registered", "Plugin not found")
"""How releases say that they have no such operator: the last since 10, which looks for a plugin."""


def new_parser(trt, network, logger):
    """A parser that fills `network`, with NVIDIA's own plugins at hand."""
    trt.init_libnvinfer_plugins(logger, "")
    return trt.OnnxParser(network, logger)


def refusal(trt, dialect, data, parser, fresh):
    """The error for a network that `parser` did not take.

    Args:
        trt: the TensorRT module.
        dialect: how this release tells which nodes it does not support.
        data: the ONNX file.
        parser: the parser that failed, its complaints inside.
        fresh: a parser over an empty network, to ask about every node: 8.2 stops at the first.
    """
    opset, nodes = onnxscan.scan(data)
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    complaints = [(error.node(), error.desc()) for error in errors]
    told = {index for index, _ in complaints}
    others = [index for index in dialect.unsupported_nodes(fresh, data) if index not in told]
    said = [_complaint(index, text, nodes) for index, text in complaints]
    said += [_complaint(index, "not supported either", nodes) for index in others if nodes]
    why = "; ".join(said) or "the parser gave no reason"
    newest = newest_opset(trt.__version__)
    if opset is not None and newest is not None and opset > newest:
        return AgentError(
            "unsupported_opset",
            "TensorRT %s takes ONNX opset %d at most, the network has %d"
            % (trt.__version__, newest, opset),
            why,
            "export the network again with opset %d" % newest,
        )
    if any(_unsupported(error) for error in errors):
        return AgentError(
            "unsupported_operator",
            "TensorRT %s does not know an operator of this network" % trt.__version__,
            why,
            "replace the operator before exporting; `hil check` names what fits",
        )
    return AgentError("parse_failed", "TensorRT cannot read this network", why, "`hil check` it")


def hold_quantised(precision, data):
    """Holds that a network is quantised where INT8 is asked for, and only there.

    INT8 comes with the network in every dialect: its QuantizeLinear and DequantizeLinear carry the
    scales that the host found with the task's data.

    Raises:
        AgentError: `build_failed`.
    """
    quantised = onnxscan.is_quantised(data)
    if precision == "int8" and not quantised:
        raise AgentError(
            "build_failed",
            "int8 was asked, and the network is not quantised",
            "it holds no QuantizeLinear, and scales cannot be made up",
            "let hil quantise it with data of the task (`--calibrate`), or ask for fp16",
        )
    if precision != "int8" and quantised:
        raise AgentError(
            "build_failed",
            "%s was asked, and the network is quantised" % precision,
            "its QuantizeLinear and DequantizeLinear are for INT8",
            "ask for int8, or ship the network as it was before quantisation",
        )


def no_int8():
    """The error for INT8 on a GPU that has none."""
    return AgentError(
        "build_failed",
        "this GPU has no fast INT8",
        "TensorRT says so itself (platform_has_fast_int8); sm_53 and sm_62 (Nano, TX1, TX2) lack "
        "the instructions, Xavier and Orin have them",
        "ask for fp16, and ship the network as it was before quantisation",
    )


def newest_opset(version):
    """The newest opset this release documents; None where the release is unreadable."""
    numbers = version.split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return None
    release = (int(numbers[0]), int(numbers[1]))
    fitting = [opset for major, minor, opset in _OPSETS if release >= (major, minor)]
    return fitting[-1] if fitting else None


def _complaint(index, said, nodes):
    """One complaint with the node's own name, which TensorRT gives only as a number."""
    if 0 <= index < len(nodes):
        name, kind = nodes[index]
        return "node %s (%s): %s" % (name or index, kind, said)
    return said


def _unsupported(error):
    words = "%s %s" % (error.code(), error.desc())
    return any(each in words for each in _UNKNOWN)
