"""Care for a board between measurements: its lease taken from a dead holder, its files removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.core.errors import DeviceError, HilError
from hil.device.config import DeviceConfig
from hil.device.opening import Lease, OnWait, WallClock, device_link

TAKEN_TTL_S = 5.0


def unlock(device: DeviceConfig, owner: str, reason: str) -> str | None:
    """Take a board's lease from whoever holds it, put the board back as found, free it.

    Args:
        device: the board's file, read.
        owner: who takes it.
        reason: why; kept in the lease while it is ours.

    Returns:
        Who held it; None where nobody did.

    Raises:
        DeviceError: unreachable, or what the holder changed cannot be put back.
    """
    with device_link(device) as link:
        before = link.client.request("lease_status")
        if not before["held"]:
            return None
        wanted: Mapping[str, Any] = {
            "owner": f"{owner}: {reason}",
            "ttl_s": TAKEN_TTL_S,
            "steal_reason": reason,
        }
        link.client.request("lease_acquire", wanted)
        try:
            link.client.request("board_restore", timeout_s=120.0)
        except HilError as error:
            raise DeviceError(
                f"the lease of {device.name} was taken from {before['owner']}, but its power mode "
                "and clocks are not back",
                why=str(error),
                fix="set them by hand, or reboot the board",
            ) from error
        finally:
            link.client.request("lease_release")
    return str(before["owner"])


def clean(
    device: DeviceConfig,
    owner: str,
    *,
    wait_s: float,
    on_wait: OnWait,
    keep_bytes: int | None = None,
) -> tuple[int, int]:
    """Remove networks, engines and timing caches from a board.

    Args:
        device: the board's file, read.
        owner: who cleans.
        wait_s: how long to wait for the lease.
        on_wait: told who holds it meanwhile.
        keep_bytes: remove only what no build names, and then what was longest not used until so
            much is left; None removes everything.

    Returns:
        (files, bytes) removed.

    Raises:
        DeviceError: unreachable.
        LeaseTimeoutError: somebody measures on it.
    """
    with device_link(device) as link:
        lease = Lease(link.client, owner, device.lease.ttl_s)
        lease.acquire(wait_s, on_wait, WallClock())
        try:
            if keep_bytes is None:
                answer = link.client.request("store_clean", timeout_s=300.0)
            else:
                answer = link.client.request(
                    "cache_clean", {"keep_bytes": keep_bytes}, timeout_s=300.0
                )
        finally:
            lease.release()
    return int(answer["files"]), int(answer["bytes"])
