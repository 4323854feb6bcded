"""`hil-board`: what only an emulated board can do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hil.emulator.client import BoardClient, BoardRefusedError
from hil.emulator.faults import KINDS
from hil.emulator.trt.plan import PlanError, from_bytes


def main() -> int:
    """`reset` brings a known state, `truth` prints what happened, `fault` lets something fail."""
    parser = argparse.ArgumentParser(prog="hil-board", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reset = verbs.add_parser("reset", help="cool board at idle, clocks as booted, noise reseeded")
    reset.add_argument("--seed", type=int, required=True)
    verbs.add_parser("truth", help="the true power of every rail since the reset")
    quiet = verbs.add_parser("quiet", help="what the last engine truly costs, undisturbed")
    quiet.add_argument("--mode", type=int, help="in this power mode (default: the present one)")
    verbs.add_parser("state", help="mode, clocks, temperature, seeds")
    fault = verbs.add_parser("fault", help="let something go wrong", epilog=_known())
    fault.add_argument("name", nargs="?", help="which; none lists what is on")
    fault.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    fault.add_argument("--clear", action="store_true", help="switch it off, or all of them")
    plausible = verbs.add_parser("plausible", help="engines' figures over boards that may be true")
    plausible.add_argument("engines", nargs="+", metavar="ENGINE", help="an engine's file")
    arguments = parser.parse_args()
    client = BoardClient()
    if arguments.verb == "reset":
        answer = client.call("reset", seed=arguments.seed)
    elif arguments.verb == "quiet":
        try:
            answer = client.call("quiet", mode=arguments.mode)
        except BoardRefusedError as error:
            sys.stderr.write(f"hil-board: {error}\n")
            return 2
    elif arguments.verb == "fault":
        action = "clear" if arguments.clear else "begin" if arguments.name else "list"
        request = {"name": arguments.name, "settings": arguments.settings}
        try:
            answer = client.call("fault", action=action, **request)
        except BoardRefusedError as error:
            sys.stderr.write(f"hil-board: {error}\n")
            return 2
    elif arguments.verb == "plausible":
        try:
            kernels = [_kernels(Path(each)) for each in arguments.engines]
        except (OSError, PlanError) as error:
            sys.stderr.write(f"hil-board: {error}\n")
            return 2
        answer = client.call("plausible", engines=kernels)
    else:
        answer = client.call({"truth": "truth", "state": "condition"}[arguments.verb])
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _kernels(path: Path) -> list[dict[str, Any]]:
    """What an engine runs, without what its builder happened to choose."""
    return list(from_bytes(path.read_bytes()).kernels)


def _known() -> str:
    return "; ".join(f"{name}: {kind.meaning}" for name, kind in KINDS.items())
