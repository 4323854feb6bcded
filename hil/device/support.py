"""Which boards are too old, told before anything is measured: what was found where, the way up.

Rule of this file: pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hil.core.errors import DeviceError

Version = tuple[int, ...]
OLDEST_L4T: Version = (32, 7, 1)  # JetPack 4.6.1: the first with TensorRT 8.2.1
OLDEST_TENSORRT: Version = (8, 2)
RELEASE_FILE = "etc/nv_tegra_release"
UPGRADE = "upgrade the board to JetPack 4.6.1 (L4T 32.7.1, TensorRT 8.2.1) or later"
_L4T = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")


class TooOldError(DeviceError):
    """A release that is not supported."""


def version(text: str | None) -> Version | None:
    """Return the leading numbers of a version, e.g. (32, 7, 1); None where there are none."""
    numbers = []
    for part in (text or "").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers) or None


def release_in(text: str) -> str | None:
    """Return the L4T release that /etc/nv_tegra_release states, e.g. "28.2.1"."""
    found = _L4T.search(text)
    return None if found is None else f"{found[1]}.{found[2]}"


def too_old(l4t: str | None, read_in: str | None) -> TooOldError | None:
    """Return the refusal of a release of L4T; None where it is supported or unknown."""
    found = version(l4t)
    if found is None or found >= OLDEST_L4T:
        return None
    where = read_in or f"/{RELEASE_FILE}"
    return TooOldError(
        f"L4T {l4t} is older than the oldest release that hil supports",
        why=f"{where} on the board says {l4t}; its TensorRT is older than 8.2",
        fix=UPGRADE,
    )


def refuse_old(probe: Mapping[str, Any], runtime: str) -> None:
    """Refuse a board that is too old for what is to run on it.

    Args:
        probe: what the board told of itself.
        runtime: of the device file.

    Raises:
        TooOldError: with the release that was found and where.
    """
    refusal = too_old(probe.get("l4t"), probe.get("l4t_read_in"))
    if refusal is not None:
        raise refusal
    found = version(probe.get("tensorrt"))
    if runtime == "tensorrt" and found is not None and found < OLDEST_TENSORRT:
        raise TooOldError(
            f"TensorRT {probe['tensorrt']} is older than the oldest release that hil supports",
            why=f"the board's Python imports TensorRT {probe['tensorrt']}",
            fix=UPGRADE,
        )
