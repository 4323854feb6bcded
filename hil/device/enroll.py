"""Makes a board known: its host key shown and pinned by decision, then probed, then its file.

Rule of this file: what is decided and written is pure; `fetch_host_key` and `enroll` do the I/O.
No key is ever pinned without a person's yes or a fingerprint that matches.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paramiko
import yaml

from hil.core.boards import precisions_of
from hil.core.errors import ConfigError, DeviceError
from hil.device.config import NAME, SCHEMA, Agent, Ssh
from hil.device.dial import dial
from hil.device.hostkeys import (
    HostKey,
    from_paramiko,
    name_in_known_hosts,
    pin,
    read_known_hosts,
)
from hil.device.ssh_session import ssh_link

TIMEOUT_S = 15.0
Confirm = Callable[[str], bool]  # shown the fingerprint and where to compare it; True trusts
Verdict = Literal["pin", "pinned", "ask", "refuse"]


@dataclass(frozen=True)
class Target:
    """A board to enrol.

    Attributes:
        identity: private key for the login.
        folder: where the device file and its known_hosts go, usually ./devices.
        name: the device's name; its file is `folder`/`name`.yaml.
        root: root folder of the board's files, which is another on an emulated one.
    """

    host: str
    user: str
    identity: Path
    folder: Path
    name: str
    port: int = 22
    root: str = "/"

    @property
    def known_hosts(self) -> Path:
        """The file that pins the key."""
        return self.folder / "known_hosts"

    @property
    def device_file(self) -> Path:
        """The file to write."""
        return self.folder / f"{self.name}.yaml"


@dataclass(frozen=True)
class Enrolled:
    """A board made known; `probe` is the agent's answer."""

    device_file: Path
    known_hosts: Path
    key: HostKey
    probe: Mapping[str, Any]
    text: str


def fetch_host_key(host: str, port: int, timeout_s: float = TIMEOUT_S) -> HostKey:
    """Ask a server for its host key without logging in or trusting it.

    Raises:
        DeviceError: unreachable, or not an SSH server.
    """
    sock = dial(host, port, timeout_s)
    with ExitStack() as ending:
        ending.callback(sock.close)
        try:
            return _shown_key(sock, timeout_s, ending)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise DeviceError(
                f"{host} shows no host key on port {port}",
                why=str(error) or type(error).__name__,
                fix="check that an SSH server listens there",
            ) from error


def _shown_key(sock: socket.socket, timeout_s: float, ending: ExitStack) -> HostKey:
    transport = paramiko.Transport(sock)
    ending.callback(transport.close)
    transport.banner_timeout = timeout_s
    transport.start_client(timeout=timeout_s)
    return from_paramiko(transport.get_remote_server_key())


def decide(key: HostKey, pinned: HostKey | None, fingerprint: str | None) -> Verdict:
    """Say what to do with a key that a host showed.

    Args:
        key: the key shown.
        pinned: the key of that type already pinned for the host, if any.
        fingerprint: what the person expects (`--fingerprint`), if given; "SHA256:" may be left off.
    """
    if fingerprint is not None and normal_fingerprint(fingerprint) != key.fingerprint:
        return "refuse"
    if pinned is not None:
        return "pinned" if pinned == key else "refuse"
    return "ask" if fingerprint is None else "pin"


def normal_fingerprint(text: str) -> str:
    """Return a fingerprint as OpenSSH prints it.

    Raises:
        ConfigError: it is no SHA256 fingerprint.
    """
    body = text.strip().removeprefix("SHA256:").rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/]{43}", body):
        raise ConfigError(
            f"{text!r} is not a SHA256 fingerprint",
            fix="give what `ssh-keygen -lf` prints, e.g. SHA256: and 43 characters",
        )
    return "SHA256:" + body


def enroll(target: Target, *, confirm: Confirm, fingerprint: str | None = None) -> Enrolled:
    """Pin a board's key, probe the board, and write its device file.

    Args:
        target: the board and where its file goes.
        confirm: asked only where no fingerprint was given and the key is not pinned yet.
        fingerprint: pins without asking if it matches, and refuses otherwise.

    Raises:
        ConfigError: the name or the fingerprint is none, or the device file exists.
        DeviceError: unreachable, not trusted, refused login, or the agent does not run there.
    """
    _check_target(target)
    key = fetch_host_key(target.host, target.port)
    _settle_trust(target, key, confirm, fingerprint)
    ssh = Ssh(
        host=target.host,
        port=target.port,
        user=target.user,
        identity=target.identity,
        known_hosts=target.known_hosts,
    )
    with ssh_link(ssh, Agent(root=target.root)) as link:
        probe = link.client.request("probe")
    text = device_text(target, probe)
    with target.device_file.open("x", encoding="utf-8") as file:
        file.write(text)
    return Enrolled(target.device_file, target.known_hosts, key, probe, text)


def _check_target(target: Target) -> None:
    if not re.match(NAME, target.name):
        raise ConfigError(
            f"{target.name!r} cannot name a device",
            fix="use letters, digits, dots, dashes and underscores, e.g. --name tx2-bench",
        )
    if target.device_file.exists():
        raise ConfigError(
            f"{target.device_file} exists already",
            fix="choose another --name, or move that file away",
        )


def _settle_trust(target: Target, key: HostKey, confirm: Confirm, fingerprint: str | None) -> None:
    verdict = decide(key, pinned_key(target, key.kind), fingerprint)
    if verdict == "refuse":
        raise _mismatch(target, key, fingerprint)
    if verdict == "ask" and not confirm(key.fingerprint):
        raise DeviceError(
            f"the host key of {target.host} was not confirmed",
            fix="compare it with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on the board's "
            f"console, then give --fingerprint {key.fingerprint}",
        )
    if verdict in ("ask", "pin"):
        pin(target.known_hosts, target.host, target.port, key)


def pinned_key(target: Target, kind: str) -> HostKey | None:
    """Return the key of a type already pinned for the board."""
    name = name_in_known_hosts(target.host, target.port)
    found = dict(read_known_hosts(target.known_hosts).lookup(name) or {}).get(kind)
    return None if found is None else from_paramiko(found)


def _mismatch(target: Target, key: HostKey, fingerprint: str | None) -> DeviceError:
    expected = normal_fingerprint(fingerprint) if fingerprint else f"pinned in {target.known_hosts}"
    return DeviceError(
        f"{target.host} shows another host key than expected",
        why=f"it shows {key.kind} {key.fingerprint}; expected is the one {expected}",
        fix="somebody may be in between; compare fingerprints on the board's own console",
    )


def device_text(target: Target, probe: Mapping[str, Any]) -> str:
    """Return the device file of a probed board: what it can do, and nothing it cannot."""
    model, l4t, tensorrt = (_plain(probe.get(key)) for key in ("model", "l4t", "tensorrt"))
    comment = f"# {model}, L4T {l4t}, TensorRT {tensorrt}; written by `hil device add`.\n"
    return comment + yaml.safe_dump(device_fields(target, probe), sort_keys=False)


def _plain(value: object) -> str:
    """Return what a board told as text that cannot leave a comment line."""
    text = str(value or "none").encode("ascii", errors="replace").decode("ascii")
    return "".join(char if char.isprintable() else "?" for char in text)


# assumes: tensorrt-for-system-python
def device_fields(target: Target, probe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the device file."""
    tensorrt = probe.get("tensorrt") is not None
    sudo = probe.get("sudo") or {}
    return {
        "schema": SCHEMA,
        "name": target.name,
        "driver": "ssh",
        "board": board_kind(probe.get("model"), probe.get("l4t")),
        "ssh": {
            "host": target.host,
            "user": target.user,
            "port": target.port,
            "identity": _written_path(target.identity, target.folder),
            "known_hosts": target.known_hosts.name,
        },
        "runtime": {
            "name": "tensorrt" if tensorrt else "onnxruntime",
            "precision": "fp16" if tensorrt else "fp32",
            "workspace_mib": 512,
            "opset": 13,
        }
        | _precisions(board_kind(probe.get("model"), probe.get("l4t")), tensorrt=tensorrt),
        "state": {
            "nvpmodel": 0 if sudo.get("nvpmodel") else None,
            "clocks": bool(sudo.get("jetson_clocks")),
        },
        "power": _power(probe),
        "lease": {"ttl_s": 60},
    } | ({} if target.root == "/" else {"agent": {"root": target.root}})


def _precisions(kind: str, *, tensorrt: bool) -> dict[str, Any]:
    """Return what the board offers, where that is more than TensorRT has everywhere."""
    offered = precisions_of(kind)
    return {"precisions": list(offered)} if tensorrt and "int8" in offered else {}


# Total input rail by board, as tegrastats names it. AGX boards have no single one, and tegrastats
# of a TX1 shows no power at all: there the person must say.
# assumes: model-string, total-rail
_KINDS = (
    # words of the device tree's model, kind, total rail; the first row that fits wins
    (("orin nano",), "jetson-orin-nano", "VDD_IN"),
    (("orin nx",), "jetson-orin-nx", "VDD_IN"),
    (("xavier nx",), "jetson-xavier-nx", "VDD_IN"),
    (("nano developer", "porg"), "jetson-nano", "POM_5V_IN"),
    (("tx2", "quill"), "jetson-tx2", "VDD_IN"),
)


def board_kind(model: str | None, l4t: str | None) -> str:
    """Return the kind of a board by its device tree's model."""
    known = _known(model)
    return known[0] if known else "jetson" if l4t else "host"


def _known(model: str | None) -> tuple[str, str] | None:
    text = (model or "").lower()
    for words, kind, rail in _KINDS:
        if any(word in text for word in words):
            return kind, rail
    return None


def _power(probe: Mapping[str, Any]) -> dict[str, Any]:
    known = _known(probe.get("model"))
    if probe.get("tegrastats") is None or known is None:
        return {"source": "none"}
    return {"source": "tegrastats", "rail": known[1], "interval_ms": 100}


def _written_path(path: Path, folder: Path) -> str:
    """Return a path as the file should hold it: from home, else beside the file, else absolute."""
    absolute = Path(os.path.abspath(path.expanduser()))
    if absolute.is_relative_to(Path.home()):
        return f"~/{absolute.relative_to(Path.home())}"
    base = Path(os.path.abspath(folder))
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)
