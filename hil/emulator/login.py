"""Who may log in to the emulated board, and what a session of theirs starts in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from hil.emulator.faults import Faults
from hil.emulator.hostile.quirks import NONE, Quirks


@dataclass(frozen=True)
class Login:
    """Who may come in, and what they find."""

    host_key: paramiko.PKey
    authorized: tuple[paramiko.PKey, ...]
    root: Path
    environment: Mapping[str, str]
    faults: Faults = field(default_factory=Faults)
    quirks: Quirks = NONE

    @property
    def home(self) -> Path:
        """The user's home on this host."""
        return self.root / self.quirks.home

    def shell(self, command: str | None = None) -> list[str]:
        """The login's shell as sshd starts it, which reads ~/.bashrc as bash does then."""
        words = ["/bin/sh"] if command is None else ["/bin/sh", "-c", command]
        if not (self.home / ".bashrc").is_file():
            return words
        rest = "exec /bin/sh" if command is None else command
        return ["/bin/sh", "-c", f'. "$HOME/.bashrc"\n{rest}']
