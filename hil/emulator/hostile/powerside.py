"""Variants of what measures power: rails, their monitors, tegrastats."""

from __future__ import annotations

from hil.emulator.hostile.variant import Variant, having

RAIL = (r"rail", r"vdd_in", r"power source", r"no power", r"tegrastats", r"ina3221", r"monitor")
LINES = (r"tegrastats", r"power line", r"no power", r"no line", r"rail")
VARIANTS = (
    Variant(
        "rails-renamed", "rails",
        "The device tree of the carrier names every rail otherwise; the module's total is VIN_MOD.",
        "jetson.md 6 (names change with each JetPack); https://github.com/FindHao/tx-utils/issues/3",
        having(
            rails={
                "VDD_IN": "VIN_MOD",
                "VDD_SYS_GPU": "VGPU_5V",
                "VDD_SYS_CPU": "VCPU_5V",
                "VDD_SYS_SOC": "VSOC_5V",
                "VDD_SYS_DDR": "V1V8_DDR",
                "VDD_4V0_WIFI": "V4V0_M2",
            }
        ),
        says=RAIL,
    ),
    Variant(
        "total-rail-missing", "rails",
        "The channel of VDD_IN is switched off: neither tegrastats nor sysfs knows it.",
        "https://github.com/rbonghi/jetson_stats/issues/344",
        having(rails={"VDD_IN": ""}),
        says=RAIL,
    ),
    Variant(
        "rails-swapped", "rails",
        "The labels of VDD_IN and VDD_SYS_GPU are swapped, in sysfs and in tegrastats.",
        "jetson.md 1.5 (nano_2.log)",
        having(rails={"VDD_IN": "VDD_SYS_GPU", "VDD_SYS_GPU": "VDD_IN"}),
        says=(r"swap", r"label", r"parts", r"sum", r"total", r"rail"),
    ),
    Variant(
        "no-monitors", "rails",
        "The carrier's device tree has no INA3221: no nodes, and lines without rails.",
        "jetson.md 1.3 (xavier_nx_1, lines without power)",
        having(
            monitors=False,
            rails=dict.fromkeys(
                (
                    "VDD_IN",
                    "VDD_SYS_GPU",
                    "VDD_SYS_CPU",
                    "VDD_SYS_SOC",
                    "VDD_SYS_DDR",
                    "VDD_4V0_WIFI",
                ),
                "",
            ),
        ),
        says=RAIL,
    ),
    Variant(
        "i2c-renumbered", "carrier",
        "A third-party carrier: the monitors are on i2c-7, after two other iio devices, and the "
        "device tree's model is the carrier's.",
        "https://github.com/rbonghi/jetson_stats/issues/148 (Board: UNKNOWN); jetson.md 2.1",
        having(i2c_bus=7, iio_first=2, carrier="TX2 on a third-party carrier"),
    ),
    Variant(
        "triggered-monitors", "carrier",
        "The monitors convert at each reading instead of averaging: running_mode 0, instants.",
        "jetson.md 2.3",
        having(parameters={"sensor.tau_s": 0.0}),
    ),
    Variant(
        "monitors-die", "monitors",
        "After 6 s of board time reading a monitor fails (EIO), and lines come without rails.",
        "jetson.md 1.3 (xavier_nx_1, last three lines)",
        having(faults=("sensor-dead:after_s=6",)),
        says=RAIL,
    ),
    Variant(
        "monitors-stuck", "monitors",
        "After 6 s of board time the monitors say one thing for ever.",
        "https://github.com/rbonghi/jetson_stats/issues/485 (readings that stop)",
        having(faults=("sensor-stuck:after_s=6",)),
        says=RAIL,
    ),
    Variant(
        "no-tegrastats", "tegrastats",
        "tegrastats is not installed (an image built from meta-tegra without it).",
        "https://github.com/rbonghi/jetson_stats/issues/38",
        having(tegrastats="missing"),
        says=(r"tegrastats",),
    ),
    Variant(
        "tegrastats-in-sbin", "tegrastats",
        "tegrastats is in /usr/sbin.",
        "https://github.com/rbonghi/jetson_stats/issues/38",
        having(tegrastats="sbin"),
    ),
    Variant(
        "tegrastats-runs-already", "tegrastats",
        "Another instance runs; a second one ends with its words.",
        "jetson.md 1.1 (strings of the r28.2 binary)",
        having(tegrastats="instance"),
        says=LINES,
    ),
    Variant(
        "tegrastats-without-interval", "tegrastats",
        "A tegrastats of r28.1: it does not know --interval, and its lines have no rails.",
        "jetson.md 1.1",
        having(tegrastats="old-options"),
        says=LINES,
    ),
    Variant(
        "tegrastats-wants-root", "tegrastats",
        "tegrastats refuses to run for anybody but root.",
        "jetson.md 1.1 (ERROR: not invoking as root)",
        having(tegrastats="root"),
        says=LINES,
    ),
    Variant(
        "tegrastats-buffers", "tegrastats",
        "A wrapper hands lines on in blocks of 4096 bytes, long after they were made.",
        "https://github.com/moonlight-stream/moonlight-embedded/issues/865 (stdio into a pipe)",
        having(tegrastats="buffers"),
        says=LINES,
    ),
    Variant(
        "tegrastats-cache-of-root", "tegrastats",
        "root's /tmp/.tstats.txt is left over, and tegrastats cannot open it.",
        "jetson.md 1.1 (jetson_stats #360)",
        having(tegrastats="cache", leftovers=("tstats",)),
        says=LINES,
    ),
    Variant(
        "tegrastats-of-r39", "tegrastats",
        "Lines of JetPack 7.2: a date in front, lower-case zones, mW, three numbers a rail.",
        "jetson.md 1.3 (r39.2)",
        having(tegrastats="r39"),
        says=LINES,
    ),
    Variant(
        "tegrastats-of-the-future", "tegrastats",
        "Lines that no release has had yet: rails as VDD_IN=4.830W, lists in braces.",
        "hypothetical",
        having(tegrastats="future"),
        says=LINES,
    ),
    Variant(
        "tegrastats-dies", "tegrastats",
        "tegrastats ends with status 1 after 40 lines, once.",
        "https://github.com/rbonghi/jetson_stats/issues/183",
        having(faults=("tegrastats-dies:lines=40",)),
        says=LINES,
    ),
    Variant(
        "tegrastats-half-lines", "tegrastats",
        "One line in 7 is cut off and glued to the next.",
        "jetson.md 1.3 (xavier_nx_1 line 4)",
        having(faults=("tegrastats-half:every=7",)),
        says=LINES,
    ),
)  # fmt: skip
