"""Which changes of a hostile board's files fail, and with what error. Pure but for links."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

FULL = ("ENOSPC", "EDQUOT")
"""Errors that only something new meets; others refuse removing and renaming as well."""


class DiskRules:
    """The rules of one board.

    Args:
        root: the board's root folder on this host.
        home: the login's home, from the root.
        disk: folder from the root ("~" is the home) to the name of an error.
    """

    def __init__(self, root: str, home: str, disk: Mapping[str, str]) -> None:
        base = os.path.realpath(root)
        self._rules = [
            (os.path.join(base, home if folder == "~" else folder), name)
            for folder, name in disk.items()
        ]

    def check(self, path: object, *, growing: bool) -> None:
        """Refuses a change that would fail on the board.

        Args:
            path: what is to be changed.
            growing: whether something new is to be written, rather than taken away or renamed.

        Raises:
            OSError: it fails.
        """
        if not self._rules or not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.fsdecode(path)
        found = os.path.realpath(name) + os.sep
        for folder, error in self._rules:
            if found.startswith(folder + os.sep) and (growing or error not in FULL):
                number = getattr(errno, error)
                raise OSError(number, os.strerror(number), name)
