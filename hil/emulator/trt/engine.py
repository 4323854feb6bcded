"""Engines at run time: what a plan holds, how long it takes at the board's clocks, what it does.

The hot path is `Context.enqueue` with `Device.synchronize`: a loop that measures calls the pair
tens of thousands of times a second, so it touches shared memory and little else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hil.emulator.clockfile import NOW, STATE
from hil.emulator.trt.device import Allocation, Device, Stream
from hil.emulator.trt.numerics import Calculator, Inference, Output
from hil.emulator.trt.outline import parsed
from hil.emulator.trt.plan import Plan, Shape

NS = 1_000_000_000
DRAWN_AT_ONCE = 4096
PROFILER_NS = 2_000
"""Assumed cost of timing one layer, when a profiler is attached."""


@dataclass(frozen=True)
class Lowered:
    """An engine at fixed shapes, as the board knows it.

    Attributes:
        name: under which the board keeps its kernels and tactics.
        layers: names of the kernels.
        outputs: shapes of the outputs.
    """

    name: str
    layers: tuple[str, ...]
    weight_bytes: int
    outputs: tuple[Shape, ...]


class Loaded:
    """A plan that has been deserialised.

    Args:
        plan: the plan.
        device: the GPU it lives on.

    Raises:
        OutOfMemoryError: its weights do not fit any more.
    """

    def __init__(self, plan: Plan, device: Device) -> None:
        self.plan = plan
        self.device = device
        self.inputs, self.outputs = plan.inputs, plan.outputs
        inside = frozenset(name for each in plan.kernels for name in list(each["nodes"])[:-1])
        self.calculator = Calculator(plan.onnx, plan.precision, inside)
        self._sha256 = hashlib.sha256(plan.to_bytes()).hexdigest()
        self._lowered: dict[str, Lowered] = {}
        self.weight_bytes = self.lowered(self.best()).weight_bytes
        device.reserve(self.weight_bytes)

    def close(self) -> None:
        """Gives the memory of the weights back."""
        self.device.release(self.weight_bytes)
        self.weight_bytes = 0

    def best(self) -> dict[str, Shape]:
        """The shapes of open inputs that the first profile was made for."""
        profile = self.plan.profiles[0] if self.plan.profiles else {}
        return {name: shapes[1] for name, shapes in profile.items()}

    def lowered(self, shapes: dict[str, Shape]) -> Lowered:
        """The engine at given shapes of the open inputs."""
        key = json.dumps(sorted(shapes.items()))
        if key not in self._lowered:
            self._lowered[key] = self._lower(shapes, f"{self._sha256} {key}")
        return self._lowered[key]

    def _lower(self, shapes: dict[str, Shape], name: str) -> Lowered:
        client, plan = self.device.time.client, self.plan
        kernels: Sequence[dict[str, Any]] = plan.kernels
        outputs = tuple(each.shape for each in plan.outputs)
        if plan.profiles:
            sha256 = parsed(client, plan.onnx)["sha256"]
            found = client.call("lower", sha256=sha256, precision=plan.precision, shapes=shapes)
            kernels = found["kernels"]
            outputs = tuple(tuple(each) for each in found["outputs"])
        same = len(kernels) == len(plan.factors)
        factors = plan.factors if same else (1.0,) * len(kernels)
        client.call("engine", name=name, kernels=list(kernels), factors=factors)
        weight_bytes = sum(kernel["bytes_weights"] for kernel in kernels)
        return Lowered(name, tuple(each["name"] for each in kernels), weight_bytes, outputs)


@dataclass
class Figures:
    """What an execution costs now: durations drawn ahead, and the power while it runs.

    `gpu_s` lies between two events in the stream, `enqueue_s` is the host's share.
    """

    name: str
    duration_s: float
    gpu_s: float
    enqueue_s: float
    layers: list[tuple[str, float]]
    memory_bytes: int
    activity: int
    durations_ns: list[int] = field(default_factory=list)
    used: int = 0


class Context:
    """An engine ready to execute.

    Args:
        engine: the engine.
        holds: whether it takes the memory of its activations; one that only tells how much that
            would be does not.

    Raises:
        OutOfMemoryError: activations do not fit any more.
    """

    def __init__(self, engine: Loaded, *, holds: bool = True) -> None:
        self.engine = engine
        self.device = engine.device
        self.shapes: dict[str, Shape] = engine.best()
        self._state = -1
        self._figures: Figures | None = None
        self._bound: _Bound | None = None
        self.memory_bytes = max(0, self.figures().memory_bytes - engine.weight_bytes)
        self._held = self.memory_bytes if holds else 0
        self.device.reserve(self._held)

    def close(self) -> None:
        """Gives the memory of the activations back."""
        self.device.release(self._held)
        self._held = 0

    def use_profile(self, number: int) -> None:
        """Switches to another optimisation profile, at what it is best at until told."""
        for name, (_, best, _) in self.engine.plan.profiles[number].items():
            self.set_shape(name, best)

    def set_shape(self, name: str, shape: Shape) -> None:
        """Gives an open input its shape."""
        if self.shapes.get(name) != shape:
            self.shapes = {**self.shapes, name: shape}
            self._state = -1
            self._bound = None

    def input_shapes(self) -> list[Shape]:
        """The inputs' shapes now."""
        return [self.shapes.get(each.name, each.shape) for each in self.engine.inputs]

    def output_shapes(self) -> tuple[Shape, ...]:
        """The outputs' shapes now."""
        return self.engine.lowered(self.shapes).outputs

    def figures(self) -> Figures:
        """What an execution costs in the board's present state."""
        words = self.device.time.words
        if self._figures is None or words[STATE] != self._state:
            self.device.time.same_boot()
            self._state = words[STATE]
            name = self.engine.lowered(self.shapes).name
            found = self.device.time.client.call("figures", name=name)
            layers = [(layer, seconds) for layer, seconds in found["layers"]]
            self._figures = Figures(
                name,
                found["duration_s"],
                found["gpu_s"],
                found["enqueue_s"],
                layers,
                found["memory_bytes"],
                found["activity"],
            )
        return self._figures

    def enqueue(self, bindings: Sequence[int], stream: Stream) -> None:
        """Puts one execution into a stream."""
        time = self.device.time
        words = time.words
        figures = self._figures
        if figures is None or words[STATE] != self._state:
            figures = self.figures()
        used = figures.used
        if used == len(figures.durations_ns):
            self._draw(figures)
            used = 0
        figures.used = used + 1
        start_ns = words[NOW]
        start_ns = max(start_ns, stream.ready_ns)
        stream.ready_ns = stop_ns = start_ns + figures.durations_ns[used]
        time.pending.append((start_ns, stop_ns, figures.activity))
        bound = self._bound
        if bound is None or not bound.current(bindings):
            self._bound = bound = _Bound(self, list(bindings))
        bound.promise()

    def next_share(self) -> float:
        """Draws how long the next execution takes, over what it takes on average."""
        figures = self.figures()
        if figures.used == len(figures.durations_ns):
            self._draw(figures)
        figures.used += 1
        return figures.durations_ns[figures.used - 1] / NS / figures.duration_s

    def profile(self, stream: Stream, report: Callable[[str, float], Any]) -> None:
        """Tells the time of each layer of the last execution, after waiting for it."""
        figures = self.figures()
        if not figures.used:
            self._draw(figures)
        self.device.synchronize(stream)
        last_ns = figures.durations_ns[max(0, figures.used - 1)]
        scale = last_ns / NS / figures.duration_s
        stream.ready_ns += PROFILER_NS * len(figures.layers)
        self.device.synchronize(stream)
        for name, seconds in figures.layers:
            report(name, seconds * scale * 1e3)

    def _draw(self, figures: Figures) -> None:
        figures.durations_ns = self.device.time.client.call(
            "jitter", name=figures.name, duration_s=figures.duration_s, count=DRAWN_AT_ONCE
        )["ns"]
        figures.used = 0


class _Bound:
    """Buffers that an engine is bound to; as long as nothing changes there is nothing to do."""

    def __init__(self, context: Context, addresses: list[int]) -> None:
        engine, device = context.engine, context.device
        self._addresses = addresses
        self._device = device
        self._epoch = device.epoch
        self._context = context
        self._shapes = context.input_shapes()
        count = len(engine.inputs)
        self._inputs = [device.block(int(each), 1)[0] for each in addresses[:count]]
        self._outputs = [device.block(int(each), 1)[0] for each in addresses[count:]]
        self._read: list[Any] = []
        self._written: list[Any] = []

    def current(self, addresses: Sequence[int]) -> bool:
        """Whether the same buffers are meant, and still there."""
        return self._epoch == self._device.epoch and self._addresses == addresses

    def promise(self) -> None:
        """Lets the output buffers hold what the input buffers lead to."""
        if (
            self._read
            and all(map(_holds, self._inputs, self._read))
            and all(map(_holds, self._outputs, self._written))
        ):
            return
        engine = self._context.engine
        self._read = [block.content for block in self._inputs]
        inference = Inference(
            engine.calculator, engine.inputs, self._shapes, tuple(self._read), engine.outputs
        )
        self._written = []
        for index, block in enumerate(self._outputs):
            block.content = Output(inference, index, block.size)
            self._written.append(block.content)


def _holds(block: Allocation, content: object) -> bool:
    return block.content is content
