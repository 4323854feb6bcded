"""`hil-board`: what only an emulated board can do."""

from __future__ import annotations

import argparse
import json
import sys

from hil.emulator.client import BoardClient


def main() -> int:
    """`reset --seed N` puts the board into a known state, `truth` prints what really happened."""
    parser = argparse.ArgumentParser(prog="hil-board", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reset = verbs.add_parser("reset", help="cool board at idle, clocks as booted, noise reseeded")
    reset.add_argument("--seed", type=int, required=True)
    verbs.add_parser("truth", help="the true power of every rail since the reset")
    verbs.add_parser("state", help="mode, clocks, temperature, seeds")
    arguments = parser.parse_args()
    client = BoardClient()
    if arguments.verb == "reset":
        answer = client.call("reset", seed=arguments.seed)
    else:
        answer = client.call({"truth": "truth", "state": "condition"}[arguments.verb])
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0
