"""The true history of power, and the machine that plays it."""

from __future__ import annotations

from itertools import repeat

import pytest

from hil.emulator import clockfile
from hil.emulator.board import load_board
from hil.emulator.boardmodel import BoardModel
from hil.emulator.clockfile import NEXT_EVENT, NOW, SEG_ACTIVITY, SEG_END, SEG_START, STATE
from hil.emulator.machine import Machine
from hil.emulator.noise import NS, Seed, murmur
from hil.emulator.sensor import Burst
from hil.emulator.timeline import Activity, Timeline

FAR = 10**18


def timeline(bursts=(), seen=None) -> Timeline:
    def observe(power_w: tuple[float, ...], span_s: float) -> None:
        if seen is not None:
            seen.append((power_w, span_s))

    return Timeline(
        rails=("VDD_IN", "VDD_SYS_CPU"),
        now_ns=0,
        background=iter([*bursts, Burst(FAR, FAR + 1, 0.0)]),
        murmur=repeat((FAR, 0.0)),
        idle_w=(2.0, 0.5),
        observe=observe,
    )


def energy_j(line: Timeline, rail: int = 0) -> float:
    return sum((p.stop_ns - p.start_ns) / NS * p.power_w[rail] for p in line.truth)


def test_what_is_not_queued_is_idle():
    line = timeline()
    work = line.register(Activity((6.0, 1.0)))
    line.queue(2 * NS, 5 * NS, work)
    line.play(10 * NS)
    assert [(p.start_ns, p.stop_ns, p.activity) for p in line.truth] == [
        (0, 2 * NS, 0),
        (2 * NS, 5 * NS, work),
        (5 * NS, 10 * NS, 0),
    ]
    assert energy_j(line) == pytest.approx(3 * 6.0 + 7 * 2.0)


def test_playing_in_pieces_is_the_same_as_at_once():
    once, often = timeline(), timeline()
    for line in (once, often):
        line.queue(2 * NS, 5 * NS, line.register(Activity((6.0, 1.0))))
    once.play(10 * NS)
    for second in range(1, 11):
        often.play(second * NS)
    assert list(once.truth) == list(often.truth)


def test_what_overlaps_the_past_is_cut_off():
    line = timeline()
    work = line.register(Activity((6.0, 1.0)))
    line.play(3 * NS)
    line.queue(NS, 4 * NS, work)
    line.queue(2 * NS, 5 * NS, work)
    line.queue(NS, 2 * NS, work)
    line.play(6 * NS)
    assert energy_j(line) == pytest.approx(3 * 2.0 + 2 * 6.0 + 2.0)


def test_bursts_come_on_top_of_everything():
    line = timeline([Burst(NS, 3 * NS, 1.0)])
    line.queue(2 * NS, 4 * NS, line.register(Activity((6.0, 1.0))))
    line.play(4 * NS)
    assert energy_j(line) == pytest.approx(2.0 + 3.0 + 7.0 + 6.0)
    assert energy_j(line, 1) == pytest.approx(0.5 + 1.1 + 1.6 + 1.0)


def test_the_sensors_see_every_piece_once():
    seen: list[tuple[tuple[float, ...], float]] = []
    line = timeline([Burst(NS, 2 * NS, 1.0)], seen)
    line.play(5 * NS)
    assert sum(power[0] * span for power, span in seen) == pytest.approx(energy_j(line))


def test_use_counts_the_share_of_the_gpu():
    line = timeline()
    line.queue(0, 4 * NS, line.register(Activity((6.0, 1.0), gpu_busy=0.5)))
    line.play(8 * NS)
    assert line.total.gpu_ns == pytest.approx(2 * NS)


def test_noise_hangs_on_both_seeds_and_its_purpose():
    def first(seed: Seed, *purpose: object) -> float:
        return seed.stdlib(*purpose).random()

    assert first(Seed(1, 2), "a") == first(Seed(1, 2), "a")
    values = {first(Seed(1, 2), "a"), first(Seed(2, 1), "a"), first(Seed(1, 2), "b")}
    assert len(values) == 3
    assert Seed(1, 2).philox("a").random() == Seed(1, 2).philox("a").random()


def test_murmur_has_no_mean_and_the_recorded_size():
    import statistics

    source = murmur(Seed(0, 0), 0, load_board("tx2").noise)
    watts = [next(source)[1] for _ in range(4000)]
    assert statistics.mean(watts) == pytest.approx(0.0, abs=0.006)
    assert statistics.pstdev(watts) == pytest.approx(0.1, rel=0.05)


class Ticker:
    """An event every 300 ms that notes when it came and what the clock showed."""

    def __init__(self, now_ns: int) -> None:
        self.next_ns = now_ns
        self.seen: list[tuple[int, int]] = []

    def fire(self, machine: Machine, now_ns: int) -> bool:
        self.seen.append((now_ns, machine.words[NOW]))
        self.next_ns = now_ns + 300_000_000
        return len(self.seen) < 5


@pytest.fixture
def machine(tmp_path) -> Machine:
    clockfile.create(tmp_path / "clock")
    return Machine(BoardModel("tx2"), 0, clockfile.attach(tmp_path / "clock"))


def test_time_stops_at_each_event(machine):
    ticker = Ticker(machine.now_ns)
    machine.watch(ticker)
    machine.advance(machine.now_ns + NS, [])
    start = clockfile.BOOT_NS
    assert ticker.seen == [(start + k * 300_000_000,) * 2 for k in range(4)]
    assert machine.now_ns == start + NS
    assert machine.words[NEXT_EVENT] <= start + 1_200_000_000


def test_an_event_that_says_so_comes_no_more(machine):
    ticker = Ticker(machine.now_ns)
    machine.watch(ticker)
    machine.advance(machine.now_ns + 9 * NS, [])
    assert len(ticker.seen) == 5


def test_going_back_in_time_is_going_nowhere(machine):
    machine.advance(machine.now_ns + NS, [])
    assert machine.advance(clockfile.BOOT_NS, []) == clockfile.BOOT_NS + NS


def test_the_open_segment_of_the_clock_is_never_lost(machine):
    rails = len(machine.model.rails)
    work = machine.register(Activity((9.0,) * rails))
    start = machine.now_ns
    machine.words[SEG_START], machine.words[SEG_END] = start, start + 400_000_000
    machine.words[SEG_ACTIVITY] = work
    machine.words[NOW] = start + 400_000_000
    machine.advance(start + NS, [[start + 400_000_000, start + 500_000_000, work]])
    busy = [p for p in machine.timeline.truth if p.activity == work]
    assert (busy[0].start_ns, busy[-1].stop_ns) == (start, start + 500_000_000)


def test_heat_makes_engines_derive_their_figures_anew(machine):
    before = machine.words[STATE]
    machine.change(lambda each: setattr(each, "pinned", True))
    assert machine.words[STATE] == before + 1
    cool = machine.condition.temp_c
    machine.advance(machine.now_ns + 300 * NS, [])
    assert machine.condition.temp_c > cool + 1
    assert machine.words[STATE] > before + 2


def test_changing_clocks_leaves_the_past_as_it_was(machine):
    machine.advance(machine.now_ns + NS, [])
    column = machine.model.rails.index("VDD_IN")
    past = [p.power_w[column] for p in machine.timeline.truth]
    machine.change(lambda each: setattr(each, "pinned", True))
    machine.advance(machine.now_ns + NS, [])
    now = [p.power_w[column] for p in machine.timeline.truth]
    assert now[: len(past)] == past
    assert min(now[len(past) :]) > max(past)
