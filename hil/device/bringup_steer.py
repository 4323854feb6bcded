"""The stages of a first contact that lease the board, change its state, and put it back."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from hil.core.errors import DeviceError
from hil.core.evidence import PowerRecord
from hil.device.agent_session import AgentSession
from hil.device.bringup import Contact, Outcome, SkipStageError, held, judged
from hil.device.bringup_read import ask, modes_of
from hil.device.collecting import RunCollector, board_records
from hil.device.config import State
from hil.device.link import Link
from hil.device.records import board_info

OTHER_MODES = (3, 0)  # MAXP_CORE_ARM, which NVIDIA's table was measured in, else MAXN
SHIP_S = 900.0


def watched(contact: Contact, interval_ms: int, duration_s: float) -> PowerRecord:
    """Read the board's power source beside nothing at all.

    Raises:
        SkipStageError: the device file names a source that is not the board's.
    """
    power = contact.device.power
    if power.source in ("none", "command", "nvml", "rapl"):
        raise SkipStageError(
            f"power.source is {power.source}", fix="set power.source: tegrastats in the device file"
        )
    collector = RunCollector()
    answer = contact.link.client.request(
        "power_watch",
        {
            "interval_ms": interval_ms,
            "duration_s": duration_s,
            "power": [{"source": power.source, "rail": power.rail}],
        },
        on_event=collector.take,
        timeout_s=120.0 + 3 * duration_s,
    )
    return board_records(answer["power"], collector.lines)[0]


def lease(contact: Contact) -> Outcome:
    """Take the board for the stages that change or load it."""
    status = contact.link.client.request("lease_status")
    params = {"owner": contact.owner, "ttl_s": contact.device.lease.ttl_s, "steal_reason": None}
    contact.link.client.request("lease_acquire", params)
    probe = contact.recall("probe", "the stage identity")
    may_set = contact.memory.get("may_set_modes", False)
    may_pin = contact.memory.get("may_pin", False)
    wanted = contact.device.state
    usable = State(nvpmodel=wanted.nvpmodel if may_set else None, clocks=wanted.clocks and may_pin)
    device = contact.device.model_copy(update={"state": usable})
    contact.memory["session"] = AgentSession(
        contact.link, device, board_info(contact.device.name, probe)
    )
    findings = [held("lease-folder", True, "taken, and renewed by each line")]
    return judged("the board is ours", findings, {"held_before": bool(status.get("held"))}, "")


def session_of(contact: Contact) -> AgentSession:
    """Return the leased session.

    Raises:
        SkipStageError: the board was not leased.
    """
    session = contact.recall("session", "the board's lease")
    assert isinstance(session, AgentSession)
    return session


def modes(contact: Contact) -> Outcome:
    """Change the mode, pin the clocks, put both back; look each time."""
    session_of(contact)
    told = ask(contact)
    before = told["state"]
    mode = before["nvpmodel"]
    may_set = contact.memory.get("may_set_modes", False) and mode is not None
    may_pin = contact.memory.get("may_pin", False)
    if not (may_set or may_pin):
        raise SkipStageError(
            "sudo allows neither modes nor clocks", fix="mend what the stage privileges says"
        )
    known = modes_of(told) or {3: "", 0: ""}
    other = next((n for n in OTHER_MODES if may_set and n in known and n != mode["id"]), None)
    params = {"nvpmodel": other, "clocks": may_pin}
    try:
        during = contact.link.client.request("board_pin", params, timeout_s=120.0)["state"]
    finally:
        contact.link.client.request("board_restore", timeout_s=120.0)
    after = _state_now(contact)
    changed = other is not None and (during["nvpmodel"] or {}).get("id") == other
    back = _kept(before) == _kept(after)
    pinned = during.get("clocks_pinned")
    findings = [
        held(
            "mode-without-prompt",
            changed if other is not None else None,
            f"asked for {other}, it is {during['nvpmodel']}",
        ),
        held("mode-resets-clocks", back if changed and may_pin else None, _told(before, after)),
        held("clocks-store", back if may_pin else None, _told(before, after)),
        held("pinned-shows", pinned if may_pin else None, f"clocks_pinned {pinned} while pinned"),
    ]
    facts = {"modes": {str(n): name for n, name in known.items()}, "state_pinned": during}
    return judged(
        f"mode {other}, pinned {pinned}, put back {back}"
        if other is not None
        else f"pinned {pinned}",
        findings,
        facts,
        "put the board back by hand (sudo nvpmodel -m N; reboot), and set state in the device file",
        fine=back,
    )


def restore(contact: Contact) -> Outcome:
    """Put back what was changed, and compare with the state at the beginning."""
    before = contact.recall("state_before", "the stage identity")
    session_of(contact).restore()
    after = _state_now(contact)
    back = _kept(before) == _kept(after)
    return judged(
        "as found" if back else "not as found",
        [held("left-as-found", back, _told(before, after))],
        {"before": _kept(before), "after": _kept(after)},
        "set mode and clocks by hand, or reboot the board, and report it with the archive",
    )


def _state_now(contact: Contact) -> Mapping[str, Any]:
    state: Mapping[str, Any] = contact.link.client.request("transcript", timeout_s=180.0)["state"]
    return state


def _kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """Of a state what must not change; clocks themselves move while they are free."""
    return {"nvpmodel": state.get("nvpmodel"), "clocks_pinned": state.get("clocks_pinned")}


def _told(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return f"{_short(before)} before, {_short(after)} after"


def _short(state: Mapping[str, Any]) -> str:
    mode = state.get("nvpmodel") or {}
    return f"mode {mode.get('id')}, clocks_pinned {state.get('clocks_pinned')}"


def ship(link: Link, chunks: Iterable[bytes]) -> str:
    """Send a network compressed, unless the board has it; return its sha256.

    Raises:
        DeviceError: it does not arrive.
    """
    digest, packer, size, parts = hashlib.sha256(), zlib.compressobj(1), 0, []
    for chunk in chunks:  # hashing and packing let other threads run: heartbeats go on
        digest.update(chunk)
        parts.append(packer.compress(chunk))
        size += len(chunk)
    sha256 = digest.hexdigest()
    if link.client.request("blob_stat", {"sha256": sha256}).get("bytes") == size:
        return sha256
    name = link.files.upload(b"".join([*parts, packer.flush()]))
    params = {"name": name, "sha256": sha256, "inflated_bytes": size}
    link.client.request("blob_commit", params, timeout_s=SHIP_S)
    if link.client.request("blob_stat", {"sha256": sha256}).get("bytes") != size:
        raise DeviceError("a network did not arrive whole", fix="check the board's disk")
    return sha256
