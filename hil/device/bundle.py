"""The agent as one file: a zipapp named by its hash, the same bytes on every machine.

Stored, not compressed (zlib releases differ), names sorted, one fixed time stamp and mode.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

AGENT_SOURCES = Path(__file__).parents[1] / "agent"
PACKAGE = "hil_agent"
MAIN = """\
import sys

from hil_agent.main import main

sys.exit(main(sys.argv[1:]))
"""
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
_UNIX = 3
_SHA256SUM = re.compile(r"^\\?([0-9a-f]{64}) [ *]", re.MULTILINE)
_REGULAR_0644 = 0o100644 << 16


@dataclass(frozen=True)
class Bundle:
    """A zipapp and its hash."""

    data: bytes
    sha256: str

    @property
    def file_name(self) -> str:
        """The name it has on every board."""
        return f"{self.sha256}.pyz"


@cache
def agent_bundle() -> Bundle:
    """Return the agent of this release."""
    return bundle_of(AGENT_SOURCES)


def bundle_of(sources: Path) -> Bundle:
    """Build the zipapp of a folder's Python files as package `hil_agent`."""
    files = {f"{PACKAGE}/{path.name}": path.read_bytes() for path in sources.glob("*.py")}
    data = zip_bytes({**files, "__main__.py": MAIN.encode("ascii")})
    return Bundle(data, hashlib.sha256(data).hexdigest())


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files that depends on their names and bytes alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _REGULAR_0644
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def hash_told(text: str) -> str | None:
    """The hash in what `sha256sum FILE` printed last, whatever a login shell said before."""
    told = _SHA256SUM.findall(text)
    return str(told[-1]) if told else None
