from __future__ import annotations

from pathlib import Path

import pytest

from hil.core.errors import ConfigError
from hil.emulator.board import BOARDS, Clocks, load_board, sources

SHIPPED = (BOARDS / "tx2.yaml").read_text(encoding="utf-8")


def written(tmp_path: Path, old: str, new: str) -> Path:
    assert old in SHIPPED
    path = tmp_path / "board.yaml"
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    return path


def test_modes_have_the_clocks_of_the_published_nvpmodel_table():
    board = load_board("tx2")

    # nvpmodel.conf caps the GPU at 1300.5, 850, 1120, 1120 and 1120 MHz; the nearest steps serve.
    assert [board.mode(i).gpu_mhz for i in range(5)] == [1300.5, 854.25, 1122, 1122, 1122]
    assert board.mode(0).clocks(pinned=True) == Clocks(1300.5, 1866.0, 2035.2, 6)
    assert board.mode(3).clocks(pinned=True) == Clocks(1122.0, 1600.0, 2000.0, 4)
    assert all(mode.gpu_mhz in board.gpu.clock_steps_mhz for mode in board.modes)


def test_unpinned_clocks_idle_low_and_rise_under_load():
    mode = load_board("tx2").mode(0)

    assert mode.clocks(pinned=False) == Clocks(114.75, 102.0, 345.6, 6)
    assert mode.clocks(pinned=False, busy=True) == mode.clocks(pinned=True)


def test_peak_bandwidth_is_the_datasheets():
    board = load_board("tx2")
    memory = board.memory

    peak = board.mode(0).emc_mhz * 1e6 * memory.transfers_per_clock * memory.bus_bytes

    assert peak == pytest.approx(59.7e9, rel=1e-3)


def test_every_parameter_says_where_it_comes_from():
    board = load_board("tx2")
    parts = ("gpu", "memory", "cpu", "timing", "power", "thermal", "sensor", "noise", "build")
    fields = {
        f"{part}.{name}" for part in parts for name in type(getattr(board, part)).model_fields
    }

    found = sources("tx2")

    assert set(found) == fields | {"modes"}
    assert all(len(text) > 10 for text in found.values())


def test_a_parameter_without_source_is_refused(tmp_path):
    path = written(tmp_path, "k_ramp: {value: 32, source:", "k_ramp: {value: 32, sauce:")

    with pytest.raises(ConfigError, match="k_ramp"):
        load_board(path)


def test_a_wrong_parameter_is_named_with_its_line(tmp_path):
    path = written(tmp_path, "sms: {value: 2,", "sms: {value: two,")
    line = 1 + next(i for i, text in enumerate(SHIPPED.splitlines()) if " sms:" in text)

    with pytest.raises(ConfigError, match=rf"board\.yaml:{line}: gpu\.sms"):
        load_board(path)


def test_unknown_boards_and_modes_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="tx2"):
        load_board("tx3")
    with pytest.raises(ConfigError, match="0, 1, 2, 3, 4"):
        load_board("tx2").mode(7)
