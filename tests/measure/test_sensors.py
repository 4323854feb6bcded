"""The table of sensors against the figures it was made from."""

from __future__ import annotations

import pytest

from hil.core.errors import ConfigError
from hil.measure.sensors import TOTAL_RAILS, SensorErrors, board_of, sensor_of


def test_a_tx2s_input_reads_in_steps_of_38_milliwatts_and_may_be_off_by_76():
    got = sensor_of("jetson-tx2")

    assert got is not None
    assert got.lsb_w == pytest.approx(0.0383, abs=1e-4)  # the smallest step in tx2_1.log
    assert got.offset_w == pytest.approx(0.0766, abs=1e-4)
    assert (got.gain, got.shunt, got.tau_s) == (0.0025, 0.01, 0.42)
    assert got.missing() is None
    assert "unverified" in got.source


@pytest.mark.parametrize("rail", ["VDD_SYS_GPU", "VDD_GPU"])
def test_its_other_rails_have_half_the_shunt_and_twice_the_step(rail):
    got = sensor_of("jetson-tx2", rail=rail)

    assert got is not None
    assert got.lsb_w == pytest.approx(0.0766, abs=1e-3)
    assert got.offset_ma == 8.0


@pytest.mark.parametrize("board", [name for name in TOTAL_RAILS if name != "jetson-tx2"])
def test_other_boards_are_unknown_with_a_reason_that_says_what_to_state(board):
    got = sensor_of(board)

    assert got is not None
    told = got.missing()
    assert told is not None
    assert "power.sensor" in told
    assert "shunt" in told


@pytest.mark.parametrize("source", ["nvml", "rapl", "command"])
def test_meters_without_stated_accuracy_are_unknown_whatever_the_board(source):
    got = sensor_of("jetson-tx2", source=source)

    assert got is not None
    assert got.missing() is not None
    assert got.offset_w is None


def test_an_unheard_of_board_has_no_entry():
    assert sensor_of("abacus") is None


def test_the_device_file_has_the_last_word():
    got = sensor_of("jetson-tx2", {"shunt": 0.001, "offset_ma": None})
    assert got is not None
    assert (got.shunt, got.offset_ma) == (0.001, 4.0)
    assert "shunt 0.001" in got.source

    meter = sensor_of("bench", {"offset_ma": 0, "gain": 0.002, "shunt": 0.0})
    assert meter is not None
    assert meter.missing() is None
    assert meter.offset_w == 0.0


@pytest.mark.parametrize("wrong", [{"gian": 0.1}, {"gain": -0.1}, {"gain": "1 %"}])
def test_a_wrong_override_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"power\.sensor"):
        sensor_of("jetson-tx2", wrong)


def test_a_difference_needs_no_offset():
    assert SensorErrors(gain=0.01, shunt=0.0).missing(offset=False) is None
    assert "offset" in (SensorErrors(gain=0.01, shunt=0.0).missing() or "")


@pytest.mark.parametrize(
    ("model", "board"),
    [
        ("NVIDIA Jetson TX2", "jetson-tx2"),
        ("quill / Jetson TX2 Developer Kit", "jetson-tx2"),
        ("NVIDIA Jetson TX2 NX", None),
        ("NVIDIA Jetson Xavier NX Developer Kit", "jetson-xavier-nx"),
        ("NVIDIA Orin NX Developer Kit", "jetson-orin-nx"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("Intel(R) Xeon(R)", None),
        (None, None),
    ],
)
def test_the_kernels_model_names_the_board(model, board):
    assert board_of(model) == board
