"""Three sources at once on an emulated board: they agree where they must, differ where they do."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.core.energy import Window
from hil.core.evidence import Evidence, RunPlan
from hil.device.config import EmulatedDevice
from hil.device.opening import open_session
from hil.device.session import EngineSpec
from hil.measure.sources.crosscheck import compare_sources
from hil.measure.trace import PowerTrace, read_power

pytestmark = pytest.mark.board
DEVICE = {
    "schema": "hil/device@1",
    "name": "three-meters",
    "driver": "emulated",
    "board": "jetson-tx2",
    "emulated": {"board": "tx2", "seed": 0},
    "runtime": {"name": "tensorrt", "precision": "fp16", "workspace_mib": 64, "opset": 13},
    "state": {"nvpmodel": 0, "clocks": True},
    "power": {
        "source": "tegrastats",
        "rail": "VDD_IN",
        "interval_ms": 100,
        "also": [
            {"source": "ina3221", "rail": "VDD_IN"},
            {"source": "command", "command": ["meter", "--hz", "50"], "rail": "desk"},
        ],
    },
}


def network() -> bytes:
    """Twelve convolutions: enough for the GPU to draw watts."""
    rng = np.random.default_rng(7)
    kernel = (rng.normal(size=(64, 64, 3, 3)) * 0.05).astype(np.float32)
    nodes = []
    for i in range(12):
        before = f"b{i - 1}" if i else "x"
        nodes.append(helper.make_node("Conv", [before, "k"], [f"a{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"a{i}"], [f"b{i}"]))
    shape = [1, 64, 56, 56]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("b11", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(kernel, "k")],
    )
    imports = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=imports, ir_version=7).SerializeToString()


@pytest.fixture(scope="module")
def run() -> Evidence:
    with open_session(EmulatedDevice.model_validate(DEVICE), owner="test") as session:
        session.reset(3)
        sha256 = session.put_blob(network())
        info = session.build(EngineSpec(onnx_sha256=sha256, workspace_mib=64))
        return session.run(info, RunPlan(window_s=5.0, blocks=5), "tegrastats")


@pytest.fixture(scope="module")
def traces(run) -> tuple[PowerTrace, ...]:
    return tuple(read_power(record) for record in run.power)


@pytest.fixture(scope="module")
def windows(run) -> tuple[list[Window], list[Window]]:
    """Blocks of load, and idle from 2 s in, when a 0.42 s average has forgotten the load."""
    load = [Window(mark.start_ns, mark.stop_ns) for mark in run.named("block")]
    marks = [*run.named("idle_before"), *run.named("idle_after")]
    return load, [Window(mark.start_ns + 2 * 10**9, mark.stop_ns) for mark in marks]


def test_each_source_came_home_with_its_settings_and_whole(run, traces):
    assert [trace.source for trace in traces] == ["tegrastats", "ina3221", "command"]
    for record, trace in zip(run.power, traces, strict=True):
        assert record.settings["running_mode"] == {"0-0040": 1, "0-0041": 1}
        assert (trace.unread, trace.backwards, trace.fault) == (0, 0, None)
    assert set(traces[0].rails) == set(traces[1].rails)
    assert list(traces[2].rails) == ["desk"]
    assert traces[1].period_ms == pytest.approx(100, rel=0.01)  # absolute schedule: no drift
    assert traces[2].period_ms == pytest.approx(20, rel=0.01)


def test_two_readers_of_one_sensor_agree(traces, windows):
    load, idle = windows

    told = compare_sources(traces[0], "VDD_IN", traces[1], "VDD_IN", load, also=idle)

    assert told.ratio.value == pytest.approx(1.0, abs=3e-3)
    assert told.gain is not None
    assert told.gain.value == pytest.approx(1.0, abs=1e-2)
    assert told.lag_s == pytest.approx(0.0, abs=0.03)


def test_the_boards_sensor_lags_behind_a_meter_in_its_supply(traces, windows):
    load, idle = windows

    told = compare_sources(traces[0], "VDD_IN", traces[2], "desk", load, also=idle)

    # INA3221 on a TX2: 4 mA offset, 0.25 % gain and 1 % shunt are stated, at 19 V and some watts.
    assert told.ratio.value == pytest.approx(1.0, abs=0.04)
    # A first-order average of 0.42 s trails the truth, so the meter is early.
    assert told.lag_s is not None
    assert -0.45 < told.lag_s < -0.15
