"""Starts a virtual board in a child process and reaches it as any board: over SSH, key pinned.

Only the program's command line and its announcement are known here, not the emulator's code.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from hil.core.errors import DeviceError
from hil.device.board_files import STATE
from hil.device.config import Agent, Emulated, Ssh
from hil.device.link import Link
from hil.device.session import PlausibleDraws
from hil.device.ssh import connect
from hil.device.ssh_channels import Shell
from hil.device.ssh_session import agent_over
from hil.device.transport import BoundedLog, end_process

STARTUP_S = 60.0
GRACE_S = 10.0
PLAUSIBLE_S = 120.0


@contextmanager
def emulated_link(emulated: Emulated, name: str) -> Iterator[Link]:
    """Start a virtual board and the agent on it; end both afterwards.

    Raises:
        DeviceError: the emulator does not start, or its agent does not.
    """
    with virtual_board(emulated, name) as announced:
        ssh = announced_ssh(announced)
        agent = Agent(root=str(announced["root"]))
        with connect(ssh) as connection:

            def reset(seed: int) -> None:
                reset_board(connection, seed)

            with agent_over(connection, agent, "emulated", reset) as link:
                yield link


@contextmanager
def virtual_board(emulated: Emulated, name: str) -> Iterator[Mapping[str, Any]]:
    """Run the emulator's server; yields what it announced on its first line.

    Raises:
        DeviceError: it ends or stays silent instead.
    """
    process = subprocess.Popen(
        emulator_argv(emulated),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is ours to handle; the server ends when its input does
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors = BoundedLog(_reader(process.stderr), "emulator-stderr")
    try:
        yield _announcement(process.stdout, errors, name)
    finally:
        process.stdin.close()
        end_process(process, GRACE_S)
        errors.join(1.0)
        process.stdout.close()
        process.stderr.close()


def emulator_argv(emulated: Emulated) -> tuple[str, ...]:
    """Return the emulator's command line: a random port, its own root folder."""
    program = (sys.executable, "-m", "hil.emulator.serve")
    options = [f"--sensor-mode={emulated.sensor_mode}"] if emulated.sensor_mode else []
    options += [] if emulated.hostile is None else [f"--hostile={emulated.hostile}"]
    options += [f"--fault={fault}" for fault in emulated.faults]
    return (*program, "--board", emulated.board, "--seed", str(emulated.seed), *options, "--json")


def announced_ssh(announced: Mapping[str, Any]) -> Ssh:
    """Return how to reach an announced board; its announced key is the pin."""
    return Ssh(
        host=str(announced["host"]),
        port=int(announced["port"]),
        user=str(announced["user"]),
        identity=Path(str(announced["identity"])),
        host_key=str(announced["host_key"]),
    )


def reset_board(shell: Shell, seed: int) -> None:
    """Bring a virtual board to its known state: cool, idle, clocks as booted, noise reseeded.

    Raises:
        DeviceError: the board's control program fails.
    """
    done = shell.run(shlex.join(("hil-board", "reset", "--seed", str(seed))))
    if done.status != 0:
        raise DeviceError(
            "the emulated board cannot be reset",
            why=(done.err or done.out).strip() or f"exit status {done.status}",
            fix="this is a fault of hil: please report it with the message above",
        )


def plausible_draws(shell: Shell, engines: Sequence[str]) -> PlausibleDraws | None:
    """Draw engines' figures over plausible boards (see `Session.plausible`).

    Args:
        shell: of the virtual board.
        engines: hashes of plans on it.

    Raises:
        DeviceError: the board's control program fails.
    """
    paths = [f"{STATE}/blobs/{sha256}" for sha256 in engines]
    done = shell.run(shlex.join(("hil-board", "plausible", *paths)), PLAUSIBLE_S)
    if done.status != 0:
        raise DeviceError(
            "the emulated board cannot say how sure its figures are",
            why=(done.err or done.out).strip() or f"exit status {done.status}",
            fix="this is a fault of hil: please report it with the message above",
        )
    answer = json.loads(done.out)
    if "energy_mj" not in answer:
        return None
    return PlausibleDraws(
        board=str(answer["board"]),
        boards=int(answer["boards"]),
        rail=str(answer["rail"]),
        energy_mj=np.array(answer["energy_mj"], dtype=np.float64),
        latency_ms=np.array(answer["latency_ms"], dtype=np.float64),
    )


def _announcement(stdout: IO[bytes], errors: BoundedLog, name: str) -> Mapping[str, Any]:
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(STARTUP_S)
    try:
        announced = json.loads(lines[0]) if lines else None
    except ValueError:
        announced = None
    if isinstance(announced, dict) and "port" in announced:
        return announced
    raise DeviceError(
        f"the emulated board of {name!r} does not start",
        why=errors.text().strip()[-400:] or f"it announced nothing within {STARTUP_S:g} s",
        fix="check emulated.board in the device file; try `hil emulate BOARD` by hand",
    )


def _reader(stream: IO[bytes]) -> Any:
    return lambda: stream.readline() if not stream.closed else b""
