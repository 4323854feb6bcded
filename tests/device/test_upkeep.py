"""A board freed from a dead holder and cleaned, through real agents on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core.errors import DeviceError, HilError, LeaseTimeoutError
from hil.device.config import LocalDevice
from hil.device.opening import open_session
from hil.device.session import EngineSpec
from hil.device.upkeep import clean, unlock


@pytest.fixture
def device(tmp_path: Path) -> LocalDevice:
    """This machine as a board with a root folder and a state folder of its own."""
    root = tmp_path / "root"
    (root / "run" / "lock").mkdir(parents=True)
    return LocalDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "desk",
            "driver": "local",
            "board": "host",
            "local": {"state_dir": str(tmp_path / "state")},
            "agent": {"root": str(root)},
            "runtime": {"name": "onnxruntime", "precision": "fp32"},
        },
        context={"folder": tmp_path},
    )


def test_a_held_board_is_taken_and_the_holder_learns_of_it(device):
    learnt = None
    try:
        with open_session(device, owner="ann") as session:
            assert unlock(device, "bob", "ann's host lost power") == "ann"
            session.restore()
    except HilError as error:
        learnt = error.exit_code

    assert learnt in (DeviceError.exit_code, LeaseTimeoutError.exit_code)
    with open_session(device, owner="carl"):
        pass


def test_a_free_board_needs_no_unlocking(device):
    assert unlock(device, "bob", "to be sure") is None


def test_cleaning_removes_what_was_shipped_and_nothing_while_others_measure(device):
    with open_session(device, owner="ann") as session:
        session.put_blob(b"a network")
        with pytest.raises(LeaseTimeoutError):
            clean(device, "bob", wait_s=0.0, on_wait=lambda *_: None)

    assert clean(device, "bob", wait_s=0.0, on_wait=lambda *_: None) == (1, 9)
    assert clean(device, "bob", wait_s=0.0, on_wait=lambda *_: None) == (0, 0)


def test_cleaning_to_a_limit_keeps_what_builds_name(device, tmp_path):
    from hil.net.sample import sample_network

    with open_session(device, owner="ann") as session:
        network = session.put_blob(sample_network())
        session.build(EngineSpec(network, precision="fp32", runtime="onnxruntime"))
        session.put_blob(b"stimuli of a run")
    blobs = {path.name for path in tmp_path.rglob("blobs/*")}

    def trim(keep_bytes):
        nobody = {"wait_s": 0.0, "on_wait": lambda *_: None}
        return clean(device, "bob", keep_bytes=keep_bytes, **nobody)

    assert trim(1 << 30) == (1, len(b"stimuli of a run"))
    assert network in {path.name for path in tmp_path.rglob("blobs/*")} < blobs
    files, size = trim(0)
    assert files == 3  # the network, its engine and the record of the build
    assert size > len(sample_network())
    assert {path.name for path in tmp_path.rglob("blobs/*")} == set()
