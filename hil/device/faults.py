"""The agent's error codes as this host's errors: who must act, and the next step by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.core.errors import (
    ConfigError,
    DeviceError,
    ExportError,
    HilError,
    LeaseTimeoutError,
    MeasurementError,
    ProtocolError,
)
from hil.device.wire import Failure


class UnpinnedError(DeviceError):
    """Power mode or clocks could not be set; nothing else is wrong with the board."""


class NoRuntimeError(DeviceError):
    """What is to run networks is not there, or does not reach the GPU."""


class EngineDiedError(DeviceError):
    """What builds or runs an engine died, hung, or ran out of memory; the board is well."""


class NoPowerError(MeasurementError):
    """The board has no such power source, or it says nothing."""


@dataclass(frozen=True)
class Blame:
    """Whose fault a code is, and what helps when the agent does not say."""

    error: type[HilError]
    fix: str | None = None


_REPORT = "this is a fault of hil: please report it with the message above"
_CHECK = "run `hil check MODEL.onnx --device D.yaml` for the remedy by node"

BLAME: Mapping[str, Blame] = {
    "protocol": Blame(ProtocolError, "board and host run different releases of hil; update both"),
    "bad_request": Blame(ProtocolError, _REPORT),
    "busy": Blame(ProtocolError, _REPORT),
    "internal": Blame(ProtocolError, _REPORT),
    "cancelled": Blame(DeviceError, "somebody ended the agent on the board; run again"),
    "lease_held": Blame(LeaseTimeoutError, "wait for it with --wait 30m"),
    "lease_lost": Blame(DeviceError, "somebody took the board over; run again with --wait 30m"),
    "checksum": Blame(DeviceError, "the bytes were damaged on the way or on the disk; try again"),
    "disk_full": Blame(DeviceError, "free space on the board, e.g. with `hil device clean`"),
    "board_state": Blame(UnpinnedError, "set power mode and clocks by hand, then run again"),
    "unwritable": Blame(DeviceError, "make the login's home writable on the board"),
    "not_permitted": Blame(UnpinnedError, "add the sudoers line that `hil doctor` prints"),
    "no_runtime": Blame(NoRuntimeError, "install JetPack's TensorRT, or choose another runtime"),
    "no_power": Blame(NoPowerError, "set power.source: none to measure latency alone"),
    "unsupported_opset": Blame(ExportError, "export at the device file's runtime.opset"),
    "unsupported_operator": Blame(ExportError, _CHECK),
    "parse_failed": Blame(ExportError, _CHECK),
    "build_failed": Blame(ExportError, "raise runtime.workspace_mib, or simplify the network"),
    "unknown_shape": Blame(ConfigError, "give the shape, e.g. --shape NAME=1x3x224x224"),
    "out_of_memory": Blame(
        EngineDiedError, "close other programs on the board, or lower the batch"
    ),
    "worker_died": Blame(EngineDiedError, "try again; `hil doctor` shows memory and temperature"),
    "timeout": Blame(EngineDiedError, "try again; `hil doctor` shows whether the board is loaded"),
}


def to_error(failure: Failure) -> HilError:
    """Return the error to raise for an agent's failure; unknown codes are our fault."""
    blame = BLAME.get(failure.code, Blame(ProtocolError, _REPORT))
    return blame.error(failure.message, why=failure.why, fix=failure.fix or blame.fix)
