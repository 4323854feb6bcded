"""`tegrastats`: one line of statistics per interval, in the board's time."""

from __future__ import annotations

import argparse
import os
import sys

from hil.emulator import clockfile
from hil.emulator.attending import Reader
from hil.emulator.client import CLOCK_VARIABLE, BoardClient
from hil.emulator.hostile.grammars import GRAMMARS
from hil.emulator.hostile.quirks import of_this_board
from hil.emulator.releases import RELEASE_VARIABLE, RELEASES, renamed, worded
from hil.emulator.statformat import RunningMean, line


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tegrastats", add_help=False)
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--interval", type=int, default=1000)
    return parser.parse_args()


HELP = """Usage: tegrastats [-option]
Options:
    --help                  : print this help screen
    --interval <millisec>   : sample the information in <milliseconds>
"""


BLOCK = 4096
"""What stdio keeps back when its output is a pipe."""
OLD_HELP = """Usage: tegrastats [options]
    --help --start --stop --logfile <file> -max -default -once -throttle --extra
"""


def refusal(quirk: str, arguments: list[str]) -> str | None:
    """What a hostile board's tool says instead of lines; None where it runs."""
    root = os.environ.get("HIL_BOARD_ROOT", "")
    as_root = os.environ.get("HIL_BOARD_ROOT_USER") == "1"
    if quirk == "instance":
        return "ERROR: exits as an instance (pid = 2211) exists"
    if quirk == "root" and not as_root:
        return "ERROR: not invoking as root"
    if quirk == "cache" and not as_root and os.path.exists(f"{root}/tmp/.tstats.txt"):
        return "ERROR: failed to open /tmp/.tstats.txt: Permission denied"
    if quirk == "old-options" and "--interval" in arguments:
        return f"Unknown option: --interval\n{OLD_HELP}"
    return None


def blocks(text: str) -> tuple[str, str]:
    """Divides what is to be written into whole blocks and what waits for the next one."""
    whole = len(text) - len(text) % BLOCK
    return text[:whole], text[whole:]


def main() -> int:
    """Prints lines until the reader or the board is gone."""
    quirks = of_this_board()
    refused = refusal(quirks.tegrastats, sys.argv[1:])
    if refused is not None:
        sys.stdout.write(refused + "\n")
        return 255
    arguments = _arguments()
    if arguments.help or arguments.interval <= 0:
        sys.stdout.write(HELP)
        return 0
    words = clockfile.attach(os.environ[CLOCK_VARIABLE])
    reader = Reader(words, os.getppid())
    client = BoardClient()
    client.send(
        {
            "op": "tegrastats",
            "interval_ms": arguments.interval,
            "pid": os.getpid(),
            "attended": reader.attended,
        }
    )
    mean, waiting = RunningMean(), ""
    written = GRAMMARS.get(quirks.tegrastats, line)
    release = RELEASES[os.environ.get(RELEASE_VARIABLE, "r32")]
    try:
        while True:
            reading = client.receive()
            if "exit" in reading:
                return int(reading["exit"])
            reading = renamed(release, worded(release, reading), quirks.rails)
            before = reader.looked()
            text = waiting + written(reading, mean.add(reading["rails"])) + "\n"
            if "share" in reading:
                text = text[: int(len(text) * reading["share"])]
            if quirks.tegrastats == "buffers":
                text, waiting = blocks(text)
            if reader.attended and text:
                os.write(1, text.encode())
                reader.wait(before)
            client.send({})
            if not reader.attended and text:
                os.write(1, text.encode())
    except (ConnectionError, BrokenPipeError):
        return 0
    except KeyboardInterrupt:
        return 130
