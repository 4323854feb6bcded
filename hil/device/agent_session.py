"""A leased board behind an agent: the `Session` of every driver that has one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import DeviceError, ProtocolError
from hil.core.evidence import Evidence, PowerRecord, RunPlan
from hil.device import trtexec
from hil.device.collecting import Lines, RunCollector, board_records
from hil.device.config import DeviceConfig
from hil.device.deciding import TRAILING_LINES, Decider
from hil.device.emulated_session import plausible_draws
from hil.device.link import Link
from hil.device.session import (
    BoardInfo,
    Decide,
    EngineInfo,
    EngineSpec,
    PlausibleDraws,
    TensorInfo,
    TrtexecRun,
)
from hil.device.sources import Chosen, HostMeters, choose, clock_rows, host_meters, in_order

BUILD_S = 1800.0  # a large network takes TensorRT on a TX2 many minutes
RUN_MARGIN_S = 180.0
INFER_S = 1800.0
LAYER_ITERATIONS = 50
PIN_S = 120.0
STEP_IDLE_S = 4.0
STEP_HOLD_S = 4.0  # over nine lags of the slowest sensor known (0.42 s)
Take = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


class AgentSession:
    """Answers `hil.device.session.Session` by asking the agent (see there for the contract)."""

    def __init__(self, link: Link, device: DeviceConfig, board: BoardInfo) -> None:
        self._link = link
        self._device = device
        self._board = board
        self._pinned = (device.state.nvpmodel, device.state.clocks)

    @property
    def name(self) -> str:
        """The device's name in its YAML."""
        return self._device.name

    @property
    def provenance(self) -> str:
        """One of measured, emulated."""
        return self._link.provenance

    @property
    def board(self) -> BoardInfo:
        """The board as probed when the session opened."""
        return self._board

    def put_blob(self, data: bytes) -> str:
        """Ship bytes once, verified on the board; return their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._link.client.request("blob_stat", {"sha256": sha256})
        if known.get("bytes") != len(data):
            name = self._link.files.upload(data)
            self._link.client.request("blob_commit", {"name": name, "sha256": sha256})
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        """Fetch bytes by hash, verified here."""
        data = self._link.files.download(sha256)
        arrived = hashlib.sha256(data).hexdigest()
        if arrived != sha256:
            raise DeviceError(
                f"a file from {self.name} arrived damaged",
                why=f"sha256 {arrived}, expected {sha256}",
                fix="try again; if it stays, check the board's disk and run `hil device clean`",
            )
        return data

    def build(self, spec: EngineSpec) -> EngineInfo:
        """Build (or find in the board's cache) an engine."""
        params = {
            "onnx": spec.onnx_sha256,
            "runtime": spec.runtime,
            "precision": spec.precision,
            "workspace_mib": spec.workspace_mib,
            "shapes": {name: list(shape) for name, shape in spec.shapes.items()},
            "build_index": spec.build_index,
        }
        answer = self._link.client.request("engine_build", params, timeout_s=BUILD_S)
        return _engine_info(spec, answer)

    def run(
        self, info: EngineInfo, plan: RunPlan, power: str, decide: Decide | None = None
    ) -> Evidence:
        """Exercise the engine as planned beside the power sources (see `Session.run`)."""
        fixed = plan if decide else replace(plan, max_blocks=None)
        params = {"plan": fixed.to_json(), "inputs": {}}
        return self._exercise("engine_run", params, info, plan, power, decide)

    def step_response(self, info: EngineInfo, power: str, interval_ms: int, steps: int) -> Evidence:
        """Switch the load on and off beside the power sources (see `Session.step_response`)."""
        # Each step is held on and off; what else a plan says is not part of such a run.
        plan = RunPlan(STEP_IDLE_S, 0.0, STEP_HOLD_S, 2 * steps, 0.0, interval_ms)
        params = {"interval_ms": interval_ms, "steps": steps}
        held = {"idle_s": STEP_IDLE_S, "hold_s": STEP_HOLD_S}
        return self._exercise("step_response", {**params, **held}, info, plan, power, None)

    def _exercise(
        self,
        method: str,
        params: Mapping[str, Any],
        info: EngineInfo,
        plan: RunPlan,
        power: str,
        decide: Decide | None,
    ) -> Evidence:
        chosen = choose(self._device.power, power)
        collector = RunCollector()
        with host_meters(chosen, self._board_ns) as meters:
            scene = _Scene(self, info, plan, chosen, collector, meters)
            take: Take = collector.take
            if decide is not None:
                take = Decider(collector, plan, len(chosen.on_board), decide, scene.so_far).take
            asked = {**_engine(info), **params, "power": list(chosen.on_board)}
            result = self._link.client.request(
                method, asked, on_event=take, timeout_s=run_timeout_s(plan)
            )
            if chosen.on_host:
                meters.sync += clock_rows(self._board_ns)
            return scene.whole(result, meters.stop())

    def _board_ns(self) -> int:
        return int(self._link.client.request("clock")["t_ns"])

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run N samples, each input shaped (N, *sample); outputs shaped (N, *sample).

        Raises:
            ValueError: the inputs are not the engine's, or differ in N.
        """
        count = sample_count(info, inputs)
        blobs = {
            tensor.name: self.put_blob(stacked(tensor, inputs[tensor.name]))
            for tensor in info.inputs
        }
        params = {**_engine(info), "inputs": blobs, "count": count}
        answer = self._link.client.request("engine_infer", params, timeout_s=INFER_S)
        return {str(out["name"]): self._output(out) for out in answer["outputs"]}

    def layers(self, info: EngineInfo) -> tuple[tuple[str, float], ...]:
        """Return (layer name, mean milliseconds) as the runtime's profiler tells."""
        params = {**_engine(info), "iterations": LAYER_ITERATIONS}
        answer = self._link.client.request("engine_layers", params, timeout_s=INFER_S)
        return tuple((str(row["name"]), float(row["time_ms"])) for row in answer["layers"])

    def trtexec(self, info: EngineInfo) -> TrtexecRun | None:
        """Time the engine by the board's own trtexec; None where there is none for it."""
        if self._board.raw.get("trtexec") is None or info.spec.runtime != "tensorrt":
            return None
        answer = self._link.client.request("engine_trtexec", _engine(info), timeout_s=INFER_S)
        return trtexec.read(answer, self.get_blob(str(answer["times"])))

    def plausible(self, infos: Sequence[EngineInfo]) -> PlausibleDraws | None:
        """Draw engines' figures over plausible boards; None on boards that are no model."""
        shell = self._link.shell
        if self.provenance != "emulated" or shell is None:
            return None
        if not infos or any(info.spec.runtime != "tensorrt" for info in infos):
            return None  # only TensorRT's engines are played by the model
        return plausible_draws(shell, [info.engine_sha256 for info in infos])

    def reset(self, seed: int) -> None:
        """Bring an emulated board to a known state, clocks pinned; nothing on other boards."""
        self._link.reset(seed)
        if self.provenance == "emulated":
            self._pin()

    def pin(self, nvpmodel: int | None = None, clocks: bool | None = None) -> None:
        """Set power mode and clocks; None is what the device file says (see `Session.pin`)."""
        state = self._device.state
        mode = state.nvpmodel if nvpmodel is None else nvpmodel
        wanted = (mode, state.clocks if clocks is None else clocks)
        if wanted != self._pinned:
            # Clocks were stored inside the mode they belong to: they go back before it changes.
            self.restore()
        self._pinned = wanted
        self._pin()

    def _pin(self) -> None:
        mode, clocks = self._pinned
        if mode is not None or clocks:
            params = {"nvpmodel": mode, "clocks": clocks}
            self._link.client.request("board_pin", params, timeout_s=PIN_S)

    def restore(self) -> None:
        """Put power mode and clocks back as they were found."""
        self._link.client.request("board_restore", timeout_s=PIN_S)

    def _output(self, out: Mapping[str, Any]) -> NDArray[np.generic]:
        data = self.get_blob(str(out["sha256"]))
        return np.frombuffer(data, dtype=_dtype(str(out["dtype"]))).reshape(out["shape"])


@dataclass(frozen=True)
class _Scene:
    """What evidence of one run is made of beside its events."""

    session: AgentSession
    info: EngineInfo
    plan: RunPlan
    chosen: Chosen
    collector: RunCollector
    meters: HostMeters

    def whole(self, result: Mapping[str, Any], host: Sequence[PowerRecord]) -> Evidence:
        """Return the record of a run that has ended; `result` is the agent's answer to it."""
        told = result.get("power") or []
        records = in_order(self.chosen, board_records(told, self.collector.lines), host)
        return self._evidence(records, None, str(result.get("copies", "excluded")))

    def so_far(self, block: int, lines: Mapping[int, Lines]) -> Evidence:
        """Return the record through one block, with the board's lines that belong to it."""
        about = self.collector.sources
        told = [{**spec, **about[n], "exit": None} for n, spec in enumerate(self.chosen.on_board)]
        host = self.meters.so_far(TRAILING_LINES)
        records = in_order(self.chosen, board_records(told, lines), host)
        return self._evidence(records, block, "excluded")

    def _evidence(
        self, power: tuple[PowerRecord, ...], through: int | None, copies: str
    ) -> Evidence:
        session, collector = self.session, self.collector
        last = max(collector.latency, default=-1) if through is None else through
        marks = [mark for mark in collector.marks if mark.name != "block" or mark.index <= last]
        series = (collector.latency[block] for block in sorted(collector.latency) if block <= last)
        return Evidence(
            board={**session.board.raw, "name": session.board.name},
            engine=engine_record(self.info),
            plan=self.plan,
            marks=tuple(marks),
            latency_ns=tuple(tuple(block) for block in series),
            states=tuple(collector.states),
            provenance=session.provenance,
            copies=copies,
            power=power,
            start=collector.start,
        )


def sample_count(info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]) -> int:
    """Return N of inputs shaped (N, *sample).

    Raises:
        ValueError: names, shapes or N do not fit the engine.
    """
    expected = {tensor.name: tensor.shape[1:] for tensor in info.inputs}
    got = {name: tuple(values.shape[1:]) for name, values in inputs.items()}
    if got != expected:
        raise ValueError(f"inputs shaped {got} a sample; the engine takes {expected}")
    counts = {values.shape[0] for values in inputs.values()}
    if len(counts) != 1:
        raise ValueError(f"inputs of different numbers of samples: {sorted(counts)}")
    return int(counts.pop())


def stacked(tensor: TensorInfo, values: NDArray[np.generic]) -> bytes:
    """Return samples as the agent takes them: C order, in the engine's own type."""
    return np.ascontiguousarray(values, dtype=_dtype(tensor.dtype)).tobytes()


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder("<")  # every Jetson is little-endian


def run_timeout_s(plan: RunPlan) -> float:
    """Return how long a run may take in wall time before it counts as hanging."""
    blocks = max(plan.blocks, plan.max_blocks or 0)
    slot_s = 0.0 if plan.rate_hz is None else 1.0 / plan.rate_hz
    load_s = plan.settle_s + blocks * (plan.window_s + 2 * slot_s) + plan.tail_s + 4 * slot_s
    return 2 * (2 * plan.idle_s + load_s) + RUN_MARGIN_S


def engine_record(info: EngineInfo) -> dict[str, Any]:
    """Return the engine as evidence keeps it: plain data."""
    record = asdict(info)
    record["spec"]["shapes"] = {name: list(shape) for name, shape in info.spec.shapes.items()}
    for side in ("inputs", "outputs"):
        record[side] = [{**tensor, "shape": list(tensor["shape"])} for tensor in record[side]]
    record["messages"] = list(info.messages)
    return record


def board_info(name: str, probe: Mapping[str, Any]) -> BoardInfo:
    """Return the board's record from the agent's answer to `probe`."""
    return BoardInfo(
        name=name,
        model=probe.get("model"),
        l4t=probe.get("l4t"),
        tensorrt=probe.get("tensorrt"),
        python=str(probe.get("python")),
        emulated=bool(probe.get("emulated")),
        raw=dict(probe),
    )


def _engine(info: EngineInfo) -> dict[str, Any]:
    named = {"engine": info.engine_sha256, "runtime": info.spec.runtime}
    return {**named, "cuda_graph": True} if info.spec.cuda_graph else named


def _engine_info(spec: EngineSpec, answer: Mapping[str, Any]) -> EngineInfo:
    try:
        memory = answer.get("device_memory_bytes")
        return EngineInfo(
            spec=spec,
            engine_sha256=str(answer["engine"]),
            key=str(answer["key"]),
            cached=bool(answer["cached"]),
            build_s=float(answer["build_s"]),
            runtime_version=str(answer["runtime_version"]),
            plan_bytes=int(answer["plan_bytes"]),
            device_memory_bytes=None if memory is None else int(memory),
            inputs=_tensors(answer["inputs"]),
            outputs=_tensors(answer["outputs"]),
            messages=tuple(str(text) for text in answer.get("messages", ())),
            platform=answer.get("platform"),
            dialect=answer.get("dialect"),
            via=answer.get("via"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the answer to a build cannot be read", why=repr(error)) from error


def _tensors(rows: list[Mapping[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(str(row["name"]), str(row["dtype"]), tuple(int(n) for n in row["shape"]))
        for row in rows
    )
