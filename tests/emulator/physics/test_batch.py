"""Many networks at once give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.emulator.batch import gather, run_all
from hil.emulator.board import load_board
from hil.emulator.kernels import lower
from hil.emulator.parameters import parameter, with_parameters
from hil.emulator.physics import execution
from hil.emulator.reference_networks import NetworkBuilder, mobilenet_v1, resnet_v1

BOARD = load_board("tx2")


def small():
    net = NetworkBuilder(3, 16, 16)
    return net.model(net.linear(net.global_pool(net.conv_bn_relu(net.input, 8, 3)), 10))


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_many_networks_at_once_give_what_each_gives_alone(mode):
    clocks = BOARD.mode(mode).clocks(pinned=True)
    models = (small(), mobilenet_v1(0.25, 128), resnet_v1((3, 4, 6, 3)))
    networks = [lower(model, precision) for model in models for precision in ("fp32", "fp16")]

    together = run_all(BOARD, gather(networks), clocks, 41.0)

    for row, kernels in enumerate(networks):
        alone = execution(BOARD, kernels, clocks, 41.0)
        assert together.latency_s[row] == pytest.approx(alone.duration_s)
        assert together.power_w[row] == pytest.approx(alone.rail_power_w["VDD_IN"])


def test_time_of_the_host_outside_the_engine_adds_to_latency_and_draws_like_a_busy_core():
    networks = gather([lower(small(), "fp32")])
    clocks = BOARD.mode(0).clocks(pinned=True)

    plain, held_up = (run_all(BOARD, networks, clocks, host_s=host) for host in (0.0, 1e-3))

    assert held_up.latency_s - plain.latency_s == pytest.approx(1e-3)
    assert np.all(held_up.energy_mj > plain.energy_mj)


def test_taking_rows_keeps_each_networks_sums():
    networks = gather([lower(small(), "fp32"), lower(mobilenet_v1(0.25, 128), "fp32")])
    macs = [kernel.macs for kernel in networks.kernels]

    taken = networks.take(np.array([1]))

    assert taken.total(macs) == networks.total(macs)[1]


def test_a_parameter_is_replaced_by_name_and_nothing_else_changes():
    changed = with_parameters(BOARD, {"timing.efficiency.conv1x1": 0.5, "power.gpu_busy_w": 2.0})

    assert parameter(changed, "timing.efficiency.conv1x1") == 0.5
    assert parameter(changed, "power.gpu_busy_w") == 2.0
    before, after = BOARD.model_dump(), changed.model_dump()
    before["timing"]["efficiency"]["conv1x1"] = 0.5
    before["power"]["gpu_busy_w"] = 2.0
    assert after == before


def test_a_parameter_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no parameter"):
        with_parameters(BOARD, {"timing.speed": 1.0})
    with pytest.raises(ConfigError, match="no parameter"):
        parameter(BOARD, "timing.efficiency.wavelet")
