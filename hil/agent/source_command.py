"""Any program that prints `time_s watts`, one reading a line and flushed: external meters."""

import os

from .errors import AgentError


def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where no program is named or the board has none of that name.
    """
    command = spec.get("command") or []
    if not command:
        raise AgentError(
            "no_power",
            "no program is named that would read the meter",
            "power source `command` without `command`",
            "name it in the device file: `command: [program, argument]`",
        )
    program = command[0] if os.path.isabs(command[0]) else board.program(command[0])
    if program is None or not os.access(program, os.X_OK):
        raise AgentError(
            "no_power",
            "there is no program %s on the board" % command[0],
            "looked for on %s" % board.path,
            "install it, give its full path, or say `where: host` if it runs on your machine",
        )
    settings = {"rail": spec["rail"]} if spec.get("rail") else {}
    return [program] + list(command[1:]), settings
