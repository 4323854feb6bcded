"""What an emulated board says of how sure its figures are, over SSH; a real board says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import DeviceError
from hil.device.config import LocalDevice, find_device
from hil.device.emulated_session import plausible_draws
from hil.device.opening import open_session
from hil.device.session import EngineSpec
from hil.device.ssh_channels import Completed
from hil.emulator.board import load_board
from hil.emulator.kernels import lower
from hil.emulator.posterior import predicted_ratio

pytestmark = pytest.mark.board


def chain(layers: int, size: int = 64) -> bytes:
    """Return so many matrix products in a row, as ONNX."""
    nodes, weights = [], []
    for k in range(layers):
        values = np.full((size, size), 0.01, dtype=np.float32)
        weights.append(numpy_helper.from_array(values, f"w{k}"))
        nodes.append(helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"], name=f"n{k}"))
    shape = [1, size]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        weights,
    )
    imports = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=imports, ir_version=7).SerializeToString()


def percentiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, [0.5, 0.05, 0.95]).tolist()


@pytest.fixture(scope="module")
def emulated():
    with open_session(find_device("tx2-emulated", cwd=Path(__file__).parent), owner="t") as session:
        yield session


@pytest.fixture(scope="module")
def infos(emulated):
    return [
        emulated.build(EngineSpec(emulated.put_blob(chain(layers)), build_index=1))
        for layers in (2, 6)
    ]


def test_the_interval_of_a_ratio_is_the_posteriors_own(emulated, infos):
    emulated.pin(nvpmodel=0, clocks=True)
    drawn = emulated.plausible(infos[::-1])

    kernels = [lower(onnx.load_from_string(chain(k)), "fp16", {}) for k in (6, 2)]
    expected = predicted_ratio(*kernels, load_board("tx2").mode(0).clocks(pinned=True))
    got = percentiles(drawn.energy_mj[:, 0] / drawn.energy_mj[:, 1])
    assert got == pytest.approx(expected, rel=1e-5)
    assert drawn.energy_mj.shape == drawn.latency_ms.shape == (len(drawn.energy_mj), 2)
    assert len(drawn.energy_mj) % drawn.boards == 0
    assert (drawn.board, drawn.rail) == ("tx2", "VDD_IN")


def test_the_draws_know_no_build_and_no_seed(emulated, infos):
    again = [emulated.build(replace(info.spec, build_index=2)) for info in infos]
    assert [a.engine_sha256 for a in again] != [i.engine_sha256 for i in infos]
    first = emulated.plausible(infos)

    emulated.reset(99)
    second = emulated.plausible(again)

    np.testing.assert_array_equal(first.energy_mj, second.energy_mj)
    np.testing.assert_array_equal(first.latency_ms, second.latency_ms)


def test_a_slower_power_mode_makes_every_plausible_board_slower(emulated, infos):
    emulated.pin(nvpmodel=0, clocks=True)
    fast = emulated.plausible(infos)
    emulated.pin(nvpmodel=1, clocks=True)
    slow = emulated.plausible(infos)

    assert (slow.latency_ms > fast.latency_ms).all()


def test_an_engine_that_is_not_there_is_an_error_that_names_the_program(emulated, infos):
    with pytest.raises(DeviceError, match="how sure"):
        emulated.plausible([replace(infos[0], engine_sha256="0" * 64)])


def test_onnx_runtimes_engines_are_not_played_by_the_model(emulated, infos):
    spec = replace(infos[0].spec, runtime="onnxruntime")

    assert emulated.plausible([replace(infos[0], spec=spec)]) is None


def test_a_real_board_has_no_plausible_others(tmp_path):
    (tmp_path / "root" / "run" / "lock").mkdir(parents=True)
    fields = {
        "schema": "hil/device@1",
        "name": "here",
        "driver": "local",
        "board": "host",
        "local": {"state_dir": str(tmp_path / "home")},
        "agent": {"root": str(tmp_path / "root")},
    }
    with open_session(LocalDevice.model_validate(fields), owner="t") as session:
        sha256 = session.put_blob(chain(1))
        info = session.build(EngineSpec(sha256, precision="fp32", runtime="onnxruntime"))

        assert session.plausible([info]) is None


class NoPosterior:
    """A virtual board whose model's uncertainty is not known."""

    def run(self, command: str, timeout_s: float = 30.0) -> Completed:
        assert command == "hil-board plausible .hil/blobs/aa .hil/blobs/bb"
        return Completed(0, '{"board": "mine.yaml", "reason": "no posterior is stored"}\n', "")


def test_a_board_without_a_posterior_answers_nothing_rather_than_something():
    assert plausible_draws(NoPosterior(), ["aa", "bb"]) is None
