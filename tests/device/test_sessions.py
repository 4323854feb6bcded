"""Whole sessions with the real agent: on this machine, over a real sshd, on an emulated board."""

from __future__ import annotations

import hashlib
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import (
    DeviceError,
    ExportError,
    HilError,
    LeaseTimeoutError,
    MeasurementError,
)
from hil.core.evidence import Evidence, RunPlan
from hil.device.agent_session import AgentSession
from hil.device.bundle import agent_bundle
from hil.device.config import DeviceConfig, LocalDevice, SshDevice, find_device
from hil.device.opening import Lease, WallClock, device_link, giving_back, open_session
from hil.device.records import board_info
from hil.device.session import EngineSpec, Session
from hil.device.wire import PROTOCOL
from tests.device.conftest import SshServer, wait_until

pytestmark = pytest.mark.board
SHORT = RunPlan(0.05, 0.05, 0.1, blocks=2, tail_s=0.05, interval_ms=100, warmup=2)


def network(opset: int = 13, size: int = 8) -> bytes:
    """Return y = relu(x @ w), the weights known, as ONNX."""
    weights = np.arange(size * 3, dtype=np.float32).reshape(size, 3) / 10 - 0.7
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=7)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def expected_outputs(samples: np.ndarray) -> np.ndarray:
    weights = np.arange(24, dtype=np.float32).reshape(8, 3) / 10 - 0.7
    return np.maximum(samples @ weights, 0.0)


def board_root(folder: Path) -> str:
    """Return an empty board root, so that the machine's own lease is left alone."""
    (folder / "run" / "lock").mkdir(parents=True)
    return str(folder)


@pytest.fixture
def local(tmp_path) -> LocalDevice:
    fields = {
        "schema": "hil/device@1",
        "name": "here",
        "driver": "local",
        "board": "host",
        "local": {"state_dir": str(tmp_path / "home")},
        "agent": {"root": board_root(tmp_path / "root")},
    }
    return LocalDevice.model_validate(fields)


@pytest.fixture
def over_ssh(ssh_server, tmp_path) -> SshDevice:
    return SshDevice(
        schema_="hil/device@1",
        name="bench",
        driver="ssh",
        board="host",
        ssh=ssh_server.ssh(),
        agent={"root": board_root(tmp_path / "root")},
    )


def sound(evidence: Evidence, provenance: str) -> None:
    """Assert what holds for every driver: the plan is followed and every inference is timed."""
    names = [mark.name for mark in evidence.marks]
    assert names == ["idle_before", "settle", "block", "block", "tail", "idle_after"]
    for mark, series in zip(evidence.named("block"), evidence.latency_ns, strict=True):
        assert mark.inferences == len(series) > 0
        assert sum(series) <= mark.stop_ns - mark.start_ns
    ordered = [stamp for mark in evidence.marks for stamp in (mark.start_ns, mark.stop_ns)]
    assert ordered == sorted(ordered)
    assert evidence.provenance == provenance
    assert Evidence.from_json(evidence.to_json()) == evidence


def exercise(session: Session) -> None:
    """Build, run and infer with ONNX Runtime; outputs are checked against numpy."""
    sha256 = session.put_blob(network())
    spec = EngineSpec(sha256, precision="fp32", runtime="onnxruntime")
    info = session.build(spec)
    samples = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)

    evidence = session.run(info, SHORT, "none")
    outputs = session.infer(info, {"x": samples})

    sound(evidence, "measured")
    assert evidence.power_lines == ()
    np.testing.assert_allclose(outputs["y"], expected_outputs(samples), rtol=1e-5, atol=1e-6)
    assert session.build(spec).cached
    with pytest.raises(MeasurementError):
        session.run(info, SHORT, "tegrastats")
    with pytest.raises(ValueError, match="a sample"):
        session.infer(info, {"x": np.zeros((5, 9), dtype=np.float32)})


def test_this_machine_builds_runs_and_infers(local):
    with open_session(local, owner="test") as session:
        assert session.provenance == "measured"
        assert session.board.raw["onnxruntime"]
        exercise(session)


def test_a_board_over_real_ssh_builds_runs_and_infers(over_ssh, ssh_server):
    with open_session(over_ssh, owner="test") as session:
        exercise(session)

    assert not list((ssh_server.home / ".hil" / "incoming").iterdir())


def test_a_round_trip_to_the_agent_takes_about_a_millisecond(over_ssh):
    with device_link(over_ssh) as link:
        times_ms = []
        for _ in range(100):
            start_s = time.perf_counter()
            link.client.request("ping")
            times_ms.append((time.perf_counter() - start_s) * 1e3)

    assert statistics.median(times_ms) < 20  # Nagle's delay alone would be 40


def test_the_agent_is_sent_once_and_found_whole_the_next_time(over_ssh, ssh_server):
    installed = ssh_server.home / ".hil" / "agent" / agent_bundle().file_name
    with device_link(over_ssh):
        pass
    first = installed.stat()
    assert installed.read_bytes() == agent_bundle().data

    with device_link(over_ssh):
        pass

    second = installed.stat()
    assert (second.st_ino, second.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert [path.name for path in installed.parent.iterdir()] == [installed.name]


def test_a_damaged_agent_on_the_board_is_replaced(over_ssh, ssh_server):
    installed = ssh_server.home / ".hil" / "agent" / agent_bundle().file_name
    installed.parent.mkdir(parents=True)
    installed.write_bytes(agent_bundle().data[:-1] + b"!")

    with device_link(over_ssh) as link:
        assert link.hello["protocol"] == PROTOCOL

    assert installed.read_bytes() == agent_bundle().data


def test_blobs_are_sent_once_verified_and_private(over_ssh, ssh_server):
    data = bytes(range(256)) * 5000
    with open_session(over_ssh, owner="test") as session:
        sha256 = session.put_blob(data)
        blob = ssh_server.home / ".hil" / "blobs" / sha256
        first = blob.stat()

        assert session.put_blob(data) == sha256
        assert session.get_blob(sha256) == data

    assert sha256 == hashlib.sha256(data).hexdigest()
    assert blob.stat().st_ino == first.st_ino  # another upload would be another file
    assert (ssh_server.home / ".hil").stat().st_mode & 0o777 == 0o700


def test_a_blob_damaged_on_the_board_s_disk_is_noticed(over_ssh, ssh_server):
    with open_session(over_ssh, owner="test") as session:
        sha256 = session.put_blob(b"good bytes")
        (ssh_server.home / ".hil" / "blobs" / sha256).write_bytes(b"bad bytes!")

        with pytest.raises(DeviceError, match="damaged"):
            session.get_blob(sha256)


def test_a_link_cut_in_the_middle_of_a_run_ends_here_and_there(over_ssh, ssh_server):
    agents, moments_s = [], []

    def cut() -> None:
        agents.extend(running_agents(ssh_server))
        moments_s.append(time.monotonic())
        ssh_server.cut()

    timer = threading.Timer(0.5, cut)
    with pytest.raises(DeviceError, match="lost"):
        run_for_a_minute(over_ssh, before=timer.start)

    assert time.monotonic() - moments_s[0] < 10
    assert len(agents) >= 2  # the agent and its worker were there
    wait_until(lambda: not running_agents(ssh_server), "the agent and its worker end", 20)
    with open_session(over_ssh, owner="next"):
        pass  # the lease was given back


def run_for_a_minute(device: DeviceConfig, before: Callable[[], None]) -> None:
    with open_session(device, owner="test") as session:
        sha256 = session.put_blob(network())
        info = session.build(EngineSpec(sha256, precision="fp32", runtime="onnxruntime"))
        before()
        session.run(info, RunPlan(0.0, 0.0, 60.0, blocks=1, tail_s=0.0, warmup=0), "none")


def running_agents(server: SshServer) -> list[int]:
    """Return processes that run this server's copy of the agent."""
    needle = str(agent_bundle().file_name).encode()
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and needle in read(folder / "cmdline")
        and working_folder(folder).is_relative_to(server.home)
    ]


def working_folder(process: Path) -> Path:
    try:
        return (process / "cwd").resolve()
    except OSError:  # another user's process, or one that has just ended
        return Path("/nowhere")


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_python3_missing_on_the_board_is_said_plainly(over_ssh):
    missing = over_ssh.agent.model_copy(update={"python": "python3-not-there"})
    device = over_ssh.model_copy(update={"agent": missing})

    with pytest.raises(DeviceError, match="has no Python") as caught, device_link(device):
        pass

    assert "python3-not-there" in str(caught.value)


def test_a_leased_board_is_refused_with_the_holder_s_name(local):
    with open_session(local, owner="alice on bench 4"):
        start_s = time.monotonic()
        with (
            pytest.raises(LeaseTimeoutError, match="alice on bench 4"),
            open_session(local, owner="bob"),
        ):
            pass
        assert time.monotonic() - start_s < 5


def test_waiting_for_a_lease_tells_who_holds_it_and_then_gets_it(local):
    holder = open_session(local, owner="alice")
    holder.__enter__()
    told = []

    def release_at_the_first_pause(_pause_s: float) -> None:
        if len(told) == 1:
            holder.__exit__(None, None, None)

    clock = WallClock(sleep=release_at_the_first_pause)
    waiting = open_session(
        local, owner="bob", wait_s=60, on_wait=lambda *told_now: told.append(told_now), clock=clock
    )
    with waiting as session:
        assert session.name == "here"

    assert len(told) == 1
    assert "alice" in told[0][0]
    assert 0 < told[0][1] <= 60


def test_the_lease_is_given_back_even_when_the_work_fails(local):
    with pytest.raises(ZeroDivisionError), open_session(local, owner="alice"):
        raise ZeroDivisionError

    with open_session(local, owner="bob"):
        pass


def test_ctrl_c_in_the_middle_of_a_run_gives_the_board_back_at_once(local):
    start_s = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        interrupt_a_long_run(local)

    with open_session(local, owner="bob"):
        assert time.monotonic() - start_s < 25  # the run itself would take two minutes


def interrupt_a_long_run(device: DeviceConfig) -> None:
    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    with device_link(device) as link:
        session = AgentSession(link, device, board_info("here", {}))
        lease = Lease(link.client, "alice", 60)
        lease.acquire(0, lambda *_: None, WallClock())
        with giving_back(session, lease):
            info = session.build(EngineSpec(session.put_blob(network()), "fp32", "onnxruntime"))
            params = {
                "engine": info.engine_sha256,
                "runtime": "onnxruntime",
                "plan": RunPlan(0.0, 60.0, 60.0, blocks=1).to_json(),
                "power": [],
                "inputs": {},
            }
            link.client.request("engine_run", params, on_event=interrupt)


def test_a_killed_agent_is_a_device_error_that_the_giving_back_does_not_hide(local):
    with pytest.raises(DeviceError, match="the link to here was lost"):
        kill_the_agent_and_ask(local)


def kill_the_agent_and_ask(device: DeviceConfig) -> None:
    with device_link(device) as link:
        session = AgentSession(link, device, board_info("here", {}))
        with giving_back(session, Lease(link.client, "test", 60)):
            os.kill(int(link.hello["pid"]), signal.SIGKILL)
            session.put_blob(b"x")


@pytest.fixture(scope="module")
def emulated_device() -> DeviceConfig:
    return find_device("tx2-emulated", cwd=Path(__file__).parent)


@pytest.fixture(scope="module")
def emulated(emulated_device):
    with open_session(emulated_device, owner="test") as session:
        yield session


def test_an_emulated_board_says_so_in_every_record(emulated):
    info = emulated.build(EngineSpec(emulated.put_blob(network())))

    evidence = emulated.run(info, RunPlan(0.5, 0.2, 0.3, 2, 0.1), "tegrastats")

    sound(evidence, "emulated")
    assert emulated.board.emulated
    assert emulated.board.l4t == "32.7.1"
    assert len(evidence.power_lines) > 10
    assert all("VDD_IN" in line for _, line in evidence.power_lines)
    stamps = [stamp for stamp, _ in evidence.power_lines]
    assert stamps == sorted(stamps)
    assert info.runtime_version.startswith("8.2")
    assert (info.platform, info.dialect, info.via) == ("sm_6.2", "8.2: bindings", "pycuda")


def test_an_emulated_board_computes_the_network(emulated):
    info = emulated.build(EngineSpec(emulated.put_blob(network()), precision="fp32"))
    samples = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)

    outputs = emulated.infer(info, {"x": samples})

    np.testing.assert_allclose(outputs["y"], expected_outputs(samples), rtol=1e-4, atol=1e-5)


def test_a_figure_depends_on_the_seed_not_on_what_ran_before(emulated):
    plan = RunPlan(0.3, 0.1, 0.2, 2, 0.1)
    info = emulated.build(EngineSpec(emulated.put_blob(network())))
    emulated.reset(5)
    first = emulated.run(info, plan, "tegrastats")
    emulated.run(info, plan, "tegrastats")

    emulated.reset(5)
    again = emulated.run(info, plan, "tegrastats")

    assert again.latency_ns == first.latency_ns
    assert [line for _, line in again.power_lines] == [line for _, line in first.power_lines]


def test_a_cuda_graph_that_the_board_cannot_make_costs_the_run_and_says_why(emulated):
    spec = EngineSpec(emulated.put_blob(network()), cuda_graph=True)
    info = emulated.build(spec)

    with pytest.raises(HilError, match="cuda_graph"):
        emulated.run(info, RunPlan(0.3, 0.1, 0.2, 2, 0.1), "tegrastats")

    assert emulated.build(replace(spec, cuda_graph=False)).cached  # one engine, run either way


def test_an_opset_the_board_does_not_take_is_the_network_s_fault(emulated):
    with pytest.raises(ExportError):
        emulated.build(EngineSpec(emulated.put_blob(network(opset=17))))


def test_an_unknown_emulated_board_is_explained(emulated_device):
    other = emulated_device.emulated.model_copy(update={"board": "tx3"})
    device = emulated_device.model_copy(update={"emulated": other})

    with pytest.raises(DeviceError, match="does not start") as caught, device_link(device):
        pass

    assert "tx3" in str(caught.value)
