"""The board's half of the work: engines built and measured, each once, each with its evidence.

Nothing here knows a network; it takes ONNX files and gives back figures as the journal keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ExportError
from hil.core.evidence import RunPlan
from hil.core.stats import Estimate
from hil.device.faults import EngineDiedError
from hil.device.session import EngineInfo, EngineSpec, PlausibleDraws, Session
from hil.device.trtexec_run import refuse
from hil.measure.numbers import require_joules
from hil.measure.run import measure
from hil.synth.seeds import derived_seed
from hil.synth.store import RunStore

_SEARCH_BUILDS = 1000
"""Engine builds of the search are numbered from here, so that none is taken for a fresh one of the
confirmation. No build is number 0: that one would share kernel timings with earlier builds on the
board, and a figure must not depend on what was built before."""

ATTEMPTS = 3
"""Fresh tries at a measurement that came back invalid; a board is allowed a bad moment."""


@dataclass(frozen=True)
class Model:
    """A network as the board takes it.

    Attributes:
        onnx: the file.
        precision: what its engine is built with; None is the job's.
    """

    onnx: bytes
    precision: str | None = None


@dataclass(frozen=True)
class Figures:
    """What one measurement of one engine gave.

    Attributes:
        result: the measurement as JSON (schema hil/result@1); empty where the board refused.
        refused: why the board's TensorRT took the network for none of its own, or None.
        evidence: hash of the raw evidence in the run's files.
    """

    result: Mapping[str, Any]
    engine: Mapping[str, Any]
    onnx_sha256: str
    evidence: str
    refused: str | None

    @classmethod
    def read(cls, step: Mapping[str, Any]) -> Self:
        """Read a step of the journal."""
        return cls(step["result"], step["engine"], step["onnx"], step["evidence"], step["refused"])

    def model(self, store: RunStore) -> Model:
        """The network as it was measured, from the run's files."""
        return Model(store.blob(self.onnx_sha256), self.engine.get("precision"))

    @property
    def usable(self) -> bool:
        """Whether figures may be used at all: neither refused nor invalid."""
        return self.refused is None and self.result["validity"] != "invalid"

    def estimate(self, metric: str) -> Estimate | None:
        """One figure with its 95 % interval, None where it is unknown."""
        if metric == "memory_mib":
            memory = self.engine.get("device_memory_bytes")
            mib = None if memory is None else memory / 2**20
            return None if mib is None else Estimate(mib, mib, mib)
        value, interval = self.result.get(metric), self.result.get(f"{metric}_ci95")
        if value is None:
            return None
        low, high = interval or (value, value)
        return Estimate(value, low, high)


@dataclass(frozen=True)
class _Made:
    """One measurement to make: its name, its engine's slot and mode, whose engine it is."""

    name: str
    index: int
    mode: int | None
    engine_of: str


@dataclass(frozen=True)
class BoardWork:
    """Measures networks on one leased board, for one run.

    Attributes:
        on_measured: called after each measurement really made, with its board seconds.
    """

    session: Session
    store: RunStore
    seed: int
    spec: EngineSpec
    power: str
    rail: str | None
    on_measured: Callable[[float], None] = lambda _seconds: None

    def measure(
        self,
        key: str,
        model: Callable[[], Model],
        plan: RunPlan,
        *,
        stage: str,
        build: int = 0,
        mode: int | None = None,
        same_engine: bool = False,
    ) -> Figures:
        """Measure a network's engine, once per stage, build and power mode.

        Args:
            key: the network's identity (the same network under other weights needs another, and so
                does the same file in another precision).
            model: makes the file; not called where the step is already in the journal.
            plan: how the engine is exercised.
            stage: "search" or "confirm": figures of one are never used as the other's.
            build: which build of that stage; each is made anew, in its own slot.
            mode: power mode it is run in, built as always in the one that the device file pins;
                None is that one, to which the board is put back.
            same_engine: run the first build of the stage again instead of a new one.
        """
        name = step_name(stage, key, build, mode)
        engine = 1 if same_engine else build
        index = engine + (_SEARCH_BUILDS if stage == "search" else 0)
        made = _Made(name, index, mode, step_name(stage, key, engine))
        step = self.store.step("measure", name, lambda: self._fresh(made, model(), plan))
        return Figures.read(step)

    def known(self, key: str, *, stage: str, build: int = 0) -> bool:
        """Whether that measurement is in the journal already."""
        return self.store.find("measure", step_name(stage, key, build)) is not None

    def _fresh(self, made: _Made, model: Model, plan: RunPlan) -> dict[str, Any]:
        session = self.session
        spec, sha256 = self._spec(model), self.store.put_blob(model.onnx)
        empty: dict[str, Any] = {
            "result": {},
            "engine": {},
            "onnx": sha256,
            "evidence": "",
            "refused": None,
        }
        step = empty
        for attempt in range(ATTEMPTS):
            # On an emulated board the figure must depend on the run's seed and the network
            # alone, so that a resumed run ends as an uninterrupted one would.
            seed = derived_seed(self.seed, "board", made.name, str(attempt))
            # An engine run again is to be the one of its first run, built anew or not.
            again = made.name != made.engine_of
            first = derived_seed(self.seed, "board", made.engine_of, "0")
            session.reset(first if again else seed)
            session.put_blob(model.onnx)
            try:
                info = session.build(replace(spec, onnx_sha256=sha256, build_index=made.index))
                refuse(info, "certificate, nor outputs to read accuracy from")
                if again:
                    session.reset(seed)
                with self._in_mode(made.mode):
                    measurement, evidence = measure(
                        session, info, plan, power=self.power, rail=self.rail
                    )
            except ExportError as error:
                return {**empty, "refused": str(error)}
            except EngineDiedError as error:
                # It costs this measurement, not the run: a network may be what kills TensorRT.
                cause = "; ".join(filter(None, (error.what, error.why)))
                step = {**empty, "refused": f"{cause} (tried {attempt + 1} times)"}
                continue
            if self.power != "none":
                require_joules(measurement)
            marks = evidence.marks
            seconds = (marks[-1].stop_ns - marks[0].start_ns) / 1e9 if marks else 0.0
            self.on_measured(seconds + info.build_s)
            step = {
                **empty,
                "result": measurement.to_json(),
                "engine": engine_json(info),
                "evidence": self.store.put_json(evidence.to_json()),
                "device_s": seconds + info.build_s,
            }
            if measurement.validity != "invalid":
                break
        return step

    @contextmanager
    def _in_mode(self, mode: int | None) -> Iterator[None]:
        """Hold the board in a power mode; afterwards it is in the device file's again."""
        if mode is None:
            yield
            return
        try:
            self.session.pin(nvpmodel=mode)
            yield
        finally:
            self.session.pin()

    def _spec(self, model: Model) -> EngineSpec:
        return replace(self.spec, precision=model.precision or self.spec.precision)

    def engine(self, model: Model) -> EngineInfo:
        """Return a network's first fresh build, made anew where the board has it no more."""
        sha256 = self.session.put_blob(model.onnx)
        return self.session.build(replace(self._spec(model), onnx_sha256=sha256, build_index=1))

    def answers(self, model: Model, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return an engine's own outputs for N pictures, in its order: those of build 1."""
        info = self.engine(model)
        outputs = self.session.infer(info, {info.inputs[0].name: inputs})
        # An engine may list its bindings in another order; ours are output, output_1, ...
        names = sorted((o.name for o in info.outputs), key=lambda name: (len(name), name))
        return tuple(np.asarray(outputs[name], dtype=np.float32) for name in names)

    def plausible(self, networks: Sequence[Callable[[], Model]]) -> PlausibleDraws | None:
        """Return joint draws of networks' figures over plausible boards, None where none are."""
        # A cool board: heat left over from earlier work could have lowered the clocks.
        self.session.reset(derived_seed(self.seed, "board", "plausible"))
        return self.session.plausible([self.engine(model()) for model in networks])


def step_name(stage: str, key: str, build: int, mode: int | None = None) -> str:
    """Name of a measurement in the journal; `mode` is a power mode beside the device file's."""
    return f"{stage}:{key}:{build}" + ("" if mode is None else f":nvpmodel{mode}")


def engine_json(info: EngineInfo) -> dict[str, Any]:
    """The engine as results and reports name it."""
    return {
        "engine_sha256": info.engine_sha256,
        "runtime": info.spec.runtime,
        "runtime_version": info.runtime_version,
        "platform": info.platform,
        "dialect": info.dialect,
        "cuda_graph": info.spec.cuda_graph,
        "precision": info.spec.precision,
        "build_s": info.build_s,
        "plan_bytes": info.plan_bytes,
        "device_memory_bytes": info.device_memory_bytes,
        "messages": list(info.messages),
    }
