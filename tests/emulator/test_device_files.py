"""The shipped device files of other Jetsons, held against real lines of those boards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.core.tegrastats import parse
from hil.device.config import SshDevice, load_device
from hil.measure.sensors import TOTAL_RAILS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HIL_DATA", ROOT.parent / "shared" / "data")) / "tegrastats"
LOGS = {
    "tx2": ["tx2_1", "tx2_3", "tx2_7", "tx2_9", "tx2_12", "tx2_13", "tx2_14"],
    "nano": ["nano_1", "nano_4"],
    "xavier-nx": ["xavier_nx_2"],
    "orin-nano": ["orin_nano_1", "orin_nano_3"],
    "agx-orin": ["agx_orin_1", "agx_orin_2", "agx_orin_4"],
}


def powered(board: str) -> list[dict[str, float]]:
    """The rails, in milliwatts, of every recorded line of a board that shows any."""
    if not DATA.is_dir():
        pytest.skip(f"no recorded lines at {DATA} (set HIL_DATA)")
    found = []
    for log in LOGS[board]:
        path = DATA / f"{log}.log"
        assert path.is_file(), path
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            reading = parse(line)
            if reading is not None and reading.rails:
                found.append({name: rail.now_mw for name, rail in reading.rails.items()})
    assert found
    return found


def shipped(board: str) -> SshDevice:
    device = load_device(ROOT / "devices" / f"{board}.yaml")
    assert isinstance(device, SshDevice)
    return device


@pytest.mark.parametrize("board", sorted(LOGS))
def test_the_rail_that_is_read_is_on_every_line_and_holds_all_others(board):
    device = shipped(board)
    if device.power.source == "none":
        assert TOTAL_RAILS[device.board] is None
        return
    assert device.power.rail == TOTAL_RAILS[device.board]
    for rails in powered(board):
        total = rails[device.power.rail]
        assert total >= sum(mw for name, mw in rails.items() if name != device.power.rail)


def test_no_rail_of_an_agx_orin_holds_the_others():
    # Why its file names none: whichever rail is taken, some line has more beside it.
    lines = powered("agx-orin")
    for rail in {name for rails in lines for name in rails}:
        assert any(rails.get(rail, 0) < sum(rails.values()) / 2 for rails in lines)


@pytest.mark.parametrize("board", sorted(LOGS))
def test_precision_and_opset_are_what_the_boards_releases_take(board):
    device = shipped(board)
    assert device.runtime.precision == "fp16"
    newest_of_8_2 = 13
    old = board in ("tx2", "nano", "xavier-nx")
    assert (device.runtime.opset <= newest_of_8_2) is old


@pytest.mark.parametrize("board", sorted(set(LOGS) - {"tx2"}))
def test_a_power_mode_is_left_where_its_numbers_are_not_known(board):
    assert shipped(board).state.nvpmodel is None
