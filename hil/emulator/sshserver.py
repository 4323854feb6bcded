"""SSH of the emulated board: public-key login, commands, SFTP; one thread per connection.

The board's commands run on this host as the user who started the emulator, with the board's
programs first on PATH. A command whose channel is gone loses its input first, so that an agent
can put the board in order, then gets SIGTERM and SIGKILL, with its whole process group.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import IO, Any

import paramiko

from hil.emulator.login import Login
from hil.emulator.sftp import BoardSftp
from hil.emulator.wirefaults import Wire

CHUNK = 1 << 15
TERM_AFTER_S = 2.0
KILL_AFTER_S = 5.0


@dataclass
class Running:
    """A command of a channel, until it has ended."""

    process: subprocess.Popen[bytes]
    channel: paramiko.Channel
    orphaned_at: float | None = None

    def reap(self) -> None:
        """Ends the command step by step once its channel is gone."""
        if not self.channel.closed:
            return
        now = time.monotonic()
        if self.orphaned_at is None:
            self.orphaned_at = now
        waited = now - self.orphaned_at
        if waited > KILL_AFTER_S:
            kill_group(self.process.pid, signal.SIGKILL)
        elif waited > TERM_AFTER_S:
            kill_group(self.process.pid, signal.SIGTERM)


def kill_group(pid: int, number: signal.Signals) -> None:
    """Signals a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class Channels:
    """The channels of one connection, counted when granted and not only when taken up.

    paramiko's transport thread grants a channel before the connection's own thread sees it; a
    count of what was taken up would let a second one through in between.
    """

    def __init__(self) -> None:
        self._granted: set[int] = set()
        self._held: list[paramiko.Channel] = []
        self._lock = threading.Lock()

    def grant(self, chanid: int, most: int) -> bool:
        """Whether one more channel may open; at most `most` at a time, 0 for any number."""
        with self._lock:
            self._forget_closed()
            if most and len(self._granted) >= most:
                return False
            self._granted.add(chanid)
            return True

    def hold(self, channel: paramiko.Channel) -> None:
        """Refers to a channel until it is closed; paramiko closes one that nobody refers to."""
        with self._lock:
            self._forget_closed()
            self._held.append(channel)

    def _forget_closed(self) -> None:
        self._granted -= {each.get_id() for each in self._held if each.closed}
        self._held = [each for each in self._held if not each.closed]


class BoardServer(paramiko.ServerInterface):
    """What one connection may do."""

    def __init__(self, login: Login, commands: Commands, channels: Channels) -> None:
        self._login = login
        self._commands = commands
        self._channels = channels

    def get_allowed_auths(self, _username: str) -> str:
        """Only keys."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """The board's user with a known key."""
        known = any(key == allowed for allowed in self._login.authorized)
        if username == self._login.quirks.user and known:
            return paramiko.common.AUTH_SUCCESSFUL
        return paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Sessions, as many at a time as sshd's MaxSessions allows; no forwarding."""
        if kind == "session" and self._channels.grant(chanid, self._login.quirks.max_sessions):
            return paramiko.common.OPEN_SUCCEEDED
        return paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Runs a command."""
        self._commands.start(channel, self._login.shell(os.fsdecode(command)))
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        """A plain shell without a terminal."""
        self._commands.start(channel, self._login.shell())
        return True

    def check_channel_pty_request(self, *_: object) -> bool:
        """Refused: a terminal would change the bytes."""
        return False


@dataclass
class Commands:
    """Runs the commands of all connections."""

    login: Login
    running: list[Running] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, channel: paramiko.Channel, argv: list[str]) -> None:
        """Serves a command in a thread of its own."""
        threading.Thread(target=self._serve, args=(channel, argv), daemon=True).start()

    def _serve(self, channel: paramiko.Channel, argv: list[str]) -> None:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.login.home,
            env=dict(self.login.environment),
            start_new_session=True,
            bufsize=0,
        )
        running = Running(process, channel)
        with self._lock:
            self.running.append(running)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
        errors = threading.Thread(
            target=_drain, args=(process.stderr, channel.sendall_stderr), daemon=True
        )
        errors.start()
        _drain(process.stdout, channel.sendall)
        errors.join()
        status = process.wait()
        with self._lock:
            self.running.remove(running)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.send_exit_status(status if status >= 0 else 128 - status)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()

    def reap(self) -> None:
        """Ends commands whose channel is gone; call every now and then."""
        with self._lock:
            for running in self.running:
                running.reap()

    def kill_all(self) -> None:
        """Ends every command at once."""
        with self._lock:
            for running in self.running:
                kill_group(running.process.pid, signal.SIGKILL)


class SftpThroughShell(paramiko.SFTPServer):
    """sftp-server started by the login's shell, whose ~/.bashrc may speak first."""

    def __init__(
        self, channel: paramiko.Channel, name: str, server: BoardServer, *args: Any, **options: Any
    ) -> None:
        super().__init__(channel, name, server, *args, **options)
        self._login: Login = args[1]

    def start_subsystem(
        self, name: str, transport: paramiko.Transport, channel: paramiko.Channel
    ) -> None:
        """Sends what ~/.bashrc prints, then serves."""
        said = subprocess.run(
            self._login.shell("true"),
            cwd=self._login.home,
            env=dict(self._login.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        channel.sendall(said.stdout)
        super().start_subsystem(name, transport, channel)


def _feed(channel: paramiko.Channel, pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError), pipe:
        while data := channel.recv(CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(pipe.fileno(), view) :]


def _drain(pipe: IO[bytes], send: object) -> None:
    assert callable(send)
    with pipe:
        while data := os.read(pipe.fileno(), CHUNK):
            with contextlib.suppress(OSError, EOFError):
                send(data)


@dataclass
class SshListener:
    """Listens on the loopback address and serves each connection."""

    login: Login
    port: int = 0

    def __post_init__(self) -> None:
        self.commands = Commands(self.login)
        self.wire = Wire(self.login.faults)
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Starts serving."""
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._reap, daemon=True).start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self.wire.up:
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        quirks = self.login.quirks
        self._stopping.wait(quirks.login_s)
        end_s = time.monotonic() + quirks.session_s if quirks.session_s else math.inf
        wired = self.wire.attach(connection)
        transport = paramiko.Transport(wired)
        transport.add_server_key(self.login.host_key)
        if quirks.sftp != "none":
            kind = SftpThroughShell if quirks.sftp == "shell" else paramiko.SFTPServer
            transport.set_subsystem_handler("sftp", kind, BoardSftp, self.login)
        channels = Channels()
        self._transports.append(transport)
        try:
            transport.start_server(
                event=threading.Event(), server=BoardServer(self.login, self.commands, channels)
            )
            while not self._stopping.is_set() and transport.is_alive():
                channel = transport.accept(min(1.0, max(0.01, end_s - time.monotonic())))
                if time.monotonic() > end_s:
                    break
                if channel is not None:
                    channels.hold(channel)
        except (paramiko.SSHException, EOFError, OSError):
            pass
        finally:
            transport.close()
            self.wire.detach(wired)
            self._transports.remove(transport)

    def _reap(self) -> None:
        while not self._stopping.wait(0.05):
            self.commands.reap()

    def stop(self) -> None:
        """Closes all connections and ends all commands."""
        self._stopping.set()
        self._socket.close()
        for transport in list(self._transports):
            transport.close()
        self.commands.kill_all()
