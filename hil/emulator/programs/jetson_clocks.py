"""`jetson_clocks`: pins the clocks at the power mode's maximum, shows, stores and restores them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hil.emulator.client import BoardClient, BoardRefusedError
from hil.emulator.hostile.quirks import of_this_board

HOME_OF_ROOT = "/root"
STORED = f"{HOME_OF_ROOT}/l4t_dfs.conf"
USAGE = """Usage:
jetson_clocks.sh [options]
  options,
  --help, -h         display this help message
  --show             display current settings
  --store [file]     store current settings to a file (default: ${HOME}/l4t_dfs.conf)
  --restore [file]   restore saved settings from a file (default: ${HOME}/l4t_dfs.conf)
  run jetson_clocks.sh without any option to set maximum performance
"""


def _on_board(file: str) -> Path:
    """The file of this host that a name on the board stands for."""
    root = os.environ["HIL_BOARD_ROOT"]
    return Path(file if file.startswith(root + "/") else root + file)


def _may_store(file: Path) -> bool:
    """What stands between a hostile board and its file of stored clocks."""
    if not file.parent.is_dir():
        sys.stderr.write(f"/usr/bin/jetson_clocks: {file}: No such file or directory\n")
        return False
    if not file.exists():
        return True
    sys.stdout.write(f"File {file} already exists. Can I overwrite it? Y/N:\n")
    sys.stdout.flush()
    if sys.stdin.readline().strip() not in ("y", "Y"):
        sys.stdout.write(f"Error: file {file} already exists!\n")
        return False
    return True


def main() -> int:
    """Runs the command; everything but the help is root's."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if os.environ.get("HIL_BOARD_ROOT_USER") != "1":
        sys.stdout.write("Error: Please run as root(sudo)\n")
        return 1
    action = {(): "pin", ("--show",): "show", ("--store",): "store", ("--restore",): "restore"}.get(
        tuple(arguments[:1])
    )
    if action is None:
        sys.stderr.write(f"Error: Unknown option {arguments[0]}\n{USAGE}")
        return 1
    file = arguments[1] if len(arguments) > 1 else STORED
    if action == "store" and of_this_board().clocks and not _may_store(_on_board(file)):
        return 1
    try:
        state = BoardClient().call("clocks", action=action, file=file)
    except BoardRefusedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if action == "show":
        sys.stdout.write(_show(state))
    return 0


def _show(state: dict[str, Any]) -> str:
    clocks = state["clocks"] if state["pinned"] else state["idle_clocks"]
    peak = state["clocks"]
    return (
        "SOC family:tegra186  Machine:quill\n"
        f"GPU MinFreq={round(clocks['gpu_mhz'] * 1e6)} MaxFreq={round(peak['gpu_mhz'] * 1e6)}"
        f" CurrentFreq={round(clocks['gpu_mhz'] * 1e6)}\n"
        f"EMC MinFreq=40800000 MaxFreq={round(peak['emc_mhz'] * 1e6)}"
        f" CurrentFreq={round(clocks['emc_mhz'] * 1e6)} FreqOverride={int(state['pinned'])}\n"
        f"NV Power Mode: {state['mode_name']}\n"
    )
