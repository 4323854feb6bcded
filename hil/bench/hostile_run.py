"""Takes a user's path on one hostile board: serve it, examine it, profile a network, look after.

The verbs run as a user runs them, in processes of their own, and reach the board over SSH.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.bench.hostile_judge import Ending, Verdict, judge
from hil.emulator.client import BoardRefusedError
from hil.emulator.serve import EmulatedBoard, Options
from hil.net.reference import reference_network

LIMIT_S = 180.0
"""After so long a verb is taken to hang; on a healthy board it takes a few seconds."""
SETTLE_S = 8.0
"""Of our time, in which what ran on the board may still end and put it in order."""
PROFILE = ("profile", "net.onnx", "-d", "board.yaml", "--json", "--no-keep")
WINDOWS = ("--target-ci", "3%", "--max-time", "60s")
SHORT = {"bringup": ("--max-time", "60s")}
"""What a verb is given besides the board: all that only reads, lease and restore fit into it."""
KEPT = 4000
"""Of what a verb said, kept in the result."""
WATCHED = ("etc", "home", "root", "tmp", "usr", "var")
ALLOWED = (".hil/", ".cache/", "tmp/.ses", "var/lib/hil/clocks.conf", "tmp/.tstats.txt")
"""The agent's own folder, the file that sudoers name, and what the stand-in's libraries leave."""
DEVICE = """\
schema: hil/device@1
name: hostile
driver: ssh
board: jetson-tx2
ssh:
  host: {host}
  port: {port}
  user: "{user}"
  identity: "{identity}"
  host_key: "{host_key}"
agent: {{root: "{root}"}}
runtime: {{name: tensorrt, precision: fp16, workspace_mib: 256, opset: 13}}
state: {{nvpmodel: 0, clocks: true}}
power: {{source: tegrastats, rail: VDD_IN, interval_ms: 100}}
"""


@dataclass(frozen=True)
class Outcome:
    """One board, what became of it, and how long that took."""

    label: str
    variants: tuple[str, ...]
    verdict: Verdict
    endings: tuple[Ending, ...]
    wall_s: float

    def as_json(self) -> dict[str, Any]:
        """For `--json`: what was said is cut to its end."""
        return {
            "board": self.label,
            "variants": list(self.variants),
            **asdict(self.verdict),
            "good": self.verdict.good,
            "wall_s": round(self.wall_s, 1),
            "said": {each.verb: [each.out[-KEPT:], each.err[-KEPT:]] for each in self.endings},
            "verbs": {each.verb: each.status for each in self.endings},
            "seconds": {each.verb: round(each.wall_s, 1) for each in self.endings},
        }


def run_board(
    label: str, options: Options, verbs: Sequence[str], limit_s: float = LIMIT_S
) -> Outcome:
    """Serves a board, takes the path on it and judges.

    Args:
        label: what to call it in the report.
        options: the board.
        verbs: those before `profile`: doctor, bringup.
        limit_s: after so long a verb is taken to hang.
    """
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    began_s = time.monotonic()
    board = EmulatedBoard(options)
    try:
        with tempfile.TemporaryDirectory(prefix="hil-hostile-") as name:
            folder = Path(name)
            told = board.description()
            (folder / "net.onnx").write_bytes(reference_network())
            (folder / "board.yaml").write_text(DEVICE.format(**told), encoding="utf-8")
            before = State.of(board)
            endings = [run_verb(_words(verb), folder, limit_s) for verb in verbs]
            endings.append(run_verb((*PROFILE, *WINDOWS), folder, limit_s))
            left = _left(before, board)
        says = [word for variant in board.variants for word in variant.says]
        verdict = judge(endings, says, _truth(board), left)
    finally:
        board.close()
    names = tuple(variant.name for variant in board.variants)
    return Outcome(label, names, verdict, tuple(endings), time.monotonic() - began_s)


def _words(verb: str) -> tuple[str, ...]:
    return (verb, "-d", "board.yaml", *SHORT.get(verb, ()))


def run_verb(argv: Sequence[str], folder: Path, limit_s: float = LIMIT_S) -> Ending:
    """Runs one verb in a process of its own; one that takes too long is ended."""
    command = [sys.executable, "-m", "hil.cli.app", *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    began_s = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    status: int | None
    try:
        out, err = process.communicate(timeout=limit_s)
        status = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        status = None
    said, complained = (each.decode("utf-8", errors="replace") for each in (out, err))
    return Ending(argv[0], status, said, complained, time.monotonic() - began_s)


@dataclass(frozen=True)
class State:
    """What must be on a board afterwards as it was before."""

    mode: int
    pinned: bool
    files: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, board: EmulatedBoard) -> State:
        """Looks at a board."""
        condition = board.condition()
        return cls(condition["mode"], condition["pinned"], _files(board.root))


def _files(root: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for top in WATCHED:
        for path in (root / top).rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(part in name for part in ALLOWED):
                stat = path.lstat()
                found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def _left(before: State, board: EmulatedBoard) -> list[str]:
    """What is different on the board, once what ran there has had time to end."""
    deadline_s = time.monotonic() + SETTLE_S
    while (running := board.running()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    after = State.of(board)
    left = [f"process {pid} still runs: {command}" for pid, command in running.items()]
    if after.mode != before.mode:
        left.append(f"power mode {after.mode}, found {before.mode}")
    if after.pinned != before.pinned:
        left.append("clocks pinned" if after.pinned else "pinned clocks let go")
    changed = {name for name, _ in before.files.items() ^ after.files.items()}
    left += [f"file {name} changed" for name in sorted(changed)]
    held = [path for path in (board.root / "run/lock").iterdir() if path.stat().st_size]
    return left + [f"lease {path.name} held" for path in held]


def _truth(board: EmulatedBoard) -> dict[str, float] | None:
    try:
        return board.quiet_truth(0)
    except BoardRefusedError:
        return None
