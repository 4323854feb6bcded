"""An .npy file written row by row, its length known only in the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hil.tasks.readers.reading import Pixels


class GrowingArray:
    """uint8 rows of one shape, appended to a file that `np.load` can read once closed.

    NumPy pads the header of the format, so that the true length fits where 1 stood.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._row: tuple[int, ...] | None = None
        self._rows = 0
        self._begin = 0

    def append(self, row: Pixels) -> None:
        """Write one more row.

        Raises:
            ValueError: it is of another shape than the first.
        """
        if self._row is None:
            self._row = row.shape
            self._begin = self._header(1)
        if row.shape != self._row:
            raise ValueError(f"a row of shape {row.shape} among rows of {self._row}")
        self._file.write(row.tobytes())
        self._rows += 1

    def close(self, empty: tuple[int, ...]) -> None:
        """Finish the file.

        Args:
            empty: shape of a row where there was none.
        """
        self._row = self._row or empty
        if self._header(self._rows) != self._begin and self._rows:
            raise ValueError("the header outgrew its room")
        self._file.close()

    def _header(self, rows: int) -> int:
        """Write the header; returns where the rows begin."""
        self._file.seek(0)
        shape = (rows, *(self._row or ()))
        fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, fields)
        return self._file.tell()
