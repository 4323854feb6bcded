"""What leaves the house about a board: nothing that says whose it is or where it stands.

Rule of this file: pure, and the same twice over: `redact(redact(x)) == redact(x)`. Names are
known from the device file and the login; addresses, keys and serial numbers by their form.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMMON = frozenset({"nvidia", "root", "ubuntu", "jetson", "tx2", "localhost", "user", "hil"})
"""Names that many boards share: they tell nobody apart, and taking them out of `nvidia,quill` or
`/usr/src/nvidia` would take facts away. They are still replaced where they name a login."""
FEWEST_LETTERS = 3
_KEEP_UNDER = frozenset(
    {"tensorrt", "numpy", "pycuda", "onnxruntime", "runtime_version", "version"}
)

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_PUBLIC_KEY = re.compile(r"\b(?:ssh|ecdsa|sk)-[a-z0-9@.-]+\s+AAAA[0-9A-Za-z+/=]+")
_FINGERPRINT = re.compile(r"\b(?:SHA256:[A-Za-z0-9+/]{43}=?|MD5(?::[0-9a-f]{2}){16})")
_SERIAL = re.compile(r"(?i)\b(serial(?:[ _-]?(?:number|no))?\"?\s*[:=#]\s*\"?)(?!SERIAL\b)[\w.-]+")
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
# `GPU@31.5C` is no address: a domain ends in letters
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%\w+)?(?![\w:])")
_HOME = re.compile(r"(/home/|/Users/)(?!USER\b)[^/\s\"':,]+")
_TEMPORARY = re.compile(r"/tmp/hil-board-\w+")


@dataclass(frozen=True)
class Secrets:
    """Names to take out.

    Attributes:
        hosts: names and addresses of the board, of hosts on the way, and of this machine.
        users: logins there and here.
        versions: dotted numbers that are versions, not addresses.
    """

    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()


def redact(value: Any, secrets: Secrets) -> Any:
    """Return JSON data without names, addresses, keys and serial numbers.

    Args:
        value: dictionaries, lists, text, numbers; keys of dictionaries are redacted, too.
        secrets: the names to take out beside what is known by its form.
    """
    known = Secrets(secrets.hosts, secrets.users, secrets.versions | frozenset(versions_in(value)))
    return _redacted(value, _replacer(known))


def redact_text(text: str, secrets: Secrets) -> str:
    """Return one text without them."""
    return _replacer(secrets)(text)


def versions_in(value: Any) -> Iterable[str]:
    """Yield the dotted numbers that stand where a version is named."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str) and key in _KEEP_UNDER and _IPV4.fullmatch(inner):
                yield inner
            else:
                yield from versions_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from versions_in(inner)


def _redacted(value: Any, replaced: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replaced(value)
    if isinstance(value, Mapping):
        return {replaced(str(k)): _redacted(inner, replaced) for k, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner, replaced) for inner in value]
    return value


def _replacer(secrets: Secrets) -> Callable[[str], str]:
    hosts = _any_of(secrets.hosts)
    users = _any_of(secrets.users)
    logins, after_at = _logins(secrets.users), _after_at(secrets.hosts)

    def replaced(text: str) -> str:
        text = _PEM.sub("KEY", text)
        text = _PUBLIC_KEY.sub("KEY", text)
        text = _FINGERPRINT.sub("FINGERPRINT", text)
        text = _SERIAL.sub(r"\1SERIAL", text)
        text = _UUID.sub("UUID", text)
        text = _MAC.sub("MAC", text)
        text = _MAIL.sub("USER@HOST", text)
        text = _TEMPORARY.sub("/tmp/hil-board", text)
        text = _HOME.sub(r"\1USER", text)
        if logins is not None:
            text = logins.sub(r"\1USER\2", text)
        if after_at is not None:
            text = after_at.sub("@HOST", text)
        if hosts is not None:
            text = hosts.sub("HOST", text)
        if users is not None:
            text = users.sub("USER", text)
        text = _IPV4.sub(lambda m: _address(m[0], secrets.versions), text)
        return _IPV6.sub(lambda m: _address(m[0], secrets.versions), text)

    return replaced


def _address(text: str, versions: frozenset[str]) -> str:
    plain = text.partition("%")[0].rstrip(".")
    if text in versions:
        return text
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return text
    # "::" alone is C++'s, not a host's
    return text if address.version == 6 and not any(c.isalnum() for c in plain) else "IP"


def _any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds the names as whole words, whatever their case; None for no names."""
    telling = {name for name in names if len(name) >= FEWEST_LETTERS}
    telling = {name for name in telling if name.lower() not in COMMON}
    if not telling:
        return None
    longest_first = sorted(map(re.escape, telling), key=lambda name: (-len(name), name))
    return re.compile(rf"(?i)(?<![A-Za-z0-9]){_either(longest_first)}(?![A-Za-z0-9])")


def _logins(users: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds a name, a common one too, where it plainly names a login."""
    if not (named := sorted(map(re.escape, {user for user in users if user}))):
        return None
    return re.compile(rf"((?i:user )|(?<![\w.-])){_either(named)}((?=@)|(?= ALL=)|(?= may ))")


def _after_at(hosts: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds a host's name, a short or common one too, after a login's."""
    if not (named := sorted(map(re.escape, {host for host in hosts if host}))):
        return None
    return re.compile(rf"(?i)@{_either(named)}(?![A-Za-z0-9])")


def _either(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(patterns)})"
