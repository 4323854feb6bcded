"""What is taken for granted about a board's system: login, files, rights, clocks.

Rule of this file: data (see `hil.device.assumptions`).
"""

from __future__ import annotations

from hil.device.assumption import Assumption

SYSTEM = (
    # -- the link and the agent
    Assumption(
        "ssh-without-cbc",
        "The board's OpenSSH offers a cipher beside CBC and renames files over others.",
        "I",
        "OpenSSH 7.6 of Ubuntu 18.04 has CTR, GCM and posix-rename",
        "identity",
        "no login, or no agent on the board: hil/device/ssh.py must allow one CBC cipher",
    ),
    Assumption(
        "agent-on-python-36",
        "The board's python3 is 3.6 or later and carries the agent.",
        "I",
        "JetPack 4.6 ships 3.6.9; the agent is tested on 3.6 on another machine",
        "identity",
        "no measurement at all: install python3, or set agent.python",
    ),
    Assumption(
        "lease-folder",
        "The login may make a file in /run/lock, and the kernel tells the boot's id.",
        "I",
        "Ubuntu 18.04 has /run/lock with the sticky bit",
        "lease",
        "two hosts could use the board at once: another folder is needed",
    ),
    Assumption(
        "agent-dies-with-link",
        "When the link is cut, the agent puts clocks and mode back and ends with its children.",
        "I",
        "tested with OpenSSH on Linux x86-64 and on the emulated board",
        None,
        "a board stays pinned or busy after a cut cable, until `hil device unlock`",
        "`make test-board`, step cable",
    ),
    # -- identity
    Assumption(
        "l4t-release-file",
        "/etc/nv_tegra_release reads `# R32 (release), REVISION: 7.x`.",
        "I",
        "quoted in forum posts and scripts",
        "identity",
        "the release is unknown, and no requirement on it is checked",
    ),
    Assumption(
        "model-string",
        'The device tree\'s model names a TX2 ("quill", or with the words TX2).',
        "I",
        "L4T device tree sources",
        "identity",
        "sensor limits are unknown, so no total uncertainty is stated",
    ),
    Assumption(
        "mode-query",
        "`nvpmodel -q` answers an ordinary user with `NV Power Mode: NAME` and its number.",
        "I",
        "quoted outputs; some releases print more before it",
        "identity",
        "the mode is unknown and neither restored nor checked",
    ),
    Assumption(
        "gpu-devfreq",
        "The GPU's clock is a devfreq device whose name holds gp10b.",
        "I",
        "jetson_stats and L4T scripts",
        "identity",
        "pinned clocks and throttling of the GPU are not seen",
    ),
    Assumption(
        "cooling-devices",
        "Throttling shows as a cooling device with a state above 0 whose type is not a fan's.",
        "I",
        "Linux thermal framework; which devices a TX2 has is not known",
        "identity",
        "a throttled run passes as valid",
    ),
    # -- environment
    Assumption(
        "plain-path",
        "Programs are on the PATH of a login without a shell, or in /usr/sbin and /usr/bin.",
        "I",
        "meta-tegra recipes; Ubuntu's sshd",
        "environment",
        "a program is taken for absent: set agent.path",
    ),
    Assumption(
        "tensorrt-for-system-python",
        "TensorRT 8.2's binding is importable by /usr/bin/python3.",
        "I",
        "python3-libnvinfer of JetPack 4.6",
        "environment",
        "no engine can be built: set agent.python",
    ),
    Assumption(
        "trtexec-place",
        "trtexec lies in /usr/src/tensorrt/bin.",
        "I",
        "package libnvinfer-bin",
        "environment",
        "latency has no second opinion",
    ),
    Assumption(
        "numpy-needs-coretype",
        "numpy loads with OPENBLAS_CORETYPE=ARMV8 set (1.19.5 dies without).",
        "M",
        "a report of numpy's users, as remembered",
        "environment",
        "the worker dies of an illegal instruction as soon as an engine is run",
    ),
    Assumption(
        "no-leftover-of-tegrastats",
        "A root-owned /tmp/.tstats.txt does not keep an ordinary user's tegrastats from starting.",
        "I",
        "strings of the r28.2 program",
        "environment",
        "no power after somebody ran it as root: remove that file",
    ),
    # -- privileges
    Assumption(
        "sudo-asks-nothing",
        "`sudo -n -l COMMAND` tells whether exactly that line is allowed, without running it.",
        "I",
        "sudo(8)",
        "privileges",
        "`hil doctor` tells rights that are not there, or misses some",
    ),
    Assumption(
        "sudo-exact",
        'A sudoers line that ends in "" or in arguments allows nothing else.',
        "I",
        "sudoers(5)",
        "privileges",
        "the login may do more than pin clocks: it could write any sysfs path as root",
    ),
    # -- clocks and modes
    Assumption(
        "mode-without-prompt",
        "`nvpmodel -m` changes the mode at once, without a question or a reboot.",
        "I",
        "jtop feeds it YES; which releases ask is not known",
        "modes",
        "modes cannot be set over the link: set state.nvpmodel: null",
    ),
    Assumption(
        "mode-resets-clocks",
        "Clocks were stored inside the mode they belong to, so they go back before the mode does.",
        "M",
        "a mode change resets pinned clocks, as remembered",
        "modes",
        "the board keeps pinned clocks, or clocks of another mode, after a run",
    ),
    Assumption(
        "clocks-store",
        "`jetson_clocks --store FILE` asks at most whether to overwrite; --restore undoes pinning.",
        "I",
        "the r32 script as quoted",
        "modes",
        "clocks are not given back: reboot the board",
    ),
    Assumption(
        "pinned-shows",
        "Pinned means lowest = highest clock of GPU and all cores in sysfs.",
        "I",
        "what jetson_clocks writes",
        "modes",
        "every run is called suspect, or none is",
    ),
)
