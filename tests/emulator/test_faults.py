"""Faults on demand, seen through the ordinary way to a board: SSH, the agent, a session."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from hil.core.errors import DeviceError, HilError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.config import SshDevice
from hil.device.opening import open_session
from hil.device.session import EngineInfo, EngineSpec, Session
from hil.emulator.client import BoardRefusedError
from hil.emulator.faults import KINDS, Faults, parse
from hil.emulator.serve import EmulatedBoard, Options
from hil.measure.numbers import fallbacks_of

from .conftest import network

pytestmark = pytest.mark.board

PLAN = RunPlan(1.0, 0.5, 1.0, blocks=3, tail_s=0.3, interval_ms=100, warmup=3)


@pytest.fixture(scope="module")
def emulated() -> Iterator[EmulatedBoard]:
    board = EmulatedBoard(Options(seed=8))
    yield board
    board.close()


@pytest.fixture
def faulty(emulated: EmulatedBoard) -> Iterator[EmulatedBoard]:
    emulated.clear()
    yield emulated
    emulated.clear()


@pytest.fixture
def device(faulty: EmulatedBoard) -> SshDevice:
    told = faulty.description()
    return SshDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "faulty",
            "driver": "ssh",
            "board": "jetson-tx2",
            "ssh": {key: told[key] for key in ("host", "port", "user", "identity", "host_key")},
            "agent": {"root": told["root"]},
            "state": {"nvpmodel": 0, "clocks": True},
            "power": {"source": "tegrastats", "rail": "VDD_IN"},
        }
    )


@pytest.fixture
def session(device: SshDevice) -> Iterator[Session]:
    with open_session(device, owner="test") as opened:
        yield opened


def built(session: Session, index: int = 0) -> EngineInfo:
    sha256 = session.put_blob(network(channels=64, shape=(1, 3, 64, 64)))
    return session.build(
        EngineSpec(sha256, precision="fp16", runtime="tensorrt", build_index=index)
    )


def lines(evidence: Evidence) -> list[str]:
    return [line for _, line in evidence.power_lines]


def watts(evidence: Evidence) -> list[int]:
    found = [re.search(r"VDD_IN (\d+)/", line) for line in lines(evidence)]
    return [int(each.group(1)) for each in found if each]


def median_ns(evidence: Evidence) -> float:
    return statistics.median(ns for series in evidence.latency_ns for ns in series)


def failure(device: SshDevice, act: Callable[[Session], object]) -> HilError:
    """What a session ends with."""
    with pytest.raises(HilError) as caught, open_session(device, owner="test") as session:
        act(session)
    return caught.value


def works_again(device: SshDevice) -> None:
    with open_session(device, owner="test") as session:
        assert session.run(built(session), PLAN, "tegrastats").latency_ns


def test_a_cut_link_ends_the_run_and_the_next_session_works(device, faulty):
    def act(session: Session) -> None:
        info = built(session)
        faulty.fault("link-cut", {"bytes": 3000})
        session.run(info, PLAN, "tegrastats")

    assert isinstance(failure(device, act), DeviceError)
    works_again(device)


def test_a_link_that_stays_down_refuses_for_a_while(device, faulty):
    faulty.fault("link-cut", {"down_s": 1.5})
    began = time.monotonic()
    with pytest.raises(HilError), open_session(device, owner="test"):
        pass
    while time.monotonic() - began < 1.6:
        time.sleep(0.05)
    works_again(device)


def test_a_reboot_ends_the_run_and_leaves_nothing_pinned(device, faulty):
    boot_id = faulty.root / "proc/sys/kernel/random/boot_id"
    before = boot_id.read_text()

    def act(session: Session) -> None:
        info = built(session)
        faulty.fault("reboot", {"after_s": 2.0})
        session.run(info, PLAN, "tegrastats")

    assert isinstance(failure(device, act), DeviceError)
    deadline = time.monotonic() + 10
    while boot_id.read_text() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert boot_id.read_text() != before
    assert not list((faulty.root / "run/lock").iterdir())
    time.sleep(0.6)
    works_again(device)


def test_dead_monitors_leave_lines_without_rails(session, faulty):
    info = built(session)
    faulty.fault("sensor-dead", {"after_s": 2.0})
    evidence = session.run(info, PLAN, "tegrastats")
    with_rails = ["VDD_IN" in line for line in lines(evidence)]
    assert with_rails[0]
    assert not with_rails[-1]
    with pytest.raises(MeasurementError):
        session.run(info, PLAN, "ina3221")


def test_stuck_monitors_say_one_thing_whatever_runs(session, faulty):
    info = built(session)
    healthy = watts(session.run(info, PLAN, "tegrastats"))
    faulty.fault("sensor-stuck")
    assert len(set(watts(session.run(info, PLAN, "tegrastats")))) == 1
    assert len(set(healthy)) > 5


def test_a_tegrastats_that_dies_is_made_up_for_by_the_board_s_own_monitors(session, faulty):
    info = built(session)
    faulty.fault("tegrastats-dies", {"lines": 15, "status": 3})
    evidence = session.run(info, PLAN, "tegrastats")
    assert evidence.power_source == "ina3221"
    (told,) = fallbacks_of(evidence)
    assert told.name == "other_power_source"
    assert "tegrastats ended by itself" in told.reason
    assert session.run(info, PLAN, "tegrastats").power_source == "ina3221"  # it is remembered


def test_dead_monitors_leave_latency_and_no_joules(session, faulty):
    info = built(session)
    faulty.fault("sensor-dead")
    evidence = session.run(info, PLAN, "tegrastats")
    assert evidence.power == ()
    assert median_ns(evidence) > 0
    (told,) = fallbacks_of(evidence)
    assert told.name == "no_joules"
    assert "tegrastats tell no power" in told.reason
    assert "ina3221" in told.reason


def test_a_board_whose_date_was_set_meanwhile_says_so(session, faulty):
    info = built(session)
    faulty.fault("clock-step", {"seconds": -86400 * 30})
    evidence = session.run(info, PLAN, "tegrastats")
    (told,) = fallbacks_of(evidence)
    assert told.name == "wall_clock_stepped"
    assert "30 days" in told.reason


def test_a_board_that_lives_in_1970_says_so(device, faulty):
    faulty.fault("clock-step", {"seconds": -time.time()})
    with open_session(device, owner="test") as session:
        evidence = session.run(built(session), PLAN, "tegrastats")
    (told,) = fallbacks_of(evidence)
    assert told.name == "wall_clock"
    assert "behind" in told.reason
    assert told.severity == "note"


def test_half_lines_are_glued_to_the_next(session, faulty):
    info = built(session)
    faulty.fault("tegrastats-half", {"every": 5, "share": 0.5})
    texts = lines(session.run(info, PLAN, "tegrastats"))
    glued = [text for text in texts if text.count("RAM ") == 2]
    assert len(glued) == pytest.approx(len(texts) / 4, abs=2)


def test_throttling_slows_and_shows(session, faulty):
    info = built(session)
    cool = session.run(info, PLAN, "tegrastats")
    faulty.fault("throttle", {"temp_c": 105})
    hot = session.run(info, PLAN, "tegrastats")
    assert median_ns(hot) > 1.1 * median_ns(cool)
    gpu_c = float(re.search(r"GPU@([\d.]+)C", lines(hot)[0]).group(1))
    assert gpu_c > 95
    assert (faulty.root / "sys/class/thermal/cooling_device0/cur_state").read_text() == "1\n"


def test_a_stepped_wall_clock_touches_no_stamp(session, faulty):
    info = built(session)
    faulty.fault("clock-step", {"seconds": 5000})
    evidence = session.run(info, PLAN, "tegrastats")
    stamps = [stamp for stamp, _ in evidence.power_lines]
    assert all(95e6 < b - a < 110e6 for a, b in pairwise(stamps))


def test_a_stepped_wall_clock_is_what_programs_see(faulty):
    import subprocess

    def now() -> float:
        argv = [f"{faulty.root}/usr/bin/python3", "-c", "import time; print(time.time())"]
        return float(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)

    faulty.fault("clock-step", {"seconds": 5000})
    assert now() - time.time() == pytest.approx(5000, abs=5)
    faulty.clear("clock-step")
    assert now() - time.time() == pytest.approx(0, abs=5)


def test_a_full_disk_refuses_uploads(session, faulty):
    faulty.fault("disk-full")
    with pytest.raises(DeviceError):
        session.put_blob(b"something new" * 100)


def test_a_full_disk_stops_a_build(session, faulty):
    sha256 = session.put_blob(network(channels=24))
    faulty.fault("disk-full")
    with pytest.raises(DeviceError, match=r"(?i)space|disk"):
        session.build(EngineSpec(sha256, precision="fp16", runtime="tensorrt"))


def test_a_crashed_build_names_its_signal_and_the_next_one_works(session, faulty):
    faulty.fault("build-crash")
    with pytest.raises(DeviceError) as caught:
        built(session, index=41)
    assert "signal 11" in str(caught.value.why)
    assert not built(session, index=41).cached


def test_the_kernels_memory_killer_is_told_apart(session, faulty):
    info = built(session)
    faulty.fault("oom-kill", {"after_s": 2.0})
    with pytest.raises(DeviceError) as caught:
        session.run(info, PLAN, "tegrastats")
    assert "signal 9" in str(caught.value.why)
    assert session.run(info, PLAN, "tegrastats").latency_ns


def test_somebody_elses_load_shows_and_slows(session, faulty):
    info = built(session)
    alone = session.run(info, PLAN, "tegrastats")
    faulty.fault("other-user", {"share": 0.4})
    shared = session.run(info, PLAN, "tegrastats")
    assert median_ns(shared) == pytest.approx(median_ns(alone) / 0.6, rel=0.05)

    def idle_gpu(evidence: Evidence) -> list[int]:
        mark = evidence.named("idle_before")[0]
        inside = [
            line for t, line in evidence.power_lines if mark.start_ns + 2e8 < t < mark.stop_ns
        ]
        return [int(re.search(r"GR3D_FREQ (\d+)%", line).group(1)) for line in inside]

    assert max(idle_gpu(alone)) == 0
    assert statistics.median(idle_gpu(shared)) == pytest.approx(40, abs=2)
    assert min(watts(shared)[5:]) > min(watts(alone)[5:])


def test_a_slow_link_is_slow_and_whole(device, faulty):
    faulty.fault("slow-link", {"bytes_per_s": 400_000, "delay_ms": 5})
    began = time.monotonic()
    with open_session(device, owner="test") as session:
        evidence = session.run(built(session), PLAN, "tegrastats")
    assert len(lines(evidence)) > 40
    assert time.monotonic() - began > 0.5


def test_the_boards_command_switches_faults(faulty):
    import subprocess

    def board(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [f"{faulty.root}/usr/bin/hil-board", "fault", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert json.loads(board("other-user", "share=0.2").stdout)["faults"]["other-user"] == {
        "share": 0.2,
        "after_s": 0.0,
    }
    assert json.loads(board("--clear").stdout) == {"faults": {}}
    wrong = board("gremlins")
    assert wrong.returncode == 2
    assert "there is no fault gremlins" in wrong.stderr


def test_a_server_can_start_with_a_fault():
    board = EmulatedBoard(Options(faults=("sensor-stuck", "other-user:share=0.25")))
    try:
        assert board.faults()["other-user"]["share"] == 0.25
    finally:
        board.close()


@pytest.mark.parametrize("text", ["x", "reboot:x=1", "reboot:down_s=soon"])
def test_what_is_no_fault_is_refused(text):
    with pytest.raises(BoardRefusedError):
        parse(text)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_fault_has_its_defaults(name):
    assert parse(name) == (name, {**KINDS[name].defaults, "after_s": 0.0})


def test_occasions_run_out():
    faults = Faults()
    faults.begin("build-crash", {"times": 2.0})
    assert [faults.take("build-crash") is not None for _ in range(3)] == [True, True, False]
    faults.begin("build-crash", {"times": -1.0})
    assert all(faults.take("build-crash") is not None for _ in range(5))
