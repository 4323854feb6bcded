"""Boards that open one channel, have no SFTP, no home or no python3 on PATH are reached."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from hil.core import fallbacks
from hil.core.errors import DeviceError
from hil.device.bundle import agent_bundle
from hil.device.config import SshDevice
from hil.device.one_channel import settle
from hil.device.opening import device_link, open_session
from hil.device.session import EngineSpec
from hil.device.ssh_channels import Completed
from hil.device.support import TooOldError
from tests.device.conftest import SFTP, an_ssh_server, write_program
from tests.device.test_sessions import SHORT, board_root, exercise, network, sound

pytestmark = pytest.mark.board


def device(server, folder: Path, **changes) -> SshDevice:
    fields = {
        "schema": "hil/device@1",
        "name": "odd",
        "driver": "ssh",
        "board": "host",
        "ssh": server.ssh(),
        "agent": {"root": board_root(folder / "root")},
    }
    return SshDevice.model_validate({**fields, **changes})


def names(session) -> list[str]:
    return [each.name for each in fallbacks.of_board(session.facts())]


@pytest.mark.parametrize("more", ["", f"{SFTP}\nMaxSessions 1"])
def test_a_board_with_one_channel_or_no_sftp_does_everything(tmp_path, more):
    with (
        an_ssh_server(tmp_path, more) as server,
        open_session(device(server, tmp_path), owner="test") as session,
    ):
        exercise(session)
        data = os.urandom(3 << 20)  # several pieces
        assert session.get_blob(session.put_blob(data)) == data
        assert session.get_blob(session.put_blob(b"")) == b""

        assert names(session) == ["files_by_agent"]
        assert "checked by sha256" in fallbacks.of_board(session.facts())[0].consequence
        assert (server.home / ".hil/agent" / agent_bundle().file_name).is_file()
        assert not list((server.home / ".hil/incoming").iterdir())


def test_an_ordinary_board_is_reached_as_planned(ssh_server, tmp_path):
    with open_session(device(ssh_server, tmp_path), owner="test") as session:
        assert names(session) == []


def test_a_home_that_cannot_be_written_is_made_up_for(ssh_server, tmp_path):
    (ssh_server.home / ".hil").write_text("in the way, as a read-only home is")

    with open_session(device(ssh_server, tmp_path), owner="test") as session:
        sha256 = session.put_blob(network())
        info = session.build(EngineSpec(sha256, precision="fp32", runtime="onnxruntime"))
        sound(session.run(info, SHORT, "none"), "measured")

        assert names(session) == ["other_folder"]
        told = fallbacks.of_board(session.facts())[0].consequence
    folder = ssh_server.folder / "tmp" / f"hil-{os.getuid()}"
    assert str(folder) in told
    assert (folder / ".hil").stat().st_mode & 0o777 == 0o700


def test_somebody_else_s_folder_in_tmp_is_not_used(ssh_server, tmp_path):
    (ssh_server.home / ".hil").write_text("")
    trap = tmp_path / "trap"
    trap.mkdir()
    (ssh_server.folder / "tmp" / f"hil-{os.getuid()}").symlink_to(trap)

    try:
        with open_session(device(ssh_server, tmp_path), owner="test") as session:
            assert str(ssh_server.folder) not in session.facts()["session"]["home"]
    finally:
        shutil.rmtree(f"/var/tmp/hil-{os.getuid()}", ignore_errors=True)
    assert not list(trap.iterdir())


class FullBoard:
    """A board where nothing can be written: what its shell says to our script."""

    def __init__(self, out: str) -> None:
        self._out = out

    def run(self, command: str, timeout_s: float = 30.0, given: bytes = b"") -> Completed:
        return Completed(1, self._out, "")


def test_a_board_without_room_names_the_mount_and_what_is_needed():
    df = "welcome\nhil-mount /dev/mmcblk0p1 28768380 28768300 12 100% /\n"

    with pytest.raises(DeviceError) as caught:
        settle(FullBoard(df), agent_bundle(), "bench")

    assert "/, which holds the login's home, has 12 KiB free" in caught.value.why
    assert "8192 KiB are needed" in caught.value.why


def test_a_python3_that_is_not_on_path_is_found(tmp_path):
    if not any(Path(p).exists() for p in ("/usr/bin/python3", "/usr/local/bin/python3")):
        pytest.skip("this machine has no python3 in a usual place")
    with an_ssh_server(tmp_path, path=str(tmp_path / "sshd/bin")) as server:
        programs = server.folder / "bin"
        (programs / "python3").unlink()
        for name in ("sh", "sha256sum", "cat", "mkdir", "env"):
            (programs / name).symlink_to(shutil.which(name) or name)

        with device_link(device(server, tmp_path)) as link:
            assert link.facts["python"].endswith("python3")
            assert link.client.request("ping") == {}


def test_a_python_that_has_tensorrt_runs_the_agent_where_the_login_s_has_none(ssh_server, tmp_path):
    odd = device(ssh_server, tmp_path)
    root = tmp_path / "root"
    for folder in ("etc", "usr/bin", "site"):
        (root / folder).mkdir(parents=True)
    (root / "etc/nv_tegra_release").write_text("# R32 (release), REVISION: 7.1, GCID: 1\n")
    (root / "site/tensorrt.py").write_text("__version__ = '8.2.1.8'\n")
    other = root / "usr/bin/python3.6"
    text = f'#!/bin/sh\nPYTHONPATH={root}/site exec {sys.executable} "$@"\n'
    write_program(other, text)

    with open_session(odd, owner="test") as session:
        assert session.board.tensorrt == "8.2.1.8"
        (told,) = fallbacks.of_board(session.facts())
    assert told.name == "other_python"
    assert str(other) in told.next_step

    chosen = odd.model_copy(
        update={"agent": odd.agent.model_copy(update={"python": sys.executable})}
    )
    with open_session(chosen, owner="test") as session:
        assert session.board.tensorrt is None  # what a person chose stays


def test_a_release_too_old_to_run_the_agent_is_named(ssh_server, tmp_path):
    root = tmp_path / "root"
    odd = device(ssh_server, tmp_path)
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").write_text("# R28 (release), REVISION: 2.1, GCID: 1\n")
    program = ssh_server.folder / "bin/python3"
    program.write_text("#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2; exit 1\n")

    with pytest.raises(TooOldError) as caught, open_session(odd, owner="test"):
        pass

    assert "28.2.1" in str(caught.value)
    assert f"{root}/etc/nv_tegra_release" in caught.value.why
    assert "JetPack 4.6.1" in caught.value.fix


def test_an_old_release_is_refused_before_anything_is_changed(ssh_server, tmp_path):
    odd = device(ssh_server, tmp_path, state={"nvpmodel": 0, "clocks": True})
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/nv_tegra_release").write_text("# R32 (release), REVISION: 4.4\n")

    with pytest.raises(TooOldError, match=r"32\.4\.4"), open_session(odd, owner="test"):
        pass

    assert not (tmp_path / "root/run/lock/hil-board.lease").exists()


def test_a_login_that_may_not_pin_measures_and_says_so(ssh_server, tmp_path):
    odd = device(ssh_server, tmp_path, state={"nvpmodel": 0, "clocks": True})

    with open_session(odd, owner="test") as session:
        info = session.build(
            EngineSpec(session.put_blob(network()), precision="fp32", runtime="onnxruntime")
        )
        evidence = session.run(info, SHORT, "none")
        with pytest.raises(DeviceError):
            session.pin(nvpmodel=2)  # asked for by name: no fallback

    found = fallbacks.of_run(evidence.board, evidence.engine)
    assert {each.name for each in found} == {"unpinned"}
    assert {each.severity for each in found} == {"suspect"}
    assert any("nvpmodel" in each.reason for each in found)
