"""Lines leave a power source when they are wanted, and none is left behind by a flush."""

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.agent.power import PowerReader


class Meter:
    """A pipe read by the reader; its clock counts lines."""

    def __init__(self):
        self.read_end, self.write_end = os.pipe()
        self.batches = []
        self.told = threading.Semaphore(0)
        self.stamps = iter(range(10**6))
        self.stamped = threading.Semaphore(0)
        self.reader = PowerReader(self.read_end, self.emit, self.stamp)

    def stamp(self):
        self.stamped.release()
        return next(self.stamps)

    def emit(self, batch):
        self.batches.append(list(batch))
        self.told.release()

    def say(self, count):
        os.write(self.write_end, b"line\n" * count)
        for _ in range(count):
            assert self.stamped.acquire(timeout=5)

    def lines(self):
        return [stamp for batch in self.batches for stamp, _ in batch]

    def close(self):
        if self.write_end is not None:
            os.close(self.write_end)
            self.write_end = None
            self.reader.join(10)
            os.close(self.read_end)


@pytest.fixture
def meter():
    made = Meter()
    yield made
    made.close()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_after_a_flush_every_line_stamped_before_it_is_out(counts):
    meter = Meter()
    total = 0
    for count in counts:
        meter.say(count)
        total += count
        meter.reader.flush()
        assert meter.lines() == list(range(total))
    meter.close()


def test_a_flush_of_nothing_tells_nothing(meter):
    meter.reader.flush()

    assert meter.batches == []


def test_wanted_lines_leave_as_soon_as_there_are_enough(meter):
    meter.reader.hurry(1, 3)

    meter.say(4)  # stamps 0 to 3: only 2 and 3 are later than 1
    assert meter.batches == []
    meter.say(1)

    assert meter.told.acquire(timeout=5)
    assert meter.batches == [[[n, "line"] for n in range(5)]]
    meter.say(2)
    meter.close()
    assert meter.lines() == list(range(7))
