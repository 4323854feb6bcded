"""The device file of a first contact is one that `hil` reads, and replaces nothing unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hil.device.bringup import Outcome, Result
from hil.device.bringup_file import difference, drafted, proposals, settle
from hil.device.config import load_device

DEVICES = Path(__file__).parents[2] / "devices"
RESULTS = [
    Result("identity", Outcome("ok", "", facts={"model": "quill\nx: 1", "l4t": "32.7.1"})),
    Result("rails", Outcome("ok", "", facts={"power_w": {"VDD_IN": 1.4}})),
    Result(
        "privileges",
        Outcome(
            "differs",
            "",
            "mend",
            facts={"allowed": ["/usr/sbin/nvpmodel -m 0"]},
            proposed={"state.clocks": False, "state.nvpmodel": None},
        ),
    ),
    Result("step", Outcome("differs", "", "mend", proposed={"power.sensor.tau_s": 0.9})),
]


@pytest.mark.parametrize("name", sorted(path.name for path in DEVICES.glob("*.yaml")))
def test_any_device_file_can_be_drafted_and_read_back(name, tmp_path):
    old = (DEVICES / name).read_text(encoding="utf-8")
    path = tmp_path / name
    fields = {"state.clocks": False} | (
        {} if "source: none" in old else {"power.sensor.tau_s": 0.9}
    )

    path.write_text(drafted(old, fields, ["one", "two"]), encoding="utf-8")
    device = load_device(path)

    assert device.state.clocks is False
    assert device.name == load_device(DEVICES / name).name
    assert path.read_text(encoding="utf-8").startswith("# Found by")


def test_it_goes_beside_the_old_one_and_shows_what_changed(tmp_path):
    source = Path(shutil.copy(DEVICES / "tx2.yaml", tmp_path / "tx2.yaml"))
    before = source.read_text(encoding="utf-8")

    settled = settle(source, RESULTS, write=False, cwd=tmp_path)

    assert settled.path == tmp_path / "tx2.found.yaml"
    assert source.read_text(encoding="utf-8") == before
    device = load_device(settled.path)
    assert (device.state.clocks, device.state.nvpmodel) == (False, None)
    assert device.power.sensor is not None
    assert device.power.sensor.tau_s == 0.9
    assert "-  clocks: true" in settled.diff
    assert "+  clocks: false" in settled.diff
    text = settled.path.read_text(encoding="utf-8")
    assert "# sudo allows: /usr/sbin/nvpmodel -m 0\n" in text
    assert "# board: quill?x: 1, L4T 32.7.1\n" in text  # a board's words never leave the comment


def test_it_replaces_the_old_one_where_that_is_asked_for(tmp_path):
    source = Path(shutil.copy(DEVICES / "tx2.yaml", tmp_path / "tx2.yaml"))

    settled = settle(source, RESULTS, write=True, cwd=tmp_path)

    assert settled.path == source
    assert load_device(source).state.clocks is False


def test_a_file_that_ships_with_hil_is_never_touched(tmp_path):
    from hil.core.names import SHIPPED

    shipped = SHIPPED / "devices" / "tx2-emulated.yaml"
    before = shipped.read_bytes()

    settled = settle(shipped, RESULTS, write=True, cwd=tmp_path)

    assert settled.path == tmp_path / "devices" / "tx2-emulated.yaml"
    assert shipped.read_bytes() == before


def test_later_stages_win():
    late = [*RESULTS, Result("x", Outcome("ok", "", proposed={"state.clocks": True}))]

    assert proposals(late)["state.clocks"] is True
    assert difference("a: 1\n", "# other comment\na: 1\n", "f") == ""
