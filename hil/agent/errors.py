"""What the agent may answer instead of a result: one code from a closed list, said in words.

Rule of this file: every failure that crosses the wire is an `AgentError`; anything else that
reaches a boundary is turned into one here (`from_exception`), so the agent itself lives on.
"""

import errno
import os
import traceback

CODES = frozenset(
    (
        "protocol bad_request busy cancelled lease_held lease_lost checksum disk_full unwritable"
        " not_permitted board_state no_runtime no_power unsupported_opset unsupported_operator"
        " parse_failed build_failed unknown_shape out_of_memory worker_died timeout internal"
    ).split()
)

_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_ROOM_KIB = 65536
_FULL = (errno.ENOSPC, errno.EDQUOT)


class AgentError(Exception):
    """An expected failure: `code` for programs, `message`, `why` and `fix` for people."""

    def __init__(self, code, message, why=None, fix=None):
        if code not in CODES:
            raise ValueError("unknown error code: %r" % (code,))
        super().__init__(message)
        self.code = code
        self.message = message
        self.why = why
        self.fix = fix

    def as_dict(self):
        """The `error` member of a response."""
        return {"code": self.code, "message": self.message, "why": self.why, "fix": self.fix}


def from_dict(data):
    """Reads what `as_dict` wrote; an unknown code (a newer worker) becomes `internal`."""
    code = data.get("code")
    return AgentError(
        code if code in CODES else "internal",
        str(data.get("message")),
        data.get("why"),
        data.get("fix"),
    )


def from_exception(error):
    """Names any exception: itself, `disk_full`, `out_of_memory`, or `internal` with its origin."""
    if isinstance(error, AgentError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return AgentError(
            "disk_full",
            "the board's disk is full",
            "; ".join(filter(None, (str(error), _room(error.filename)))),
            "free space on the board, then run again; `hil device clean` empties the agent's cache",
        )
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return AgentError(
            "unwritable",
            "%s cannot be written on the board" % (error.filename or "a file"),
            "; ".join(filter(None, (str(error), _room(error.filename)))),
            "make it writable for the login, or free the login's quota",
        )
    # CUDA wrappers raise their own classes; what they share is the driver's wording.
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return AgentError(
            "out_of_memory",
            "the board ran out of memory",
            str(error) or type(error).__name__,
            "close other programs on the board, or use a smaller network or workspace",
        )
    return AgentError(
        "internal", "%s: %s" % (type(error).__name__, error), _origin(error), "report this"
    )


def mount_of(path):
    """The folder that the file system of a path is mounted on."""
    path = os.path.abspath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _room(path):
    """What is left where a path lies, for people; None where that cannot be told."""
    try:
        mount = mount_of(path if isinstance(path, str) else os.path.expanduser("~"))
        about = os.statvfs(mount)
    except OSError:
        return None
    free_kib = about.f_bavail * about.f_frsize // 1024
    told = "%s has %d KiB left" % (mount, free_kib)
    return told if free_kib < _ROOM_KIB else told + ": a quota or its inodes may be used up"


def _origin(error):
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join("%s:%s" % (frame[0].split("/")[-1], frame[1]) for frame in frames[::-1][:6])
