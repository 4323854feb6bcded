"""The GPU as one process sees it: memory with its contents, streams with their time.

Results are worked out when somebody copies them back, because a loop that only measures never
looks at them. So an allocation holds either bytes or a promise of bytes; what a promise was made
from is never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from hil.emulator import boardtime
from hil.emulator.boardtime import BoardTime
from hil.emulator.clockfile import NOW, memory_in_use

ALIGNMENT = 256
FIRST_ADDRESS = 0x7_0000_0000
COPY_NS = 10_000
"""Assumed cost of any copy between host and device, beside its bytes."""
COPY_BYTES_PER_NS = 8.0
"""Assumed; host and device share the DRAM of this board."""


class OutOfMemoryError(Exception):
    """The board has no such block of memory left."""


class BadAddressError(Exception):
    """No live allocation covers the bytes asked for."""


class Promise(Protocol):
    """Bytes that will be worked out when needed."""

    def bytes(self) -> bytes:
        """Works them out, once."""


Content = bytes | Promise


@dataclass
class Allocation:
    """A block of device memory."""

    address: int
    size: int
    content: Content

    def read(self) -> bytes:
        """The bytes, worked out if need be."""
        if not isinstance(self.content, bytes):
            self.content = self.content.bytes()
        return self.content


@dataclass
class Stream:
    """Work in order. `ready_ns` is when all of it will be done."""

    handle: int
    ready_ns: int = 0


@dataclass
class Device:
    """Memory and streams of this process.

    Args:
        time: the board's time.
        total_bytes: memory of the board.
        usable_bytes: what of it programs may take.
    """

    time: BoardTime
    total_bytes: int
    usable_bytes: int
    allocations: dict[int, Allocation] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=lambda: {0: Stream(0)})
    epoch: int = 0
    _next: int = FIRST_ADDRESS

    def __post_init__(self) -> None:
        self.time.on_reset.append(self._forget)

    def _forget(self) -> None:
        for stream in self.streams.values():
            stream.ready_ns = 0

    def free_bytes(self) -> int:
        """What no process of the board holds."""
        return self.usable_bytes - memory_in_use(self.time.words)

    def reserve(self, size: int) -> None:
        """Takes memory without an address (weights, activations, workspace).

        Raises:
            OutOfMemoryError: there is not so much left.
        """
        if size > self.free_bytes():
            raise OutOfMemoryError(f"{size} bytes asked, {self.free_bytes()} free")
        self.time.hold_memory(size)

    def release(self, size: int) -> None:
        """Gives reserved memory back."""
        self.time.hold_memory(-size)

    def allocate(self, size: int) -> Allocation:
        """Takes a block.

        Raises:
            OutOfMemoryError: there is not so much left.
        """
        self.reserve(size)
        block = Allocation(self._next, size, bytes(size))
        self._next += -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self.allocations[block.address] = block
        self.epoch += 1
        return block

    def free(self, address: int) -> None:
        """Gives a block back; freeing what is not there does nothing."""
        block = self.allocations.pop(address, None)
        if block is not None:
            self.release(block.size)
            self.epoch += 1

    def block(self, address: int, size: int) -> tuple[Allocation, int]:
        """Finds the block that holds `size` bytes at an address, and the offset in it.

        Raises:
            BadAddressError: none does.
        """
        known = self.allocations.get(address)
        if known is not None and size <= known.size:
            return known, 0
        for base, each in self.allocations.items():
            if base <= address and address + size <= base + each.size:
                return each, address - base
        raise BadAddressError(f"no live allocation covers {size} bytes at {address:#x}")

    def write(self, address: int, data: bytes) -> None:
        """Replaces bytes at an address; promises made from the old ones keep them."""
        block, offset = self.block(address, len(data))
        if offset == 0 and len(data) == block.size:
            block.content = bytes(data)
        else:
            old = block.read()
            block.content = old[:offset] + bytes(data) + old[offset + len(data) :]

    def read(self, address: int, size: int) -> bytes:
        """Reads bytes, working out what was only promised."""
        block, offset = self.block(address, size)
        return block.read()[offset : offset + size]

    def copy(self, stream: Stream, size: int) -> None:
        """Lets a stream take the time of a copy."""
        start_ns = max(stream.ready_ns, self.time.words[NOW])
        stream.ready_ns = start_ns + COPY_NS + round(size / COPY_BYTES_PER_NS)

    def synchronize(self, stream: Stream) -> None:
        """Waits until the stream is done."""
        if stream.ready_ns > self.time.words[NOW]:
            self.time.reach(stream.ready_ns)

    def synchronizer(self, stream: Stream) -> Callable[[], None]:
        """The same as a function without arguments, for loops that measure."""
        words, reach = self.time.words, self.time.reach

        def wait() -> None:
            if stream.ready_ns > words[NOW]:
                reach(stream.ready_ns)

        return wait

    def new_stream(self) -> Stream:
        """Makes a stream."""
        stream = Stream(max(self.streams) + 0x10)
        self.streams[stream.handle] = stream
        return stream


@lru_cache(maxsize=1)
def device() -> Device:
    """The GPU of this process's board.

    Raises:
        RuntimeError: this process does not run on an emulated board.
    """
    time = boardtime.current()
    memory = time.client.call("condition")["memory"]
    return Device(time, memory["total_bytes"], memory["usable_bytes"])
