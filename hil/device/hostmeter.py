"""An external meter read by a program on this machine, beside a run on a board.

The program prints `time_s watts`, one reading a line, flushed. Lines are stamped with this
machine's monotonic clock as they arrive; points that tie that clock to the board's come from the
session, and `hil.measure.sources.clocks` lays one over the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Self

from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.core.tegrastats import LineReader

_CHUNK = 65536
_GRACE_S = 2.0
_TAIL_BYTES = 2000


class HostMeter:
    """One meter program; a context manager that never leaves it running.

    Args:
        argv: program and arguments, run without a shell.
        rail: what the meter's rail is called; None for the default.
        clock: this machine's monotonic clock in ns, read once for each line.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        rail: str | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._argv = tuple(argv)
        self._settings: dict[str, Any] = {"where": "host"} | ({"rail": rail} if rail else {})
        self._clock = clock
        self._lines: list[tuple[int, str]] = []
        self._first = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the program.

        Raises:
            MeasurementError: it cannot be started.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            self._errors.close()
            raise MeasurementError(
                "the meter's program cannot be started",
                why=str(error),
                fix="see power.command in the device file; it is looked for on this machine",
            ) from error
        self._thread = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._thread.start()

    def wait_first_line(self, seconds: float) -> bool:
        """Return whether a line has come, waiting at most that long."""
        return self._first.wait(seconds)

    def so_far(self, sync: Sequence[tuple[int, int, int]] = ()) -> PowerRecord:
        """Return what it has said until now; it goes on (see `stop`)."""
        settings = self._settings | {"sync": [list(row) for row in sync]}
        return PowerRecord("command", tuple(self._lines), self._argv, settings, clock="host")

    def stop(self, sync: Sequence[tuple[int, int, int]] = ()) -> PowerRecord:
        """End the program and return what it said.

        Args:
            sync: (host ns before, board ns, host ns after) of questions to the board's clock.

        Raises:
            MeasurementError: it said nothing.
        """
        status, said = self._end()
        if not self._lines:
            raise MeasurementError(
                "the meter's program gave no line",
                why=f"it ended with status {status}: {said}" if status is not None else said,
                fix=f"run `{' '.join(self._argv)}` by hand; it must print `time_s watts` and flush",
            )
        ended = {} if status is None else {"ended": status, "said": said}
        settings = self._settings | {"sync": [list(row) for row in sync]} | ended
        return PowerRecord("command", tuple(self._lines), self._argv, settings, clock="host")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        lines = LineReader()
        while chunk := os.read(process.stdout.fileno(), _CHUNK):
            for line in lines.feed(chunk.decode("utf-8", "replace")):
                self._lines.append((self._clock(), line))
                self._first.set()

    def _end(self) -> tuple[int | None, str]:
        """Return its status where it had ended by itself, and the end of what it complained of."""
        process, self._process = self._process, None
        if process is None or self._thread is None or self._errors is None:
            return None, ""
        by_itself = process.poll()
        if by_itself is None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive() and process.stdout is not None:
            process.stdout.close()
        self._errors.seek(0)
        said = self._errors.read()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        self._errors.close()
        return by_itself, said


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the whole group, so that a wrapper script takes its program along."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
