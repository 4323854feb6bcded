"""A real OpenSSH server on loopback, as root or as an ordinary user, with a home of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hil.device.config import Ssh
from hil.device.hostkeys import HostKey, parse_host_key, pin

SSHD = Path("/usr/sbin/sshd")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
SFTP = f"Subsystem sftp {SFTP_SERVER}"
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
{more}
ForceCommand {folder}/login
SetEnv SHLVL=1
LogLevel VERBOSE
"""
LOGIN = """\
#!/bin/sh
HOME={folder}/home PATH={folder}/bin:{path} TMPDIR={folder}/tmp
export HOME PATH TMPDIR
cd "$HOME" && exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


@dataclass
class SshServer:
    """A running sshd: what a client needs, and what a test may do to it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    host_key: HostKey

    @property
    def home(self) -> Path:
        """Home folder of whoever logs in."""
        return self.folder / "home"

    def ssh(self, **changes: object) -> Ssh:
        """How to reach it, its key pinned in a known_hosts file."""
        fields: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "identity": self.folder / "login_key",
            "known_hosts": self.folder / "known_hosts",
        }
        return Ssh.model_validate({**fields, **changes})

    def connections(self) -> set[int]:
        """Process ids of the server's children, one a connection."""
        return {pid for pid in _pids() if _parent(pid) == self.process.pid}

    def cut(self) -> None:
        """Kill every connection, as a cable pulled or a crashed board does.

        Each is a monitor and, below it, the process that holds the socket; where the server runs
        as an ordinary user the second outlives the first.
        """
        monitors = self.connections()
        holders = {pid for pid in _pids() if _parent(pid) in monitors and _name(pid) == "sshd"}
        for pid in monitors | holders:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[SshServer]:
    """An OpenSSH server for one test."""
    with an_ssh_server(tmp_path) as server:
        yield server


@contextmanager
def an_ssh_server(
    tmp_path: Path, more: str = SFTP, path: str = "/usr/bin:/bin"
) -> Iterator[SshServer]:
    """Run an OpenSSH server.

    Args:
        tmp_path: for its keys, the login's home and the programs of its PATH.
        more: lines of its configuration.
        path: what PATH has beside those programs.
    """
    if not SSHD.exists():
        message = f"no OpenSSH server at {SSHD}: apt-get install openssh-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path / "sshd"
    for name in ("home", "bin", "tmp"):
        (folder / name).mkdir(parents=True)
    with suppress(PermissionError):  # sshd started by root insists on it
        Path("/run/sshd").mkdir(exist_ok=True)
    make_key(folder / "host_key")
    make_key(folder / "login_key")
    shutil.copy(folder / "login_key.pub", folder / "authorized_keys")
    write_program(folder / "login", LOGIN.format(folder=folder, path=path))
    write_program(folder / "bin" / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    server = start_sshd(folder, more)
    try:
        yield server
    finally:
        server.cut()
        server.process.terminate()
        server.process.wait(10)


def start_sshd(folder: Path, more: str) -> SshServer:
    """Start sshd on a free port and wait until it answers."""
    port = free_port()
    config = CONFIG.format(port=port, folder=folder, more=more)
    (folder / "sshd_config").write_text(config, encoding="utf-8")
    with (folder / "log").open("wb") as log:
        argv = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(argv, stderr=log, stdin=subprocess.DEVNULL)
    key = parse_host_key((folder / "host_key.pub").read_text(encoding="utf-8"))
    pin(folder / "known_hosts", "127.0.0.1", port, key)
    wait_until(lambda: answers(port), "sshd listens")
    return SshServer(folder, port, process, key)


def make_key(path: Path) -> None:
    """Make an Ed25519 key pair without a passphrase."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True
    )


def write_program(path: Path, text: str) -> None:
    """Write an executable script."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def free_port() -> int:
    """Return a port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Wait for a condition in another process."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()
