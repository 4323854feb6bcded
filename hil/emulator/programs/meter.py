"""`meter`: an external power meter in the board's supply, one line `seconds watts` a reading.

The seconds are the meter's own clock. It belongs to the desk rather than to the board: it reads
the true power that enters the module, with a small error of its own.
"""

from __future__ import annotations

import argparse
import os
import sys

from hil.emulator import clockfile
from hil.emulator.attending import Reader
from hil.emulator.client import CLOCK_VARIABLE, BoardClient

FASTEST_HZ = 1000.0


def main() -> int:
    """Prints lines until the reader or the board is gone."""
    parser = argparse.ArgumentParser(prog="meter", description=__doc__)
    parser.add_argument("--hz", type=float, default=50.0, help="readings a second")
    hz = parser.parse_args().hz
    if not 0.0 < hz <= FASTEST_HZ:
        parser.error(f"--hz must lie above 0 and not above {FASTEST_HZ:g}")
    reader = Reader(clockfile.attach(os.environ[CLOCK_VARIABLE]), os.getppid())
    client = BoardClient()
    client.send({"op": "meter", "hz": hz, "pid": os.getpid(), "attended": reader.attended})
    try:
        while True:
            reading = client.receive()
            before = reader.looked()
            os.write(1, f"{reading['time_s']:.6f} {reading['watts']:.4f}\n".encode())
            if reader.attended:
                reader.wait(before)
            client.send({})
    except (ConnectionError, BrokenPipeError):
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stdout = None  # a closed pipe is no news at exit
