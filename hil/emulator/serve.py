"""`python -m hil.emulator.serve`: an emulated board on the loopback address.

The first line on stdout is a JSON object that says how to reach it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil.core.errors import ConfigError, HilError, HostError
from hil.emulator import clockfile, rootfs
from hil.emulator.boardmodel import BoardModel
from hil.emulator.client import BoardRefusedError
from hil.emulator.daemon import Daemon
from hil.emulator.failing import Failing, kill_processes, processes
from hil.emulator.faults import Faults, Settings, parse, settings_of
from hil.emulator.hostile import ground
from hil.emulator.hostile.variant import Variant
from hil.emulator.hostile.variants import drawn, named, quirks_of
from hil.emulator.login import Login
from hil.emulator.machine import Machine
from hil.emulator.releases import RELEASES, with_quirks
from hil.emulator.sshserver import SshListener


@dataclass(frozen=True)
class Options:
    """What to serve.

    Attributes:
        board: name of a shipped board, or a path to a board file.
        port: TCP port, 0 for any free one.
        root: the board's root folder, None for a temporary one.
        seed: which specimen of the board it is; all its noise follows from it.
        authorized_key: a file of public keys that may log in, None to make a fresh key pair.
        sensor_mode: "continuous" or "triggered" power monitors, None for the board's own.
        faults: what goes wrong from the start, as `hil.emulator.faults.parse` reads it.
        release: of L4T: "r32", or "r28" with its names and without TensorRT.
        hostile: seed that draws what is wrong with the board (`hil.emulator.hostile`), None for
            nothing.
        hostile_only: names of the variants instead of a draw.
    """

    board: str = "tx2"
    port: int = 0
    root: Path | None = None
    seed: int = 0
    authorized_key: Path | None = None
    sensor_mode: str | None = None
    faults: tuple[str, ...] = ()
    release: str = "r32"
    hostile: int | None = None
    hostile_only: tuple[str, ...] | None = None


class EmulatedBoard:
    """A running board; `close` ends its processes and removes its files."""

    def __init__(self, options: Options) -> None:
        self._private = Path(tempfile.mkdtemp(prefix="hil-board-"))
        self._kept_root = options.root is not None and options.root.exists()
        self.root = (options.root or self._private / "root").resolve()
        try:
            self._start(options)
        except BaseException:
            self._remove()
            raise

    def _start(self, options: Options) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if any(self.root.iterdir()):
            self._kept_root = True
            raise ConfigError(f"{self.root} is not empty", fix="name a new or empty folder")
        self.variants = _variants(options)
        quirks = quirks_of(self.variants, options.hostile or 0)
        model = BoardModel(options.board, options.sensor_mode)
        if self.variants:
            ground.alter(model, quirks)
        release = RELEASES[quirks.release if quirks.release != "r32" else options.release]
        release = with_quirks(release, quirks.tensorrt)
        clockfile.create(self._private / "clock")
        environment = rootfs.build(self.root, model, self._private, release, quirks)
        words = clockfile.attach(self._private / "clock")
        files = rootfs.StateFiles(self.root, model, rootfs.place_of(quirks))
        faults = Faults()
        machine = Machine(model, options.seed, words, files.update, faults)
        self._daemon = Daemon(self._private / "socket", machine, self.root, files.nodes)
        self._nodes = files.nodes
        self._host_key = _make_key(self._private / "host_ed25519")
        self.identity: Path | None = None
        authorized = _authorized(options.authorized_key)
        if not authorized:
            self.identity = self._private / "id_ed25519"
            authorized = (_make_key(self.identity),)
        login = Login(self._host_key, authorized, self.root, environment, faults, quirks)
        self.quirks = quirks
        self._listener = _listen(login, options.port)
        socket_path = self._private / "socket"
        self._failing = Failing(machine, self.root, socket_path, self._listener.wire)
        self._daemon.failing = self._failing
        self._faults = faults
        if quirks.clock_s is not None:
            self.fault("clock-step", {"seconds": quirks.clock_s - time.time()})
        for text in (*quirks.faults, *options.faults):
            self.fault(*parse(text))
        self._daemon.start()
        self._listener.start()
        self._warming = threading.Thread(target=self._daemon.compute.warm)
        self._warming.start()

    def description(self) -> dict[str, Any]:
        """How to reach the board."""
        return {
            "host": "127.0.0.1",
            "port": self._listener.port,
            "user": self.quirks.user,
            "host_key": f"{self._host_key.get_name()} {self._host_key.get_base64()}",
            "fingerprint": self._host_key.fingerprint,
            "root": str(self.root),
            "identity": str(self.identity) if self.identity else None,
            "hostile": {variant.name: variant.does for variant in self.variants},
        }

    def fault(self, name: str, settings: Settings | None = None) -> None:
        """Switches a fault on (see `hil.emulator.faults`); settings not given have defaults.

        Raises:
            BoardRefusedError: no such fault or setting.
        """
        given = [f"{key}={value}" for key, value in (settings or {}).items()]
        self._failing.put(name, settings_of(name, given))

    def clear(self, name: str | None = None) -> None:
        """Switches a fault off, or all of them."""
        self._faults.clear(name)

    def faults(self) -> dict[str, Settings]:
        """The faults that are on."""
        return self._faults.listing()

    def quiet_truth(self, mode: int | None = None) -> dict[str, float]:
        """What one inference of the engine that ran last truly costs, undisturbed.

        Args:
            mode: power mode that it is asked for, None for the present one.

        Returns:
            `energy_mj` (at VDD_IN, gross), `latency_ms` and `power_w`.

        Raises:
            BoardRefusedError: no engine has run.
        """
        return self._daemon.compute.quiet({"mode": mode})

    def running(self) -> dict[int, str]:
        """The board's processes: pid and command line, none where nothing runs."""
        return processes(str(self._private / "socket"))

    def condition(self) -> dict[str, Any]:
        """The board's state: power mode, clocks, temperature."""
        return self._daemon.control.condition()

    def close(self) -> None:
        """Ends the board and everything that runs on it."""
        self._warming.join()
        self._listener.stop()
        kill_processes(str(self._private / "socket"))
        self._daemon.shutdown()
        self._daemon.server_close()
        self._nodes.close()
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._private, ignore_errors=True)
        if not self._kept_root:
            shutil.rmtree(self.root, ignore_errors=True)
        elif hasattr(self, "_listener"):
            for entry in self.root.iterdir():
                shutil.rmtree(entry, ignore_errors=True)


def _variants(options: Options) -> tuple[Variant, ...]:
    if options.hostile_only is not None:
        return named(options.hostile_only)
    return () if options.hostile is None else drawn(options.hostile)


def _listen(login: Login, port: int) -> SshListener:
    try:
        return SshListener(login, port)
    except OSError as error:
        raise HostError(
            f"cannot listen on 127.0.0.1:{port}", why=str(error), fix="choose another --port"
        ) from error


def _make_key(path: Path) -> paramiko.PKey:
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    return paramiko.Ed25519Key(filename=str(path))


def _authorized(path: Path | None) -> tuple[paramiko.PKey, ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}", why=str(error)) from error
    keys = []
    for line in lines:
        fields = line.split()
        if len(fields) >= 2 and not line.startswith("#"):
            keys.append(_public_key(path, *fields[:2]))
    if not keys:
        raise ConfigError(f"{path} holds no public key", fix="give an OpenSSH public key file")
    return tuple(keys)


def _public_key(path: Path, kind: str, text: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(text, validate=True))
    except (paramiko.SSHException, ValueError) as error:
        raise ConfigError(f"{path} holds no usable public key", why=str(error)) from error


def _parse() -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(prog="python -m hil.emulator.serve", description=__doc__)
    parser.add_argument("--board", default="tx2", help="shipped board or board file")
    parser.add_argument("--port", type=int, default=0, help="TCP port (default: any free one)")
    parser.add_argument("--root", type=Path, help="folder for the board's files")
    parser.add_argument("--seed", type=int, default=0, help="seed of all noise")
    parser.add_argument("--authorized-key", type=Path, help="public keys that may log in")
    parser.add_argument(
        "--sensor-mode", choices=("continuous", "triggered"), help="how the monitors convert"
    )
    parser.add_argument("--release", choices=sorted(RELEASES), default="r32", help="of L4T")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:K=V,...]", help="what goes wrong"
    )
    parser.add_argument("--hostile", type=int, help="seed that draws what is wrong with it")
    parser.add_argument("--hostile-only", help="variants by name instead, separated by commas")
    parser.add_argument("--json", action="store_true", help="end when stdin closes")
    given = parser.parse_args()
    options = Options(
        given.board,
        given.port,
        given.root,
        given.seed,
        given.authorized_key,
        given.sensor_mode,
        tuple(given.fault),
        given.release,
        given.hostile,
        None if given.hostile_only is None else tuple(filter(None, given.hostile_only.split(","))),
    )
    return options, given.json


def _wait(stop: threading.Event, *, watch_stdin: bool) -> None:
    if watch_stdin:
        threading.Thread(target=_until_stdin_closes, args=(stop,), daemon=True).start()
    while not stop.wait(1.0):
        pass


def _until_stdin_closes(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def main() -> int:
    """Serves until told to stop."""
    options, watch_stdin = _parse()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        board = EmulatedBoard(options)
    except HilError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except BoardRefusedError as error:
        sys.stderr.write(f"{error}\n")
        return ConfigError.exit_code
    try:
        sys.stdout.write(json.dumps(board.description()) + "\n")
        sys.stdout.flush()
        _wait(stop, watch_stdin=watch_stdin)
    finally:
        board.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
