"""SFTP of the emulated board: its root folder is `/`, and nobody gets out of it."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface
from paramiko.sftp import SFTP_FAILURE, SFTP_OK

from hil.emulator.hostile.disks import DiskRules
from hil.emulator.hostile.quirks import HOME

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hil.emulator.login import Login

MAX_LINKS = 40
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
T = TypeVar("T")


def resolve(root: Path, path: str, *, home: str = HOME, follow: bool = True) -> Path:
    """Finds the file of this host that a path of the board names.

    Links are followed as on the board: an absolute target starts at the board's root, and
    `..` at the root stays there.

    Args:
        root: the board's root on this host.
        path: absolute, or relative to the user's home.
        home: of the user, from the root.
        follow: whether a link in the last place is followed as well.

    Raises:
        OSError: too many links.
    """
    todo = [part for part in posixpath.join("/", home, path).split("/") if part][::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
        elif part != ".":
            done.append(part)
            here = root.joinpath(*done)
            if here.is_symlink() and (todo or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(40, "too many levels of symbolic links")
                target = os.readlink(here)
                done = [] if target.startswith("/") else done[:-1]
                todo.extend([each for each in target.split("/") if each][::-1])
    return root.joinpath(*done)


def _tried(action: Callable[[], T]) -> T | int:
    try:
        return action()
    except OSError as error:
        return SFTPServer.convert_errno(error.errno or 0)


def _done(action: Callable[[], Any]) -> int:
    def finished() -> int:
        action()
        return SFTP_OK

    return _tried(finished)


def _alter(target: Path | int, attr: SFTPAttributes) -> None:
    if attr.st_mode is not None:
        os.chmod(target, attr.st_mode & 0o777)
    if attr.st_atime is not None and attr.st_mtime is not None:
        os.utime(target, (attr.st_atime, attr.st_mtime))
    if attr.st_size is not None:
        os.truncate(target, attr.st_size)


class BoardHandle(SFTPHandle):
    """An open file, read and written at offsets as the protocol asks for."""

    def __init__(self, number: int, flags: int) -> None:
        super().__init__(flags)
        self._number = number

    def close(self) -> None:
        """Closes the file."""
        os.close(self._number)

    def read(self, offset: int, length: int) -> bytes | int:
        """Reads at an offset."""
        return _tried(lambda: os.pread(self._number, length, offset))

    def write(self, offset: int, data: Buffer) -> int:
        """Writes all of it at an offset."""
        view = memoryview(data)

        def written() -> None:
            done = 0
            while done < len(view):
                done += os.pwrite(self._number, view[done:], offset + done)

        return _done(written)

    def stat(self) -> SFTPAttributes | int:
        """Describes the file."""
        return _tried(lambda: SFTPAttributes.from_stat(os.fstat(self._number)))

    def chattr(self, attr: SFTPAttributes) -> int:
        """Sets mode, times and length."""
        return _done(lambda: _alter(self._number, attr))


class BoardSftp(SFTPServerInterface):
    """The file operations, each inside the root."""

    def __init__(self, server: paramiko.ServerInterface, login: Login, *args: Any) -> None:
        super().__init__(server, *args)
        self._root, self._home = login.root, login.quirks.home
        self._faults = login.faults
        self._rules = DiskRules(str(self._root), self._home, login.quirks.disk)

    def _find(self, path: str, *, follow: bool = True) -> Path:
        return resolve(self._root, path, home=self._home, follow=follow)

    def _change(self, path: str, action: Callable[[Path], Any], *, growing: bool = False) -> int:
        """Changes a file or link itself, where the board's disk lets it."""

        def changed() -> None:
            target = self._find(path, follow=False)
            self._rules.check(target, growing=growing)
            action(target)

        return _done(changed)

    def _try(self, action: Callable[[], T]) -> T | int:
        return _tried(action)

    def canonicalize(self, path: str) -> str:
        """The absolute path on the board."""
        try:
            inside = self._find(path).relative_to(self._root).as_posix()
            return "/" if inside == "." else f"/{inside}"
        except OSError:
            return posixpath.normpath(posixpath.join("/", self._home, path))

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        """Names and attributes of a folder's entries."""

        def entries() -> list[SFTPAttributes]:
            with os.scandir(self._find(path)) as found:
                return [
                    SFTPAttributes.from_stat(each.stat(follow_symlinks=False), each.name)
                    for each in found
                ]

        return self._try(entries)

    def stat(self, path: str) -> SFTPAttributes | int:
        """Describes the file."""
        return self._try(lambda: SFTPAttributes.from_stat(self._find(path).stat()))

    def lstat(self, path: str) -> SFTPAttributes | int:
        """Describes a file or link itself."""
        return self._try(lambda: SFTPAttributes.from_stat(self._find(path, follow=False).lstat()))

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | int:
        """Opens a file."""

        def opened() -> SFTPHandle:
            if flags & WRITING and self._faults.on("disk-full") is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if flags & WRITING:
                self._rules.check(self._find(path), growing=True)
            mode = attr.st_mode if attr.st_mode is not None else 0o666
            number = os.open(self._find(path), flags | os.O_CLOEXEC, mode & 0o777)
            return BoardHandle(number, flags)

        return self._try(opened)

    def remove(self, path: str) -> int:
        """Removes a file or link."""
        return self._change(path, Path.unlink)

    def rename(self, oldpath: str, newpath: str) -> int:
        """Moves a file; fails where the new name is taken, as OpenSSH does."""
        new = self._find(newpath, follow=False)
        if new.exists() or new.is_symlink():
            return SFTP_FAILURE
        return self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        """Moves a file over whatever has the new name, in one step."""
        return self._change(oldpath, lambda old: old.replace(self._find(newpath, follow=False)))

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        """Makes a folder."""
        mode = attr.st_mode if attr.st_mode is not None else 0o777
        return self._change(path, lambda new: new.mkdir(mode & 0o777), growing=True)

    def rmdir(self, path: str) -> int:
        """Removes an empty folder."""
        return self._change(path, Path.rmdir)

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        """Sets mode, times and length; owners are this host's affair and stay as they are."""
        return self._change(path, lambda _: _alter(self._find(path), attr))

    def readlink(self, path: str) -> str | int:
        """The target of a link."""
        return self._try(lambda: os.readlink(self._find(path, follow=False)))

    def symlink(self, target_path: str, path: str) -> int:
        """Makes a link."""
        return self._change(path, lambda new: new.symlink_to(target_path), growing=True)
