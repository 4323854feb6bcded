"""Which precisions a device offers, and the refusal of the others before anything is shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.core.boards import NO_INT8
from hil.core.errors import ExportError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.device.runtime import Runtime


def unquantised(runtime: Runtime) -> str:
    """Return the precision of a device for hil's own networks, which hold no scales of INT8."""
    return "fp16" if runtime.precision == "int8" else runtime.precision


def require_precision(config: DeviceConfig, precision: str | None) -> None:
    """Hold that a device offers a precision.

    Args:
        config: the device.
        precision: None is the device's own.

    Raises:
        ExportError: it does not, with the reason and what to ask for instead.
    """
    offered = config.runtime.offered
    if precision is None or precision in offered:
        return
    others = " or ".join(p for p in offered if p != "int8")
    if precision != "int8":
        why, fix = f"it offers {', '.join(offered)}", f"ask for {others}"
    elif config.board in NO_INT8:
        why = (
            f"the GPU of a {config.board} has no INT8 dot product (DP4A): TensorRT would warn and "
            "build the engine without INT8"
        )
        fix = f"ask for {others} there; INT8 is for Xavier and Orin"
    elif config.runtime.name != "tensorrt":
        why = "ONNX Runtime runs a network in the precision it is stored in"
        fix = f"ask for {others}, or use a board with TensorRT"
    else:
        why = f"its file offers {', '.join(offered)}"
        fix = (
            f"ask for {others}; or, where the board is a Xavier or an Orin, write "
            "`precisions: [fp16, fp32, int8]` under runtime"
        )
    raise ExportError(f"{config.name} has no {precision}", why=why, fix=fix)
