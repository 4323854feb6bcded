"""A run on disk: one SQLite journal of finished steps beside content-addressed files.

Rule of this file: a step is written once, whole, or not at all. The synthesis loop is a
deterministic function of its seed and of what the steps returned, so resuming is running it
again: finished steps answer from the journal, and nothing expensive is done twice.

Format history: hil/run@1 (first).
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from hil.core.errors import ConfigError, HostError

SCHEMA = "hil/run@1"
DATABASE = "run.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS steps (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, key)
);
"""


@dataclass(frozen=True)
class Step:
    """One finished step: what kind of work, on what, and what came of it."""

    seq: int
    kind: str
    key: str
    value: Mapping[str, Any]


@contextmanager
def _host_faults(path: Path) -> Iterator[None]:
    """Say in our words what this host's disk or database cannot do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostError(
                f"the disk that holds {path} is full",
                why=str(error),
                fix="free space there, then continue with: hil synthesize --resume " + str(path),
            ) from error
        raise HostError(f"cannot write the run at {path}", why=str(error)) from error
    except sqlite3.DatabaseError as error:
        full = "full" in str(error)
        raise HostError(
            f"the disk that holds {path} is full" if full else f"the journal of {path} is damaged",
            why=str(error),
            fix=(
                f"free space there, then continue with: hil synthesize --resume {path}"
                if full
                else "restore the folder from a copy; files under blobs/ are named by their hash"
            ),
        ) from error


class RunStore:
    """The journal and files of one run; one process writes, any number may read.

    `step` may be called from several threads of the writing process.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[str] | None) -> None:
        self.path = path
        self._connection = connection
        self._file_lock = lock
        self._mutex = threading.Lock()

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any]) -> Self:
        """Start a run in a folder that does not hold one yet.

        Raises:
            ConfigError: the folder already holds a run.
            HostError: it cannot be written.
        """
        if (path / DATABASE).exists():
            raise ConfigError(
                f"{path} already holds a run",
                fix=f"continue it with --resume {path}, or name another folder with --run",
            )
        with _host_faults(path):
            (path / "blobs").mkdir(parents=True, exist_ok=True)
            store = cls._connect(path)
            store._write_meta({"schema": SCHEMA, **meta})
        return store

    @classmethod
    def open(cls, path: Path, *, write: bool = True) -> Self:
        """Open a run to continue it, or (`write=False`) to read it beside whoever writes.

        Raises:
            ConfigError: there is no run at that path, or its format is newer than this program.
            HostError: the journal is damaged, or another process writes to it.
        """
        if not (path / DATABASE).is_file():
            raise ConfigError(
                f"there is no run at {path}",
                fix="name the folder that `hil synthesize` printed (default: a folder in ./runs)",
            )
        with _host_faults(path):
            store = cls._connect(path) if write else cls._reader(path)
            schema = store.meta.get("schema")
        if schema != SCHEMA:
            store.close()
            raise ConfigError(
                f"the run at {path} is of format {schema}, this program reads {SCHEMA}",
                fix="use the version of hil that wrote it, or a newer one",
            )
        return store

    @classmethod
    def _connect(cls, path: Path) -> Self:
        lock = (path / "lock").open("a", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise HostError(
                f"another process is working on the run at {path}",
                fix="wait for it, or stop it with Ctrl-C; it checkpoints",
            ) from error
        connection = sqlite3.connect(path / DATABASE, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_TABLES)
        except sqlite3.DatabaseError:
            connection.close()
            lock.close()
            raise
        return cls(path, connection, lock)

    @classmethod
    def _reader(cls, path: Path) -> Self:
        uri = (path / DATABASE).resolve().as_uri() + "?mode=ro"
        return cls(path, sqlite3.connect(uri, uri=True, check_same_thread=False), None)

    @property
    def meta(self) -> dict[str, Any]:
        """What the run was started with: seed, profile, device, versions."""
        rows = self._connection.execute("SELECT name, value FROM meta")
        return {name: json.loads(value) for name, value in rows}

    def _write_meta(self, values: Mapping[str, Any]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO meta (name, value) VALUES (?, ?)",
                [(name, _canonical(value)) for name, value in values.items()],
            )

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return what that step returned when it finished, or None if it never did."""
        with self._mutex:
            row = self._connection.execute(
                "SELECT value FROM steps WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def step(self, kind: str, key: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the recorded result of a step, or do it now and record it.

        The result is read back from its JSON form either way, so a resumed run sees exactly
        the values an uninterrupted one saw.
        """
        done = self.find(kind, key)
        if done is not None:
            return done
        text = _canonical(compute())
        with self._mutex, _host_faults(self.path), self._connection:
            self._connection.execute(
                "INSERT INTO steps (kind, key, value) VALUES (?, ?, ?)", (kind, key, text)
            )
        return dict(json.loads(text))

    def steps(self, kind: str | None = None) -> list[Step]:
        """Return finished steps in the order they were recorded."""
        with self._mutex:
            rows = self._connection.execute(
                "SELECT seq, kind, key, value FROM steps WHERE kind = coalesce(?, kind)"
                " ORDER BY seq",
                (kind,),
            ).fetchall()
        return [Step(seq, kind_, key, json.loads(value)) for seq, kind_, key, value in rows]

    def put_blob(self, data: bytes) -> str:
        """Keep bytes under their sha256, atomically; return it."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.blob_path(sha256)
        if target.exists():
            return sha256
        with _host_faults(self.path):
            temporary = target.with_name(f".{sha256}.{uuid.uuid4().hex}")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return sha256

    def put_json(self, value: Mapping[str, Any]) -> str:
        """Keep a large JSON object compressed; the bytes depend on the value alone."""
        return self.put_blob(gzip.compress(_canonical(value).encode(), compresslevel=6, mtime=0))

    def blob_path(self, sha256: str) -> Path:
        """Return where those bytes are (or would be)."""
        return self.path / "blobs" / sha256

    def blob(self, sha256: str) -> bytes:
        """Return bytes by hash.

        Raises:
            HostError: they are missing or no longer what their name says.
        """
        try:
            data = self.blob_path(sha256).read_bytes()
        except OSError as error:
            raise HostError(f"a file of the run is missing: blobs/{sha256}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HostError(
                f"a file of the run is damaged: blobs/{sha256}",
                why="its bytes no longer match the hash in its name",
                fix="delete that file; what can be made again is made again on --resume",
            )
        return data

    def json_blob(self, sha256: str) -> dict[str, Any]:
        """Return what `put_json` kept."""
        return dict(json.loads(gzip.decompress(self.blob(sha256))))

    def close(self) -> None:
        """Release the run; safe to call twice."""
        self._connection.close()
        if self._file_lock is not None:
            self._file_lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
