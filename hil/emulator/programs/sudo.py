"""`sudo` of the emulated board: a sudoers file with exactly four command lines and no password."""

from __future__ import annotations

import os
import sys

CLOCKS_FILE = "/var/lib/hil/clocks.conf"


def permitted(arguments: list[str], root: str) -> list[str] | None:
    """Tells which program a command line may run.

    Args:
        arguments: the command line after `sudo -n`.
        root: the board's root folder on this host.

    Returns:
        The program's path and its arguments, or None where the board would ask for a password.
    """
    if not arguments:
        return None
    program, rest = arguments[0], arguments[1:]
    name = os.path.basename(program)
    paths = {
        "nvpmodel": f"{root}/usr/sbin/nvpmodel",
        "jetson_clocks": f"{root}/usr/bin/jetson_clocks",
    }
    known = (name, paths.get(name), paths.get(name, "").removeprefix(root))
    if name not in paths or program not in known:
        return None
    files = (root + CLOCKS_FILE, CLOCKS_FILE)
    allowed = (
        name == "nvpmodel" and len(rest) == 2 and rest[0] == "-m" and rest[1] in tuple("01234")
    ) or (
        name == "jetson_clocks"
        and (
            not rest
            or (len(rest) == 2 and rest[0] in ("--store", "--restore") and rest[1] in files)
        )
    )
    return [paths[name], *rest] if allowed else None


def main() -> int:  # noqa: RET503 - a successful exec does not come back
    """Runs a permitted command as root would; anything else would need a password."""
    arguments = [each for each in sys.argv[1:] if each != "-n"]
    if arguments[:1] == ["-l"]:
        return _listing(arguments[1:])
    command = permitted(arguments, os.environ["HIL_BOARD_ROOT"])
    if command is None:
        sys.stderr.write("sudo: a password is required\n")
        return 1
    os.execve(command[0], command, {**os.environ, "HIL_BOARD_ROOT_USER": "1"})


def _listing(command: list[str]) -> int:
    """`sudo -n -l COMMAND`: prints the command where it is permitted, else fails."""
    allowed = permitted(command, os.environ["HIL_BOARD_ROOT"])
    if allowed is None:
        sys.stderr.write("sudo: a password is required\n")
        return 1
    sys.stdout.write(" ".join(allowed) + "\n")
    return 0
