"""SSH connections to boards: one pinned host key, one login key, explicit timeouts everywhere.

Rule of this file: a host whose key is not pinned is never talked to, and no password is ever sent.
"""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from hil.core.errors import ConfigError, DeviceError
from hil.device.config import Ssh, SshHop
from hil.device.dial import dial
from hil.device.hostkeys import from_paramiko, name_in_known_hosts, pinned_keys, wrong_key
from hil.device.ssh_channels import ChannelTransport, Completed, run_command

# paramiko logs what it also raises; without a handler Python would print that on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_UNUSABLE_KEY = (
    OSError,
    ValueError,
    paramiko.SSHException,
    UnsupportedAlgorithm,
    UnknownKeyType,
)

# CBC with encrypt-then-MAC is open to Terrapin (CVE-2023-48795) where strict key exchange is not
# offered, as by OpenSSH 7.6 on L4T r32.
# assumes: ssh-without-cbc
DISABLED = {"ciphers": ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"]}


@dataclass(frozen=True)
class SshConnection:
    """A logged-in connection; `through` is the jump host's, which must outlive it."""

    ssh: SshHop
    client: paramiko.SSHClient
    through: paramiko.SSHClient | None = None

    def run(self, command: str, timeout_s: float = 30.0, given: bytes = b"") -> Completed:
        """Run one shell command to its end; `given` is its input.

        Raises:
            DeviceError: the link is lost or the command does not end in time.
        """
        return run_command(self._transport, command, timeout_s, self.where, given)

    @property
    def alive(self) -> bool:
        """Whether the link still stands, as far as is known."""
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()

    def open_agent(self, command: str) -> ChannelTransport:
        """Start a long-lived command and return its channel.

        Raises:
            DeviceError: the link is lost.
        """
        return ChannelTransport(self._transport, command, self.where)

    def sftp(self) -> paramiko.SFTPClient:
        """Open a file channel.

        Raises:
            DeviceError: the server offers no SFTP, or the link is lost.
        """
        try:
            sftp = self.client.open_sftp()
            channel = sftp.get_channel()
            assert channel is not None  # just opened
            channel.settimeout(60.0)
        except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError) as error:
            raise DeviceError(
                f"{self.where} opens no file channel (SFTP)",
                why=str(error) or type(error).__name__,
                fix="enable `Subsystem sftp` in the board's /etc/ssh/sshd_config",
            ) from error
        return sftp

    @property
    def where(self) -> str:
        """The host as known_hosts names it."""
        return name_in_known_hosts(self.ssh.host, self.ssh.port)

    @property
    def _transport(self) -> paramiko.Transport:
        transport = self.client.get_transport()
        if transport is None or not transport.is_active():
            raise DeviceError(
                f"the connection to {self.where} is closed",
                fix="check the board's power and network, then run again",
            )
        return transport

    def close(self) -> None:
        """Close the connection, then the jump host's."""
        self.client.close()
        if self.through is not None:
            self.through.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def connect(ssh: Ssh) -> SshConnection:
    """Log in to a board, through its jump host where it has one.

    Raises:
        DeviceError: unreachable, wrong host key, refused login, not an SSH server.
        ConfigError: the key file or the pin in the device file is unusable.
    """
    pins = pinned_keys(ssh)  # before any packet: an unknown host is not even dialled
    if ssh.jump is None:
        sock = dial(ssh.host, ssh.port, ssh.timeout_s)
        return SshConnection(ssh, _login(ssh, pins, sock))
    jump_pins = pinned_keys(ssh.jump)
    with ExitStack() as undo:
        sock = dial(ssh.jump.host, ssh.jump.port, ssh.jump.timeout_s)
        jump = _login(ssh.jump, jump_pins, sock)
        undo.callback(jump.close)
        client = _login(ssh, pins, _tunnel(ssh, jump))
        undo.pop_all()
    return SshConnection(ssh, client, jump)


def _tunnel(ssh: Ssh, jump: paramiko.SSHClient) -> paramiko.Channel:
    transport = jump.get_transport()
    assert transport is not None  # just logged in
    try:
        return transport.open_channel(
            "direct-tcpip", (ssh.host, ssh.port), ("127.0.0.1", 0), timeout=ssh.timeout_s
        )
    except (paramiko.SSHException, OSError, EOFError) as error:
        via = ssh.jump.host if ssh.jump else ""
        raise DeviceError(
            f"the jump host {via} cannot reach {ssh.host}:{ssh.port}",
            why=str(error) or type(error).__name__,
            fix="check ssh.host as seen from the jump host, and that it allows forwarding",
        ) from error


def _login(
    hop: SshHop, pins: paramiko.HostKeys, sock: socket.socket | paramiko.Channel
) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    for name, keys in pins.items():
        for kind, key in keys.items():
            client.get_host_keys().add(name, kind, key)
    with ExitStack() as undo:
        undo.callback(sock.close)
        undo.callback(client.close)
        try:
            _connect(client, hop, sock, _identity(hop))
        except paramiko.BadHostKeyException as error:
            raise wrong_key(hop, from_paramiko(error.key), pins) from error
        except paramiko.AuthenticationException as error:
            raise _refused(hop, error) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _no_handshake(hop, error) from error
        undo.pop_all()
    return client


def _connect(
    client: paramiko.SSHClient,
    hop: SshHop,
    sock: socket.socket | paramiko.Channel,
    key: paramiko.PKey | None,
) -> None:
    client.connect(
        hop.host,
        port=hop.port,
        username=hop.user,
        pkey=key,
        sock=sock,
        timeout=hop.timeout_s,
        banner_timeout=hop.timeout_s,
        auth_timeout=hop.timeout_s,
        channel_timeout=hop.timeout_s,
        allow_agent=hop.use_agent,
        look_for_keys=False,
        disabled_algorithms=DISABLED,
    )


def _identity(hop: SshHop) -> paramiko.PKey | None:
    if hop.identity is None:
        return None
    try:
        return paramiko.PKey.from_path(hop.identity)
    except FileNotFoundError as error:
        raise ConfigError(
            f"the key file {hop.identity} does not exist",
            fix=f"make one (ssh-keygen -t ed25519 -f {hop.identity}) or correct ssh.identity",
        ) from error
    except (TypeError, paramiko.PasswordRequiredException) as error:  # what cryptography raises
        raise ConfigError(
            f"the key file {hop.identity} is protected by a passphrase",
            why="hil never asks for passphrases",
            fix="load it into ssh-agent (ssh-add) and set ssh.use_agent: true without identity",
        ) from error
    except _UNUSABLE_KEY as error:
        raise ConfigError(
            f"the key file {hop.identity} cannot be used",
            why=str(error) or type(error).__name__,
            fix="name a private key that `ssh -i` accepts",
        ) from error


def _refused(hop: SshHop, error: Exception) -> DeviceError:
    tried = f"the key {hop.identity}" if hop.identity else "the keys of ssh-agent"
    public = hop.identity or "KEY"
    return DeviceError(
        f"{hop.host} refuses the login of {hop.user}",
        why=f"it does not accept {tried} ({error})",
        fix=f"install the key: ssh-copy-id -i {public}.pub -p {hop.port} {hop.user}@{hop.host}; "
        "or correct ssh.user and ssh.identity",
    )


def _no_handshake(hop: SshHop, error: Exception) -> DeviceError:
    return DeviceError(
        f"no SSH connection with {hop.host} on port {hop.port}",
        why=str(error) or type(error).__name__,
        fix=f"check that an SSH server listens there: ssh -v -p {hop.port} {hop.user}@{hop.host}",
    )
