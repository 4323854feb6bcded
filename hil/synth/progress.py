"""How the synthesis tells whoever watches what it is doing; it never prints."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told of stages in order; `advance` counts within the stage that is open."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins; it has `total` pieces of work of about equal size."""

    def advance(self, note: str = "") -> None:
        """One piece of work of the open stage is done."""


class Silent:
    """Watches and says nothing."""

    def stage(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, note: str = "") -> None:
        """Do nothing."""
