"""Every source of the device file is read once, on its own machine, in the file's order."""

from __future__ import annotations

import pytest

from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.device.config import Power
from hil.device.sources import choose, clock_rows, in_order

POWER = Power.model_validate(
    {
        "source": "tegrastats",
        "rail": "VDD_IN",
        "also": [
            {"source": "command", "command": ["plug"], "where": "host"},
            {"source": "ina3221", "rail": "VDD_IN", "interval_ms": 20},
        ],
    }
)


def test_the_agent_is_told_of_its_sources_only_and_places_remember_the_order():
    chosen = choose(POWER, "tegrastats")

    assert [one.source for one in chosen.sources] == ["tegrastats", "command", "ina3221"]
    assert [spec["source"] for spec in chosen.on_board] == ["tegrastats", "ina3221"]
    assert chosen.places == (0, None, 1)
    assert [one.command for one in chosen.on_host] == [("plug",)]


def test_a_run_without_power_reads_nothing_at_all():
    assert choose(POWER, "none").sources == ()


def test_a_source_that_the_file_does_not_name_first_is_read_by_its_defaults():
    chosen = choose(POWER, "nvml")

    assert chosen.on_board[0] == {"source": "nvml", "rail": "gpu"}
    assert len(chosen.sources) == 3


def test_records_of_both_machines_are_put_into_the_file_s_order():
    board = [PowerRecord("tegrastats", ()), PowerRecord("ina3221", ())]
    host = [PowerRecord("command", (), clock="host")]

    merged = in_order(choose(POWER, "tegrastats"), board, host)

    assert [record.source for record in merged] == ["tegrastats", "command", "ina3221"]


@pytest.mark.parametrize(("board", "host"), [(1, 1), (2, 0), (0, 0)])
def test_a_source_without_a_record_is_not_passed_over(board, host):
    with pytest.raises(MeasurementError, match="no record"):
        in_order(
            choose(POWER, "tegrastats"),
            [PowerRecord("tegrastats", ())] * board,
            [PowerRecord("command", ())] * host,
        )


def test_each_row_holds_the_board_s_time_between_two_looks_at_ours():
    ours = iter(range(100))

    rows = clock_rows(lambda: 1000 + next(ours), lambda: next(ours))

    assert len(rows) > 1
    assert all(before < there - 1000 < after for before, there, after in rows)
