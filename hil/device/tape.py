"""A contact with a board as it was said: recorded beside it, and answered from it later.

Rule of this file: what stands above a `Link` cannot tell a board from a tape of it. Exchanges are
kept whole, in order; errors are kept in the words in which they were raised.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hil.core import errors
from hil.core.errors import ConfigError, HilError, InterruptedRunError
from hil.device.board_files import BoardFiles
from hil.device.client import OnEvent
from hil.device.link import Client, Link

_KINDS: Mapping[str, type[HilError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, HilError)
}


@dataclass
class Tape:
    """Exchanges in order; `stage` names the one under way, and is written beside each.

    Each is JSON data: {"stage", "kind": request|upload|download, ..., and how it ended: "result",
    "error": {"class", "what", "why", "fix"}, or "interrupted": what by}.
    """

    exchanges: list[dict[str, Any]] = field(default_factory=list)
    stage: str = ""

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Begin an exchange; what follows is added to what is returned."""
        self.exchanges.append({"stage": self.stage, "kind": kind, **fields})
        return self.exchanges[-1]


def recorded(link: Link, tape: Tape, cap_s: Callable[[], float]) -> Link:
    """Return the link with everything said over it kept on a tape.

    Args:
        link: of a board.
        tape: where it is kept.
        cap_s: longest that a request may take from now on, in seconds.
    """
    client = _RecordingClient(link.client, tape, cap_s)
    return replace(link, client=client, files=_RecordingFiles(link.files, tape), shell=None)


def played(tape: Tape, hello: Mapping[str, Any], provenance: str) -> Link:
    """Return a link that answers from a tape."""
    remaining = iter(list(tape.exchanges))
    return Link(_PlayingClient(remaining, tape), _PlayingFiles(remaining), hello, provenance)


@dataclass
class _RecordingClient:
    client: Client
    tape: Tape
    cap_s: Callable[[], float]

    @property
    def alive(self) -> bool:
        said = self.tape.add("alive")
        said["result"] = self.client.alive
        return bool(said["result"])

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        on_event: OnEvent | None = None,
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        said = self.tape.add("request", method=method, params=dict(params or {}), events=[])

        def heard(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
            said["events"].append(event)
            return None if on_event is None else on_event(event)

        with _ended(said):
            result = self.client.request(
                method, params, on_event=heard, timeout_s=max(1.0, min(timeout_s, self.cap_s()))
            )
            said["result"] = dict(result)
        return result


@dataclass
class _RecordingFiles:
    files: BoardFiles
    tape: Tape

    def upload(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        said = self.tape.add("upload", bytes=len(data), sha256=sha256)
        with _ended(said):
            said["result"] = self.files.upload(data)
        return str(said["result"])

    def download(self, sha256: str) -> bytes:
        said = self.tape.add("download", sha256=sha256)
        with _ended(said):
            data = self.files.download(sha256)
            said["result"] = _as_text(data)
        return data

    def close(self) -> None:
        self.files.close()


class _ended:  # noqa: N801 - used as a function
    """Writes down how an exchange ended where it raised."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, HilError):
            words = {"what": error.what, "why": error.why, "fix": error.fix}
            self._said["error"] = {"class": type(error).__name__, **words}
        elif error is not None:
            self._said["interrupted"] = str(error) or type(error).__name__


@dataclass
class _PlayingClient:
    remaining: Iterator[dict[str, Any]]
    tape: Tape

    @property
    def alive(self) -> bool:
        return bool(_result(_next(self.remaining, "alive", None)))

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,  # noqa: ARG002 - what was asked is on the tape
        *,
        on_event: OnEvent | None = None,
        timeout_s: float = 60.0,  # noqa: ARG002 - a tape answers at once
    ) -> Mapping[str, Any]:
        said = _next(self.remaining, "request", method)
        for event in said["events"]:
            if on_event is not None:
                on_event(event)
        result: Mapping[str, Any] = _result(said)
        return result


@dataclass
class _PlayingFiles:
    remaining: Iterator[dict[str, Any]]

    def upload(self, data: bytes) -> str:  # noqa: ARG002 - it went to the board once
        return str(_result(_next(self.remaining, "upload", None)))

    def download(self, sha256: str) -> bytes:  # noqa: ARG002 - the same one is next
        return _as_bytes(_result(_next(self.remaining, "download", None)))

    def close(self) -> None:
        pass


def _next(remaining: Iterator[dict[str, Any]], kind: str, method: str | None) -> dict[str, Any]:
    said = next(remaining, None)
    found = None if said is None else (said.get("kind"), said.get("method"))
    if said is None or found != (kind, method):
        raise ConfigError(
            "this archive is of another release of hil",
            why=f"{kind} {method or ''} is asked for, and it holds {found or 'nothing more'}",
            fix="replay it with the release its header names",
        )
    return said


def _result(said: Mapping[str, Any]) -> Any:
    if "interrupted" in said:
        raise InterruptedRunError(said["interrupted"])
    if "error" in said:
        told = said["error"]
        raise _KINDS.get(told["class"], HilError)(told["what"], why=told["why"], fix=told["fix"])
    if "result" not in said:
        raise InterruptedRunError("the recording ends here")
    return said["result"]


def _as_text(data: bytes) -> dict[str, str]:
    """Text as itself, so that it is seen and redacted as such; anything else as base64."""
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _as_bytes(held: Mapping[str, str]) -> bytes:
    return held["text"].encode() if "text" in held else base64.b64decode(held["base64"])
