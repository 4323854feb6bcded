"""Content-addressed files in the agent's state folder, private to the user.

Layout: `incoming/` (uploads under way), `blobs/<sha256>`, `engines/<key>.json` (build cache),
`timing/` (TensorRT timing caches), `log/`. A blob appears whole and verified or not at all.
"""

import errno
import hashlib
import json
import os
import stat
import uuid

from . import checks
from .errors import AgentError

_FOLDERS = ("incoming", "blobs", "engines", "timing", "log")
_CHUNK = 1 << 20
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EDQUOT)


class Store:
    """The state folder. Every path comes from a checked name, so nothing outside is reachable."""

    def __init__(self, folder):
        self.folder = folder
        self.refused = None
        self.used = set()  # blobs that this session touched: they are never trimmed

    def prepare(self):
        """Creates the folders, readable by their owner alone; elsewhere where they cannot be.

        `refused` then says why not where they belong, and `folder` is where they are: a folder of
        our own in one for temporary files.

        Raises:
            OSError: there is no place for them.
        """
        try:
            _make(self.folder)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            self.folder, self.refused = _elsewhere(error), str(error)

    def path(self, *parts):
        """A path inside the state folder."""
        return os.path.join(self.folder, *parts)

    def blob_path(self, sha256):
        """Where the blob lies, present or not."""
        return self.path("blobs", checks.sha256(sha256))

    def size(self, sha256):
        """Bytes of the blob, None where it is absent."""
        try:
            return os.stat(self.blob_path(sha256)).st_size
        except FileNotFoundError:
            return None

    def require(self, sha256, what):
        """Path of a blob that must be here.

        Raises:
            AgentError: `bad_request` where it is absent.
        """
        if self.size(sha256) is None:
            raise checks.bad(
                "%s %s is not on the board" % (what, sha256[:12]),
                "send it (or build the engine) again",
            )
        path = self.blob_path(sha256)
        os.utime(path)  # the time of last use
        self.used.add(sha256)
        return path

    def clean(self):
        """Removes all blobs, engines and timing caches; returns (files, bytes) removed.

        What waits to be given back to the board (`restore.json`) and the logs stay.
        """
        files = size = 0
        for folder in ("incoming", "blobs", "engines", "timing"):
            for name in sorted(os.listdir(self.path(folder))):
                path = self.path(folder, name)
                size += os.lstat(path).st_size
                os.unlink(path)
                files += 1
        return files, size

    def fresh(self):
        """Path for a file that is being made; commit it with `adopt` or remove it."""
        return self.path("incoming", "agent-%s" % uuid.uuid4().hex)

    def commit(self, name, sha256):
        """Takes an upload in: verifies, then renames it into place.

        Raises:
            AgentError: `bad_request` where there is no such upload, `checksum` where its content
                is not what was promised (the upload is removed).
        """
        source = self.path("incoming", checks.file_name(name))
        target = self.blob_path(sha256)
        try:
            found = _digest(source)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR):
                raise checks.bad("there is no upload named %s" % name)
            raise
        if found != sha256:
            os.unlink(source)
            raise AgentError(
                "checksum",
                "the upload %s is damaged" % name,
                "its sha256 is %s, expected %s" % (found, sha256),
                "send it again; check the link and the board's disk",
            )
        os.chmod(source, 0o600)
        os.utime(source)
        os.rename(source, target)
        self.used.add(sha256)

    def append(self, name, offset, data):
        """Writes a piece of an upload; the first one, at 0, begins it anew.

        Raises:
            AgentError: `bad_request` where the piece before is missing.
        """
        path = self.path("incoming", checks.file_name(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path, flags | (0 if offset else os.O_TRUNC), 0o600)
        try:
            with os.fdopen(handle, "ab") as file:
                if file.tell() != offset:
                    raise checks.bad("the upload %s does not reach to %d" % (name, offset))
                file.write(data)
        except OSError:
            remove(path)  # half a file helps nobody, and a full disk needs the room
            raise

    def piece(self, sha256, offset, most):
        """At most that many bytes of a blob, from an offset on."""
        with open(self.require(sha256, "the file"), "rb") as file:
            file.seek(offset)
            return file.read(most)

    def adopt(self, path):
        """Takes in a file made on the board; returns its sha256."""
        found = _digest(path)
        os.chmod(path, 0o600)
        os.rename(path, self.blob_path(found))
        self.used.add(found)
        return found

    def read_json(self, *parts):
        """A JSON object from the state folder; None where absent or damaged."""
        try:
            with open(self.path(*parts), encoding="utf-8") as file:
                data = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def write_json(self, data, *parts):
        """Writes a JSON object so that a crash leaves the old one or the new one."""
        path = self.path(*parts)
        temporary = self.fresh()
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(data, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except OSError:
            remove(temporary)
            raise
        _sync_folder(os.path.dirname(path))


def _make(folder):
    for path in [folder] + [os.path.join(folder, name) for name in _FOLDERS]:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
    probe = os.path.join(folder, "incoming", ".probe")
    with open(probe, "wb") as file:  # a folder that was made before the disk became read-only
        file.write(b"?")
    remove(probe)


def _elsewhere(error):
    """A folder of our own that can be written; raises `error` where there is none."""
    for base in filter(None, (os.environ.get("TMPDIR"), "/var/tmp", "/tmp")):
        ours = os.path.join(base, "hil-%d" % os.getuid())
        try:
            os.makedirs(ours, mode=0o700, exist_ok=True)
            about = os.lstat(ours)
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid():
                os.chmod(ours, 0o700)
                _make(os.path.join(ours, ".hil"))
                return os.path.join(ours, ".hil")
        except OSError:
            continue
    raise error


def remove(path):
    """Removes a file; its absence is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _digest(path):
    """SHA-256 of a plain file, which is on the disk for good when this returns."""
    digest = hashlib.sha256()
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EISDIR, "not a plain file", path)
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
        os.fsync(handle)
    return digest.hexdigest()


def _sync_folder(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
