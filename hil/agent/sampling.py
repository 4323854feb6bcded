"""The `sample` start of the agent: one power source read at a steady pace, line by line.

Its last words, should it fail, are one JSON object on stderr: the agent's own kind of error.
"""

import json
import os
import sys

from . import source_ina3221, source_nvml, source_rapl
from .clock import board_sleep, now_ns
from .errors import AgentError

SAMPLERS = {
    "ina3221": source_ina3221.sampler,
    "nvml": source_nvml.sampler,
    "rapl": source_rapl.sampler,
}
FAILED = 3
JITTER = 0.5
_GOLDEN = 0.6180339887498949


def add_arguments(parser):
    """Options of the `sample` verb, `--root` left out."""
    parser.add_argument("sampler", choices=sorted(SAMPLERS))
    parser.add_argument("--interval-ms", type=int, default=100)
    parser.add_argument("--count", type=int, default=None, help="stop after so many lines")
    parser.add_argument("--jitter", action="store_true", help="uneven distances, the same mean")
    parser.add_argument("--describe", action="store_true", help="nvml: what was found, as JSON")


def main(given, root):
    """Samples until the reader is gone.

    Returns:
        The exit status.
    """
    try:
        if given.describe and given.sampler == "nvml":
            sys.stdout.write(json.dumps(source_nvml.describe()) + "\n")
            return 0
        read = SAMPLERS[given.sampler](root)
        jitter = JITTER if given.jitter else 0.0
        emit(read, max(1, given.interval_ms) * 1000000, count=given.count, jitter=jitter)
    except AgentError as error:
        sys.stderr.write(json.dumps(error.as_dict()) + "\n")
        return FAILED
    except KeyboardInterrupt:
        return 130
    return 0


def emit(read, interval_ns, handle=1, clock=now_ns, sleep=None, count=None, jitter=0.0):
    """Writes one whole line each interval until the reader is gone.

    The schedule is absolute: the n-th line is due n intervals after the first, however long
    readings take; one that overruns leaves out what it missed.

    Args:
        read: gives a line without newline.
        interval_ns: the pace in board time.
        handle: where lines go; each is one write, so nothing is held back.
        clock: board time in ns.
        sleep: sleeps that many seconds of board time.
        count: stop after so many lines; None for never.
        jitter: share of the interval that a reading may be moved by, spread evenly by the golden
            section, so that a sensor of instants falls into step with no load.
    """
    pause = sleep or _sleep
    start_ns = clock()
    due = written = 0
    while count is None or written < count:
        line = read()
        try:
            os.write(handle, line.encode("utf-8") + b"\n")
        except BrokenPipeError:
            return
        written += 1
        now = clock()
        due = max(due + 1, -(-(now - start_ns) // interval_ns))
        moved = ((due * _GOLDEN) % 1.0 - 0.5) * jitter
        pause(max(0.0, start_ns + (due + moved) * interval_ns - now) / 1e9)


def _sleep(seconds):
    board_sleep(seconds, lambda: None)
