"""Variants of what is installed: releases, Python and its packages, what is on PATH."""

from __future__ import annotations

import random

from hil.emulator.hostile.quirks import Quirks
from hil.emulator.hostile.variant import Variant, having, with_fields

TEGRA = "# R32 (release), REVISION: {}, GCID: {}, BOARD: t186ref, EABI: aarch64, DATE: {}"
REVISIONS = {
    "7.2": "Thu Apr 21 17:33:50 UTC 2022",
    "7.3": "Tue Nov 22 17:33:47 UTC 2022",
    "7.4": "Thu Jun 8 21:16:03 UTC 2023",
    "7.5": "Wed Jun 26 02:19:39 UTC 2024",
    "7.6": "Tue Nov 5 07:46:14 UTC 2024",
}
UPGRADE = (r"jetpack", r"l4t", r"r\d\d\b", r"tensorrt")
NO_TENSORRT = (r"tensorrt",)


def _release(revision: str, date: str, tensorrt: str) -> dict[str, object]:
    line = TEGRA.format(revision, 20000000 + 1000 * len(revision), date)
    return {"tegra_release": line, "tensorrt": tensorrt}


def _later_revision(quirks: Quirks, draw: random.Random) -> Quirks:
    revision = draw.choice(sorted(REVISIONS))
    return with_fields(quirks, _release(revision, REVISIONS[revision], "8.2.1.8"))


VARIANTS = (
    Variant(
        "jetpack-3.3", "release",
        "L4T r28.2: other names and order of rails, tegrastats in the home folder, and no "
        "TensorRT for Python 3 at all.",
        "jetson.md 1.1, 1.3; tegrastats tx2_2.log",
        having(release="r28", tensorrt=""),
        says=UPGRADE,
    ),
    Variant(
        "jetpack-4.4", "release",
        "L4T r32.4.3 with TensorRT 7.1.3: no build_serialized_network, no timing cache, no "
        "engine inspector in its Python.",
        "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/428; TensorRT 8.0.1 API reference, new "
        "Python APIs",
        having(**_release("4.3", "Fri Jun 26 04:34:27 UTC 2020", "7.1.3.0")),
        says=UPGRADE,
    ),
    Variant(
        "jetpack-4.5", "release",
        "L4T r32.5.1, with TensorRT 7.1.3 as before it.",
        "https://github.com/rbonghi/jetson_stats/issues/190",
        having(**_release("5.1", "Fri Feb 19 16:49:33 UTC 2021", "7.1.3.0")),
        says=UPGRADE,
    ),
    Variant(
        "jetpack-4.6", "release",
        "L4T r32.6.1 with TensorRT 8.0.1: a timing cache, but no engine inspector and no "
        "report_to_profiler.",
        "https://github.com/rbonghi/jetson_stats/issues/357; "
        "https://github.com/Qengineering/Jetson-Nano-Ubuntu-20-image/issues/86",
        having(**_release("6.1", "Mon Jul 26 19:20:30 UTC 2021", "8.0.1.6")),
        says=UPGRADE,
    ),
    Variant(
        "jetpack-4.6.x", "release",
        "A later r32.7 (7.2 to 7.6); nothing else differs.",
        "jetson.md 3.1",
        _later_revision,
    ),
    Variant(
        "unknown-release", "release",
        "/etc/nv_tegra_release speaks of an r32.9.1 that nobody has heard of, with TensorRT 8.2.5.",
        "hypothetical",
        having(**_release("9.1", "Mon Feb 2 10:00:00 UTC 2026", "8.2.5.1")),
    ),
    Variant(
        "no-sbin-in-path", "path",
        "A session's PATH lacks /usr/sbin, so that nvpmodel is not found by its name.",
        "https://github.com/rbonghi/jetson_stats/issues/38",
        having(path=("usr/bin",)),
        says=(r"nvpmodel", r"path"),
    ),
    Variant(
        "no-python3", "path",
        "There is a python3.6, but nothing called python3.",
        "the layout of meta-tegra images; jetson.md 3.1",
        having(python="gone"),
        says=(r"python",),
    ),
    Variant(
        "newer-python3", "path",
        "python3 is one that somebody installed, without JetPack's packages; python3.6 has them.",
        "https://github.com/EdwardoSunny/Jetson-Nano-YOLOv8-Setup/issues/1",
        having(python="newer"),
        says=(r"tensorrt", r"python"),
    ),
    Variant(
        "conda", "path",
        "~/.bashrc activates a conda environment whose python3 comes first and has no TensorRT.",
        "https://github.com/NVIDIA-AI-IOT/trt_pose/issues/93",
        having(
            python="conda",
            bashrc='PATH="$HOME/miniconda3/bin:$PATH"\nexport PATH CONDA_DEFAULT_ENV=base\n',
        ),
        says=(r"tensorrt", r"python", r"conda"),
    ),
    Variant(
        "no-tensorrt-in-python", "packages",
        "Python finds no tensorrt (python3-libnvinfer is not installed); trtexec works.",
        "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/152",
        having(missing=("tensorrt",)),
        says=NO_TENSORRT,
    ),
    Variant(
        "no-pycuda", "packages",
        "PyCUDA is not installed, and libcudart is not where the loader looks for it.",
        "https://github.com/jkjung-avt/tensorrt_demos/issues/389; "
        "https://github.com/NVIDIA-AI-IOT/jetracer/issues/88",
        having(missing=("pycuda",)),
        says=(r"pycuda", r"cudart", r"cuda runtime"),
    ),
    Variant(
        "no-numpy", "packages",
        "numpy is not installed, and PyCUDA, which imports it, cannot be imported either.",
        "jetson.md 3.1 (not part of every flash); the agent's contract in DESIGN.md 5",
        having(missing=("numpy",)),
        says=(r"numpy", r"pycuda", r"cudart"),
    ),
    Variant(
        "no-trtexec", "packages",
        "/usr/src/tensorrt/bin is empty.",
        "https://github.com/dusty-nv/jetson-containers/issues/1576",
        having(trtexec=False),
        says=(r"trtexec",),
    ),
    Variant(
        "numpy-illegal-instruction", "packages",
        "numpy 1.19.5 from pip: importing it ends Python with an illegal instruction, unless "
        "OPENBLAS_CORETYPE=ARMV8 is in the environment.",
        "https://github.com/numpy/numpy/issues/18131; jetson.md 3.1",
        having(numpy="illegal"),
        says=(r"numpy", r"openblas", r"illegal instruction", r"signal 4"),
    ),
)  # fmt: skip
