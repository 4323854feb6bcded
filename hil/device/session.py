"""What a board can do for us, whatever is behind it: the one interface all drivers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hil.core.evidence import Evidence, RunPlan

Decide = Callable[["Evidence"], bool]
"""Whether to go on, given what is known: whole blocks, whose power is complete."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of an engine: name, numpy dtype name, shape with batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]
"""Smallest, best and largest shape of an input in an optimisation profile."""


@dataclass(frozen=True)
class EngineSpec:
    """What to build on the board. `build_index` k > 0 asks for a fresh build in its own slot.

    `cuda_graph` says how it is run: one CUDA graph an inference (TensorRT), not every kernel.
    `profiles` are TensorRT's optimisation profiles, each the smallest, best and largest shape of
    open inputs; none builds one for exactly `shapes`, which is what is run in any case.
    `detailed` has the plan keep what TensorRT's inspector tells of its layers beyond their names.
    """

    onnx_sha256: str
    precision: str = "fp16"
    runtime: str = "tensorrt"
    workspace_mib: int = 512
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    build_index: int = 0
    cuda_graph: bool = False
    profiles: tuple[Mapping[str, Range], ...] = ()
    detailed: bool = False


@dataclass(frozen=True)
class EngineInfo:
    """An engine on the board, named by the hash of its plan.

    Attributes:
        engine_sha256: hash of the serialised plan.
        key: the cache key on the board (network, flags, runtime release, platform).
        device_memory_bytes: activation memory the engine asks for, None where not told.
        messages: what the builder said that a person should see.
        platform: the GPU that the plan is good for (`sm_6.2`), or the kind of CPU.
        dialect: how this release of TensorRT was spoken to; None for other runtimes.
        profile: number of the optimisation profile that `spec.shapes` is run in; None where no
            input is open.
        via: what reached the GPU: pycuda or libcudart; None where nothing had to.
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
    platform: str | None = None
    dialect: str | None = None
    via: str | None = None
    profile: int | None = None


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


@dataclass(frozen=True)
class LayerTimes:
    """What the runtime's own profiler and inspector tell of an engine.

    Attributes:
        rows: (layer, mean milliseconds) in the order of execution; the profiler slows the engine.
        device_ms: mean of one inference between two CUDA events, unprofiled; None without CUDA.
        structure: the inspector's JSON of what the plan is made of, or its text; None where the
            runtime has no inspector, or it says too much to be sent.
    """

    rows: tuple[tuple[str, float], ...]
    device_ms: float | None = None
    structure: Any = None


@dataclass(frozen=True)
class TrtexecRun:
    """NVIDIA's own benchmark on an engine: a second opinion on latency, never on energy.

    Nothing is copied (`--noDataTransfers`), so a latency is computation alone; the host spins on
    the end of each query (`--useSpinWait`). Ours is host to host around enqueue and synchronise,
    and so contains what launching costs beyond the computation.

    Attributes:
        latency_ms: one for each query after the warm-up, in order.
        argv: what was run.
        dropped: queries of the warm-up that 8.x wrote down as well; 10.x leaves them out itself.
        version: of TensorRT as trtexec prints it ("8201"), None where it does not.
    """

    latency_ms: tuple[float, ...]
    argv: tuple[str, ...]
    dropped: int
    version: str | None


@dataclass(frozen=True)
class PlausibleDraws:
    """Engines' figures over boards that the public measurements of an emulated one leave plausible.

    A row is one plausible board, and all its figures belong to that board: ratios of two engines
    are formed row by row. Tactics, timing noise and the sensor are left out.

    Attributes:
        board: which board is emulated, as "tx2".
        boards: how many parameter sets the rows are drawn from; each stands in several rows, which
            differ in what the model lacks.
        rail: what energy is of.
        energy_mj: of one inference, [rows, engines].
        latency_ms: of one inference, host to host, [rows, engines].
    """

    board: str
    boards: int
    rail: str
    energy_mj: NDArray[np.float64]
    latency_ms: NDArray[np.float64]


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

    def run(
        self, info: EngineInfo, plan: RunPlan, power: str, decide: Decide | None = None
    ) -> Evidence:
        """Exercise the engine as planned beside the power sources.

        Args:
            info: the engine.
            plan: its `max_blocks` is for `decide` and is ignored without it.
            power: the source that figures are read on, or "none" for latency alone. What the
                device file records beside it (`power.also`) is recorded, too.
            decide: asked from `plan.blocks` whole blocks on, once for each further one, while
                the block after those already runs: the load never waits for it. So the last
                block of the evidence is one that was not yet asked about, and a run of at most
                `plan.blocks` + 1 blocks asks nothing.

        Raises:
            MeasurementError: the board has no such source, or a meter says nothing.
        """

    def step_response(self, info: EngineInfo, power: str, interval_ms: int, steps: int) -> Evidence:
        """Switch the load on and off `steps` times beside the power sources.

        Marks `on` and `off` carry the number of their step; no latency is kept.
        """

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run N samples, each input shaped (N, *sample); outputs shaped (N, *sample)."""

    def layers(self, info: EngineInfo) -> LayerTimes:
        """Return what the runtime's profiler and inspector tell of an engine's layers."""

    def trtexec(self, info: EngineInfo) -> TrtexecRun | None:
        """Time the engine by the board's own trtexec; None where there is none for it.

        Raises:
            DeviceError: trtexec fails.
            MeasurementError: its times cannot be read.
        """

    def plausible(self, infos: Sequence[EngineInfo]) -> PlausibleDraws | None:
        """Draw engines' figures over plausible boards, in the board's present clocks.

        None on a real board, which is no model and leaves nothing to draw, and on an emulated one
        whose model's uncertainty is not known.

        Raises:
            DeviceError: the emulated board cannot answer.
        """

    def pin(self, nvpmodel: int | None = None, clocks: bool | None = None) -> None:
        """Set power mode and clocks; None is what the device file says.

        What was before is noted on the board and put back when the session ends, however it ends.

        Raises:
            DeviceError: not permitted (with the sudoers line to add).
        """

    def restore(self) -> None:
        """Put power mode and clocks back as they were found."""

    def reset(self, seed: int) -> None:
        """Bring an emulated board to a known state; does nothing on other boards."""
