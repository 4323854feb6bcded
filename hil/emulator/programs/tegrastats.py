"""`tegrastats`: one line of statistics per interval, in the board's time."""

from __future__ import annotations

import argparse
import os
import sys

from hil.emulator import clockfile
from hil.emulator.attending import Reader
from hil.emulator.client import CLOCK_VARIABLE, BoardClient
from hil.emulator.releases import RELEASE_VARIABLE, RELEASES, worded
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


def main() -> int:
    """Prints lines until the reader or the board is gone."""
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
    mean = RunningMean()
    release = RELEASES[os.environ.get(RELEASE_VARIABLE, "r32")]
    try:
        while True:
            reading = client.receive()
            reading = worded(release, reading)
            if "exit" in reading:
                return int(reading["exit"])
            before = reader.looked()
            text = line(reading, mean.add(reading["rails"])) + "\n"
            if "share" in reading:
                text = text[: int(len(text) * reading["share"])]
            if reader.attended:
                os.write(1, text.encode())
                reader.wait(before)
            client.send({})
            if not reader.attended:
                os.write(1, text.encode())
    except (ConnectionError, BrokenPipeError):
        return 0
    except KeyboardInterrupt:
        return 130
