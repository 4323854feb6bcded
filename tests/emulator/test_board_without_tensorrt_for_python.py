"""A board whose TensorRT has trtexec and no Python: measured, suspect, never certified."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from hil.core.errors import DeviceError, ExportError, MeasurementError
from hil.core.evidence import Evidence, RunPlan
from hil.device.config import SshDevice
from hil.device.opening import open_session
from hil.device.session import EngineInfo, EngineSpec, Session
from hil.emulator.serve import EmulatedBoard, Options
from hil.measure.numbers import measurement
from hil.measure.run import measure

from .conftest import network

pytestmark = pytest.mark.board

PLAN = RunPlan(8.0, 3.0, 2.5, blocks=6, tail_s=0.5, interval_ms=100)


@pytest.fixture(scope="module")
def emulated() -> Iterator[EmulatedBoard]:
    board = EmulatedBoard(Options(seed=11))
    export = "export HIL_WITHOUT_LIBRARIES=tensorrt"
    script = f'#!/bin/sh\n{export}\nexec {board.root}/usr/bin/python3 "$@"\n'
    program = board.root / "usr/bin/python3-bare"
    program.write_text(script)
    program.chmod(0o755)
    yield board
    board.close()


def device(board: EmulatedBoard, python: str) -> SshDevice:
    told = board.description()
    return SshDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "bare",
            "driver": "ssh",
            "board": "jetson-tx2",
            "ssh": {key: told[key] for key in ("host", "port", "user", "identity", "host_key")},
            "agent": {"root": told["root"], "python": python},
            "state": {"nvpmodel": 0, "clocks": True},
            "power": {"source": "tegrastats", "rail": "VDD_IN"},
        }
    )


@pytest.fixture(scope="module")
def session(emulated: EmulatedBoard) -> Iterator[Session]:
    with open_session(device(emulated, "python3-bare"), owner="test") as opened:
        assert opened.board.tensorrt is None
        yield opened


@pytest.fixture(scope="module")
def engine(session: Session) -> EngineInfo:
    return session.build(EngineSpec(session.put_blob(NETWORK), precision="fp16"))


NETWORK = network(channels=64, shape=(1, 3, 64, 64))


@pytest.fixture(scope="module")
def evidence(session: Session, engine: EngineInfo) -> Evidence:
    return session.run(engine, PLAN, "tegrastats")


def test_trtexec_builds_it_and_says_what_it_looks_like(engine):
    assert engine.spec.runtime == "trtexec"
    assert engine.runtime_version == "8.2.1"
    assert [tensor.shape for tensor in engine.inputs] == [(1, 3, 64, 64)]
    assert len(engine.outputs) == 1
    assert engine.plan_bytes > 0
    assert not engine.cached


def test_it_is_kept_like_any_other_engine(session, engine):
    again = session.build(EngineSpec(engine.spec.onnx_sha256, precision="fp16"))

    assert again.cached
    assert again.engine_sha256 == engine.engine_sha256


def test_the_result_is_suspect_with_the_reason(evidence):
    got = measurement(evidence, "VDD_IN")

    assert got.validity == "suspect"
    (told,) = got.fallbacks
    assert told.name == "trtexec_engine"
    assert got.reasons == (told.line,)
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_windows_are_whole_and_lie_in_the_load(evidence):
    (whole,) = evidence.named("trtexec")
    blocks = evidence.named("block")
    assert len(blocks) == PLAN.blocks
    for mark, series in zip(blocks, evidence.latency_ns, strict=True):
        assert mark.inferences == len(series)
        assert whole.start_ns < mark.start_ns < mark.stop_ns < whole.stop_ns
    low_ns, high_ns = evidence.start["trtexec"]["zero_ns"]
    assert high_ns - low_ns < 1e9


def test_its_figures_fit_our_own_loop_s_and_what_trtexec_prints(session):
    """The same network on a board of the same seed, by our loop; launches are hidden behind it."""
    onnx = network(channels=256, shape=(1, 3, 112, 112))

    def run(by: Session) -> Evidence:
        info = by.build(EngineSpec(by.put_blob(onnx), precision="fp16"))
        return by.run(info, PLAN, "tegrastats")

    evidence = run(session)
    other = EmulatedBoard(Options(seed=11))
    try:
        with open_session(device(other, "python3"), owner="test") as ours:
            beside = measurement(run(ours), "VDD_IN")
    finally:
        other.close()

    got = measurement(evidence, "VDD_IN")
    for name in ("power_w", "idle_power_w"):
        assert got.figure(name).value == pytest.approx(beside.figure(name).value, rel=0.1), name
    ratio = got.latency_p50_ms.value / beside.latency_p50_ms.value
    assert 0.7 < ratio < 1  # it holds no launch
    said = "\n".join(text for _, text in evidence.start["trtexec"]["said"])
    qps = float(re.search(r"Throughput: ([\d.]+) qps", said).group(1))
    assert got.energy_mj.value == pytest.approx(1e3 * got.power_w.value / qps, rel=0.01)


def test_a_run_that_would_stop_itself_is_made_long_instead(session, engine):
    plan = RunPlan(0.0, 3.0, 2.5, blocks=4, max_blocks=5, interval_ms=100)

    got, evidence = measure(session, engine, plan, power="none", rail=None)

    assert len(evidence.named("block")) == 5
    assert got.energy_mj is None
    assert got.latency_p50_ms is not None


@pytest.mark.parametrize(
    ("act", "lacks"),
    [
        (lambda s, e: s.infer(e, {"x": np.zeros((1, 3, 64, 64), np.float32)}), "outputs"),
        (lambda s, e: s.layers(e), "layers"),
        (lambda s, e: s.step_response(e, "tegrastats", 100, 2), "steps"),
    ],
)
def test_what_it_cannot_do_is_said(session, engine, act, lacks):
    with pytest.raises(DeviceError, match=lacks) as caught:
        act(session, engine)

    assert "python3-libnvinfer" in caught.value.fix


def test_a_fixed_rate_is_refused(session, engine):
    with pytest.raises(MeasurementError, match="rate"):
        session.run(engine, RunPlan(rate_hz=30.0), "none")


def test_a_network_that_trtexec_refuses_is_the_network_s_fault(session):
    with pytest.raises(ExportError):
        session.build(EngineSpec(session.put_blob(b"not a network"), precision="fp16"))


def test_nothing_of_it_is_left_on_the_board(session, emulated, evidence):
    assert evidence.named("trtexec")
    assert not list((emulated.root / "home/nvidia/.hil/incoming").iterdir())
