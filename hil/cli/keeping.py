"""What a verb leaves behind: a folder with its result and the raw evidence behind it.

Rule of this file: a file appears whole or not at all, and a full disk is told as such.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.errors import HostError

if TYPE_CHECKING:
    from hil.core.evidence import Evidence

RESULT = "result.json"
EVIDENCE = "evidence.json.gz"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Keeper:
    """Writes into one run's folder; with no folder it keeps nothing.

    Attributes:
        also: a further file for the raw evidence, compressed where its name ends in .gz.
        files: sha256 of each evidence kept, by file name (also where nothing is written).
        fault: why evidence could not be written; `check` raises it once the figures are shown.
    """

    folder: Path | None
    also: Path | None = None
    files: dict[str, str] = field(default_factory=dict)
    fault: HostError | None = None

    def evidence(self, evidence: Evidence, name: str = EVIDENCE) -> str:
        """Keep raw evidence; return the sha256 of its plain JSON.

        A disk that is full is noted in `fault`: minutes on a board are not lost for it.
        """
        data = evidence_bytes(evidence)
        sha256 = hashlib.sha256(data).hexdigest()
        self.files[name] = sha256
        packed = gzip.compress(data, compresslevel=6, mtime=0)
        try:
            if self.also is not None:
                write_whole(self.also, packed if self.also.suffix == ".gz" else data)
            if self.folder is not None:
                write_whole(self.folder / name, packed)
        except HostError as error:
            self.fault = self.fault or error
        return sha256

    def check(self) -> None:
        """Raise what could not be written.

        Raises:
            HostError: the disk is full, or cannot be written.
        """
        if self.fault is not None:
            raise self.fault

    def result(self, result: Mapping[str, Any]) -> None:
        """Keep the result.

        Raises:
            HostError: the disk is full, or cannot be written.
        """
        self.check()
        if self.folder is not None:
            write_whole(self.folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())

    def clear(self) -> None:
        """Remove the folder where nothing was kept in it."""
        if self.folder is not None and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def beside(self, name: str) -> str | None:
        """Return the path of a kept file as text, None where nothing is kept."""
        return None if self.folder is None else str(self.folder / name)


def keeper(
    verb: str,
    name: str,
    now: datetime,
    *,
    keep: bool,
    also: Path | None = None,
    base: Path = Path("runs"),
) -> Keeper:
    """Make the folder of a run, before the board is touched, so that a full disk costs nothing.

    Args:
        verb: profile, compare or calibrate.
        name: of the network or the board.
        now: when the run begins; names the folder.
        keep: False makes no folder.
        also: a further file for the raw evidence.
        base: where all runs lie.

    Raises:
        HostError: it cannot be made.
    """
    if also is not None and not also.absolute().parent.is_dir():
        raise HostError(f"cannot write {also}", why=f"there is no folder {also.absolute().parent}")
    if not keep:
        return Keeper(None, also)
    plain = _PLAIN.sub("-", name).strip("-.") or "network"
    stem = base / verb / f"{plain}-{now.strftime('%Y%m%d-%H%M%S')}"
    folder = stem
    for count in range(2, 1000):
        try:
            folder.mkdir(parents=True)
            return Keeper(folder, also)
        except FileExistsError:
            folder = stem.with_name(f"{stem.name}-{count}")
        except OSError as error:
            raise _fault(folder, error) from error
    raise HostError(f"there are a thousand runs named {stem} already")


def evidence_bytes(evidence: Evidence) -> bytes:
    """Return evidence as canonical JSON: the bytes depend on what was measured alone."""
    text = json.dumps(evidence.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut.

    Raises:
        HostError: the disk is full, or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: OSError) -> HostError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError(
            f"the disk that holds {path.absolute()} is full",
            why=str(error),
            fix="free space there, or keep nothing with --no-keep",
        )
    return HostError(
        f"cannot write {path}",
        why=str(error),
        fix="run it in a folder that you may write to, or keep nothing with --no-keep",
    )
