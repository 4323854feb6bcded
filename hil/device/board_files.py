"""Files on a board: over SFTP, or in a folder of this machine. Blobs are named by their sha256.

Layout under the login's home: .hil/incoming (uploads under way), .hil/blobs, .hil/agent.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shlex
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import paramiko

from hil.core.errors import DeviceError
from hil.device.bundle import Bundle, hash_told
from hil.device.ssh_channels import Shell

STATE = ".hil"
FOLDERS = (STATE, f"{STATE}/agent", f"{STATE}/incoming", f"{STATE}/blobs")
PRIVATE = 0o700


class BoardFiles(Protocol):
    """What a session needs of a board's files."""

    def upload(self, data: bytes) -> str:
        """Write bytes under a fresh name in .hil/incoming; return that name."""

    def download(self, sha256: str) -> bytes:
        """Read a blob; the caller verifies it."""

    def close(self) -> None:
        """Let go of the channel."""


class SftpFiles:
    """Files of a board over one SFTP channel.

    Raises:
        DeviceError: the folders cannot be made.
    """

    def __init__(self, sftp: paramiko.SFTPClient, where: str) -> None:
        self._sftp = sftp
        self._where = where
        with self._explained(STATE):
            for folder in FOLDERS:
                self._ensure_folder(folder)

    def upload(self, data: bytes) -> str:
        """Write bytes under a fresh name in .hil/incoming; return that name."""
        name = uuid.uuid4().hex
        self.write(f"{STATE}/incoming/{name}", data)
        return name

    def write(self, path: str, data: bytes) -> None:
        """Write a new file; nothing is left of it on failure."""
        with self._explained(path):
            try:
                self._sftp.putfo(io.BytesIO(data), path, file_size=len(data))
            except (OSError, EOFError, paramiko.SSHException):
                with suppress(OSError, EOFError, paramiko.SSHException):
                    self._sftp.remove(path)
                raise

    def download(self, sha256: str) -> bytes:
        """Read a blob; the caller verifies it."""
        path = f"{STATE}/blobs/{sha256}"
        buffer = io.BytesIO()
        with self._explained(path):
            self._sftp.getfo(path, buffer)
        return buffer.getvalue()

    def replace(self, source: str, target: str) -> None:
        """Rename atomically over whatever is there (OpenSSH's posix-rename)."""
        with self._explained(target):
            self._sftp.posix_rename(source, target)

    def remove(self, path: str) -> None:
        """Delete a file."""
        with self._explained(path):
            self._sftp.remove(path)

    def close(self) -> None:
        """Close the channel."""
        self._sftp.close()

    def _ensure_folder(self, folder: str) -> None:
        try:
            self._sftp.stat(folder)
        except FileNotFoundError:
            self._sftp.mkdir(folder, PRIVATE)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise DeviceError(
                f"the file {path} on {self._where} cannot be read or written",
                why=str(error) or type(error).__name__,
                fix="check free space and permissions in the login's home: `hil doctor`",
            ) from error


class FolderFiles:
    """Files of an agent on this machine whose home is `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        with self._explained():
            home.mkdir(parents=True, exist_ok=True)
            for folder in FOLDERS:
                (home / folder).mkdir(mode=PRIVATE, exist_ok=True)

    def upload(self, data: bytes) -> str:
        """Write bytes under a fresh name in .hil/incoming; return that name."""
        name = uuid.uuid4().hex
        with self._explained():
            (self._home / STATE / "incoming" / name).write_bytes(data)
        return name

    def download(self, sha256: str) -> bytes:
        """Read a blob; the caller verifies it."""
        with self._explained():
            return (self._home / STATE / "blobs" / sha256).read_bytes()

    def install(self, bundle: Bundle) -> Path:
        """Put the agent there, unless it is; return its path."""
        path = self._home / STATE / "agent" / bundle.file_name
        with self._explained():
            if not path.is_file() or _sha256(path.read_bytes()) != bundle.sha256:
                temporary = path.with_name(f".tmp.{uuid.uuid4().hex}")
                temporary.write_bytes(bundle.data)
                os.replace(temporary, path)
        return path

    def close(self) -> None:
        """Nothing to let go of."""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise DeviceError(
                f"the state folder {self._home} cannot be used",
                why=str(error),
                fix="free space there" if full else "set local.state_dir in the device file",
            ) from error


def install_agent(shell: Shell, files: SftpFiles, bundle: Bundle, where: str) -> str:
    """Put the agent on a board unless it is there intact; return its path, relative to home.

    Uploaded under a temporary name, checked by the board's own sha256sum, then renamed at once:
    a file of that name is always whole.

    Raises:
        DeviceError: the link is lost, or the bytes arrive damaged.
    """
    path = f"{STATE}/agent/{bundle.file_name}"
    if _remote_sha256(shell, path) == bundle.sha256:
        return path
    temporary = f"{STATE}/agent/.tmp.{uuid.uuid4().hex}"
    files.write(temporary, bundle.data)
    arrived = _remote_sha256(shell, temporary)
    if arrived != bundle.sha256:
        files.remove(temporary)
        raise DeviceError(
            f"the agent arrived damaged on {where}",
            why=f"sha256 {arrived or 'unknown'} there, {bundle.sha256} here",
            fix="check that `sha256sum` runs on the board and its disk is sound, then try again",
        )
    files.replace(temporary, path)
    return path


def _remote_sha256(shell: Shell, path: str) -> str | None:
    done = shell.run(f"printf '\\n'; sha256sum {shlex.quote(path)}")
    return hash_told(done.out) if done.status == 0 else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
