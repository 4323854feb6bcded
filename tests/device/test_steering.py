"""Runs that the host steers, on this machine and on an emulated board, through whole sessions."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.core.errors import MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.config import LocalDevice, Power, find_device
from hil.device.opening import open_session
from hil.device.session import EngineInfo, EngineSpec, Session
from tests.device.test_sessions import board_root, network

pytestmark = pytest.mark.board
SHORT = RunPlan(0.05, 0.05, 0.1, blocks=2, tail_s=0.05, interval_ms=100, warmup=2, max_blocks=6)
STEERED = RunPlan(0.5, 0.2, 0.5, blocks=2, tail_s=0.1, max_blocks=9)


def local_device(folder: Path, power: dict | None = None) -> LocalDevice:
    fields = {
        "schema": "hil/device@1",
        "name": "here",
        "driver": "local",
        "board": "host",
        "local": {"state_dir": str(folder / "home")},
        "agent": {"root": board_root(folder / "root")},
        "power": power or {"source": "none"},
    }
    return LocalDevice.model_validate(fields)


@pytest.fixture(scope="module")
def emulated():
    device = find_device("tx2-emulated", cwd=Path(__file__).parent)
    with open_session(device, owner="test") as session:
        yield session


def on_cpu(session: Session) -> EngineInfo:
    return session.build(EngineSpec(session.put_blob(network()), "fp32", "onnxruntime"))


def on_board(session: Session) -> EngineInfo:
    return session.build(EngineSpec(session.put_blob(network())))


class Judge:
    """Goes on until it has seen so many blocks; keeps all it was shown."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.seen: list[Evidence] = []

    def __call__(self, evidence: Evidence) -> bool:
        self.seen.append(evidence)
        return len(evidence.named("block")) < self.enough


def steered(session: Session, info: EngineInfo, seed: int, enough: int) -> tuple[Evidence, Judge]:
    judge = Judge(enough)
    session.reset(seed)
    return session.run(info, STEERED, "tegrastats", judge), judge


def test_a_steered_run_of_one_seed_is_the_same_to_the_nanosecond(emulated):
    info = on_board(emulated)
    first, seen = steered(emulated, info, seed=5, enough=4)
    steered(emulated, info, seed=6, enough=3)

    again, seen_again = steered(emulated, info, seed=5, enough=4)

    assert again == first
    assert seen_again.seen == seen.seen
    assert len(first.named("block")) == 5  # the one that ran while the fourth was judged


def test_a_judge_that_takes_its_time_sees_and_changes_nothing_else(emulated):
    class Slow(Judge):
        def __call__(self, evidence: Evidence) -> bool:
            end_s = time.monotonic() + 0.2
            while time.monotonic() < end_s:
                pass
            return super().__call__(evidence)

    info = on_board(emulated)
    quick, seen = steered(emulated, info, seed=5, enough=3)
    slow = Slow(3)
    emulated.reset(5)

    assert emulated.run(info, STEERED, "tegrastats", slow) == quick
    assert slow.seen == seen.seen


def test_what_is_judged_is_whole_blocks_with_the_power_past_their_end(emulated):
    evidence, judge = steered(emulated, on_board(emulated), seed=1, enough=4)

    assert [len(seen.named("block")) for seen in judge.seen] == [2, 3, 4]
    for seen in judge.seen:
        last = seen.named("block")[-1]
        blocks = len(seen.named("block"))
        assert seen.marks == evidence.marks[: len(seen.marks)]
        assert seen.latency_ns == evidence.latency_ns[:blocks]
        assert seen.power_lines == evidence.power_lines[: len(seen.power_lines)]
        assert seen.power[0].argv == evidence.power[0].argv
        assert seen.power[0].settings == evidence.power[0].settings
        later = [t_ns for t_ns, _ in seen.power_lines if t_ns > last.stop_ns]
        assert len(later) == 3
        assert later[0] - last.stop_ns <= 150_000_000
        assert seen.states == evidence.states[: len(seen.states)]
        assert {"first_ns", "warmup_ns"} <= set(seen.start)


def test_the_cap_holds_for_a_judge_that_is_never_content(emulated):
    evidence, judge = steered(emulated, on_board(emulated), seed=1, enough=99)

    assert len(evidence.named("block")) == STEERED.max_blocks
    assert len(judge.seen) == 6  # blocks 2 to 7: the answer about the last but one comes too late


def test_without_a_judge_a_cap_is_no_reason_to_go_on(tmp_path):
    with open_session(local_device(tmp_path), owner="test") as session:
        evidence = session.run(on_cpu(session), SHORT, "none")

    assert len(evidence.named("block")) == SHORT.blocks
    assert evidence.plan == SHORT


def test_a_run_on_this_machine_is_steered_by_its_latencies(tmp_path):
    judge = Judge(3)

    with open_session(local_device(tmp_path), owner="test") as session:
        evidence = session.run(on_cpu(session), SHORT, "none", judge)

    assert len(evidence.named("block")) == 4
    assert [len(seen.latency_ns) for seen in judge.seen] == [2, 3]
    assert evidence.start["load_ns"] > 0
    assert len(evidence.start["warmup_ns"]) == SHORT.warmup
    assert len(evidence.start["settle_ns"]) == evidence.named("settle")[0].inferences


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_judge_that_fails_ends_the_run_and_the_session_lives_on(error, tmp_path):
    def failing(_evidence: Evidence) -> bool:
        raise error

    with open_session(local_device(tmp_path), owner="test") as session:
        info = on_cpu(session)
        with pytest.raises(error):
            session.run(info, SHORT, "none", failing)

        assert len(session.run(info, SHORT, "none").named("block")) == 2


def test_a_paced_run_keeps_its_schedule(emulated):
    info = on_board(emulated)
    evidence = emulated.run(info, RunPlan(0.5, 0.3, 2.0, 2, 0.1, rate_hz=30), "tegrastats")

    for mark in evidence.named("block"):
        assert mark.inferences in (60, 61)
        assert mark.stop_ns - mark.start_ns == pytest.approx(mark.inferences / 30 * 1e9, abs=2e4)
        assert mark.missed == 0
    assert all(max(series) < 33e6 for series in evidence.latency_ns)


def test_a_pace_that_cannot_be_kept_is_counted(emulated):
    info = on_board(emulated)

    evidence = emulated.run(info, RunPlan(0.5, 0.1, 0.5, 2, 0.1, rate_hz=20_000), "none")

    for mark, series in zip(evidence.named("block"), evidence.latency_ns, strict=True):
        slots = (mark.stop_ns - mark.start_ns) / 50_000
        assert mark.inferences == len(series)
        assert mark.missed > mark.inferences
        assert mark.inferences + mark.missed == pytest.approx(slots, abs=1)
        assert sum(series) > 0.99 * (mark.stop_ns - mark.start_ns)  # back to back


@pytest.fixture(scope="module")
def two_sources():
    """An emulated board whose monitors are read twice: by tegrastats and by sysfs."""
    device = find_device("tx2-emulated", cwd=Path(__file__).parent)
    also = [{"source": "ina3221", "rail": "VDD_IN", "interval_ms": 20}]
    power = Power.model_validate({"source": "tegrastats", "rail": "VDD_IN", "also": also})
    with open_session(device.model_copy(update={"power": power}), owner="test") as session:
        yield session


def test_two_sources_of_one_seed_are_the_same_to_the_nanosecond(two_sources):
    info = on_board(two_sources)
    first, seen = steered(two_sources, info, seed=3, enough=3)

    again, seen_again = steered(two_sources, info, seed=3, enough=3)

    assert [record.source for record in first.power] == ["tegrastats", "ina3221"]
    assert len(first.power[1].lines) > 3 * len(first.power[0].lines)
    assert again == first
    assert seen_again.seen == seen.seen
    for evidence in seen.seen:
        stop_ns = evidence.named("block")[-1].stop_ns
        later = [sum(t_ns > stop_ns for t_ns, _ in record.lines) for record in evidence.power]
        assert later == [3, 3]


def test_the_board_s_own_trtexec_is_a_second_opinion(emulated):
    info = on_board(emulated)
    emulated.reset(1)

    run = emulated.trtexec(info)

    assert run.version == "8201"
    assert run.dropped > 0  # 8.2 writes its warm-up down
    assert len(run.latency_ms) > 1000
    ours_ns = emulated.run(info, RunPlan(0.1, 0.1, 0.5, 1, 0.1), "none").latency_ns[0]
    # Ours is host to host and contains the launch; theirs is the computation alone.
    assert 0 < statistics.median(run.latency_ms) < statistics.median(ours_ns) / 1e6
    emulated.reset(1)
    assert emulated.trtexec(info).latency_ms == run.latency_ms


def test_load_steps_are_seen_in_the_power(emulated):
    evidence = emulated.step_response(on_board(emulated), "tegrastats", 100, steps=2)

    names = [mark.name for mark in evidence.marks]
    assert names == ["idle_before", "on", "off", "on", "off", "idle_after"]
    assert evidence.latency_ns == ()
    assert Evidence.from_json(evidence.to_json()) == evidence
    lengths_s = [(mark.stop_ns - mark.start_ns) / 1e9 for mark in evidence.marks]
    assert all(length_s >= 4.0 for length_s in lengths_s)
    on, off = evidence.named("on")[1], evidence.named("off")[1]
    assert late_mw(evidence, on) > 1.05 * late_mw(evidence, off)


def late_mw(evidence: Evidence, mark) -> float:
    """Mean VDD_IN of the last second of a phase."""
    words = [
        line.split() for t, line in evidence.power_lines if mark.stop_ns - 1e9 < t < mark.stop_ns
    ]
    values = [int(line[line.index("VDD_IN") + 1].partition("/")[0].rstrip("mW")) for line in words]
    return sum(values) / len(values)


def test_modes_are_pinned_one_after_another_and_put_back(emulated):
    info = on_board(emulated)

    def mode(run: Callable[[], object]) -> tuple[int, bool]:
        run()
        evidence = emulated.run(info, RunPlan(0.1, 0.1, 0.1, 1, 0.1), "none")
        first, later = evidence.states[0], evidence.states[1]
        return first["nvpmodel"]["id"], later["clocks_pinned"]

    assert mode(lambda: emulated.pin(nvpmodel=2)) == (2, True)
    assert mode(lambda: emulated.pin(nvpmodel=1, clocks=False)) == (1, False)
    assert mode(lambda: emulated.reset(0)) == (1, False)  # a known state, in the mode asked for
    assert mode(emulated.pin) == (0, True)  # the device file's
    emulated.pin(nvpmodel=3)
    emulated.restore()
    assert mode(lambda: None) == (0, False)
    emulated.pin()


METER = """\
import sys, time
print("no meter's banner", flush=True)
while True:
    print(f"{time.monotonic():.6f} 7.5", flush=True)
    time.sleep(0.01)
"""


def meter_on_host(folder: Path, text: str = METER) -> dict:
    program = folder / "meter.py"
    program.write_text(text, encoding="utf-8")
    return {"source": "command", "command": [sys.executable, str(program)], "where": "host"}


def test_a_meter_on_this_machine_is_read_around_the_whole_run(tmp_path):
    device = local_device(tmp_path, meter_on_host(tmp_path))

    with open_session(device, owner="test") as session:
        evidence = session.run(on_cpu(session), SHORT, "command")

    (record,) = evidence.power
    assert (record.source, record.clock, record.settings["where"]) == ("command", "host", "host")
    stamps = [t_ns for t_ns, _ in record.lines]
    rows = record.settings["sync"]
    assert all(before <= after for before, _, after in rows)
    # This machine's agent reads the same clock, so the board's answer lies between both looks.
    assert all(before <= there <= after for before, there, after in rows)
    assert stamps[0] < evidence.marks[0].start_ns
    assert stamps[-1] > evidence.marks[-1].stop_ns
    assert rows[0][0] < evidence.marks[0].start_ns < evidence.marks[-1].stop_ns < rows[-1][2]


def test_a_run_can_be_steered_by_a_meter_on_this_machine(tmp_path):
    device = local_device(tmp_path, meter_on_host(tmp_path))
    judge = Judge(2)

    with open_session(device, owner="test") as session:
        evidence = session.run(on_cpu(session), SHORT, "command", judge)

    assert len(evidence.named("block")) == 3
    (seen,) = judge.seen
    assert seen.power[0].lines == evidence.power[0].lines[: len(seen.power[0].lines)]
    stop_ns = seen.named("block")[-1].stop_ns
    assert sum(t_ns > stop_ns for t_ns, _ in seen.power[0].lines) >= 3
    assert seen.power[0].settings["sync"]


def test_a_meter_here_and_one_there_keep_the_order_of_the_device_file(tmp_path):
    here = meter_on_host(tmp_path)
    there = {**here, "where": "board", "rail": "wall"}
    power = {**there, "also": [here, {**there, "rail": "barrel"}]}

    with open_session(local_device(tmp_path, power), owner="test") as session:
        evidence = session.run(on_cpu(session), SHORT, "command")

    assert [record.clock for record in evidence.power] == ["board", "host", "board"]
    assert [record.settings.get("rail") for record in evidence.power] == ["wall", "meter", "barrel"]
    assert all(len(record.lines) > 10 for record in evidence.power)


def test_a_meter_that_says_nothing_ends_the_run_with_its_words(tmp_path):
    silent = meter_on_host(tmp_path, "raise SystemExit('no meter on USB')")

    with (
        open_session(local_device(tmp_path, silent), owner="test") as session,
        pytest.raises(MeasurementError, match="no meter on USB"),
    ):
        session.run(on_cpu(session), SHORT, "command")


def test_a_board_without_trtexec_has_no_second_opinion(tmp_path):
    with open_session(local_device(tmp_path), owner="test") as session:
        assert session.trtexec(on_cpu(session)) is None
