"""Inferences at a fixed rate: when each is due, and which could not be kept."""

import time


class Pace:
    """Slots of `period_s` seconds on an absolute schedule, so that no delay adds up.

    The first slot begins when it is first waited for. A slot that has gone by unused is missed:
    whoever is slower than the rate finds the next slot begun already and never sleeps.
    """

    def __init__(self, period_s, clock=time.monotonic, sleep=time.sleep):
        self._period_s = period_s
        self._clock = clock
        self._sleep = sleep
        self._origin_s = None
        self._slot = 0

    @property
    def begun(self):
        """Whether the schedule runs."""
        return self._origin_s is not None

    def wait(self):
        """Sleeps until the next slot begins; returns how many slots went by unused."""
        now_s = self._clock()
        if self._origin_s is None:
            self._origin_s = now_s
        late_s = now_s - (self._origin_s + self._slot * self._period_s)
        missed = 0
        if late_s < 0:
            self._sleep(-late_s)
        else:
            missed = int(late_s / self._period_s)
        self._slot += missed + 1
        return missed
