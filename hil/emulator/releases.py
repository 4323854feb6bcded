"""What differs between releases of L4T on a TX2: names, order, places, and what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

RELEASE_VARIABLE = "HIL_BOARD_RELEASE"


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        name: as `--release` takes it.
        tegra_release: the first line of /etc/nv_tegra_release.
        tegrastats: where the tool is.
        rails: what the board file's (r32) rails are called, in the order of a line; empty as is.
        zones: order of the thermal zones on a line; empty as is.
        tensorrt: whether what TensorRT 8.2 stands for is installed.
    """

    name: str
    tegra_release: str
    tegrastats: str
    rails: Mapping[str, str] = field(default_factory=dict)
    zones: Sequence[str] = ()
    tensorrt: bool = True


RELEASES: Mapping[str, Release] = {
    "r32": Release(
        "r32",
        "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref, EABI: aarch64, "
        "DATE: Sat Feb 19 17:07:00 UTC 2022",
        "usr/bin/tegrastats",
    ),
    # JetPack 3.3 came with TensorRT 4, which nothing here stands for.
    "r28": Release(
        "r28",
        "# R28 (release), REVISION: 2.1, GCID: 11272647, BOARD: t186ref, EABI: aarch64, "
        "DATE: Thu May 17 07:29:06 UTC 2018",
        "home/nvidia/tegrastats",
        rails={
            "VDD_IN": "VDD_IN",
            "VDD_SYS_CPU": "VDD_CPU",
            "VDD_SYS_GPU": "VDD_GPU",
            "VDD_SYS_SOC": "VDD_SOC",
            "VDD_4V0_WIFI": "VDD_WIFI",
            "VDD_SYS_DDR": "VDD_DDR",
        },
        zones=("BCPU", "MCPU", "GPU", "PLL", "Tboard", "Tdiode", "PMIC", "thermal"),
        tensorrt=False,
    ),
}


def with_quirks(release: Release, tensorrt: str) -> Release:
    """A release on a board with a TensorRT of its own; "" is none."""
    return replace(release, tensorrt=release.tensorrt and bool(tensorrt))


def renamed(release: Release, reading: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A release's reading on a board that calls rails (by r32's names) otherwise; "" is none."""
    if not names:
        return reading
    rails: Mapping[str, int] = reading["rails"]
    own = {release.rails.get(rail, rail): name for rail, name in names.items()}
    called = {rail: own.get(rail, rail) for rail in rails}
    return {**reading, "rails": {called[rail]: mw for rail, mw in rails.items() if called[rail]}}


def worded(release: Release, reading: dict[str, Any]) -> dict[str, Any]:
    """A tegrastats reading in a release's names and order."""
    if not release.rails:
        return reading
    rails: Mapping[str, int] = reading["rails"]
    known = dict(reading["temps_c"])
    return {
        **reading,
        "rails": {new: rails[old] for old, new in release.rails.items() if old in rails},
        "temps_c": [(zone, known[zone]) for zone in release.zones if zone in known],
    }
