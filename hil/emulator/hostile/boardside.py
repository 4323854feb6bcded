"""Variants of the board itself: clocks and modes, disk, memory, heat, other users, resets."""

from __future__ import annotations

from hil.emulator.hostile.variant import Variant, having

MIB = 1 << 20
DISK = (
    r"\bspace\b",
    r"\bfull\b",
    r"quota",
    r"read-only",
    r"cannot be (read or )?written",
    r"permission",
    r"writable",
)
MODE = (r"nvpmodel", r"power mode", r"reboot")
CLOCKS = (r"jetson_clocks", r"clocks", r"clocks\.conf")
MEMORY = (r"memory", r"\boom\b", r"killed", r"signal 9")
OTHERS = (r"gpu", r"load", r"other", r"busy", r"drift", r"idle")
HEAT = (r"throttl", r"hot", r"temperature", r"warm", r"clock", r"drift")
VARIANTS = (
    Variant(
        "clock-1970", "clock",
        "The wall clock starts on 1 January 1970: the board has no battery for it and no network.",
        "https://github.com/anduril/jetpack-nixos/pull/500",
        having(clock_s=130.0),
    ),
    Variant(
        "clock-jumps", "clock",
        "The wall clock starts in 1970, and NTP sets it right 4 s later, in board time.",
        "https://github.com/anduril/jetpack-nixos/pull/500",
        having(clock_s=130.0, faults=("clock-step:seconds=0,after_s=4",)),
    ),
    Variant(
        "disk-full", "disk",
        "Not a byte is left on /.",
        "https://github.com/jetsonhacks/buildJetsonTX2Kernel/issues/10",
        having(faults=("disk-full",)),
        says=DISK,
    ),
    Variant(
        "tmp-full", "disk",
        "/tmp is a file system of its own, and full.",
        "https://github.com/ppamidimarri/TeslaCamMerge/issues/9",
        having(disk={"tmp": "ENOSPC"}),
        says=DISK,
    ),
    Variant(
        "home-quota", "disk",
        "The login's disk quota is used up.",
        "quota(1)",
        having(disk={"~": "EDQUOT"}),
        says=DISK,
    ),
    Variant(
        "home-read-only", "disk",
        "The home folder is on a file system that was mounted read-only after an error.",
        "https://github.com/balena-os/balena-jetson-skx2/pull/104",
        having(disk={"~": "EROFS"}),
        says=DISK,
    ),
    Variant(
        "home-of-root", "disk",
        "Somebody made the home folder as root: nothing in it can be written.",
        "assumed: sudo mkdir",
        having(disk={"~": "EACCES"}),
        says=DISK,
    ),
    Variant(
        "tmp-noexec", "disk",
        "/tmp is mounted noexec: programs and libraries in it do not start.",
        "https://github.com/docker/compose/issues/1339",
        having(noexec=("tmp",)),
    ),
    Variant(
        "slow-card", "card",
        "The root is on a worn SD card: each fsync takes 0.7 s of board time.",
        "assumed; https://github.com/rbonghi/jetson_stats/issues/144 (root on other media)",
        having(fsync_ms=700.0),
    ),
    Variant(
        "one-core", "cores",
        "Only core 0 is online (isolcpus and maxcpus on the kernel's command line).",
        "jetson.md 2.5 (cores off); assumed for one",
        having(one_core=True),
    ),
    Variant(
        "nvpmodel-asks", "nvpmodel",
        "The board is in mode 3, and another mode needs a reboot: nvpmodel -m asks on stdin, "
        "changes nothing unless told YES, and ends with 0.",
        "https://github.com/almond-bot/axol/pull/107; jetson.md 2.5",
        having(nvpmodel="asks", boot_mode=3),
        says=MODE,
    ),
    Variant(
        "nvpmodel-unset", "nvpmodel",
        "nvpmodel -q says that the power mode is not set, until one has been set.",
        "https://github.com/rbonghi/jetson_stats/issues/148",
        having(nvpmodel="unset"),
        says=MODE,
    ),
    Variant(
        "nvpmodel-custom", "nvpmodel",
        "nvpmodel.conf has a mode 7 of the lab's own, and the board is in it; sudo was installed "
        "for modes 0 to 4.",
        "https://github.com/rbonghi/jetson_stats/issues/130",
        having(extra_modes={"7": "LAB_12W"}, boot_mode=7),
        says=(*MODE, r"sudo"),
    ),
    Variant(
        "nvpmodel-warns", "nvpmodel",
        "nvpmodel -q, not as root, prints NVPM ERROR lines between its answers.",
        "https://github.com/NVIDIA-AI-IOT/jetbot/issues/49",
        having(nvpmodel="warns"),
    ),
    Variant(
        "no-nvpmodel", "nvpmodel",
        "nvpmodel is not installed (an image of the board's owner).",
        "https://github.com/balena-os/balena-jetson-skx2/pull/104",
        having(nvpmodel="missing"),
        says=MODE,
    ),
    Variant(
        "clocks-pinned", "clocks",
        "A start-up service has pinned the clocks already (jetson_clocks.service).",
        "https://github.com/rbonghi/jetson_stats/issues/36",
        having(boot_pinned=True),
    ),
    Variant(
        "clocks-store-asks", "clocks",
        "A stored file is there already: jetson_clocks --store asks on stdin whether it may "
        "overwrite it, and fails unless told y.",
        "jetson_clocks.sh of L4T r28 to r32, action store (in many public copies)",
        having(clocks="store-asks", leftovers=("clocks.conf",)),
        says=CLOCKS,
    ),
    Variant(
        "clocks-store-fails", "clocks",
        "/var/lib/hil was never made: jetson_clocks --store cannot write its file.",
        "jetson.md 5 (the file that sudoers name)",
        having(clocks="store-fails"),
        says=(*CLOCKS, r"/var/lib/hil"),
    ),
    Variant(
        "desktop", "others",
        "A desktop is on the screen: its compositor takes 6 % of the GPU, and memory.",
        "https://github.com/dusty-nv/jetson-containers/issues/598; jetson.md 6 (#172)",
        having(faults=("other-user:share=0.06",), system_mb=2100),
        says=OTHERS,
    ),
    Variant(
        "foreign-gpu", "others",
        "Somebody else's program takes 35 % of the GPU.",
        "https://github.com/rbonghi/jetson_stats/issues/82",
        having(faults=("other-user:share=0.35",)),
        says=OTHERS,
    ),
    Variant(
        "foreign-gpu-comes", "others",
        "Somebody else's program takes half of the GPU after 9 s of board time.",
        "https://github.com/rbonghi/jetson_stats/issues/82",
        having(faults=("other-user:share=0.5,after_s=9",)),
        says=OTHERS,
    ),
    Variant(
        "no-fan", "heat",
        "No fan in a hot cabinet: the module throttles under a few watts.",
        "https://github.com/NVIDIA-AI-IOT/redtail/issues/38 (a J120 carrier, drone)",
        having(
            parameters={
                "thermal.ambient_c": 82.0,
                "thermal.resistance_c_per_w": 4.6,
                "thermal.tau_s": 20.0,
            }
        ),
        says=HEAT,
    ),
    Variant(
        "hot-room", "heat",
        "A room of 48 C: warmer, more leakage, no throttling.",
        "jetson.md 2.4 (leakage)",
        having(parameters={"thermal.ambient_c": 48.0}),
        says=HEAT,
    ),
    Variant(
        "memory-full", "memory",
        "Somebody's program holds nearly all of the memory: what is asked of the GPU fails.",
        "https://github.com/microsoft/onnxruntime/issues/3240; jetson.md 6",
        having(parameters={"memory.reserved_bytes": 8_241_807_360 - 2 * MIB}, system_mb=7700),
        says=MEMORY,
    ),
    Variant(
        "build-killed", "memory",
        "The kernel kills every engine build: out of memory.",
        "https://github.com/lewes6369/TensorRT-Yolov3/issues/40",
        having(faults=("build-crash:signal=9,times=-1",), system_mb=7000),
        says=MEMORY,
    ),
    Variant(
        "brown-out", "supply",
        "A weak supply: the board resets once, 12 s of board time into the work.",
        "https://github.com/dusty-nv/jetson-inference/issues/488",
        having(faults=("reboot:after_s=12,down_s=0.5",)),
        says=(r"reboot", r"reset", r"link", r"connect", r"ended", r"lost", r"restart"),
    ),
)  # fmt: skip
