"""Host keys: fingerprints, pins, and what a server that shows another key gets told.

Rule of this file: keys and known_hosts files only; nothing here connects.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.hostkeys import InvalidHostKey
from paramiko.pkey import UnknownKeyType

from hil.core.errors import ConfigError, DeviceError
from hil.device.config import SshHop


@dataclass(frozen=True)
class HostKey:
    """A server's public key: type ("ssh-ed25519") and base64 body, as known_hosts has them."""

    kind: str
    body: str

    @property
    def fingerprint(self) -> str:
        """SHA256 fingerprint as `ssh-keygen -lf` prints it."""
        return fingerprint(base64.b64decode(self.body))

    def __str__(self) -> str:
        return f"{self.kind} {self.body}"


def fingerprint(blob: bytes) -> str:
    """Return OpenSSH's SHA256 fingerprint of a public key blob."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def from_paramiko(key: paramiko.PKey) -> HostKey:
    """Return the record of a key met on the wire."""
    return HostKey(key.get_name(), key.get_base64())


def parse_host_key(text: str) -> HostKey:
    """Read `TYPE BASE64 [comment]`.

    Raises:
        ConfigError: not a public key of a type that is understood.
    """
    words = text.split()
    try:
        if len(words) < 2:
            raise ValueError("expected two words")
        key = paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (ValueError, paramiko.SSHException, UnknownKeyType) as error:
        raise ConfigError(
            "host_key is not a public key",
            why=str(error),
            fix="write it as in known_hosts, e.g. host_key: ssh-ed25519 AAAA...",
        ) from error
    return from_paramiko(key)


def name_in_known_hosts(host: str, port: int) -> str:
    """Return the name OpenSSH files a host under: `host`, or `[host]:port` off port 22."""
    return host if port == paramiko.config.SSH_PORT else f"[{host}]:{port}"


def pinned_keys(hop: SshHop) -> paramiko.HostKeys:
    """Return only the keys pinned for this host, by its known_hosts name.

    Raises:
        ConfigError: the known_hosts file is missing or broken, or an inline key is.
        DeviceError: no key is pinned for this host.
    """
    name = name_in_known_hosts(hop.host, hop.port)
    pins = paramiko.HostKeys()
    if hop.host_key is not None:
        key = parse_host_key(hop.host_key)
        pins.add(name, key.kind, _pkey(key))
        return pins
    assert hop.known_hosts is not None  # the model demands one of the two
    for kind, known in _known(read_known_hosts(hop.known_hosts), name).items():
        pins.add(name, kind, known)
    if not pins.keys():
        raise DeviceError(
            f"no host key is pinned for {name}",
            why=f"{hop.known_hosts} has none, and unknown hosts are never trusted",
            fix=f"run `hil device add {hop.user}@{hop.host}:{hop.port}` and compare fingerprints",
        )
    return pins


def read_known_hosts(path: Path) -> paramiko.HostKeys:
    """Read a known_hosts file; a missing one is empty.

    Raises:
        ConfigError: it cannot be read, or holds a broken key.
    """
    keys = paramiko.HostKeys()
    try:
        if path.exists():
            keys.load(str(path))
    except (OSError, InvalidHostKey, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as a known_hosts file",
            why=str(error),
            fix="repair or remove it, then run `hil device add HOST`",
        ) from error
    return keys


def wrong_key(hop: SshHop, shown: HostKey, pins: paramiko.HostKeys) -> DeviceError:
    """Return the error for a server whose key is not the pinned one."""
    name = name_in_known_hosts(hop.host, hop.port)
    known = _known(pins, name)
    pinned = ", ".join(
        f"{key.get_name()} {from_paramiko(key).fingerprint}" for key in known.values()
    )
    where = "host_key in the device file" if hop.known_hosts is None else str(hop.known_hosts)
    return DeviceError(
        f"{name} shows another host key than the pinned one",
        why=f"it shows {shown.kind} {shown.fingerprint}; pinned is {pinned} ({where})",
        fix="somebody may be in between: compare with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` "
        "typed on the board's own console; if the board was reinstalled, remove the pin from "
        f"{where} and run `hil device add {hop.host}`",
    )


def pin(path: Path, host: str, port: int, key: HostKey) -> None:
    """Append a key to a known_hosts file; the folder is made, a key already there is kept.

    Raises:
        ConfigError: another key of that type is pinned there for this host.
    """
    name = name_in_known_hosts(host, port)
    known = _known(read_known_hosts(path), name).get(key.kind)
    if known is not None:
        if from_paramiko(known) == key:
            return
        raise ConfigError(
            f"{path} already pins another {key.kind} key for {name}",
            why=f"pinned is {from_paramiko(known).fingerprint}, shown was {key.fingerprint}",
            fix=f"if the board was reinstalled, remove it: ssh-keygen -R {name} -f {path}",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    gap = "" if not old or old.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{name} {key}\n")


def _known(keys: paramiko.HostKeys, name: str) -> dict[str, paramiko.PKey]:
    return dict(keys.lookup(name) or {})


def _pkey(key: HostKey) -> paramiko.PKey:
    return paramiko.PKey.from_type_string(key.kind, base64.b64decode(key.body))
