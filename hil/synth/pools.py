"""Work for several pools of which each does one thing at a time: what starts when, and who waits.

Rule of this file: a piece of work starts as soon as its pool is free, by priority alone. What
follows from a result is decided by whoever gave the work, one result at a time as they arrive; it
must not depend on the order in which they do.
"""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

PoolName = Literal["board", "trainer", "thinker"]
POOLS: tuple[PoolName, ...] = ("board", "trainer", "thinker")
Priority = tuple[int, ...]


@dataclass(order=True, frozen=True)
class Task:
    """One piece of work.

    Attributes:
        priority: the least goes first; no two tasks of a pool that wait together share one.
        pool: who does it.
        what: its kind and its subject, for whoever watches.
        work: done in the pool.
        then: told the result; may add tasks.
    """

    priority: Priority
    pool: PoolName = field(compare=False)
    what: tuple[str, ...] = field(compare=False)
    work: Callable[[], Any] = field(compare=False)
    then: Callable[[Any], None] = field(compare=False)


class Pools(Protocol):
    """Does tasks, one at a time a pool."""

    def start(self, task: Task, agenda: Agenda) -> None:
        """Start a task of an agenda in its pool, which is free."""
        ...

    def run(self, begin: Callable[[Agenda], None]) -> None:
        """Do what `begin` puts on an agenda and what comes of that; raises what work raises."""
        ...


class Agenda:
    """Tasks that wait for their pool."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._waiting: dict[PoolName, list[Task]] = {name: [] for name in POOLS}
        self._running: set[PoolName] = set()

    @property
    def empty(self) -> bool:
        """Whether nothing runs and so nothing waits either."""
        return not self._running

    def add(self, task: Task) -> None:
        """Add a task; it starts at once where its pool is free."""
        heapq.heappush(self._waiting[task.pool], task)
        self._start(task.pool)

    def finished(self, task: Task, result: Any) -> None:
        """Hear of a result; what follows may be more urgent than what waits, so it comes first."""
        task.then(result)
        self._running.discard(task.pool)
        self._start(task.pool)

    def _start(self, pool: PoolName) -> None:
        if pool not in self._running and self._waiting[pool]:
            self._running.add(pool)
            self._pools.start(heapq.heappop(self._waiting[pool]), self)


class Threads:
    """Pools as threads of this process; accounts for the time each was busy.

    The board's work is done by whoever calls `run`, so that a Ctrl-C ends a measurement in the way
    its session knows; the others finish what they are doing.
    """

    def __init__(self) -> None:
        self._inboxes = {name: queue.SimpleQueue[tuple[Task, Agenda] | None]() for name in POOLS}
        self._busy_s: dict[PoolName, float] = dict.fromkeys(POOLS, 0.0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._error: BaseException | None = None
        self._closed = False

    @property
    def busy_s(self) -> Mapping[PoolName, float]:
        """Wall seconds each pool has worked so far."""
        return dict(self._busy_s)

    @contextmanager
    def busy(self, pool: PoolName) -> Iterator[None]:
        """Account for work of a pool that is done where this is called."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self._busy_s[pool] += time.monotonic() - started_s

    def start(self, task: Task, agenda: Agenda) -> None:
        """Hand a task to its thread."""
        self._inboxes[task.pool].put((task, agenda))

    def run(self, begin: Callable[[Agenda], None]) -> None:
        """Do what `begin` puts on an agenda and what comes of that."""
        self._open()
        agenda = Agenda(self)
        with self._lock:
            begin(agenda)
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                if agenda.empty:
                    return
            given = self._inboxes["board"].get()  # or None: another pool has finished something
            if given is not None:
                self._do(*given)

    def _do(self, task: Task, agenda: Agenda) -> None:
        with self.busy(task.pool):
            result = task.work()
        with self._lock:
            if not self._closed:
                agenda.finished(task, result)

    def _open(self) -> None:
        for name in POOLS if not self._threads else ():
            if name != "board":
                # A daemon: a second Ctrl-C must not wait for a training.
                thread = threading.Thread(target=self._serve, args=(name,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, pool: PoolName) -> None:
        while (given := self._inboxes[pool].get()) is not None:
            try:
                self._do(*given)
            except BaseException as error:  # noqa: BLE001 - raised again by `run`
                self._error = error
                return
            finally:
                self._inboxes["board"].put(None)

    def close(self) -> None:
        """Wait for what is being done, and let nothing more begin."""
        with self._lock:
            self._closed = True
        for name in POOLS:
            self._inboxes[name].put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
