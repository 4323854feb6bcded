"""A float32 network made INT8 in the ONNX file: QuantizeLinear and DequantizeLinear, with scales.

Every TensorRT from 8.0 on takes precision from such a graph, and from 11 on from nowhere else: so
one way serves all boards, the scales are part of what is hashed and shipped, and NVIDIA's own
parser can judge the file on a machine without a GPU.

What TensorRT asks, and ONNX Runtime's tool does not do unless told: zero points of 0, weights that
stay float32 in front of a QuantizeLinear (8.x takes no INT8 constants), biases left as they are,
and no pair behind a convolution, where it would keep the activation from being fused into it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import quantization

from hil.core.errors import ConfigError, ExportError
from hil.net.quantrules import PAIR, QUANTISED_OPERATORS, not_quantisable

Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)
PERCENTILE = 99.99
"""Share of an activation's values, in percent, that `percentile` keeps from being clipped."""
_PER_CHANNEL_OPSET = 13
_MOST_BATCH = 32
_NOTE = "hil.calibration"

Samples = Mapping[str, NDArray[Any]]
"""Values of each input by its name, (N, *sample)."""


@dataclass(frozen=True)
class Calibration:
    """What scales of activations are found with.

    Attributes:
        samples: typical values of every input, (N, *sample).
        method: `minmax` lets the largest magnitude seen fit; `percentile` clips the largest 0.01 %.
    """

    samples: Samples
    method: Method = "minmax"

    @property
    def count(self) -> int:
        """Number of samples."""
        return min((len(values) for values in self.samples.values()), default=0)

    def key(self, data: bytes) -> str:
        """Hash of all that a calibration of this network depends on."""
        told = hashlib.sha256(data)
        tool = f"onnxruntime {version('onnxruntime')}"
        told.update(json.dumps([_NOTE, tool, self.method, PERCENTILE]).encode())
        for name in sorted(self.samples):
            values = np.ascontiguousarray(self.samples[name])
            told.update(json.dumps([name, str(values.dtype), values.shape]).encode())
            told.update(values.tobytes())
        return told.hexdigest()


def is_quantised(data: bytes) -> bool:
    """Whether a model holds QuantizeLinear or DequantizeLinear."""
    graph = onnx.load_model_from_string(data).graph
    return any(node.op_type in PAIR for node in graph.node)


def calibration_of(data: bytes) -> dict[str, Any] | None:
    """What `quantise` wrote into a model about its calibration; None where it made none of it."""
    for entry in onnx.load_model_from_string(data).metadata_props:
        if entry.key == _NOTE:
            return dict(json.loads(entry.value))
    return None


def scales(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Scale of each quantised tensor: one number, or one a channel for weights."""
    model = onnx.load_model_from_string(data)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.input[0]: np.atleast_1d(numpy_helper.to_array(constants[node.input[1]]))
        for node in model.graph.node
        if node.op_type == PAIR[0] and node.input[1] in constants
    }


# assumes: int8-pairs
def quantise(data: bytes, calibration: Calibration) -> bytes:
    """Return the model with INT8 convolutions and matrix products; inputs and outputs as before.

    Weights have a scale a channel (from opset 13 on), activations one a tensor, all symmetric. The
    same model and samples give the same bytes.

    Args:
        data: a float32 model without subgraphs.
        calibration: typical inputs; a fixed batch of the model is filled from them.

    Raises:
        ConfigError: the samples do not fit the model's inputs.
        ExportError: nothing in it can be INT8, it is quantised already, or its opset is too old.
    """
    model = onnx.load_model_from_string(data)
    _refuse(model)
    batches = list(_batches(model, calibration.samples))
    opset = max(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    per_channel = opset >= _PER_CHANNEL_OPSET
    made = _with_pairs(data, batches, calibration.method, per_channel=per_channel)
    _quantise_residuals(made.graph)
    used = {node.domain for node in made.graph.node}
    for entry in [e for e in made.opset_import if e.domain not in used | {"", "ai.onnx"}]:
        made.opset_import.remove(entry)
    made.ir_version = model.ir_version
    note = {
        "method": calibration.method,
        "samples": calibration.count,
        "float_sha256": hashlib.sha256(data).hexdigest(),
        "sha256": calibration.key(data),
    }
    helper.set_model_props(made, {_NOTE: json.dumps(note, sort_keys=True)})
    onnx.checker.check_model(made)
    result: bytes = made.SerializeToString(deterministic=True)
    return result


def answers(data: bytes, inputs: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
    """Outputs of a quantised model of one input for all samples, as the graph is written.

    ONNX Runtime's optimisations are off: its INT8 kernels saturate on CPUs without VNNI, where
    TensorRT's do not.

    Args:
        data: a model of one input; a fixed batch of it must be 1.
        inputs: (N, *sample).
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        data, sess_options=options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: inputs[i : i + 1]}) for i in range(len(inputs))]
    return tuple(np.concatenate(output) for output in zip(*rows, strict=True))


def kept(folder: Path, data: bytes, calibration: Calibration) -> bytes:
    """`quantise`, or what it made of the same model and samples before.

    Args:
        folder: where results are kept, by content; made where it is not there.
        data: see `quantise`.
        calibration: see `quantise`.

    Raises:
        ConfigError, ExportError: as `quantise`.
    """
    path = folder / calibration.key(data)
    try:
        told, known = path.read_bytes().split(b"\n", 1)
        if told == _sum(known):
            return known
    except (OSError, ValueError):
        pass  # not there, or damaged: made anew
    made = quantise(data, calibration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(_sum(made) + b"\n" + made)
        Path(file.name).replace(path)
    except OSError:
        logging.getLogger(__name__).info("calibration is not kept: %s cannot be written", folder)
    return made


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def evenly(values: NDArray[Any], count: int) -> NDArray[Any]:
    """At most `count` of the values, spread evenly over them: data often comes sorted by class."""
    if len(values) <= count:
        return values
    chosen: NDArray[Any] = values[np.linspace(0, len(values) - 1, count).round().astype(int)]
    return chosen


def _refuse(model: onnx.ModelProto) -> None:
    reason = not_quantisable(model)
    if reason is not None:
        raise ExportError("the network cannot be made INT8", why=reason[0], fix=reason[1])


def _batches(model: onnx.ModelProto, samples: Samples) -> Iterator[dict[str, NDArray[Any]]]:
    """Feeds of whole batches; the last is filled up with the first samples."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    missing = sorted({value.name for value in inputs} ^ set(samples))
    if missing:
        raise ConfigError(
            f"calibration values and the network differ in input {missing[0]!r}",
            why=f"the network has {', '.join(v.name for v in inputs)}; "
            f"values are there for {', '.join(sorted(samples)) or 'none'}",
            fix="give an .npz file with one array an input, named like it",
        )
    counts = {len(values) for values in samples.values()}
    if len(counts) != 1 or 0 in counts:
        raise ConfigError(
            "calibration values must be equally many for every input, and some",
            why="; ".join(f"{n}: {len(v)}" for n, v in sorted(samples.items())),
        )
    count = counts.pop()
    size = _batch_size(inputs, count)
    for value in inputs:
        _fits(value, samples[value.name])
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count
        yield {v.name: np.ascontiguousarray(samples[v.name][rows]) for v in inputs}


def _batch_size(inputs: list[onnx.ValueInfoProto], count: int) -> int:
    if any(not value.type.tensor_type.shape.dim for value in inputs):
        raise ConfigError(
            f"input {inputs[0].name!r} has no batch axis to put samples along",
            fix="export the network with its shapes, batch first",
        )
    return _size(inputs[0].type.tensor_type.shape.dim[0]) or min(_MOST_BATCH, count)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Size of an axis; None where it is open, for which old exporters write -1."""
    return dim.dim_value if dim.dim_value > 0 else None


def _fits(value: onnx.ValueInfoProto, values: NDArray[Any]) -> None:
    shape = value.type.tensor_type.shape
    dims = [_size(d) for d in shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shaped = len(dims) == values.ndim and all(
        want in (None, have) for want, have in zip(dims[1:], values.shape[1:], strict=False)
    )
    finite = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    if not shaped or values.dtype != dtype or not finite:
        shown = "x".join("?" if d is None else str(d) for d in dims)
        raise ConfigError(
            f"the calibration values of {value.name!r} do not fit it",
            why=f"it is {dtype} {shown}; the values are {values.dtype} "
            f"{'x'.join(map(str, values.shape))}{'' if finite else ' and not all finite'}",
            fix="give values as the network is fed them, samples along the first axis",
        )


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[dict[str, NDArray[Any]]]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._rest, None)


def _with_pairs(
    data: bytes, batches: list[dict[str, NDArray[Any]]], method: Method, *, per_channel: bool
) -> onnx.ModelProto:
    kinds = {
        "minmax": quantization.CalibrationMethod.MinMax,
        "percentile": quantization.CalibrationMethod.Percentile,
    }
    options = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "OpTypesToExcludeOutputQuantization": list(QUANTISED_OPERATORS),
        "CalibPercentile": PERCENTILE,
        "CalibTensorRangeSymmetric": True,
    }
    with tempfile.TemporaryDirectory(prefix="hil-int8-") as name, _quiet():
        source, target = Path(name) / "float.onnx", Path(name) / "int8.onnx"
        source.write_bytes(data)
        quantization.quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=per_channel,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=kinds[method],
            extra_options=options,
        )
        return onnx.load_model_from_string(target.read_bytes())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool from printing: its advice is about steps that the export has done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def _quantise_residuals(graph: onnx.GraphProto) -> None:
    """Let the shortcut of an addition be read in INT8 where a convolution reads it so anyway.

    TensorRT fuses the addition into the convolution that ends at it; a float shortcut would make
    it keep the tensor twice.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    pairs = {
        made_by[node.input[0]].input[0]: node.output[0]
        for node in graph.node
        if node.op_type == PAIR[1] and node.input[0] in made_by
    }
    for node in graph.node:
        if node.op_type != "Add":
            continue
        for index, other in ((0, 1), (1, 0)):
            ends = made_by.get(node.input[other])
            weighted = ends is not None and ends.op_type in QUANTISED_OPERATORS
            if weighted and node.input[index] in pairs and node.input[other] not in pairs:
                node.input[index] = pairs[node.input[index]]
                break
