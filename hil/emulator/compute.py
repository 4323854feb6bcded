"""What the board's GPU programs ask of the physics: parsing, lowering, tactics, figures, noise.

Done in the server rather than in each program, because the libraries it takes are slow to
import and a program of the board starts for every measurement.
"""

from __future__ import annotations

import base64
import importlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hil.core.errors import HilError
from hil.emulator.client import BoardRefusedError
from hil.emulator.failing import kill_largest
from hil.emulator.machine import Machine
from hil.emulator.noise import NS
from hil.emulator.timeline import Activity

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from hil.emulator.kernels import Kernel

Message = dict[str, Any]
KEPT_MODELS = 16
BUILDING = {"gpu_busy": 0.3, "submitting": 1.0}
"""What the board does while it builds: mostly one core at work (tx2_14.log: 4.1 to 4.4 W on
VDD_IN during a build, the CPU rail raised, the GPU rail hardly)."""


class Compute:
    """Answers the stand-ins of TensorRT.

    Args:
        machine: the board.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._models: OrderedDict[str, onnx.ModelProto] = OrderedDict()
        self._engines: dict[str, tuple[tuple[Kernel, ...], tuple[float, ...]]] = {}
        self._ran: str | None = None
        self._noise: dict[str, np.random.Generator] = {}
        self._noise_generation = 0

    @staticmethod
    def warm() -> None:
        """Imports what the requests need, so that the first one does not wait for it."""
        for name in ("onnx", "onnx.shape_inference", "hil.emulator.physics", "numpy.random"):
            importlib.import_module(name)

    def operations(self) -> dict[str, Callable[[Message], Message]]:
        """The requests it answers, by name."""
        return {
            "parse": self.parse,
            "lower": self.lower,
            "tactics": self.tactics,
            "building": self.building,
            "engine": self.engine,
            "figures": self.figures,
            "jitter": self.jitter,
            "plausible": self.plausible,
            "quiet": self.quiet,
        }

    def parse(self, request: Message) -> Message:
        """Reads a network's outline: what the parser refuses, its inputs and outputs."""
        import onnx
        from google.protobuf.message import DecodeError

        from hil.emulator.trt import limits, tensors

        data = base64.b64decode(request["data"])
        try:
            model = onnx.load_from_string(data)
        except (DecodeError, ValueError):
            model = onnx.ModelProto()
        sha256 = str(request["sha256"])
        self._models[sha256] = model
        while len(self._models) > KEPT_MODELS:
            self._models.popitem(last=False)
        inputs, outputs = tensors.of_model(model)
        return {
            "sha256": sha256,
            "nodes": len(model.graph.node),
            "refusals": [asdict(each) for each in limits.refusals(model)],
            "int64": any(
                each.data_type == onnx.TensorProto.INT64 for each in model.graph.initializer
            ),
            "inputs": [asdict(each) for each in inputs],
            "outputs": [asdict(each) for each in outputs],
        }

    def lower(self, request: Message) -> Message:
        """Turns a parsed network into kernels at given shapes of its open inputs."""
        from hil.emulator.kernels import lower
        from hil.emulator.onnx_graph import read_graph

        model = self._models.get(request["sha256"])
        if model is None:
            raise BoardRefusedError("the network must be parsed first")
        try:
            kernels = lower(model, request["precision"], request["shapes"])
            graph = read_graph(model, request["shapes"])
            outputs = [graph.shape(each.name) for each in model.graph.output]
        except HilError as error:
            raise BoardRefusedError(str(error)) from error
        return {"kernels": [asdict(each) for each in kernels], "outputs": outputs}

    def tactics(self, request: Message) -> Message:
        """Draws this build's tactics; a network's first build after a reset is always the same."""
        from hil.emulator.physics import tactic_factors

        name = f"tactics {request['name']}"
        with self._machine.lock:
            noise = self._machine.seed.philox(name, self._machine.ticket(name))
        board = self._machine.model.board
        return {"factors": tactic_factors(_kernels(request), noise, board.noise)}

    def building(self, request: Message) -> Message:
        """How long timing these kernels takes, and the activity of a board that builds."""
        from hil.emulator.physics import build_seconds
        from hil.emulator.power import Activity as Doing
        from hil.emulator.power import rail_power_w

        board, condition = self._machine.model.board, self._machine.condition
        power_w = rail_power_w(board, condition.load_clocks, condition.temp_c, Doing(**BUILDING))
        activity = self._activity(power_w, BUILDING["gpu_busy"], 0.05)
        seconds = build_seconds(_kernels(request), board.build)
        crash = self._machine.faults.take("build-crash")
        answer = {"ns": round(seconds * NS), "activity": activity}
        return answer if crash is None else {**answer, "crash": int(crash["signal"])}

    def engine(self, request: Message) -> Message:
        """Takes in an engine's kernels and tactics; `figures` refers to it by the name given."""
        self._engines[request["name"]] = (_kernels(request), tuple(request["factors"]))
        return {}

    def figures(self, request: Message) -> Message:
        """What one inference takes and draws in the board's present state."""
        from hil.emulator.physics import execution

        self._ran = request["name"]
        kernels, factors = self._engines[self._ran]
        board = self._machine.model.board
        with self._machine.lock:
            condition = self._machine.condition
            clocks, temp_c = condition.load_clocks, condition.temp_c
            ran = execution(board, kernels, clocks, temp_c, factors)
            memory = board.memory
            peak = clocks.emc_mhz * 1e6 * memory.bus_bytes * memory.transfers_per_clock
            emc_busy = min(1.0, ran.activity.dram_bytes_per_s / peak)
            power_w, slower = dict(ran.rail_power_w), 1.0 / (1.0 - condition.other_gpu)
            if condition.other_gpu:
                # Its host work comes on top; the GPU is as busy as before, with both.
                more_w = self._machine.model.working_w(condition)
                for rail, watts in zip(self._machine.model.rails, more_w, strict=True):
                    power_w[rail] = power_w.get(rail, 0.0) + condition.other_gpu * watts
            activity = self._activity(power_w, ran.activity.gpu_busy, emc_busy)
        if self._machine.faults.on("oom-kill") is not None:
            kill_largest(self._machine)
        overhead_s = board.timing.inference_us / 1e6
        overhead_s += board.timing.inference_cycles / (clocks.cpu_mhz * 1e6)
        busy_s = sum(seconds for _, seconds in ran.layers)
        return {
            "duration_s": ran.duration_s * slower,
            "gpu_s": max(busy_s, ran.duration_s - overhead_s) * slower,
            "enqueue_s": ran.activity.submitting * ran.duration_s,
            "layers": [(name, seconds * slower) for name, seconds in ran.layers],
            "memory_bytes": ran.device_memory_bytes,
            "activity": activity,
        }

    def quiet(self, request: Message) -> Message:
        """What one inference of the engine that ran last truly takes and draws on a quiet board.

        Nobody else on the GPU, clocks that follow nothing but the power mode, the board's present
        temperature, and what the system's own background adds in the mean.

        Raises:
            BoardRefusedError: no engine has run.
        """
        from hil.emulator.physics import execution
        from hil.emulator.sensor import mean_burst_w

        model = self._machine.model
        if self._ran is None:
            raise BoardRefusedError("no engine has run on this board")
        kernels, factors = self._engines[self._ran]
        with self._machine.lock:
            mode, temp_c = request.get("mode"), self._machine.condition.temp_c
            mode = self._machine.condition.mode if mode is None else mode
        clocks = model.board.mode(mode).clocks(pinned=True)
        ran = execution(model.board, kernels, clocks, temp_c, factors)
        rail = model.board.sensor.total_rail
        power_w = ran.rail_power_w[rail] + mean_burst_w(model.board.noise)
        latency_ms = 1e3 * ran.duration_s
        return {"energy_mj": latency_ms * power_w, "latency_ms": latency_ms, "power_w": power_w}

    def _activity(self, power_w: dict[str, float], gpu_busy: float, emc_busy: float) -> int:
        rails = tuple(power_w.get(rail, 0.0) for rail in self._machine.model.rails)
        return self._machine.register(Activity(rails, gpu_busy, emc_busy))

    def jitter(self, request: Message) -> Message:
        """Draws the next durations of an execution context, in nanoseconds."""
        from hil.emulator.physics import jitter

        noise = self._generator(f"jitter {request['name']}")
        board = self._machine.model.board
        drawn = jitter(request["duration_s"], request["count"], noise, board.noise)
        return {"ns": [max(1, round(each * NS)) for each in drawn.tolist()]}

    def plausible(self, request: Message) -> Message:
        """Draws figures of several engines over plausible boards, in the present clocks.

        Answers no draws, and why, where no posterior is stored for this board.
        """
        from hil.core.errors import ConfigError
        from hil.emulator.plausible import joint_draws

        with self._machine.lock:
            clocks, name = self._machine.condition.load_clocks, self._machine.model.name
        networks = [_kernels({"kernels": each}) for each in request["engines"]]
        try:
            drawn = joint_draws(networks, clocks, name=name)
        except ConfigError as error:
            return {"board": name, "reason": str(error)}
        return {
            "board": name,
            "boards": drawn.boards,
            "rail": self._machine.model.board.sensor.total_rail,
            # Seven digits are far below what the draws resolve, and half the bytes.
            "energy_mj": [[float(f"{x:.7g}") for x in row] for row in drawn.energy_mj.tolist()],
            "latency_ms": [[float(f"{x:.7g}") for x in row] for row in drawn.latency_ms.tolist()],
        }

    def _generator(self, name: str) -> np.random.Generator:
        with self._machine.lock:
            if self._noise_generation != self._machine.generation:
                self._noise.clear()
                self._noise_generation = self._machine.generation
            if name not in self._noise:
                self._noise[name] = self._machine.seed.philox(name)
            return self._noise[name]


def _kernels(request: Message) -> tuple[Kernel, ...]:
    from hil.emulator.kernels import Kernel

    return tuple(Kernel(**{**each, "nodes": tuple(each["nodes"])}) for each in request["kernels"])
