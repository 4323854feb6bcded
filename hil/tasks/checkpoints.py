"""A training's state on disk, so that one that was cut off goes on where it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

EVERY_S = 60.0


@dataclass
class Checkpoint:
    """Where one training is kept; written no more than once in `every_s` seconds.

    Attributes:
        path: of the file; its folder is made when it is first written.
        every_s: seconds between two writings at least.
        clock: tells seconds.
    """

    path: Path
    every_s: float = EVERY_S
    clock: Callable[[], float] = time.monotonic
    _last_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Start counting."""
        self._last_s = self.clock()

    def load(self) -> dict[str, Any] | None:
        """The state that was kept; None where there is none. Nothing but plain data is read."""
        if not self.path.exists():
            return None
        return dict(torch.load(self.path, map_location="cpu", weights_only=True))

    def save(self, state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Keep a state if it is time; the last one needs no keeping, and clears the file."""
        if last:
            self.path.unlink(missing_ok=True)
            return
        if self.clock() - self._last_s < self.every_s:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        torch.save(state(), fresh)
        os.replace(fresh, self.path)
        self._last_s = self.clock()
