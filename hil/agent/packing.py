"""Stamps on their way home: as the doubles that were read, not one of them touched here.

Turning the stamps of a window into integers takes a thousandth of the window, and even packing
them as text for the wire a fifth of that: so long would the accelerator be idle between two
windows. So the worker only writes them to a file, and the agent, on another core, packs them
while the next window runs; the host does the arithmetic.
"""

import array
import base64
import os
import sys

_PER_EVENT = 250000  # both series of it fill two thirds of the longest line


def series():
    """An empty series of stamps in seconds of board time."""
    return array.array("d")


def spill(path, phase, index, starts, stops):
    """Writes the stamps of one phase to a new file; returns the `stamps` event that names it."""
    with open(path, "xb") as file:
        starts.tofile(file)
        stops.tofile(file)
    return {
        "kind": "stamps",
        "phase": phase,
        "index": index,
        "path": path,
        "count": len(starts),
    }


def unspill(event):
    """Reads and removes the file of a `stamps` event; yields what `events` yields."""
    starts, stops = series(), series()
    with open(event["path"], "rb") as file:
        starts.fromfile(file, event["count"])
        stops.fromfile(file, event["count"])
    os.unlink(event["path"])
    for packed in events(event["phase"], event["index"], starts, stops):
        yield packed


def events(phase, index, starts, stops):
    """`latency` events of one phase: one, or several in order where a line cannot carry it.

    Each holds `phase` (warmup, settle or block), `index`, and the stamps before enqueueing and
    after synchronising as base64 of little-endian doubles.
    """
    for first in range(0, len(starts), _PER_EVENT):
        part = slice(first, first + _PER_EVENT)
        yield {
            "kind": "latency",
            "phase": phase,
            "index": index,
            "starts_b64": _packed(starts[part]),
            "stops_b64": _packed(stops[part]),
        }


def _packed(stamps):
    if sys.byteorder != "little":
        stamps.byteswap()
    return base64.b64encode(stamps).decode("ascii")
