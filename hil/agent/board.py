"""Which board this is: identity, programs and versions, asked once and never guessed."""

import os
import platform
import re
import shutil

from . import procs, state

# assumes: l4t-release-file
_L4T = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
# assumes: mode-query
_MODE = re.compile(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)")
_RELEASE_FILE = "etc/nv_tegra_release"
_QUERY_TIMEOUT_S = 15.0


class Board:
    """The board under `root`, with programs looked up on `path` only."""

    def __init__(self, root, path, home, children):
        self.root = root
        self.path = path
        self.home = home
        self.children = children
        self._mode_hangs = False
        # The kernel's own where the root has none: leases end with the boot that they count.
        name = "proc/sys/kernel/random/boot_id"
        self.boot_id = state.text(root, name) or state.text("/", name) or "unknown"

    def program(self, name):
        """Absolute path of a program, None where the board has none."""
        found = shutil.which(name, path=self.path)
        return None if found is None else os.path.abspath(found)

    def run(self, argv, timeout_s=30.0, given=None):
        """Runs a fixed command line; its messages come in English."""
        return procs.run(self.children, argv, timeout_s, given, self.environment())

    def environment(self):
        """The environment of the board's programs: their words in English, numbers with points."""
        return dict(os.environ, PATH=self.path, LC_ALL="C")

    def model(self):
        """The device tree's model, e.g. "NVIDIA Jetson TX2"; None off Jetson boards."""
        return state.text(self.root, "proc/device-tree/model") or None

    def l4t(self):
        """The L4T release, e.g. "32.7.1"; None off Jetson boards."""
        found = _L4T.search(state.text(self.release_file()) or "")
        return None if found is None else "%s.%s" % found.groups()

    def release_file(self):
        """Where the L4T release is written."""
        return os.path.join(self.root, _RELEASE_FILE)

    def tegrastats(self):
        """Path of tegrastats: on PATH, or in the home folder as L4T r28 had it; else None."""
        at_home = os.path.join(self.home, "tegrastats")
        return self.program("tegrastats") or (at_home if os.access(at_home, os.X_OK) else None)

    # assumes: trtexec-place
    def trtexec(self):
        """Path of trtexec, None where absent."""
        shipped = os.path.join(self.root, "usr/src/tensorrt/bin/trtexec")
        return self.program("trtexec") or (shipped if os.access(shipped, os.X_OK) else None)

    def power_mode(self):
        """The nvpmodel mode {"id", "name"}; None where there is no nvpmodel or no answer.

        Slow on some boards and it disturbs them: never ask while something is measured.
        """
        program = self.program("nvpmodel")
        if program is None or self._mode_hangs:
            return None
        done = self.run([program, "-q"], _QUERY_TIMEOUT_S)
        self._mode_hangs = done.status is None  # once is enough to wait for
        found = _MODE.search(done.output)
        return None if found is None else {"id": int(found.group(2)), "name": found.group(1)}

    def memory_bytes(self):
        """Installed memory, which CPU and GPU share on a Jetson; None where unknown."""
        found = re.search(r"MemTotal:\s*(\d+) kB", state.text(self.root, "proc/meminfo") or "")
        return None if found is None else int(found.group(1)) * 1024

    def memory_text(self):
        """How much memory there is and is left, for people; None where the kernel does not say."""
        told = state.text(self.root, "proc/meminfo") or ""
        parts = []
        for name, words in (("MemTotal", "in all"), ("MemAvailable", "available now")):
            found = re.search(r"%s:\s*(\d+) kB" % name, told)
            if found:
                parts.append("%d MiB %s" % (int(found.group(1)) // 1024, words))
        return "memory: %s" % ", ".join(parts) if parts else None

    def memory_kills(self):
        """How many processes the kernel has ended for their memory; None where it does not count.

        Linux 4.13 and later count them in /proc/vmstat; a TX2's 4.9 does not.
        """
        found = re.search(r"^oom_kill (\d+)$", state.text(self.root, "proc/vmstat") or "", re.M)
        return None if found is None else int(found.group(1))

    def cpu(self):
        """The CPU's name as the kernel has it, else the machine type."""
        found = re.search(
            r"^model name\s*:\s*(.+)$", state.text(self.root, "proc/cpuinfo") or "", re.M
        )
        return found.group(1) if found else platform.machine()

    def state(self, power_mode):
        """Clocks and temperatures, with the given power mode (asking for it is not free)."""
        return dict(state.read(self.root), nvpmodel=power_mode)

    def emulated(self):
        """True on an emulated board, whose figures must say so."""
        return os.path.exists(os.path.join(self.root, "etc/hil-emulated"))


# assumes: plain-path
def default_path(root):
    """Where programs are looked for: a non-interactive login often lacks the sbin folders."""
    folders = [os.path.join(root, "usr/sbin"), os.path.join(root, "usr/bin")]
    inherited = os.environ.get("PATH", "").split(os.pathsep)
    if root == "/":
        return os.pathsep.join(inherited + folders + ["/sbin", "/bin"])
    return os.pathsep.join(folders + inherited)
