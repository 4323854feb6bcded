"""Every error a person can meet: what happened, why, what to do next, and whose fault it is.

Rule of this file: a class says who must act, and with it the exit code. The table of exit codes
is the command line's contract; only `hil.cli` turns an error into an exit.
"""

from __future__ import annotations

from typing import ClassVar


class ExitCode:
    """Exit codes of every verb (see `hil --help`)."""

    GOOD = 0
    LIMIT_VIOLATED = 1
    USAGE = 2
    BOARD = 3
    LEASE_TIMEOUT = 4
    MEASUREMENT = 5
    EXPORT = 6
    PARITY = 7
    HOST = 8
    INTERNAL = 70
    INTERRUPTED = 130


class Told(BaseException):
    """What a person is told instead of a traceback: one sentence, why, and the next step.

    Args:
        what: what happened, one sentence without a trailing full stop.
        why: the evidence, or None where there is none.
        fix: the next step for the person, or None.
    """

    exit_code: ClassVar[int] = ExitCode.INTERNAL

    def __init__(self, what: str, *, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"because {self.why}")
        if self.fix:
            parts.append(f"next: {self.fix}")
        return "; ".join(parts)


class HilError(Told, Exception):
    """Base of every expected failure."""


class ConfigError(HilError):
    """The author of a file or of a command line must act."""

    exit_code = ExitCode.USAGE


class DeviceError(HilError):
    """The bench must act: unreachable, refused, unhealthy board."""

    exit_code = ExitCode.BOARD


class LeaseTimeoutError(HilError):
    """Somebody else holds the board."""

    exit_code = ExitCode.LEASE_TIMEOUT


class MeasurementError(HilError):
    """Physics or the sensor: no power source, no samples, nothing that may be called a figure."""

    exit_code = ExitCode.MEASUREMENT


class ExportError(HilError):
    """The network: cannot be exported, or the target's TensorRT refuses it."""

    exit_code = ExitCode.EXPORT


class ParityError(HilError):
    """The exported network or the engine computes something else than the original."""

    exit_code = ExitCode.PARITY


class HostError(HilError):
    """This host: disk full, store damaged."""

    exit_code = ExitCode.HOST


class NothingFeasibleError(HilError):
    """No network met the requirements; the search itself worked."""

    exit_code = ExitCode.LIMIT_VIOLATED


class LimitViolatedError(HilError):
    """A limit that was asked for is broken; the measurement itself is sound."""

    exit_code = ExitCode.LIMIT_VIOLATED


class InterruptedRunError(Told):
    """Ctrl-C or SIGTERM; the run is checkpointed.

    No `Exception`, for the reason that KeyboardInterrupt is none: it is raised wherever the main
    thread happens to be, and a library that handles every exception there would swallow it
    (paramiko turns what is raised while it writes to a socket into an end of file).
    """

    exit_code = ExitCode.INTERRUPTED


class ProtocolError(HilError):
    """Our fault: host and agent disagree about the wire."""

    exit_code = ExitCode.INTERNAL
