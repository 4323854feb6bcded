"""What a library printed to this process's stderr, where stderr is a file.

TensorRT's logger prints; the worker's stderr is a file opened to be read as well, so what the
builder said can be sent home with its result.
"""

import os
import stat

_LIMIT_BYTES = 65536
_LIMIT_LINES = 40


class StderrLog:
    """The lines printed since this was made, or all of them."""

    def __init__(self, whole=False, handle=2):
        self._handle = handle
        self._start = 0 if whole else self._size()

    def lines(self):
        """The last lines, repeated ones once; empty where stderr cannot be read back."""
        size = self._size()
        if size <= self._start:
            return []
        start = max(self._start, size - _LIMIT_BYTES)
        try:
            data = os.pread(self._handle, size - start, start)
        except OSError:
            return []
        seen = []
        for line in data.decode("utf-8", "replace").splitlines():
            if line.strip() and line.strip() not in seen:
                seen.append(line.strip())
        return seen[-_LIMIT_LINES:]

    def _size(self):
        about = os.fstat(self._handle)
        return about.st_size if stat.S_ISREG(about.st_mode) else 0
