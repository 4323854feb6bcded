"""`nvpmodel`: shows or sets the power mode."""

from __future__ import annotations

import argparse
import os
import sys

from hil.emulator.client import BoardClient, BoardRefusedError


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
    try:
        state = BoardClient().call("nvpmodel", mode=arguments.mode)
    except BoardRefusedError as error:
        sys.stderr.write(f"NVPM ERROR: {error}\n")
        return 1
    if arguments.query:
        if arguments.verbose:
            sys.stdout.write("NVPM VERB: Config file: /etc/nvpmodel.conf\n")
        sys.stdout.write(f"NV Power Mode: {state['mode_name']}\n{state['mode']}\n")
    return 0
