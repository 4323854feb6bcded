"""What a board can do for us, whatever is behind it: the one interface all drivers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hil.core.evidence import Evidence, RunPlan


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of an engine: name, numpy dtype name, shape with batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineSpec:
    """What to build on the board. `build_index` k > 0 asks for a fresh build in its own slot."""

    onnx_sha256: str
    precision: str = "fp16"
    runtime: str = "tensorrt"
    workspace_mib: int = 512
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    build_index: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """An engine on the board, named by the hash of its plan.

    Attributes:
        engine_sha256: hash of the serialised plan.
        key: the cache key on the board (network, flags, runtime release, platform).
        device_memory_bytes: activation memory the engine asks for, None where not told.
        messages: what the builder said that a person should see.
    """

    spec: EngineSpec
    engine_sha256: str
    key: str
    cached: bool
    build_s: float
    runtime_version: str
    plan_bytes: int
    device_memory_bytes: int | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardInfo:
    """A board as probed; None is unknown. `raw` is the whole answer."""

    name: str
    model: str | None
    l4t: str | None
    tensorrt: str | None
    python: str
    emulated: bool
    raw: Mapping[str, Any]


class Session(Protocol):
    """A leased board. All figures come from `run`; nothing here computes one."""

    @property
    def name(self) -> str:
        """The device's name in its YAML."""

    @property
    def provenance(self) -> str:
        """One of measured, emulated, replayed: stored with every figure."""

    @property
    def board(self) -> BoardInfo:
        """The board as probed when the session opened."""

    def put_blob(self, data: bytes) -> str:
        """Ship bytes once, verified on the board; return their sha256."""

    def get_blob(self, sha256: str) -> bytes:
        """Fetch bytes by hash, verified here."""

    def build(self, spec: EngineSpec) -> EngineInfo:
        """Build (or find in the board's cache) an engine.

        Raises:
            ExportError: the board's TensorRT refuses the network.
        """

    def run(self, info: EngineInfo, plan: RunPlan, power: str) -> Evidence:
        """Exercise the engine as planned beside the power source ("tegrastats" or "none")."""

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run N samples, each input shaped (N, *sample); outputs shaped (N, *sample)."""

    def layers(self, info: EngineInfo) -> tuple[tuple[str, float], ...]:
        """Return (layer name, mean milliseconds) as the runtime's profiler tells."""

    def reset(self, seed: int) -> None:
        """Bring an emulated board to a known state; does nothing on other boards."""
