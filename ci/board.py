"""The acceptance run of a board: all that `hil` promises of one, tried on yours.

`make test-board HOST=... BOARD_USER=... IDENTITY=...` runs it. It ends with a table and one
archive, without names and addresses, to be sent back. Nothing is changed that is not put back.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from hil.cli.bringup_work import secrets_of
from hil.core.errors import HilError
from hil.device.archive import Recorded, unpacked
from hil.device.board_files import SftpFiles, install_agent
from hil.device.bundle import agent_bundle
from hil.device.config import SshDevice, load_device
from hil.device.opening import device_link, open_session
from hil.device.redaction import Secrets, redact, redact_text
from hil.device.ssh import connect
from hil.net.reference import reference_network
from hil.net.sample import sample_network

HIL = (sys.executable, "-m", "hil.cli.app")
NAME = "board"
RELEASE_S = 120.0
"""The agent gives up on a silent host after 30 s, and then puts the board back."""


class StepError(Exception):
    """A step whose promise does not hold."""


@dataclass
class Bench:
    """A board under acceptance, and the folder that holds what comes of it."""

    folder: Path
    device: SshDevice | None = None
    minutes: float = 30.0
    bringup_time: str = "10m"
    before: Mapping[str, Any] = field(default_factory=dict)

    @property
    def board(self) -> SshDevice:
        """The device file, read."""
        if self.device is None:
            raise StepError("the board was not enrolled")
        return self.device

    def hil(
        self, *words: str, log: str, codes: tuple[int, ...] = (0,), limit_s: float = 3600
    ) -> int:
        """Run the command line as a person does; its output goes to a log."""
        with (self.folder / f"{log}.log").open("w", encoding="utf-8") as out:
            done = subprocess.run(
                [*HIL, *words],
                cwd=self.folder,
                stdout=out,
                stderr=out,
                check=False,
                timeout=limit_s,
            )
        if done.returncode not in codes:
            raise StepError(f"hil {words[0]} ended with {done.returncode}, see {log}.log")
        return done.returncode

    def state(self) -> dict[str, Any]:
        """Return of the board's state what must not change, and who holds it."""
        with device_link(self.board) as link:
            state = link.client.request("transcript", timeout_s=180.0)["state"]
            held = link.client.request("lease_status")["held"]
        return {name: state.get(name) for name in ("nvpmodel", "clocks_pinned")} | {"held": held}

    def as_before(self) -> str:
        """Check that the board is as it was found."""
        now = self.state()
        if now != self.before:
            raise StepError(f"the board is not as found: {self.before} before, {now} now")
        return "mode and clocks as found, lease free"


def enrol(bench: Bench, given: argparse.Namespace) -> str:
    """Pin the key, probe the board, write its file."""
    host = f"{given.user}@{given.host}:{given.port}"
    words = [
        "device",
        "add",
        host,
        "--identity",
        given.identity,
        "--name",
        NAME,
        "--root",
        given.root,
    ]
    if given.fingerprint:
        bench.hil(*words, "--fingerprint", given.fingerprint, log="enrol")
    else:  # a person compares it
        done = subprocess.run([*HIL, *words], cwd=bench.folder, check=False)
        if done.returncode:
            raise StepError(f"hil device add ended with {done.returncode}")
    device = load_device(bench.folder / "devices" / f"{NAME}.yaml")
    assert isinstance(device, SshDevice)
    bench.device = device
    bench.before = bench.state()
    if bench.before["held"]:
        raise StepError("somebody holds the board")
    return f"{device.board}, {bench.before}"


def selftest(bench: Bench) -> str:
    """Let the agent try itself on the board's own Python."""
    with connect(bench.board.ssh) as connection:
        files = SftpFiles(connection.sftp(), connection.where)
        path = install_agent(connection, files, agent_bundle(), connection.where)
        done = connection.run(f"{bench.board.agent.python} {path} selftest", 120.0)
        files.close()
    told = json.loads(done.out.splitlines()[-1])
    (bench.folder / "selftest.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    broken = [f"{one['name']}: {one['detail']}" for one in told["checks"] if not one["ok"]]
    if broken or done.status:
        raise StepError("; ".join(broken) or f"exit status {done.status}")
    return f"Python {told['python']}, {len(told['checks'])} parts"


def bringup(bench: Bench) -> str:
    """Meet the board, then meet it again from the archive."""
    limit = ("--max-time", bench.bringup_time)
    bench.hil("bringup", "-d", NAME, *limit, "-o", "bringup.json", log="bringup")
    archive = f"bringup-{NAME}.tar.gz"
    bench.hil("bringup", "--from", archive, "-o", "replay.json", log="replay")
    met, again = (
        json.loads((bench.folder / n).read_text()) for n in ("bringup.json", "replay.json")
    )
    for report in (met, again):
        report.pop("header")
    if met != again:
        raise StepError("the replay of the archive gives another report")
    return f"{met['counts']}, {met['board_s']:.0f} s of board time; {met['verdicts']}; replay equal"


def profile(bench: Bench) -> str:
    """Measure a network."""
    bench.hil("profile", "a.onnx", "-d", NAME, log="profile", codes=(0, 5))
    result = latest(bench, "profile")
    if result["validity"] == "invalid":
        raise StepError(f"invalid: {result['reasons']}")
    return f"{result['energy_mj']} mJ {result['energy_mj_ci95']}, {result['validity']}"


def compare(bench: Bench) -> str:
    """Hold two networks against each other."""
    bench.hil("compare", "a.onnx", "b.onnx", "-d", NAME, log="compare", codes=(0, 5))
    result = latest(bench, "compare")
    if result["validity"] == "invalid":
        raise StepError(f"invalid: {result['reasons']}")
    return f"{result['validity']}, {len(result.get('rounds', []))} rounds"


def latest(bench: Bench, verb: str) -> dict[str, Any]:
    """Return the result that a verb kept last."""
    found = sorted((bench.folder / "runs" / verb).glob("*/result.json"))
    if not found:
        raise StepError(f"hil {verb} left no result")
    result: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return result


def lease(bench: Bench) -> str:
    """A second host is refused, and one that waits gets the board."""
    words = ("profile", "a.onnx", "-d", NAME, "--no-keep", "--max-time", "60s")
    with open_session(bench.board, owner="the acceptance run"):
        bench.hil(*words, "--wait", "0s", log="lease-refused", codes=(4,))
        argv = [*HIL, *words, "--wait", "10m"]
        waiting = subprocess.Popen(
            argv, cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        said = _until_said(waiting, "waiting")
    _, rest = waiting.communicate(timeout=1200)
    (bench.folder / "lease-waited.log").write_text(said + rest, encoding="utf-8")
    if waiting.returncode not in (0, 5):
        raise StepError(f"the host that waited ended with {waiting.returncode}")
    return "refused with 4 at once; the one that waited measured"


def _until_said(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    said = ""
    while word not in said:
        line = process.stderr.readline()
        if not line:
            process.wait(60)
            raise StepError(f"it ended with {process.returncode} instead of waiting: {said}")
        said += line
    return said


@dataclass
class Cable:
    """A link of ours to the board that can be cut: silence, not a closed connection."""

    target: tuple[str, int]
    cut: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @contextmanager
    def laid(self) -> Iterator[Cable]:
        """Listen on loopback for as long as the block lasts."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()
            yield self

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                near, _ = server.accept()
                far = socket.create_connection(self.target, timeout=15)
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with near, far, suppress(OSError):
            while not self.cut.is_set():
                ready, _, _ = select.select([near, far], [], [], 0.1)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    other[end].sendall(data)
            time.sleep(RELEASE_S)  # a pulled cable says nothing to either side


def cable(bench: Bench, *, by_hand: bool = False) -> str:
    """Pull the cable under load: we notice, and the board puts itself back."""
    ssh = bench.board.ssh
    pin = _pinned_line(bench)
    with Cable((ssh.host, ssh.port)).laid() as laid:
        where = {"host": "127.0.0.1", "port": laid.port} if not by_hand else {}
        _write_cabled(bench, where, pin)
        argv = [*HIL, "profile", "a.onnx", "-d", "cabled", "--no-keep"]
        argv += ["--target-ci", "0.001%", "--max-time", "2h"]
        log = (bench.folder / "cable.log").open("w", encoding="utf-8")
        with log, subprocess.Popen(argv, cwd=bench.folder, stdout=log, stderr=log) as host:
            try:
                _wait(lambda: bench.state()["held"], "the board is under load", 120)
                if by_hand:
                    sys.stderr.write("pull the board's network cable now; you have a minute\n")
                else:
                    laid.cut.set()
                began = time.monotonic()
                code = host.wait(180)
                noticed_s = time.monotonic() - began
            finally:
                host.kill()
    if code != 3:
        raise StepError(f"the host ended with {code}, not 3 (board unreachable)")
    if by_hand:
        input("plug it in again, then press return: ")
    _wait(lambda: not bench.state()["held"], "the board is free again", RELEASE_S)
    freed_s = time.monotonic() - began
    bench.as_before()
    return f"noticed after {noticed_s:.0f} s, the board as found after {freed_s:.0f} s"


def _pinned_line(bench: Bench) -> str:
    words = bench.board.ssh.known_hosts.read_text().split() if bench.board.ssh.known_hosts else []
    return " ".join(words[1:3])


def _write_cabled(bench: Bench, where: Mapping[str, Any], pin: str) -> None:
    source = bench.folder / "devices" / f"{NAME}.yaml"
    data = yaml.safe_load(source.read_text(encoding="utf-8"))
    ssh = {**data["ssh"], **where, "host_key": pin}
    ssh.pop("known_hosts")
    cabled = yaml.safe_dump({**data, "name": "cabled", "ssh": ssh})
    (bench.folder / "devices" / "cabled.yaml").write_text(cabled, encoding="utf-8")


def _wait(holds: Callable[[], bool], what: str, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        with suppress(HilError):
            if holds():
                return
        time.sleep(1.0)
    raise StepError(f"not within {limit_s:.0f} s: {what}")


def synthesis(bench: Bench) -> str:
    """Synthesize for a while; then stop as a person does, with everything kept."""
    argv = [*HIL, "synthesize", "--device", NAME, "--run", "synthesis"]
    with (bench.folder / "synthesis.log").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(argv, cwd=bench.folder, stdout=log, stderr=log)
        try:
            code = run.wait(60 * bench.minutes)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
            code = run.wait(300)
    if code not in (0, 1, 130):
        raise StepError(f"it ended with {code}, see synthesis.log")
    how = {0: "finished", 1: "finished, nothing feasible", 130: "checkpointed"}[code]
    return f"{how} within {bench.minutes:g} minutes"


@dataclass(frozen=True)
class Row:
    """A step that is over."""

    name: str
    ok: bool
    told: str
    wall_s: float


def run(bench: Bench, given: argparse.Namespace) -> list[Row]:
    """Run every step; only a board that cannot be enrolled ends it early."""
    (bench.folder / "a.onnx").write_bytes(reference_network())
    (bench.folder / "b.onnx").write_bytes(sample_network())
    steps: list[tuple[str, Callable[[], str]]] = [
        ("enrol", lambda: enrol(bench, given)),
        ("selftest", lambda: selftest(bench)),
        ("bringup", lambda: bringup(bench)),
        ("profile", lambda: profile(bench)),
        ("compare", lambda: compare(bench)),
        ("restore", bench.as_before),
        ("lease", lambda: lease(bench)),
        ("cable", lambda: cable(bench, by_hand=given.by_hand)),
        ("synthesis", lambda: synthesis(bench)),
        ("as found", bench.as_before),
    ]
    return carry_out(steps, given.only, "enrol")


def carry_out(steps: Sequence[tuple[str, Callable[[], str]]], only: str, first: str) -> list[Row]:
    """Run steps in order; only the first one's failure ends it.

    Args:
        steps: by name; each tells what came of it, or raises.
        only: names of those to run, by commas; "" for all. The first is always run.
        first: name of the one that all others need.
    """
    wanted = {first, *only.split(",")} if only else {name for name, _ in steps}
    rows: list[Row] = []
    for name, step in steps:
        if name not in wanted:
            continue
        sys.stderr.write(f"{name} ...\n")
        began = time.monotonic()
        try:
            ok, told = True, step()
        except (HilError, StepError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            ok, told = False, str(error)
        rows.append(Row(name, ok, told, round(time.monotonic() - began, 1)))
        sys.stderr.write(f"  {'ok' if ok else 'FAILED'}: {told} ({rows[-1].wall_s:.0f} s)\n")
        if name == first and not ok:
            break
    return rows


def pack(bench: Bench, rows: list[Row]) -> Path:
    """Put all text that came of it into one archive, redacted; return its path."""
    secrets = _secrets(bench)
    target = bench.folder.with_suffix(".tar.gz")
    with tarfile.open(target, "w:gz") as archive:
        results = json.dumps([vars(row) for row in rows], indent=1)
        _add(archive, "results.json", redact_text(results, secrets))
        for path in sorted(p for p in bench.folder.rglob("*") if p.is_file()):
            name = path.relative_to(bench.folder).as_posix()
            if name.startswith("bringup-"):
                archive.add(path, f"board/{name}")  # redacted when it was written
            elif path.suffix == ".json":
                _add(archive, name, json.dumps(redact(json.loads(path.read_text()), secrets)))
            elif name.endswith(".json.gz"):
                told = redact(json.loads(gzip.decompress(path.read_bytes())), secrets)
                _add(archive, name.removesuffix(".gz"), json.dumps(told))
            elif path.suffix == ".log":
                _add(archive, name, redact_text(path.read_text(errors="replace"), secrets))
    return target


def _secrets(bench: Bench) -> Secrets:
    archive = bench.folder / f"bringup-{NAME}.tar.gz"
    if bench.device is None or not archive.exists():
        return Secrets(frozenset({socket.gethostname()}), frozenset({os.environ.get("USER", "")}))
    met: Recorded = unpacked(archive)
    return secrets_of(bench.device, met)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(f"board/{name}")
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def main() -> int:
    """Run it; exit 0 where every step is ok."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--user", default="")
    parser.add_argument("--identity", required=True)
    parser.add_argument("--port", type=int, default=22)
    parser.add_argument("--root", default="/", help="of an emulated board")
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--minutes", type=float, default=30.0, help="of synthesis")
    parser.add_argument("--bringup-time", default="10m", help="board time for the bring-up")
    parser.add_argument("--only", default="", help="some of the steps, by name: bringup,cable")
    parser.add_argument("--by-hand", action="store_true", help="a person pulls the cable")
    given = parser.parse_args()
    if not given.host or not given.identity:
        parser.error("give HOST= and IDENTITY=")
    given.user = given.user or "hil"
    given.identity = str(Path(given.identity).expanduser().absolute())
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path(f"board-{stamp}").absolute()
    folder.mkdir()
    bench = Bench(folder, minutes=given.minutes, bringup_time=given.bringup_time)
    rows = run(bench, given)
    for row in rows:
        sys.stdout.write(
            f"{'ok' if row.ok else 'FAILED':7}{row.name:10}{row.wall_s:7.0f} s  {row.told}\n"
        )
    sys.stdout.write(f"send this back: {pack(bench, rows)}\n")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
