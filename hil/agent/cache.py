"""Keeps what builds leave on the board within a limit: engines, networks, timing caches.

What this session touched is never removed; beyond that, what was longest not used goes first.
A file's time of last use is its modification time, which `Store` renews.
"""

import os

from . import blobs

LIMIT_BYTES = 8 << 30
"""Blobs that may stay after a build; a TX2 has 32 GB of flash in all."""
TIMING_LIMIT_BYTES = 64 << 20
"""Timing caches that may stay: a network's is some 100 kB, but they grow with every network."""


class Cache:
    """The removable part of the state folder."""

    def __init__(self, store):
        self._store = store

    def trim(self, limit_bytes=LIMIT_BYTES, unused=False):
        """Removes files until the rest fits.

        Args:
            limit_bytes: blobs that may stay, in bytes.
            unused: also remove what no build record names, and uploads that came to nothing.

        Returns:
            {"files", "bytes"} removed and {"kept_bytes"}: blobs and timing caches that stay.
        """
        gone = self._abandoned() if unused else []
        gone += self._over(limit_bytes, set(gone))
        gone += self._timing_over(min(limit_bytes, TIMING_LIMIT_BYTES))
        freed = sum(_remove(path) for path in gone)
        gone += self._lone_records()
        kept = sum(size for folder in ("blobs", "timing") for _, size, _ in self._files(folder))
        return {"files": len(gone), "bytes": freed, "kept_bytes": kept}

    def _abandoned(self):
        """Paths of blobs in no record and of uploads that nobody finished."""
        named = set()
        for record in self._records().values():
            named.update({record.get("engine"), record.get("onnx")})
        # Whoever cleans holds the lease and uploads nothing meanwhile.
        found = [path for _, _, path in self._files("incoming")]
        for _, _, path in self._files("blobs"):
            sha256 = os.path.basename(path)
            if sha256 not in named and sha256 not in self._store.used:
                found.append(path)
        return found

    def _over(self, limit_bytes, gone):
        """Paths of the blobs that were used longest ago, as many as are too many."""
        files = [one for one in self._files("blobs") if one[2] not in gone]
        total = sum(size for _, size, _ in files)
        found = []
        for _, size, path in files:
            if total <= limit_bytes:
                break
            if os.path.basename(path) not in self._store.used:
                found.append(path)
                total -= size
        return found

    def _timing_over(self, limit_bytes):
        files = self._files("timing")
        total = sum(size for _, size, _ in files)
        found = []
        for _, size, path in files:
            if total > limit_bytes:
                found.append(path)
                total -= size
        return found

    def _lone_records(self):
        """Removes the records of engines that are gone; returns their paths."""
        lone = []
        for name, record in self._records().items():
            if record.get("engine") is None or not self._has(record["engine"]):
                path = self._store.path("engines", name)
                blobs.remove(path)
                lone.append(path)
        return lone

    def _has(self, sha256):
        return os.path.exists(self._store.path("blobs", os.path.basename(sha256)))

    def _records(self):
        """{file name: build record}; a damaged one reads as empty."""
        names = sorted(os.listdir(self._store.path("engines")))
        return {name: self._store.read_json("engines", name) or {} for name in names}

    def _files(self, folder):
        """[(last used, bytes, path)], the longest unused first."""
        found = []
        for name in os.listdir(self._store.path(folder)):
            path = self._store.path(folder, name)
            try:
                about = os.lstat(path)
            except FileNotFoundError:
                continue  # an upload that was just finished
            found.append((about.st_mtime, about.st_size, path))
        return sorted(found)


def _remove(path):
    try:
        size = os.lstat(path).st_size
    except FileNotFoundError:
        return 0
    blobs.remove(path)
    return size
