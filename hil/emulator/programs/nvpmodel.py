"""`nvpmodel`: shows or sets the power mode."""

from __future__ import annotations

import argparse
import os
import sys

from hil.emulator.client import BoardClient, BoardRefusedError
from hil.emulator.hostile.quirks import of_this_board

WARNINGS = """\
NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13
NVPM ERROR: failed to read PARAM EMC: ARG MAX_FREQ: PATH /sys/kernel/nvpmodel_emc_cap/emc_iso_cap
"""


def _agreed(board: BoardClient, mode: int) -> bool:
    """Asks whether the board may reboot; without YES the request is dropped and nothing said."""
    if board.call("condition")["mode"] == mode:
        return True
    sys.stdout.write(
        "NVPM WARN: Golden image context is already created\n"
        f"NVPM WARN: Reboot required for changing to this power mode: {mode}\n"
        "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n"
    )
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        return False
    board.call("nvpmodel", mode=mode)
    board.call("fault", action="begin", name="reboot", settings=[])
    return False


def main() -> int:
    """Runs the command; setting a mode is root's, hence only through the board's sudo."""
    parser = argparse.ArgumentParser(prog="nvpmodel")
    parser.add_argument("-q", "--query", action="store_true")
    parser.add_argument("-m", "--mode", type=int)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.mode is None and not arguments.query:
        parser.print_usage()
        return 1
    if arguments.mode is not None and os.environ.get("HIL_BOARD_ROOT_USER") != "1":
        sys.stderr.write("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n")
        return 1
    quirk = of_this_board().nvpmodel
    try:
        board = BoardClient()
        if arguments.mode is not None and quirk == "asks" and not _agreed(board, arguments.mode):
            return 0
        state = board.call("nvpmodel", mode=arguments.mode)
    except BoardRefusedError as error:
        sys.stderr.write(f"NVPM ERROR: {error}\n")
        return 1
    if arguments.query and quirk == "unset" and not state["mode_set"]:
        sys.stdout.write("NVPM WARN: power mode is not set!\n")
        return 0
    if arguments.query:
        if quirk == "warns" and os.environ.get("HIL_BOARD_ROOT_USER") != "1":
            sys.stdout.write(WARNINGS)
        if arguments.verbose:
            sys.stdout.write("NVPM VERB: Config file: /etc/nvpmodel.conf\n")
        sys.stdout.write(f"NV Power Mode: {state['mode_name']}\n{state['mode']}\n")
    return 0
