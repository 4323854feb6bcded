"""The stored posterior: agrees with the board file, and gives intervals that behave."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.emulator.batch import gather
from hil.emulator.board import BOARDS, load_board
from hil.emulator.kernels import lower
from hil.emulator.parameters import parameter
from hil.emulator.posterior import (
    Discrepancy,
    correlated,
    describe,
    load_posterior,
    plausible_boards,
    predicted,
    predicted_ratio,
)
from hil.emulator.reference_networks import NetworkBuilder, resnet_v1

STORED = json.loads((BOARDS / "tx2.posterior.json").read_text(encoding="utf-8"))
BOARD = load_board("tx2")


def plain(width: int, blocks: int = 9):
    net = NetworkBuilder(3, 32, 32)
    x = net.input
    for _ in range(blocks):
        x = net.conv_bn_relu(x, width, 3)
    return lower(net.model(net.linear(net.global_pool(x), 10)), "fp16")


def test_its_centre_is_the_board_file():
    assert STORED["provenance"]
    for each in STORED["parameters"]:
        if each["paths"]:
            value = parameter(BOARD, each["paths"][0])
            assert value == pytest.approx(each["value"], rel=0.02), each["name"]


def test_drawn_boards_scatter_as_the_covariance_says():
    boards = plausible_boards(1500, seed=5, other_release=False)

    for each in STORED["parameters"]:
        if not each["paths"]:
            continue
        logs = np.log([parameter(board, each["paths"][0]) for board in boards])
        assert np.std(logs) == pytest.approx(each["log_sd"], rel=0.1), each["name"]


def test_the_same_seed_draws_the_same_boards():
    assert plausible_boards(3, seed=1) == plausible_boards(3, seed=1)
    assert plausible_boards(1, seed=1) != plausible_boards(1, seed=2)


def test_data_narrow_what_they_speak_of_and_leave_the_rest_at_its_prior():
    spread = {each["name"]: each["log_sd"] / each["prior_log_sd"] for each in STORED["parameters"]}

    assert spread["submission"] < 0.1
    assert spread["conv1x1_fp16"] < 0.4
    # No published figure speaks of the energy of FP16 arithmetic.
    assert spread["mac_fp16_pj"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("figure", ["latency", "energy"])
def test_a_network_against_itself_is_exactly_one(figure):
    kernels = plain(64)

    # Zero but for what rounding leaves of a covariance of rank one.
    assert predicted_ratio(kernels, kernels, 0, figure) == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)


def test_a_ratio_of_similar_networks_is_surer_than_either_network():
    wide, narrow = plain(64), plain(56)

    median, low, high = predicted(wide)
    ratio, ratio_low, ratio_high = predicted_ratio(wide, narrow)

    assert low < median < high
    assert ratio_low < ratio < ratio_high
    assert ratio > 1.0
    assert ratio_high / ratio_low < 0.7 * high / low


def test_a_network_unlike_all_that_was_measured_is_less_sure():
    lacking = load_posterior().discrepancy["energy"]
    known = np.array(lacking.references[:1])
    strange = describe(gather([lower(resnet_v1((3, 8, 36, 3)), "fp16")]))

    variance = [float(lacking.covariance(each)[0, 0]) for each in (known, strange)]

    assert variance[0] == pytest.approx(lacking.near_sd**2, rel=0.1)
    assert variance[1] > 4 * variance[0]


def test_the_discrepancy_is_a_covariance_whatever_the_networks():
    references = np.random.default_rng(0).normal(size=(20, 8))
    lacking = Discrepancy(0.02, 0.02, 1.0, 0.1, 3.0, references)

    networks = np.random.default_rng(1).normal(scale=3.0, size=(30, 8))
    covariance = lacking.covariance(networks)

    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert np.all(np.diag(covariance) <= 0.02**2 + 0.1**2 + 1e-9)


def test_draws_have_the_covariance_asked_for():
    covariance = np.array([[4.0, 2.0, 2.0], [2.0, 1.0, 1.0], [2.0, 1.0, 3.0]])

    sample = correlated(covariance, 200_000, seed=0)

    assert np.cov(sample.T) == pytest.approx(covariance, abs=0.05)


def test_a_board_without_a_posterior_is_refused():
    with pytest.raises(ConfigError, match="no posterior"):
        load_posterior("another")
