"""A scenario laid out as a run of the agent: stamped lines of text, marks, latencies, states.

The order is the agent's: the power source starts, quiet, idle, settling, blocks without a pause
to speak of, tail, quiet, idle. A run that may go on is asked about block k while block k + 1 is
measured, so it holds one block more than the one it was stopped after.

What is produced is what a board sends home, raw. Lines have the form of a TX2 on L4T r32 as root;
the mean beside each figure is floor(sum / n) over every line since the program's start, lost
ones included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.bench.energy_scenario import Scenario
from hil.bench.energy_world import Floats, World, meter_w, registers_mw
from hil.core.evidence import Evidence, Mark, PowerRecord, RunPlan

NS = 1_000_000_000
BOOT_S = 1000.0
"""Board time at which the power source starts."""
QUIET_S = 2.5
FIRST_LINE_S = 0.35
TRAILING_LINES = 3
C_PER_WARMING = 1.0 / 0.0016
"""tx2_1: 5 C more went with 0.8 % more power."""
# Shares of the total above 0.3 W each, so that parts never exceed the total.
PARTS = (("VDD_SYS_GPU", 0.30, 19184.0), ("VDD_SYS_SOC", 0.14, 19184.0))
PARTS_AFTER = (("VDD_SYS_CPU", 0.14, 19184.0), ("VDD_SYS_DDR", 0.14, 4808.0))
PART_STEP_MA = 4
STATE = {
    "nvpmodel": {"id": 0, "name": "MAXN"},
    "gpu_hz": 1_300_500_000,
    "emc_hz": 1_866_000_000,
    "cpu_hz": [2_035_200_000],
    "clocks_pinned": True,
    "throttle": [],
}
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Edges:
    """Edges of one window in seconds since the source's start, and its inferences."""

    start_s: float
    stop_s: float
    first: int
    past: int


class Run:
    """One scenario under one plan; asked for its evidence after any number of blocks.

    Attributes:
        settle: the settling phase.
        blocks: as many windows as the longest run has.
    """

    def __init__(self, scenario: Scenario, plan: RunPlan) -> None:
        self.scenario, self.plan = scenario, plan
        self.most = plan.max_blocks or plan.blocks
        after_s = QUIET_S + plan.idle_s + 2.0
        windows_s = (plan.settle_s, *(plan.window_s,) * self.most, plan.tail_s)
        load_start_s = FIRST_LINE_S + QUIET_S + plan.idle_s
        self.world = World(scenario, load_start_s, windows_s, after_s)
        edges = [
            Edges(float(self.world.starts_s[a]), float(self.world.starts_s[b]), a, b)
            for a, b in self.world.phases
        ]
        self.settle, *self.blocks = edges[:-1]
        # The tail of a run that stops early lies where the next block would have begun.
        self._next = [*self.blocks[1:], edges[-1]]
        self._read_s, self._stamps_s, self._arrives = self._schedule()
        self._going_text: list[str] = []

    # -- times -----------------------------------------------------------------------------------

    def tail(self, blocks: int) -> Edges:
        """Return the tail of a run of so many blocks."""
        start = self._next[blocks - 1]
        wanted_s = start.start_s + self.plan.tail_s
        past = int(np.searchsorted(self.world.starts_s, wanted_s - 1e-12))
        return Edges(start.start_s, float(self.world.starts_s[past]), start.first, past)

    def over_s(self, blocks: int) -> float:
        """Return when a run of so many blocks is over."""
        return self.tail(blocks).stop_s + QUIET_S + self.plan.idle_s

    def _schedule(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return when each line's sensor is read, when it is stamped, and whether it arrives."""
        printer, rng = self.scenario.printer, self.scenario.rng(6)
        count = int((self.world.length_s - 0.05) / (printer.interval_s + 0.9 * printer.work_s))
        work_s = printer.work_s * np.maximum(
            0.2, 1 + printer.jitter * rng.standard_normal(count)
        ) + rng.exponential(1e-4, count)
        read_s = 0.05 + np.cumsum(printer.interval_s + work_s) - printer.interval_s
        late_s = printer.delay_s + rng.exponential(0.001, count)
        stamps_s = np.maximum.accumulate(read_s + late_s)
        arrives = rng.random(count) >= printer.lost
        if printer.gap_s:
            from_s = rng.uniform(self.settle.stop_s, self.blocks[-1].stop_s)
            arrives &= (read_s < from_s) | (read_s > from_s + printer.gap_s)
        inside = read_s < self.world.length_s - 0.02
        return read_s[inside], stamps_s[inside], arrives[inside]

    # -- readings --------------------------------------------------------------------------------

    @cached_property
    def _going_w(self) -> Floats:
        return self.world.sensed_w(self._read_s)

    def _powers_w(self, stop_s: float | None) -> Floats:
        """Return the power behind the lag at each line; only what follows a stop differs."""
        if stop_s is None or stop_s >= self.world.load_stop_s:
            return self._going_w
        first = max(0, int(np.searchsorted(self._read_s, stop_s)) - 1)
        after_w = self.world.sensed_w(self._read_s[first:], stop_s)
        # A meter's first mean reaches back to the line before, which `first` holds: drop it.
        return np.concatenate((self._going_w[: first + 1], after_w[1:]))

    def readings_mw(self, stop_s: float | None) -> NDArray[np.int64]:
        """Return what VDD_IN shows on each line, arrived or not."""
        return registers_mw(self.scenario.sensor, self._powers_w(stop_s))

    def samples(self, stop_s: float | None = None) -> tuple[Ints, Floats]:
        """Return stamps (ns) and watts of the lines that arrive, as a reader should find them.

        Of lines with one stamp the later one counts.
        """
        stamps = self._board_ns(self._stamps_s)
        if self.scenario.printer.host_s is None:
            watts = self.readings_mw(stop_s) / 1000.0
        else:
            watts = np.round(meter_w(self.scenario.sensor, self._powers_w(stop_s)), 4)
        whole = self._arrives.copy()
        whole[self._cuts()] = False
        stamps, watts = stamps[whole], watts[whole]
        last = np.append(np.diff(stamps) > 0, True)
        return stamps[last], watts[last]

    def edges_ns(self, window: Edges) -> tuple[int, int]:
        """Return a window's edges on the board's clock."""
        start_ns, stop_ns = self._board_ns(np.array([window.start_s, window.stop_s])).tolist()
        return start_ns, stop_ns

    def _board_ns(self, at_s: Floats) -> Ints:
        return np.asarray(np.rint((BOOT_S + at_s) * NS), dtype=np.int64)

    def _cuts(self) -> Ints:
        """Return which lines come damaged: some of those that fall into the load."""
        printer = self.scenario.printer
        if not printer.cut:
            return np.empty(0, dtype=np.int64)
        first, past = np.searchsorted(self._read_s, [self.settle.start_s, self.blocks[3].stop_s])
        return self.scenario.rng(7).integers(first, past, printer.cut)

    # -- text ------------------------------------------------------------------------------------

    def lines(self, until_s: float, stop_s: float | None) -> tuple[tuple[int, str], ...]:
        """Return stamped raw lines that arrive by a moment, where the load stops at `stop_s`."""
        count = int(np.searchsorted(self._stamps_s, until_s, side="right"))
        going = count if stop_s is None else int(np.searchsorted(self._read_s, stop_s))
        if going > len(self._going_text):
            self._going_text += self._text(None, len(self._going_text), going)
        texts = self._going_text[:going]
        if stop_s is not None:
            texts += self._text(stop_s, going, count)
        cuts = set(self._cuts().tolist())
        stamps = self._clock_ns(self._stamps_s[:count]).tolist()
        return tuple(
            (stamps[i], texts[i][: 40 + 3 * i % 200] if i in cuts else texts[i])
            for i in np.flatnonzero(self._arrives[:count]).tolist()
        )

    def _clock_ns(self, at_s: Floats) -> Ints:
        """Return stamps on the clock of whoever stamps: the board's, or the host's."""
        host_s = self.scenario.printer.host_s
        return self._board_ns(at_s if host_s is None else at_s + 5000.0 + host_s)

    def _text(self, stop_s: float | None, first: int, past: int) -> list[str]:
        """Return the raw lines [first, past), where the load stops at `stop_s`."""
        if self.scenario.printer.host_s is not None:
            watts = meter_w(self.scenario.sensor, self._powers_w(stop_s))[first:past].tolist()
            pairs = zip(self._read_s[first:past].tolist(), watts, strict=True)
            return [f"{at_s:.6f} {power_w:.4f}" for at_s, power_w in pairs]
        total_mw = self.readings_mw(stop_s)[:past]
        rails = [(name, _part_mw(total_mw, share, mv)) for name, share, mv in PARTS]
        rails += [("VDD_4V0_WIFI", np.zeros_like(total_mw)), ("VDD_IN", total_mw)]
        rails += [(name, _part_mw(total_mw, share, mv)) for name, share, mv in PARTS_AFTER]
        numbers = np.arange(1, past + 1)
        columns = []
        for _, now in rails:
            columns += [now[first:].tolist(), (np.cumsum(now) // numbers)[first:].tolist()]
        form = " ".join(f"{name} %d/%d" for name, _ in rails)
        heads = self._heads(stop_s, first, past)
        return [
            head + form % row for head, row in zip(heads, zip(*columns, strict=True), strict=True)
        ]

    def _heads(self, stop_s: float | None, first: int, past: int) -> list[str]:
        """Return what stands before the rails: loads and temperatures, half a degree a step."""
        at_s = self._read_s[first:past]
        stopped_s = self.world.load_stop_s if stop_s is None else stop_s
        warm = (
            self.scenario.load.warming
            * C_PER_WARMING
            * self.world.warmth(np.minimum(at_s, stopped_s))
        )
        halves = np.rint(2 * (31.0 + warm)).astype(int).tolist()
        busy = ((at_s >= self.settle.start_s) & (at_s < stopped_s)).tolist()
        made = {key: _head(*key) for key in set(zip(halves, busy, strict=True))}
        return [made[key] for key in zip(halves, busy, strict=True)]

    # -- evidence --------------------------------------------------------------------------------

    def evidence(self, blocks: int, *, over: bool, brief: bool = False) -> Evidence:
        """Return the evidence after so many blocks: of the whole run, or while it goes on.

        Args:
            blocks: how many are whole.
            over: whether the load stopped after them.
            brief: with lines of the product's own sysfs sampler, of VDD_IN alone, in place of
                tegrastats': the same readings and stamps in a twentieth of the text. A meter on
                the host prints what it prints.
        """
        stop_s = self.tail(blocks).stop_s if over else None
        ends_s = self.over_s(blocks) if over else self.blocks[blocks - 1].stop_s
        until_s = self._trailing_s(ends_s)
        marks = self._marks(blocks, over)
        return Evidence(
            board={"name": "jetson-tx2", "model": "Jetson TX2 (benchmark scenario)"},
            engine={"engine_sha256": f"{self.scenario.index:064x}"},
            plan=self.plan,
            power=((self._brief if brief else self._record)(until_s, stop_s),),
            marks=marks,
            latency_ns=tuple(map(self._latencies, range(blocks))),
            states=self._states(marks),
            provenance="emulated",
        )

    def _trailing_s(self, ends_s: float) -> float:
        """Return when the last of the few lines after an end has come."""
        later = self._stamps_s[self._arrives & (self._stamps_s > ends_s)]
        return float(later[min(TRAILING_LINES, later.size) - 1])

    def _brief(self, until_s: float, stop_s: float | None) -> PowerRecord:
        if self.scenario.printer.host_s is not None:
            return self._record(until_s, stop_s)
        count = int(np.searchsorted(self._stamps_s, until_s, side="right"))
        stamps = self._clock_ns(self._stamps_s[:count]).tolist()
        readings = self.readings_mw(stop_s)[:count].tolist()
        cuts = set(self._cuts().tolist())
        lines = tuple(
            (stamps[i], f"VDD_IN={readings[i]}{'m' if i in cuts else 'mW'}")
            for i in np.flatnonzero(self._arrives[:count]).tolist()
        )
        settings = {"interval_ms": self.plan.interval_ms}
        return PowerRecord("ina3221", lines, ("sample",), settings)

    def _record(self, until_s: float, stop_s: float | None) -> PowerRecord:
        plan, lines = self.plan, self.lines(until_s, stop_s)
        settings: dict[str, Any] = {"interval_ms": plan.interval_ms}
        if self.scenario.printer.host_s is None:
            return PowerRecord("tegrastats", lines, ("tegrastats",), settings)
        settings = {"where": "host", "rail": "meter", "sync": self._sync(until_s)}
        return PowerRecord("command", lines, ("meter",), settings, clock="host")

    def _sync(self, until_s: float) -> list[list[int]]:
        """Return looks at both clocks before and after, over a network that takes its time."""
        rng = self.scenario.rng(8)
        rows = []
        for at_s in (*(-1.0 + 0.05 * np.arange(5)), *(until_s + 0.05 * np.arange(5))):
            there_s, back_s = rng.exponential(0.002, 2) + 0.0003
            asked, told = np.array([at_s, at_s + there_s + back_s]), np.array([at_s + there_s])
            before, after = self._clock_ns(asked).tolist()
            rows.append([before, int(self._board_ns(told)[0]), after])
        return rows

    def _marks(self, blocks: int, over: bool) -> tuple[Mark, ...]:
        idle_s = self.plan.idle_s
        spans: list[tuple[str, int, float, float, int | None]] = [
            ("idle_before", 0, self.settle.start_s - idle_s, self.settle.start_s, None),
            _load_span("settle", 0, self.settle),
        ]
        spans += [_load_span("block", i, self.blocks[i]) for i in range(blocks)]
        if over:
            tail, end_s = self.tail(blocks), self.over_s(blocks)
            spans.append(_load_span("tail", 0, tail))
            spans.append(("idle_after", 0, end_s - idle_s, end_s, None))
        edges_ns = self._board_ns(np.array([span[2:4] for span in spans])).tolist()
        return tuple(
            Mark(name, index, start_ns, stop_ns, count)
            for (name, index, _, _, count), (start_ns, stop_ns) in zip(spans, edges_ns, strict=True)
        )

    def _latencies(self, block: int) -> tuple[int, ...]:
        window = self.blocks[block]
        edges_ns = self._board_ns(self.world.starts_s[window.first : window.past + 1])
        return tuple(np.diff(edges_ns).tolist())

    def _states(self, marks: tuple[Mark, ...]) -> tuple[dict[str, object], ...]:
        warm = self.scenario.load.warming * C_PER_WARMING
        times = [mark.stop_ns for mark in marks]
        at_s = np.array(times) / NS - BOOT_S
        temps = 31.0 + warm * self.world.warmth(at_s)
        return tuple(
            STATE | {"t_ns": t_ns, "temps_c": {"GPU": round(float(temp), 1)}}
            for t_ns, temp in zip(times, temps, strict=True)
        )


def block_energies_j(stamps: Ints, watts: Floats, edges: list[tuple[int, int]]) -> Floats:
    """Integrate windows by trapezoids between samples; the edges are interpolated.

    The array twin of the product's reader, for lengths of run that nobody stopped at.
    """
    at_s = (stamps - stamps[0]) / NS
    joules = np.concatenate(([0.0], np.cumsum(np.diff(at_s) * (watts[1:] + watts[:-1]) / 2)))

    def until(t_ns: Ints) -> Floats:
        t_s = (t_ns - stamps[0]) / NS
        left = np.clip(np.searchsorted(at_s, t_s, side="right") - 1, 0, len(at_s) - 2)
        into_s = t_s - at_s[left]
        slope = (watts[left + 1] - watts[left]) / (at_s[left + 1] - at_s[left])
        return np.asarray(joules[left] + into_s * (watts[left] + slope * into_s / 2))

    starts, stops = np.array(edges, dtype=np.int64).T
    return until(stops) - until(starts)


def _load_span(name: str, index: int, edges: Edges) -> tuple[str, int, float, float, int]:
    return name, index, edges.start_s, edges.stop_s, edges.past - edges.first


def _part_mw(total_mw: NDArray[np.int64], share: float, bus_mv: float) -> NDArray[np.int64]:
    steps = np.rint(share * 1000 * total_mw / bus_mv / PART_STEP_MA)
    return np.floor(bus_mv * steps * PART_STEP_MA / 1000.0).astype(np.int64)


def _head(half_degrees: int, busy: bool) -> str:
    zone = half_degrees / 2
    cores = "12%@2035" if busy else "2%@2035"
    return (
        "RAM 1004/7852MB (lfb 7x2MB) SWAP 0/3926MB (cached 0MB) "
        f"CPU [{cores},0%@2035,0%@2035,{cores},1%@2035,1%@2035] EMC_FREQ 1%@1866 "
        f"GR3D_FREQ {99 if busy else 0}%@1300 APE 150 MTS fg 0% bg 0% PLL@{zone + 2:g}C "
        f"MCPU@{zone + 2:g}C PMIC@100C Tboard@{zone - 2:g}C GPU@{zone:g}C BCPU@{zone + 2:g}C "
        f"thermal@{zone + 1.2:g}C Tdiode@{zone + 0.25:g}C "
    )
