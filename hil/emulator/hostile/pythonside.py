"""Defects that show inside the board's Python: packages, files, fsync, noexec.

Only the board's own programs meet them. The stand-ins need numpy where the board has none, so
what decides is whose code asks: code of the emulator and of this host's libraries may have all.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hil.emulator.boardtime import BoardTime
from hil.emulator.hostile import quirks as board_quirks
from hil.emulator.hostile.disks import DiskRules
from hil.emulator.hostile.quirks import PYTHON_VARIABLE, Quirks
from hil.emulator.launchers import PACKAGE_PARENT

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
BARE = ("tensorrt", "pycuda", "numpy")
NEEDS_NUMPY = ("pycuda",)
CORETYPE = "OPENBLAS_CORETYPE"
OURS = tuple(
    os.path.realpath(path) + os.sep
    for path in (PACKAGE_PARENT / "hil" / "emulator", sys.prefix, sys.base_prefix)
)


def install(board: BoardTime) -> None:
    """Puts the defects in place; called once, before any program code runs."""
    quirks = board_quirks.of_this_board()
    if not quirks.names:
        return
    root = os.environ["HIL_BOARD_ROOT"]
    _hide(Packages(quirks, os.environ.get(PYTHON_VARIABLE, "jetpack")))
    if quirks.disk:
        _guard_files(DiskRules(root, quirks.home, quirks.disk))
    if quirks.noexec:
        _refuse_programs([os.path.join(os.path.realpath(root), each) for each in quirks.noexec])
    if quirks.fsync_ms:
        _slow_down(board, round(quirks.fsync_ms * 1e6))


class Packages:
    """What a program of the board may import.

    Args:
        quirks: the board's.
        python: "jetpack", or "bare" for one that somebody installed beside it.
    """

    def __init__(self, quirks: Quirks, python: str) -> None:
        missing = set(quirks.missing) | (set(BARE) if python == "bare" else set())
        self._missing = missing
        self._without_numpy = set(NEEDS_NUMPY) if "numpy" in missing else set()
        self._deadly = quirks.numpy == "illegal"

    def lacks(self, name: str) -> str | None:
        """The name of the package that importing `name` would not find; None where it does."""
        package = name.partition(".")[0]
        if package in self._missing:
            return package
        return "numpy" if package in self._without_numpy else None

    def touch(self, name: str) -> None:
        """To be called when an import is to be carried out: it may be this process's end.

        Raises:
            ModuleNotFoundError: there is no such package.
        """
        lacking = self.lacks(name)
        if lacking is not None:
            raise ModuleNotFoundError(f"No module named '{lacking}'", name=lacking)
        package = name.partition(".")[0]
        safe = os.environ.get(CORETYPE, "").upper() == "ARMV8"
        if self._deadly and not safe and package in ("numpy", *NEEDS_NUMPY):
            os.kill(os.getpid(), signal.SIGILL)


def _ours(namespace: dict[str, Any] | None) -> bool:
    file = (namespace or {}).get("__file__")
    return isinstance(file, str) and os.path.realpath(file).startswith(OURS)


def _hide(packages: Packages) -> None:
    real_import, real_module = builtins.__import__, importlib.import_module
    real_spec = importlib.util.find_spec

    def guarded(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        if level == 0 and not _ours(globals):
            packages.touch(name)
        return real_import(name, globals, locals, fromlist, level)

    def import_module(name: str, package: str | None = None) -> Any:
        if not _ours(sys._getframe(1).f_globals):
            packages.touch(name)
        return real_module(name, package)

    def find_spec(name: str, package: str | None = None) -> Any:
        hidden = not _ours(sys._getframe(1).f_globals) and packages.lacks(name) == name
        return None if hidden else real_spec(name, package)

    builtins.__import__ = guarded
    importlib.import_module = import_module
    importlib.util.find_spec = find_spec


def _guard_files(rules: DiskRules) -> None:
    def opening(original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: Any = "r", *rest: Any, **options: Any) -> Any:
            how = options.get("flags", mode)
            writes = how & WRITING if isinstance(how, int) else set(str(how)) & set("wax+")
            if writes:
                rules.check(path, growing=True)
            return original(path, mode, *rest, **options)

        return opened

    def changing(original: Callable[..., Any], *, growing: bool) -> Callable[..., Any]:
        def changed(path: Any, *rest: Any, **options: Any) -> Any:
            rules.check(path, growing=growing)
            if rest and isinstance(rest[0], (str, os.PathLike)):
                rules.check(rest[0], growing=False)
            return original(path, *rest, **options)

        return changed

    real_open = io.open
    for module in (io, builtins):
        module.open = opening(real_open)  # type: ignore[attr-defined]
    os.open = opening(os.open)
    os.mkdir = changing(os.mkdir, growing=True)
    for name in ("rename", "replace", "remove", "unlink", "rmdir"):
        setattr(os, name, changing(getattr(os, name), growing=False))


def _refuse_programs(folders: list[str]) -> None:
    def inside(path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        found = os.path.realpath(os.fsdecode(path))
        return any(found.startswith(folder + os.sep) for folder in folders)

    original_popen: Callable[..., None] = subprocess.Popen.__init__
    original_library: Callable[..., None] = ctypes.CDLL.__init__

    def started(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        first = args if isinstance(args, (str, bytes, os.PathLike)) else args[0]
        if not options.get("shell") and inside(options.get("executable") or first):
            raise PermissionError(13, "Permission denied", os.fsdecode(first))
        original_popen(self, args, *rest, **options)

    def loaded(self: Any, name: Any, *rest: Any, **options: Any) -> None:
        if inside(name):
            raise OSError(f"{name}: failed to map segment from shared object")
        original_library(self, name, *rest, **options)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]
    ctypes.CDLL.__init__ = loaded  # type: ignore[method-assign]


def _slow_down(board: BoardTime, span_ns: int) -> None:
    def slow(original: Callable[..., None]) -> Callable[..., None]:
        def synced(handle: Any) -> None:
            original(handle)
            board.sleep_ns(span_ns)

        return synced

    os.fsync, os.fdatasync = slow(os.fsync), slow(os.fdatasync)
