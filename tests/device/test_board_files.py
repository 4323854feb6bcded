"""Putting files on a board: verified there, never half, explained when it cannot be done."""

from __future__ import annotations

import re

import pytest

from hil.core.errors import DeviceError
from hil.device.board_files import FolderFiles, SftpFiles, install_agent
from hil.device.bundle import Bundle, agent_bundle
from hil.device.ssh import connect
from hil.device.ssh_channels import Completed, Shell

BUNDLE = agent_bundle()


class DamagingShell:
    """A board whose sha256sum tells another hash than what was sent."""

    def run(self, command: str, timeout_s: float = 30.0) -> Completed:
        path = command.rsplit(maxsplit=1)[-1]
        return Completed(0, f"{'0' * 64}  {path}\n", "")


class NoSha256sum:
    """A board without the program."""

    def run(self, command: str, timeout_s: float = 30.0) -> Completed:
        return Completed(127, "", "sha256sum: not found")


class GreetingShell:
    """A board whose login shell says something first."""

    def __init__(self, real: Shell) -> None:
        self._real = real

    def run(self, command: str, timeout_s: float = 30.0) -> Completed:
        done = self._real.run(command, timeout_s)
        return Completed(done.status, "Welcome to L4T!\n" + done.out, done.err)


@pytest.fixture
def board(ssh_server):
    with connect(ssh_server.ssh()) as connection:
        files = SftpFiles(connection.sftp(), "bench")
        yield connection, files
        files.close()


@pytest.mark.board
@pytest.mark.parametrize("shell", [DamagingShell(), NoSha256sum()])
def test_an_agent_that_is_not_verified_on_the_board_is_never_put_in_place(shell, board, ssh_server):
    _, files = board

    with pytest.raises(DeviceError, match="damaged"):
        install_agent(shell, files, BUNDLE, "bench")

    assert list((ssh_server.home / ".hil" / "agent").iterdir()) == []


@pytest.mark.board
def test_a_login_shell_s_greeting_does_not_hide_the_hash(board, ssh_server):
    connection, files = board
    path = install_agent(connection, files, BUNDLE, "bench")
    first = (ssh_server.home / path).stat()

    assert install_agent(GreetingShell(connection), files, BUNDLE, "bench") == path
    assert (ssh_server.home / path).stat().st_ino == first.st_ino  # not sent again


@pytest.mark.board
def test_a_path_that_cannot_be_written_is_explained(board):
    _, files = board

    with pytest.raises(DeviceError, match=re.escape("no/such/folder/x")):
        files.write("no/such/folder/x", b"data")


def test_a_local_agent_is_installed_whole_and_repaired(tmp_path):
    files = FolderFiles(tmp_path / "home")
    path = files.install(BUNDLE)
    assert path.read_bytes() == BUNDLE.data
    path.write_bytes(b"broken")

    again = files.install(BUNDLE)

    assert again.read_bytes() == BUNDLE.data
    assert [file.name for file in path.parent.iterdir()] == [BUNDLE.file_name]


def test_a_state_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(DeviceError, match="state folder"):
        FolderFiles(tmp_path / "file" / "home")


def test_another_release_gets_another_name(tmp_path):
    files = FolderFiles(tmp_path)
    other = Bundle(b"x", "1" * 64)

    assert files.install(other) != files.install(BUNDLE)
