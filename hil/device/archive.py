"""What is kept of a first contact: one file that can be sent to a stranger, and replayed.

Rule of this file: nothing goes in that was not redacted; what comes in is bounded and plain JSON.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hil.core.errors import ConfigError
from hil.device.bringup import Lengths
from hil.device.config import DeviceConfig, LocalDevice
from hil.device.redaction import Secrets, redact
from hil.device.tape import Tape

SCHEMA = "hil/bringup-archive@1"
MOST_BYTES = 1 << 30
_CONTACT, _EXCHANGES, _REPORT = "contact.json", "exchanges.jsonl", "report.json"
_OURS = ("ssh", "agent", "lease", "emulated", "local", "driver")
"""Parts of a device file that say how a board is reached, not what it is."""


@dataclass(frozen=True)
class Recorded:
    """A contact as it was recorded.

    Attributes:
        header: when, with which release, how long it took here: no figure rests on it.
        device: what the device file says of the board itself.
        ended_in: the stage in which a person interrupted, None where nobody did.
        refusal: why the board could not be reached at all, as `Told`'s parts; None if it was.
    """

    header: Mapping[str, Any]
    device: DeviceConfig
    hello: Mapping[str, Any]
    provenance: str
    limit_s: float
    lengths: Lengths
    tape: Tape
    ended_in: str | None = None
    refusal: Mapping[str, Any] | None = None


def packed(contact: Recorded, report: Mapping[str, Any], secrets: Secrets) -> bytes:
    """Return the archive: a gzipped tar of JSON.

    Args:
        contact: what was recorded.
        report: what was made of it, for those who do not replay it.
        secrets: names to take out.
    """
    told = {
        "schema": SCHEMA,
        "header": contact.header,
        "device": _about(contact.device),
        "hello": contact.hello,
        "provenance": contact.provenance,
        "limit_s": contact.limit_s,
        "lengths": asdict(contact.lengths),
        "ended_in": contact.ended_in,
        "refusal": contact.refusal,
    }
    # one dictionary, so that a version named in one part is known for one in all of them
    whole = {"told": told, "exchanges": contact.tape.exchanges, "report": report}
    clean = redact(whole, secrets)
    lines = "".join(json.dumps(one) + "\n" for one in clean["exchanges"])
    return _tar(
        {
            _CONTACT: json.dumps(clean["told"], indent=1) + "\n",
            _EXCHANGES: lines,
            _REPORT: json.dumps(clean["report"], indent=1) + "\n",
        }
    )


def unpacked(path: Path) -> Recorded:
    """Read an archive.

    Raises:
        ConfigError: it is none, or of another release.
    """
    try:
        files = _untar(path)
        told = json.loads(files[_CONTACT])
        exchanges = [json.loads(line) for line in files[_EXCHANGES].splitlines()]
        if told.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {told.get('schema')!r}; this release reads {SCHEMA}")
        return Recorded(
            told["header"],
            _device(told["device"]),
            told["hello"],
            told["provenance"],
            float(told["limit_s"]),
            _lengths(told["lengths"]),
            Tape(exchanges),
            told["ended_in"],
            told["refusal"],
        )
    except (OSError, EOFError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is no archive of a bring-up",
            why=str(error) or type(error).__name__,
            fix="name a bringup-NAME.tar.gz that hil wrote",
        ) from error


def _about(device: DeviceConfig) -> dict[str, Any]:
    fields = device.model_dump(mode="json", by_alias=True, exclude_none=False)
    return {name: value for name, value in fields.items() if name not in _OURS}


def _device(fields: Mapping[str, Any]) -> DeviceConfig:
    try:
        return LocalDevice.model_validate({**fields, "driver": "local"})
    except ValidationError as error:
        raise ValueError(f"its device cannot be read: {error.error_count()} faults") from error


def _lengths(fields: Mapping[str, Any]) -> Lengths:
    lengths = Lengths(**fields)
    return replace(lengths, periods_ms=tuple(lengths.periods_ms))


def _tar(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"bringup/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)


def _untar(path: Path) -> dict[str, str]:
    with gzip.open(path) as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError("it is larger than any bring-up")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            member = archive.extractfile(entry) if entry.isfile() else None
            if member is not None:
                found[entry.name.rpartition("/")[2]] = member.read().decode()
    return found
