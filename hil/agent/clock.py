"""The two times of a board, kept apart.

Board time (`time.monotonic`, `time.sleep`) is evidence: stamps, idle, settling. Liveness
(heartbeats, leases, how long a child may take) is CLOCK_BOOTTIME, which also runs while the
board is suspended. On an emulated board the first is virtual and the second is the host's.
"""

import time

# time.CLOCK_BOOTTIME has a name only since Python 3.7; the number is Linux's (time.h).
_CLOCK_BOOTTIME = 7
_SLICE_S = 0.25


def boottime_s():
    """Seconds since boot, suspension included: for liveness only."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


def to_ns(seconds):
    """Integer nanoseconds of a monotonic reading; exact below 104 days of uptime."""
    return int(round(seconds * 1e9))


def now_ns():
    """A stamp of board time in integer nanoseconds."""
    return to_ns(time.monotonic())


def board_sleep(duration_s, check):
    """Sleeps board time in slices; `check` runs between them and raises to end the sleep early."""
    left_s = duration_s
    while left_s > 1e-9:
        check()
        slice_s = min(_SLICE_S, left_s)
        time.sleep(slice_s)
        left_s -= slice_s
    check()


class Deadline:
    """A limit in liveness time."""

    def __init__(self, seconds, clock=boottime_s):
        self._clock = clock
        self._end_s = clock() + seconds

    def left_s(self):
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._clock())

    def passed(self):
        """True once nothing is left."""
        return self.left_s() <= 0.0
