"""Lines arrive whole, stamped once each; a cut last line is no line."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from hil.agent.power import PowerReader


def read(chunks):
    """(stamped lines, number of clock readings) of a pipe written in these chunks."""
    read_end, write_end = os.pipe()
    stamps = iter(range(10**6))
    taken, batches = [], []

    def stamp():
        taken.append(next(stamps))
        return taken[-1]

    reader = PowerReader(read_end, batches.append, stamp)
    for chunk in chunks:
        os.write(write_end, chunk)
    os.close(write_end)
    reader.join(10)
    os.close(read_end)
    return [line for batch in batches for line in batch], len(taken)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_every_line_is_stamped_once_in_order_of_arrival(count, sizes):
    stream = b"".join(b"VDD_IN %d/4000\n" % index for index in range(count))
    chunks, at = [], 0
    for size in [*sizes, len(stream)]:
        chunks.append(stream[at : at + size])
        at += size

    lines, readings = read([chunk for chunk in chunks if chunk])

    assert [line for _, line in lines] == [f"VDD_IN {index}/4000" for index in range(count)]
    assert [stamp for stamp, _ in lines] == list(range(count))
    assert readings == count  # one reading of the board's clock a line, none besides


def test_a_cut_last_line_is_dropped():
    lines, readings = read([b"VDD_SOC 1405/1405\nVDD_SOC 1405/140"])

    assert [line for _, line in lines] == ["VDD_SOC 1405/1405"]
    assert readings == 1


def test_bytes_that_are_no_text_do_not_end_the_reader():
    lines, _ = read([b"\xff\xfe\nVDD_IN 1/1\n"])

    assert lines[1][1] == "VDD_IN 1/1"


def opened():
    """(reader, write end, read end, what was handed on) of a pipe that stays open."""
    read_end, write_end = os.pipe()
    stamps = iter(range(10**6))
    handed = []
    reader = PowerReader(read_end, handed.append, lambda: next(stamps))
    return reader, write_end, read_end, handed


def ended(reader, write_end, read_end):
    os.close(write_end)
    reader.join(10)
    os.close(read_end)


def test_a_flush_hands_on_what_was_stamped_and_nothing_twice():
    reader, write_end, read_end, handed = opened()
    os.write(write_end, b"a\nb\nc")
    while sum(map(len, handed)) < 2:
        reader.flush()
    reader.flush()
    before = [line for batch in handed for line in batch]
    ended(reader, write_end, read_end)

    assert before == [[0, "a"], [1, "b"]]
    assert [line for batch in handed for line in batch] == before
    assert all(handed)  # an empty batch is never handed on


def test_lines_that_somebody_waits_for_leave_at_once():
    reader, write_end, read_end, handed = opened()
    reader.hurry(1, 2)  # the second line stamped later than 1, which is the fourth
    os.write(write_end, b"a\nb\nc\nd\n")
    assert reader.started.wait(10)
    while not handed:
        os.sched_yield()
    first = list(handed[0])
    ended(reader, write_end, read_end)

    assert first == [[0, "a"], [1, "b"], [2, "c"], [3, "d"]]
