"""Operating points: what may be written, and that no failure costs another point its result."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError, DeviceError, InterruptedRunError
from hil.measure.sweep import OperatingPoint, least, parse_sweep, sweep


@dataclass
class Board:
    """Notes pins and the restore; modes in `refused` cannot be set."""

    refused: tuple[int, ...] = ()
    lost: bool = False
    asked: list[object] = field(default_factory=list)

    def pin(self, nvpmodel=None, clocks=None):
        self.asked.append(nvpmodel)
        if nvpmodel in self.refused:
            raise DeviceError(f"the board did not take power mode {nvpmodel}")

    def restore(self):
        self.asked.append("restore")
        if self.lost:
            raise DeviceError("the link was lost")


def test_modes_rates_and_precisions_are_combined_in_the_order_written():
    points = parse_sweep(["nvpmodel=0,2", "rate=15,30"])

    assert [(p.nvpmodel, p.rate_hz) for p in points] == [(0, 15), (0, 30), (2, 15), (2, 30)]
    assert points[0].name == "nvpmodel 0, 15 Hz"
    assert parse_sweep(["precision=fp16,fp32"])[1] == OperatingPoint(precision="fp32")


@pytest.mark.parametrize(
    "given",
    [
        ["nvpmodel"],
        ["nvpmodel="],
        ["nvpmodel=MAXN"],
        ["nvpmodel=0,0"],
        ["nvpmodel=0", "nvpmodel=2"],
        ["rate=0"],
        ["rate=-3"],
        ["rate=nan"],
        ["precision=int4"],
        ["colour=blue"],
        ["nvpmodel=0;rate=3"],
    ],
)
def test_what_is_no_sweep_is_refused_with_what_to_write(given):
    with pytest.raises(ConfigError) as caught:
        parse_sweep(given)

    assert caught.value.fix


@given(st.text(max_size=30))
def test_no_text_makes_the_parser_fail_otherwise(text):
    try:
        points = parse_sweep([text])
    except ConfigError:
        return
    assert points


def test_a_mode_that_fails_keeps_its_error_and_costs_the_others_nothing():
    board = Board(refused=(2,))

    def measure(point):
        if point.nvpmodel == 3:
            raise DeviceError("the worker died")
        return point.nvpmodel * 10

    told = []
    done = sweep(board, parse_sweep(["nvpmodel=1,2,3,4"]), measure, told.append)

    assert [one.result for one in done] == [10, None, None, 40]
    assert [one.error and one.error.what for one in done] == [
        None,
        "the board did not take power mode 2",
        "the worker died",
        None,
    ]
    assert told == list(done)
    assert board.asked == [1, 2, 3, 4, "restore"]


def test_the_board_is_restored_when_the_run_is_interrupted():
    board = Board()

    def measure(_point):
        raise InterruptedRunError("interrupted by SIGINT")

    with pytest.raises(InterruptedRunError):
        sweep(board, parse_sweep(["nvpmodel=1,2"]), measure)

    assert board.asked == [1, "restore"]


def test_a_board_that_is_lost_at_the_end_does_not_take_the_results_with_it():
    done = sweep(Board(lost=True), parse_sweep(["nvpmodel=1"]), lambda point: point.nvpmodel)

    assert [one.result for one in done] == [1]


def test_the_best_point_is_among_the_known_ones():
    assert least([None, 3.0, 2.0, None]) == 2
    assert least([None]) is None
