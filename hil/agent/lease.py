"""One holder of the board at a time, for a limited time.

The lease file is shared by every user of the board: rewritten in place under `flock`, so its
name always means the same file. A lease of another boot, or past its time on CLOCK_BOOTTIME,
may be taken by anyone.
"""

import errno
import fcntl
import json
import os
import time
import uuid

from .clock import boottime_s
from .errors import AgentError

# assumes: lease-folder
RELATIVE_PATH = "run/lock/hil-board.lease"
_RENEW_EVERY_S = 1.0


class Lease:
    """This agent's claim on the board."""

    def __init__(self, root, boot_id, clock=boottime_s):
        self._path = os.path.join(root, RELATIVE_PATH)
        self._boot_id = boot_id
        self._clock = clock
        self._id = None
        self._ttl_s = 0.0
        self._written_s = 0.0

    def acquire(self, owner, ttl_s, steal_reason=None):
        """Takes the lease, or renews it where this agent has it.

        Raises:
            AgentError: `lease_held` where another holder's time is not over and nobody gave a
                reason to take it away.
        """
        with _Locked(self._path) as file:
            held = self._valid(file.read())
            if held is not None and held["lease_id"] != self._id and not steal_reason:
                raise self._refusal(held)
            renewed = held is not None and held["lease_id"] == self._id
            self._id = self._id if renewed else uuid.uuid4().hex
            self._ttl_s = ttl_s
            record = {
                "owner": owner,
                "lease_id": self._id,
                "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
                "pid": os.getpid(),
            }
            if held is not None and not renewed:
                record["taken_from"] = held["owner"]
                record["taken_because"] = steal_reason
            self._write(file, record)
        return {"lease_id": self._id, "expires_in_s": ttl_s}

    def renew(self):
        """Starts the lease's time anew; cheap when called often.

        Returns:
            False where somebody else took the lease (it is then no longer ours).
        """
        if self._id is None or self._clock() - self._written_s < _RENEW_EVERY_S:
            return True
        with _Locked(self._path) as file:
            record = file.read()
            if record is None or record.get("lease_id") != self._id:
                self._id = None
                return False
            self._write(file, record)
        return True

    def held(self):
        """True while the file says that the lease is this agent's."""
        if self._id is None:
            return False
        with _Locked(self._path) as file:
            record = self._valid(file.read())
        return record is not None and record["lease_id"] == self._id

    def require(self):
        """Demands the lease.

        Raises:
            AgentError: `lease_lost`.
        """
        if not self.held():
            self._id = None
            raise AgentError(
                "lease_lost",
                "this session does not hold the board",
                "the lease was never taken, ran out or was taken over",
                "take the lease again, then repeat the measurement",
            )

    def release(self):
        """Gives the lease back; does nothing where it is not ours."""
        if self._id is None:
            return
        with _Locked(self._path) as file:
            record = file.read()
            if record is not None and record.get("lease_id") == self._id:
                file.write(None)
        self._id = None

    def status(self):
        """Who holds the board now, this agent included."""
        with _Locked(self._path) as file:
            record = self._valid(file.read())
        if record is None:
            return {"held": False, "owner": None, "expires_in_s": None}
        left_s = record["expires"] - self._clock()
        return {"held": True, "owner": record["owner"], "expires_in_s": left_s}

    def _write(self, file, record):
        now_s = self._clock()
        file.write(dict(record, boot_id=self._boot_id, expires=now_s + self._ttl_s))
        self._written_s = now_s

    def _valid(self, record):
        """The record while it binds anyone, else None."""
        if record is None or record.get("boot_id") != self._boot_id:
            return None
        expires = record.get("expires")
        if not isinstance(expires, (int, float)) or expires <= self._clock():
            return None
        known = isinstance(record.get("owner"), str) and isinstance(record.get("lease_id"), str)
        return record if known else None

    def _refusal(self, held):
        left_s = held["expires"] - self._clock()
        return AgentError(
            "lease_held",
            "the board is held by %s since %s, expires in %.0f s"
            % (held["owner"], held.get("since", "an unknown time"), left_s),
            "one measurement at a time keeps figures honest",
            "wait (--wait 30m), or ask %s; `hil device unlock` takes it over" % held["owner"],
        )


class _Locked:
    """The lease file, open and exclusively locked for one look or change."""

    def __init__(self, path):
        self._path = path
        self._handle = None

    def __enter__(self):
        self._handle = _open_shared(self._path)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        os.close(self._handle)

    def read(self):
        """The record, None where the file is empty or damaged (damage holds nobody up)."""
        try:
            data = json.loads(os.pread(self._handle, 65536, 0).decode("utf-8"))
        except ValueError:
            return None
        return data if isinstance(data, dict) else None

    def write(self, record):
        """Replaces the record; None empties the file."""
        data = b"" if record is None else json.dumps(record, sort_keys=True).encode("ascii")
        os.pwrite(self._handle, data, 0)
        os.ftruncate(self._handle, len(data))


def _open_shared(path):
    """Opens the file for every user of the board; creating it comes second.

    Kernels with protected_regular refuse O_CREAT on another user's file in a sticky folder, so
    an existing file is opened without it. Symbolic links are never followed.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EROFS):
            raise
        raise AgentError(
            "not_permitted",
            "the lease file %s cannot be made" % path,
            str(error),
            "create the folder: sudo install -d -m 1777 %s" % os.path.dirname(path),
        )
    os.fchmod(handle, 0o666)  # the umask must not lock other users out
    return handle
