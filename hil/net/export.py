"""Networks as ONNX files that the boards take, checked against the original before they leave.

The exporter is torch's TorchScript one: at opset 13 the newer one returns opset 18 without a
word. Whatever exports, the opset of the result is read back and never assumed.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hil.core.errors import ExportError, ParityError
from hil.net.simplify import drop_repeated_relus, merge_pooled_linear

# ONNX Runtime 1.10, the last for Python 3.6 (JetPack 4), reads no later one.
MOST_IR_VERSION = 8


def export_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    *,
    opset: int = 13,
    batch: int | None = 1,
) -> bytes:
    """Export to one self-contained ONNX file.

    Inputs are named `input`, `input_1`, ..., outputs `output`, `output_1`, ... (nested results in
    the order of `tensors_of`); the same module gives the same bytes. The module's mode is
    restored afterwards.

    Args:
        module: the network; exported in evaluation mode.
        example: its inputs, batch first.
        opset: ONNX operator set; TensorRT 8.2 takes 13 at most.
        batch: the fixed batch of the file, taken from the example's start (or the example
            repeated); None leaves the batch open.

    Raises:
        ExportError: the network cannot be exported at that opset, or the result is not valid.
    """
    inputs = example if batch is None else tuple(_with_batch(x, batch) for x in example)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            results = module(*inputs)
        flat = isinstance(results, Tensor) or _is_flat(results)
        source = module if flat else _Flat(module).eval()
        names = _names("output", len(tensors_of(results)))
        data = _export(source, inputs, names, opset, batch is None)
    finally:
        module.train(training)
    return finish(data, opset)


def check_parity(
    module: nn.Module,
    onnx_bytes: bytes,
    inputs: tuple[Tensor, ...],
    rtol: float = 1e-3,
    atol: float = 1e-4,
) -> float:
    """Compare the file, run by ONNX Runtime on the CPU, with the module.

    Args:
        module: the original; compared in evaluation mode.
        onnx_bytes: the exported file.
        inputs: tensors whose batch fits the file.
        rtol: relative tolerance, of the original's values.
        atol: absolute tolerance.

    Returns:
        The largest absolute difference.

    Raises:
        ParityError: a value is further off than `atol + rtol * |original|`, or is not finite
            where the original is.
    """
    expected = _run_module(module, inputs)
    actual = _run_onnx(onnx_bytes, inputs)
    worst = 0.0
    for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
        if want.shape != got.shape:
            raise ParityError(
                f"output {index} of the ONNX file has shape {got.shape}",
                why=f"the network's is {want.shape}",
                fix="export again; if it stays, report the network",
            )
        difference = float(np.max(np.abs(want - got), initial=0.0))
        if not np.allclose(got, want, rtol=rtol, atol=atol):
            raise ParityError(
                f"the ONNX file differs from the network by {difference:.3g} in output {index}",
                why=f"more than atol {atol:g} + rtol {rtol:g} of the value was seen",
                fix="look for operations that depend on traced constants (shapes, masks)",
            )
        worst = max(worst, difference)
    return worst


def tensors_of(results: Any) -> list[Tensor]:
    """The tensors of a result, however nested: tuples and lists in order, dicts in theirs."""
    return [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]


def _is_flat(results: Any) -> bool:
    return isinstance(results, tuple | list) and all(isinstance(r, Tensor) for r in results)


class _Flat(nn.Module):
    """A network whose results are one tuple, as ONNX has them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_of(self.inner(*inputs)))


def _with_batch(x: Tensor, batch: int) -> Tensor:
    if len(x) >= batch:
        return x[:batch].detach()
    return x[:1].detach().expand(batch, *x.shape[1:]).contiguous()


def _names(base: str, count: int) -> list[str]:
    return [base if i == 0 else f"{base}_{i}" for i in range(count)]


def _export(
    module: nn.Module, inputs: tuple[Tensor, ...], outputs: list[str], opset: int, open_batch: bool
) -> bytes:
    names = _names("input", len(inputs))
    axes = {name: {0: "batch"} for name in (*names, *outputs)} if open_batch else None
    # Torch's annotation names files only; the exporter writes to any binary stream.
    buffer: Any = io.BytesIO()
    try:
        # The exporter warns of its age and of constants in traced shapes; parity judges those.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                buffer,
                input_names=names,
                output_names=outputs,
                opset_version=opset,
                dynamic_axes=axes,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(
            f"the network cannot be exported to ONNX at opset {opset}",
            why=_first_line(error),
            fix="replace the operation that is named, or export at an opset that the board takes",
        ) from error
    return bytes(buffer.getvalue())


def finish(data: bytes, opset: int) -> bytes:
    """Simplify and check an exported file, and read back what the exporter was asked for.

    Raises:
        ExportError: not valid ONNX, another opset, or a newer file format than boards read.
    """
    model = onnx.load_model_from_string(data)
    _require_versions(model, opset)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = onnxslim.slim(model)
        drop_repeated_relus(model)
        merge_pooled_linear(model)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            "the exported file is not valid ONNX",
            why=_first_line(error),
            fix="report the network; the exporter made a mistake",
        ) from error
    _require_versions(model, opset)
    result: bytes = model.SerializeToString(deterministic=True)
    return result


def _require_versions(model: onnx.ModelProto, opset: int) -> None:
    found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if found.get("ai.onnx") != opset:
        raise ExportError(
            f"the exporter did not keep to opset {opset}",
            why=f"the file says {found}",
            fix="pin torch to the version in ci/constraints.txt",
        )
    if model.ir_version > MOST_IR_VERSION:
        raise ExportError(
            f"the exported file has IR version {model.ir_version}",
            why=f"boards read {MOST_IR_VERSION} at most",
            fix="pin torch to the version in ci/constraints.txt",
        )


def _run_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[NDArray[np.float32]]:
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            results = module(*inputs)
    finally:
        module.train(training)
    return [result.cpu().numpy() for result in tensors_of(results)]


def _run_onnx(onnx_bytes: bytes, inputs: tuple[Tensor, ...]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_bytes, sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = [entry.name for entry in session.get_inputs()]
    feed = {n: x.detach().cpu().numpy() for n, x in zip(names, inputs, strict=True)}
    results: list[NDArray[np.float32]] = session.run(None, feed)
    return results


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
