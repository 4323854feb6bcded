"""Stamps travel bit for bit, however many there are."""

import json
import struct

from hypothesis import given
from hypothesis import strategies as st

from hil.agent import packing, wire

from .conftest import stamps

TIMES = st.floats(0, 1e7, allow_nan=False)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=20))
def test_every_bit_of_a_stamp_arrives(pairs):
    starts, stops = packing.series(), packing.series()
    for start, stop in pairs:
        starts.append(start)
        stops.append(stop)

    (event,) = packing.events("block", 3, starts, stops)

    assert (event["kind"], event["phase"], event["index"]) == ("latency", "block", 3)
    got = list(zip(stamps(event["starts_b64"]), stamps(event["stops_b64"]), strict=True))
    assert [struct.pack("<2d", *pair) for pair in got] == [struct.pack("<2d", *p) for p in pairs]


def test_a_file_of_stamps_is_read_once_and_is_gone(tmp_path):
    starts, stops = packing.series(), packing.series()
    starts.extend([0.1, 0.2, 0.3])
    stops.extend([0.15, 0.25, 0.35])
    path = tmp_path / "stamps"

    told = packing.spill(str(path), "block", 1, starts, stops)
    (event,) = packing.unspill(json.loads(json.dumps(told)))

    assert event == next(packing.events("block", 1, starts, stops))
    assert not path.exists()


def test_ten_minutes_of_short_inferences_fit_into_lines():
    starts = packing.series()
    starts.extend(n * 0.001 for n in range(600_000))

    events = list(packing.events("block", 0, starts, starts))

    assert all(len(wire.encode({"id": 1, "event": e})) < wire.MAX_LINE_BYTES for e in events)
    assert [t for e in events for t in stamps(e["stops_b64"])] == starts.tolist()


def test_nothing_is_told_of_nothing():
    assert list(packing.events("warmup", 0, packing.series(), packing.series())) == []
