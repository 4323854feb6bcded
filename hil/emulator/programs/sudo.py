"""`sudo` of the emulated board: a sudoers file with exactly four command lines and no password."""

from __future__ import annotations

import os
import sys

from hil.emulator.hostile.quirks import of_this_board

CLOCKS_FILE = "/var/lib/hil/clocks.conf"
REFUSALS = {
    "requiretty": "sudo: sorry, you must have a tty to run sudo",
    "not-in-sudoers": "{user} is not in the sudoers file.  This incident will be reported.",
}
NEEDED = {"de": "Ein Passwort ist notwendig", "tr": "bir parola gerekli"}
LECTURE = """
We trust you have received the usual lecture from the local System
Administrator. It usually boils down to these three things:

"""


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


def _allowed(arguments: list[str]) -> list[str] | None:
    """What this board's sudoers file permits: `permitted`, less the lines that it lacks."""
    command, quirk = permitted(arguments, os.environ["HIL_BOARD_ROOT"]), of_this_board().sudo
    if command is None or quirk == "none":
        return None
    if quirk == "no-nvpmodel" and command[0].endswith("nvpmodel"):
        return None
    if quirk == "no-store" and len(command) > 1 and command[1].startswith("--"):
        return None
    return command if os.path.exists(command[0]) else None


def _password_needed() -> str:
    language = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "sudo: " + NEEDED.get(language[:2], "a password is required") + "\n"


def _chatter(quirk: str) -> None:
    if quirk == "host-warning":
        name = of_this_board().hostname
        sys.stderr.write(f"sudo: unable to resolve host {name}: Name or service not known\n")
    if quirk == "lecture":
        sys.stderr.write(LECTURE)
        sys.stdout.write(LECTURE)
        sys.stdout.flush()
    sys.stderr.flush()


def main() -> int:  # noqa: RET503 - a successful exec does not come back
    """Runs a permitted command as root would; anything else would need a password."""
    quirk = of_this_board().sudo
    arguments = [each for each in sys.argv[1:] if each != "-n"]
    if quirk in REFUSALS:
        sys.stderr.write(REFUSALS[quirk].format(user=of_this_board().user) + "\n")
        return 1
    _chatter(quirk)
    if arguments[:1] == ["-l"]:
        return _listing(arguments[1:])
    command = _allowed(arguments)
    if command is None:
        sys.stderr.write(_password_needed())
        return 1
    os.execve(command[0], command, {**os.environ, "HIL_BOARD_ROOT_USER": "1"})


def _listing(command: list[str]) -> int:
    """`sudo -n -l COMMAND`: prints the command where it is permitted, else fails."""
    allowed = _allowed(command)
    if allowed is None:
        sys.stderr.write(_password_needed())
        return 1
    sys.stdout.write(" ".join(allowed) + "\n")
    return 0
