"""A leased board behind an agent: the `Session` of every driver that has one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core import fallbacks
from hil.core.errors import DeviceError
from hil.core.evidence import Evidence, PowerRecord, RunPlan
from hil.device import gpu_runtime, trtexec, trtexec_run
from hil.device.collecting import Lines, RunCollector, board_records
from hil.device.config import DeviceConfig
from hil.device.deciding import TRAILING_LINES, Decider
from hil.device.emulated_session import plausible_draws
from hil.device.faults import NoPowerError, NoRuntimeError, UnpinnedError
from hil.device.link import Link
from hil.device.power_choice import FirstLines, PowerChoice, PowerLostError, told_instead
from hil.device.records import build_params, engine_info, engine_params, engine_record
from hil.device.samples import dtype_of, sample_count, stacked
from hil.device.session import (
    BoardInfo,
    Decide,
    EngineInfo,
    EngineSpec,
    LayerTimes,
    PlausibleDraws,
    TrtexecRun,
)
from hil.device.sources import Chosen, HostMeters, clock_rows, host_meters, in_order

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
        self._power = PowerChoice(device.power, board.raw)
        self._by_trtexec = False
        self._runtimes = gpu_runtime.RuntimeChoice(board.raw)
        self._facts: dict[str, Any] = dict(link.facts)
        wall_s = board.raw.get("wall_clock_s")
        self._wall_off_s = None if wall_s is None else float(wall_s) - time.time()
        self._note_wall_clock(self._wall_off_s)

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

    def facts(self, power: str = "none") -> dict[str, Any]:
        """Return what the board and this session told, for `hil.core.fallbacks`."""
        session = dict(self._facts)
        lost = self._power.lost(power)
        if lost is not None and lost["instead"] is None:
            session["no_power"] = dict(lost)
        # Evidence of two runs in the same state is the same, and so holds no date.
        raw = {key: value for key, value in self._board.raw.items() if key != "wall_clock_s"}
        return {**raw, "name": self._board.name, fallbacks.SESSION: session}

    def put_blob(self, data: bytes) -> str:
        """Ship bytes once, verified on the board; return their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._link.client.request("blob_stat", {"sha256": sha256})
        if known.get("bytes") != len(data):
            name = self._uploaded(data)
            self._link.client.request("blob_commit", {"name": name, "sha256": sha256})
        return sha256

    def _uploaded(self, data: bytes) -> str:
        try:
            return self._link.files.upload(data)
        except DeviceError as error:
            if not self._link.client.alive:
                raise
            disk = self._link.client.request("disk")
            if disk["free_bytes"] >= len(data):
                raise
            raise DeviceError(
                f"the disk of {self.name} is full",
                why=f"{disk['mount']} has {disk['free_bytes'] >> 10} KiB left, "
                f"{-(-len(data) >> 10)} KiB are needed",
                fix="free space on the board, e.g. with `hil device clean`",
            ) from error

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
        """Build (or find in the board's cache) an engine, by trtexec where only that is there."""
        if spec.runtime == gpu_runtime.BEST:
            info = self._runtimes.build(spec, self._built)
            self._facts |= self._runtimes.facts()
            return info
        if spec.runtime == "tensorrt" and (self._by_trtexec or trtexec_run.needed(self._board)):
            spec = trtexec_run.by_trtexec(spec)
        try:
            return self._built(spec)
        except NoRuntimeError as error:
            if spec.runtime != "tensorrt" or self._board.raw.get("trtexec") is None:
                raise
            self._by_trtexec = True
            self._facts["trtexec_why"] = f"{error.what} ({error.why})" if error.why else error.what
            return self._built(trtexec_run.by_trtexec(spec))

    def _built(self, spec: EngineSpec) -> EngineInfo:
        params = build_params(spec)
        answer = self._link.client.request("engine_build", params, timeout_s=BUILD_S)
        return engine_info(spec, answer)

    def run(
        self, info: EngineInfo, plan: RunPlan, power: str, decide: Decide | None = None
    ) -> Evidence:
        """Exercise the engine as planned beside the power sources (see `Session.run`)."""
        if info.spec.runtime == trtexec_run.RUNTIME:
            plan, decide = trtexec_run.fixed(plan), None
        fixed = plan if decide else replace(plan, max_blocks=None)
        params = {"plan": fixed.to_json(), "inputs": {}}
        return self._exercise("engine_run", params, info, plan, power, decide)

    def step_response(self, info: EngineInfo, power: str, interval_ms: int, steps: int) -> Evidence:
        """Switch the load on and off beside the power sources (see `Session.step_response`)."""
        trtexec_run.refuse(info, "steps of the load")
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
        asked = [False]

        def deciding(evidence: Evidence) -> bool:
            asked[0] = True
            return decide is None or decide(evidence)

        while True:
            try:
                judge = None if decide is None else deciding
                return self._exercised(method, params, info, plan, power, judge)
            except (PowerLostError, NoPowerError) as error:
                reading = self._power.watched(power)
                # Further sources are a person's own wish; theirs are not made up for.
                mine = isinstance(error, PowerLostError) or not self._device.power.also
                if reading is None or not (mine or reading in error.what):
                    raise
                self._power.step_down(f"{error.what}: {error.why}" if error.why else error.what)
                if asked[0]:
                    raise PowerLostError(error.what, why=error.why, fix="run it again") from error

    def _exercised(
        self,
        method: str,
        params: Mapping[str, Any],
        info: EngineInfo,
        plan: RunPlan,
        power: str,
        decide: Decide | None,
    ) -> Evidence:
        chosen = self._power.chosen(power)
        collector = RunCollector()
        with host_meters(chosen, self._board_ns) as meters:
            scene = _Scene(self, info, plan, power, chosen, collector, meters)
            take: Take = collector.take
            if decide is not None:
                take = Decider(collector, plan, len(chosen.on_board), decide, scene.so_far).take
            reading = self._power.watched(power)
            if reading is not None:
                take = FirstLines(reading, take).take
            asked = {**engine_params(info), **params, "power": list(chosen.on_board)}
            limit_s = run_timeout_s(plan)
            if info.spec.runtime == trtexec_run.RUNTIME:
                limit_s += trtexec_run.MORE_S
            result = self._link.client.request(method, asked, on_event=take, timeout_s=limit_s)
            if chosen.on_host:
                meters.sync += clock_rows(self._board_ns)
            self._look_at_the_date()
            if info.spec.runtime == trtexec_run.RUNTIME:
                trtexec_run.lay(collector, plan, result, self.get_blob)
            return scene.whole(result, meters.stop())

    def _board_ns(self) -> int:
        return int(self._link.client.request("clock")["t_ns"])

    def lost(self, power: str) -> Mapping[str, Any] | None:
        """Return what became of a power source (see `PowerChoice.lost`)."""
        return self._power.lost(power)

    def _look_at_the_date(self) -> None:
        """Note whether somebody set the board's wall clock since the session opened."""
        wall_s = self._link.client.request("clock").get("wall_s")
        self._note_wall_clock(None if wall_s is None else float(wall_s) - time.time())

    def _note_wall_clock(self, off_s: float | None) -> None:
        if off_s is not None and self._wall_off_s is not None:
            self._facts |= fallbacks.wall_clock_facts(off_s, self._wall_off_s)

    def infer(
        self, info: EngineInfo, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run N samples, each input shaped (N, *sample); outputs shaped (N, *sample).

        Raises:
            ValueError: the inputs are not the engine's, or differ in N.
        """
        trtexec_run.refuse(info, "outputs")
        count = sample_count(info, inputs)
        blobs = {
            tensor.name: self.put_blob(stacked(tensor, inputs[tensor.name]))
            for tensor in info.inputs
        }
        params = {**engine_params(info), "inputs": blobs, "count": count}
        answer = self._link.client.request("engine_infer", params, timeout_s=INFER_S)
        return {str(out["name"]): self._output(out) for out in answer["outputs"]}

    def layers(self, info: EngineInfo) -> LayerTimes:
        """Return what the runtime's profiler and inspector tell of an engine's layers."""
        trtexec_run.refuse(info, "layers")
        params = {**engine_params(info), "iterations": LAYER_ITERATIONS}
        answer = self._link.client.request("engine_layers", params, timeout_s=INFER_S)
        rows = tuple((str(row["name"]), float(row["time_ms"])) for row in answer["layers"])
        device_ms = answer.get("device_ms")
        return LayerTimes(
            rows, None if device_ms is None else float(device_ms), answer.get("structure")
        )

    def trtexec(self, info: EngineInfo) -> TrtexecRun | None:
        """Time the engine by the board's own trtexec; None where there is none for it."""
        if self._board.raw.get("trtexec") is None or info.spec.runtime != "tensorrt":
            return None
        answer = self._link.client.request("engine_trtexec", engine_params(info), timeout_s=INFER_S)
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
        """Set power mode and clocks; None is what the device file says (see `Session.pin`).

        What the device file says and the board does not permit is a fallback; what is asked for
        by name is not.
        """
        state = self._device.state
        mode = state.nvpmodel if nvpmodel is None else nvpmodel
        wanted = (mode, state.clocks if clocks is None else clocks)
        if wanted != self._pinned:
            # Clocks were stored inside the mode they belong to: they go back before it changes.
            self.restore()
        self._pinned = wanted
        self._pin(strict=nvpmodel is not None or clocks is not None)

    def _pin(self, *, strict: bool = False) -> None:
        mode, clocks = self._pinned
        denied: dict[str, dict[str, Any]] = {}
        # Where the mode is refused the clocks may still be allowed.
        wanted = [(mode, clocks), (None, clocks)] if mode is not None and clocks else [self._pinned]
        for each, pinned in wanted:
            if each is None and not pinned:
                continue
            params = {"nvpmodel": each, "clocks": pinned}
            try:
                told = self._link.client.request("board_pin", params, timeout_s=PIN_S)
            except UnpinnedError as error:
                if strict:
                    raise
                denied[error.what] = {"what": error.what, "why": error.why, "fix": error.fix}
            else:
                self._facts["found_pinned"] = bool(told.get("found_pinned"))
                cores = (told.get("state") or {}).get("cpu_hz")
                self._facts |= {"cores_online": len(cores)} if cores else {}
                break
        self._facts["denied"] = list(denied.values())

    def restore(self) -> None:
        """Put power mode and clocks back as they were found."""
        self._link.client.request("board_restore", timeout_s=PIN_S)

    def _output(self, out: Mapping[str, Any]) -> NDArray[np.generic]:
        data = self.get_blob(str(out["sha256"]))
        return np.frombuffer(data, dtype=dtype_of(str(out["dtype"]))).reshape(out["shape"])


@dataclass(frozen=True)
class _Scene:
    """What evidence of one run is made of beside its events."""

    session: AgentSession
    info: EngineInfo
    plan: RunPlan
    source: str
    chosen: Chosen
    collector: RunCollector
    meters: HostMeters

    def whole(self, result: Mapping[str, Any], host: Sequence[PowerRecord]) -> Evidence:
        """Return the record of a run that has ended; `result` is the agent's answer to it."""
        told = result.get("power") or []
        records = in_order(self.chosen, board_records(told, self.collector.lines), host)
        records = told_instead(records, self.session.lost(self.source))
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
            board=session.facts(self.source),
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


def run_timeout_s(plan: RunPlan) -> float:
    """Return how long a run may take in wall time before it counts as hanging."""
    blocks = max(plan.blocks, plan.max_blocks or 0)
    slot_s = 0.0 if plan.rate_hz is None else 1.0 / plan.rate_hz
    load_s = plan.settle_s + blocks * (plan.window_s + 2 * slot_s) + plan.tail_s + 4 * slot_s
    return 2 * (2 * plan.idle_s + load_s) + RUN_MARGIN_S
