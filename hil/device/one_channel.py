"""Reaching a board over one channel at a time: no SFTP, MaxSessions 1, a home that is read-only.

The agent is written by `cat` and checked by `sha256sum`; once it runs, files travel through its own
requests, so that no second channel is ever needed. Where the login's home cannot be written, the
first folder of its own that can be takes its place.

Rule of this file: scripts are fixed text; what the board says is only ever quoted back to it.
"""

from __future__ import annotations

import base64
import shlex
import uuid
from dataclasses import dataclass

from hil.core.errors import DeviceError
from hil.device.board_files import STATE
from hil.device.bundle import Bundle, hash_told
from hil.device.client import AgentClient
from hil.device.ssh_channels import InputShell

CHUNK_BYTES = 1 << 20
NEEDED_BYTES = 8 << 20
"""Room for the agent and the first small engine: less is a full disk."""
_FOLDER = "hil-folder "
_MOUNT = "hil-mount "
_FIND_FOLDER = f"""\
LC_ALL=C; export LC_ALL; umask 077
try() {{
  mkdir -p "$1" 2>/dev/null
  if [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && mkdir -p "$1/{STATE}" 2>/dev/null &&
    head -c {NEEDED_BYTES} /dev/zero 2>/dev/null > "$1/{STATE}/.room"; then
    rm -f "$1/{STATE}/.room"; printf '\\n{_FOLDER}%s\\n' "$1"; exit 0
  fi
  rm -f "$1/{STATE}/.room" 2>/dev/null
}}
try "$HOME"
for folder in "$TMPDIR" /var/tmp /tmp; do [ -n "$folder" ] && try "$folder/hil-$(id -u)"; done
df -Pk "$HOME" | sed -n '$s/^/{_MOUNT}/p'
exit 1
"""
_PYTHON = "hil-python "
_FIND_PYTHON = f"""\
try() {{
  if [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 6))'; then
    printf '\\n{_PYTHON}%s\\n' "$1"; exit 0
  fi
}}
for minor in 6 7 8 9 10 11 12 13 14; do try "$(command -v python3.$minor)"; done
for python in /usr/bin/python3 /usr/local/bin/python3 /bin/python3 /opt/python3/bin/python3; do
  try "$python"
done
exit 1
"""


@dataclass(frozen=True)
class Place:
    """Where the agent lies: its state folder's parent, and its file; both absolute."""

    home: str
    path: str
    is_home: bool


def settle(shell: InputShell, bundle: Bundle, where: str) -> Place:
    """Put the agent into a folder of the board that can be written, whole and verified.

    Raises:
        DeviceError: nowhere is room, the link is lost, or the bytes arrive damaged.
    """
    home, is_home = _folder(shell, where)
    folder = f"{home}/{STATE}/agent"
    path = f"{folder}/{bundle.file_name}"
    if _sha256(shell, path) != bundle.sha256:
        fresh = f"{folder}/.tmp.{uuid.uuid4().hex}"
        told = shlex.quote(fresh)
        shell.run(f"umask 077; mkdir -p {shlex.quote(folder)} && cat > {told}", given=bundle.data)
        arrived = _sha256(shell, fresh)
        if arrived != bundle.sha256:
            shell.run(f"rm -f {told}")
            raise DeviceError(
                f"the agent arrived damaged on {where}",
                why=f"sha256 {arrived or 'unknown'} there, {bundle.sha256} here",
                fix="check that `sha256sum` runs on the board and its disk is sound",
            )
        shell.run(f"mv -f {told} {shlex.quote(path)}")
    return Place(home, path, is_home)


def _folder(shell: InputShell, where: str) -> tuple[str, bool]:
    done = shell.run(_FIND_FOLDER)
    found = _after(_FOLDER, done.out)
    if found is not None:
        home = _after("hil-home ", shell.run("printf '\\nhil-home %s\\n' \"$HOME\"").out)
        return found, found == home
    why = "no folder of its own can be written there"
    fields = (_after(_MOUNT, done.out) or "").split()
    if len(fields) >= 6 and fields[3].isdigit():
        mount, free_kib = fields[5], int(fields[3])
        why = f"{mount}, which holds the login's home, has {free_kib} KiB free, "
        why += f"{NEEDED_BYTES >> 10} KiB are needed; /var/tmp and /tmp do not take them either"
    raise DeviceError(
        f"nothing can be written on {where}",
        why=why,
        fix="free space on the board (`hil device clean`), or make the login's home writable",
    )


def other_python(shell: InputShell) -> str | None:
    """Return a Python 3.6 or later that is not on the login's PATH; None where none is found."""
    return _after(_PYTHON, shell.run(_FIND_PYTHON).out)


def _sha256(shell: InputShell, path: str) -> str | None:
    done = shell.run(f"printf '\\n'; sha256sum {shlex.quote(path)}")
    return hash_told(done.out) if done.status == 0 else None


def _after(word: str, text: str) -> str | None:
    """Return the rest of the last line that begins with a word of ours, whatever greets before."""
    found = [line[len(word) :] for line in text.splitlines() if line.startswith(word)]
    return found[-1] if found else None


class AgentFiles:
    """Files of a board through its agent's own requests."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client

    def upload(self, data: bytes) -> str:
        """Write bytes under a fresh name in .hil/incoming; return that name."""
        name = uuid.uuid4().hex
        for offset in range(0, max(1, len(data)), CHUNK_BYTES):
            chunk = base64.b64encode(data[offset : offset + CHUNK_BYTES]).decode("ascii")
            self._client.request("blob_write", {"name": name, "offset": offset, "data_b64": chunk})
        return name

    def download(self, sha256: str) -> bytes:
        """Read a blob; the caller verifies it."""
        data = bytearray()
        while True:
            asked = {"sha256": sha256, "offset": len(data), "most": CHUNK_BYTES}
            chunk = base64.b64decode(self._client.request("blob_read", asked)["data_b64"])
            data += chunk
            if len(chunk) < CHUNK_BYTES:
                return bytes(data)

    def close(self) -> None:
        """Nothing to let go of."""
