"""The real agent as a zipapp on a board made of shell scripts."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import hashlib
import json
import os
import selectors
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import hil.agent as agent_package

MAIN = "import sys\nfrom hil_agent.main import main\nsys.exit(main(sys.argv[1:]))\n"


def build_zipapp(target: Path) -> Path:
    """Packs the agent as the host ships it: package `hil_agent` and a `__main__.py`."""
    folder = Path(agent_package.__file__).parent
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.glob("*.py")):
            archive.writestr(f"hil_agent/{path.name}", path.read_bytes())
        archive.writestr("__main__.py", MAIN)
    return target


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


class FakeBoard:
    """A root folder with a Jetson's files and programs that write down how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home/nvidia"
        self.calls_file = root / "calls"
        for folder in ("home/nvidia", "run/lock", "var/lib/hil", "etc", "tmp"):
            (root / folder).mkdir(parents=True)
        self.write("proc/device-tree/model", "NVIDIA Jetson TX2\0")
        self.write("proc/sys/kernel/random/boot_id", "boot-one\n")
        self.write("etc/nv_tegra_release", "# R32 (release), REVISION: 7.1, GCID: 29818004\n")
        self.write("etc/hil-emulated", "")
        self.write("mode", "3")
        self.write("proc/meminfo", "MemTotal:        8042320 kB\n")
        self._sysfs()
        self._programs()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def program(self, name: str, text: str) -> None:
        folder = "usr/sbin" if name == "nvpmodel" else "usr/bin"
        script(self.root / folder / name, text)

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    @property
    def path(self) -> str:
        return f"{self.root}/usr/sbin:{self.root}/usr/bin"

    @property
    def clocks_conf(self) -> str:
        return f"{self.root}/var/lib/hil/clocks.conf"

    @property
    def restore_file(self) -> Path:
        return self.home / ".hil/restore.json"

    def _sysfs(self) -> None:
        gpu = "sys/class/devfreq/17000000.gp10b"
        for name, value in (("cur", 1300500000), ("min", 1300500000), ("max", 1300500000)):
            self.write(f"{gpu}/{name}_freq", f"{value}\n")
        cpu = "sys/devices/system/cpu/cpu0/cpufreq"
        for name, value in (("cur", 2035200), ("min", 345600), ("max", 2035200)):
            self.write(f"{cpu}/scaling_{name}_freq", f"{value}\n")
        for index, (name, milli) in enumerate((("GPU-therm", 41500), ("unpowered", -256000))):
            self.write(f"sys/class/thermal/thermal_zone{index}/type", name)
            self.write(f"sys/class/thermal/thermal_zone{index}/temp", str(milli))
        for index, (name, level) in enumerate((("pwm-fan", 2), ("gpu-cooling", 0))):
            self.write(f"sys/class/thermal/cooling_device{index}/type", name)
            self.write(f"sys/class/thermal/cooling_device{index}/cur_state", str(level))

    def _programs(self) -> None:
        log = 'echo "${0##*/} $*" >> ' + f"{self.calls_file}\n"
        self.program(
            "nvpmodel",
            f'{log}if [ "$1" = "-q" ]; then printf "NV Power Mode: MODE_%s\\n%s\\n" '
            f"$(/bin/cat {self.root}/mode) $(/bin/cat {self.root}/mode); exit 0; fi\n"
            f'if [ "$1" = "-m" ]; then printf "%s" "$2" > {self.root}/mode; fi\n',
        )
        # Like the real one: asks before it overwrites what was stored, and takes no for EOF.
        self.program(
            "jetson_clocks",
            log + 'if [ "$1" = "--store" ]; then if [ -e "$2" ]; then read answer; '
            '[ "$answer" = y ] || exit 1; fi; echo stored > "$2"; fi\n',
        )
        self.program(
            "sudo", '[ "$1" = "-n" ] || exit 9\nshift\n[ "$1" = "-l" ] && exit 0\nexec "$@"\n'
        )
        self.program(
            "tegrastats",
            log + "while true; do echo 'RAM 1/2MB VDD_IN 4000/4000'; /bin/sleep 0.02; done\n",
        )


class AgentProcess:
    """A running agent, spoken to as the host does."""

    def __init__(self, command: list[str], env: dict[str, str], stderr: Path) -> None:
        self.stderr = stderr
        with stderr.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                bufsize=0,
            )
        self._buffer = b""
        self._next_id = 0
        self.heartbeats = 0

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def send(self, message: dict) -> None:
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float = 60.0) -> dict | None:
        """The next message that is no heartbeat; None at the end of the stream."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                while b"\n" not in self._buffer:
                    assert selector.select(end - time.monotonic()), self.stderr.read_text()
                    data = os.read(self.process.stdout.fileno(), 1 << 16)
                    if not data:
                        assert not self._buffer
                        return None
                    self._buffer += data
                line, _, self._buffer = self._buffer.partition(b"\n")
                message = json.loads(line)
                if "notify" not in message:
                    return message
                self.heartbeats += 1

    def start(self, method: str, **params: object) -> int:
        self._next_id += 1
        self.send({"id": self._next_id, "method": method, "params": params})
        return self._next_id

    def finish(self, identity: int) -> tuple[dict, list[dict]]:
        """(last message, events) of one request."""
        events = []
        while True:
            message = self.receive()
            assert message is not None, self.stderr.read_text()
            assert message["id"] == identity
            if "event" not in message:
                return message, events
            events.append(message["event"])

    def call(self, method: str, **params: object) -> dict:
        message, _ = self.finish(self.start(method, **params))
        assert "result" in message, message
        return message["result"]

    def error(self, method: str, **params: object) -> dict:
        message, _ = self.finish(self.start(method, **params))
        assert "error" in message, message
        assert set(message["error"]) == {"code", "message", "why", "fix"}
        return message["error"]

    def hello(self) -> dict:
        return self.call("hello", protocols=[2], host="test")

    def lease(self, owner: str = "tester", ttl_s: float = 60) -> dict:
        return self.call("lease_acquire", owner=owner, ttl_s=ttl_s, steal_reason=None)

    def end_input(self, timeout_s: float = 20.0) -> int:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.end_input()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Bench:
    """Starts agents on one board with one interpreter."""

    def __init__(self, board: FakeBoard, zipapp: Path, python: str) -> None:
        self.board = board
        self._zipapp = zipapp
        self.python = python
        self._agents: list[AgentProcess] = []

    def start(self, home: Path | None = None) -> AgentProcess:
        env = {"HOME": str(home or self.board.home), "PATH": self.board.path, "LC_ALL": "C"}
        command = [self.python, "-u", str(self._zipapp), "serve", "--root", str(self.board.root)]
        command += ["--path", self.board.path]
        agent = AgentProcess(command, env, self.board.root / "agent.err")
        self._agents.append(agent)
        return agent

    def greeted(self, home: Path | None = None) -> AgentProcess:
        agent = self.start(home)
        agent.hello()
        return agent

    def upload(self, data: bytes, name: str = "upload") -> str:
        """Leaves a file where SFTP would; returns its sha256."""
        (self.board.home / ".hil/incoming" / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def put(self, agent: AgentProcess, data: bytes) -> str:
        """Ships a blob as the host does."""
        sha256 = self.upload(data)
        agent.call("blob_commit", name="upload", sha256=sha256)
        return sha256

    def blob(self, sha256: str) -> bytes:
        return (self.board.home / ".hil/blobs" / sha256).read_bytes()

    def close(self) -> None:
        for agent in self._agents:
            agent.close()


def gone(pid, seconds=5.0):
    """True once the process is no more (or only waits to be reaped)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
    return False


def has_onnxruntime(python: str) -> bool:
    done = subprocess.run([python, "-c", "import onnxruntime"], capture_output=True, check=False)
    return done.returncode == 0


def stamps(text: str) -> list[float]:
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def latencies(event: dict) -> list[int]:
    """Nanoseconds from one stamp to the next, each rounded as marks are."""
    pairs = zip(stamps(event["starts_b64"]), stamps(event["stops_b64"]), strict=True)
    return [round(stop * 1e9) - round(start * 1e9) for start, stop in pairs]


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory) -> Path:
    return build_zipapp(tmp_path_factory.mktemp("agent") / "hil-agent.pyz")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A CUDA runtime without a GPU (`fake_cudart.c`), loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).with_name("fake_cudart.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture
def launching(library):
    """Makes a graph's launch run what a fake TensorRT enqueued while it was captured."""
    kept = []

    def go(trt):
        call = ctypes.CFUNCTYPE(None)(lambda: [run() for run in trt.launches] and None)
        kept.append(call)
        library.hil_on_launch(call)

    yield go
    library.hil_on_launch(ctypes.CFUNCTYPE(None)())


@pytest.fixture
def board(tmp_path) -> FakeBoard:
    return FakeBoard(tmp_path / "root")


@pytest.fixture
def bench(board, zipapp, interpreter):
    made = Bench(board, zipapp, interpreter)
    yield made
    made.close()


def find_python36() -> str | None:
    """A working Python 3.6: $HIL_PYTHON36, .python36 (`make python36`), pyenv's, or on PATH."""
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    made = Path(__file__).parents[2] / ".python36/bin/python"
    found = [os.environ.get("HIL_PYTHON36"), str(made), shutil.which("python3.6")]
    with contextlib.suppress(OSError):  # another user's folder, perhaps
        found[2:2] = [str(path) for path in sorted(Path(root).glob("versions/3.6*/bin/python"))]
    for candidate in found:
        if candidate and _version(candidate).startswith("Python 3.6"):
            return candidate
    return None


def _version(python: str) -> str:
    try:
        done = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout


PYTHON36 = find_python36()


@pytest.fixture(params=["this python", "python 3.6"])
def interpreter(request) -> str:
    """Every test of a running agent holds on the boards' own Python, too."""
    if request.param == "this python":
        return sys.executable
    if PYTHON36 is None:
        pytest.skip("no Python 3.6 here (looked at HIL_PYTHON36, pyenv and PATH)")
    return PYTHON36
