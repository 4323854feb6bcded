"""What the host asks for, checked: plans of a load, builds, power sources."""

import math

from . import checks

RUNTIMES = ("tensorrt", "onnxruntime", "onnxruntime-cuda", "torch", "torch-cpu")
PRECISIONS = ("fp16", "fp32", "int8")
BUILDERS = RUNTIMES + ("trtexec",)
SOURCES = ("tegrastats", "ina3221", "nvml", "rapl", "command")
LONGEST_WINDOWS_S = 7200
_MOST_BLOCKS = 1000
_MOST_SOURCES = 8
_MOST_STEPS = 200
_MOST_PROFILES = 32


def load(params):
    """A plan of `engine_run` with every field in place."""
    plan = params.get("plan")
    if not isinstance(plan, dict):
        raise checks.bad("plan must be an object")
    read = {
        "idle_s": checks.number(plan, "idle_s", 0, 600, 4.0),
        "settle_s": checks.number(plan, "settle_s", 0, 600, 3.0),
        "window_s": checks.number(plan, "window_s", 0.001, 600, 8.0),
        "blocks": checks.integer(plan, "blocks", 1, _MOST_BLOCKS, 4),
        "tail_s": checks.number(plan, "tail_s", 0, 600, 0.5),
        "interval_ms": _interval(plan, 100),
        "warmup": checks.integer(plan, "warmup", 0, 100000, 10),
        "max_blocks": None,
        "rate_hz": None,
    }
    if plan.get("max_blocks") is not None:
        read["max_blocks"] = checks.integer(plan, "max_blocks", read["blocks"], _MOST_BLOCKS)
    if plan.get("rate_hz") is not None:
        read["rate_hz"] = checks.number(plan, "rate_hz", 0.01, 100000)
    if most_blocks(read) * read["window_s"] > LONGEST_WINDOWS_S:
        raise checks.bad("a run may hold at most %d s of windows" % LONGEST_WINDOWS_S)
    return read


def most_blocks(plan):
    """How many windows the load may hold."""
    return plan["max_blocks"] or plan["blocks"]


def load_s(plan):
    """The longest that the load should take, in board time."""
    phases = [plan["settle_s"], plan["tail_s"]] + [plan["window_s"]] * most_blocks(plan)
    slot_s = 0.0 if plan["rate_hz"] is None else 1.0 / plan["rate_hz"]
    return math.fsum(phases) + 2 * slot_s * len(phases)


def steps(params):
    """How to switch the load on and off: `steps` times, held `hold_s` each."""
    return {
        "interval_ms": _interval(params, 100),
        "idle_s": checks.number(params, "idle_s", 0, 600, 4.0),
        "hold_s": checks.number(params, "hold_s", 0.05, 600, 4.0),
        "steps": checks.integer(params, "steps", 1, _MOST_STEPS),
    }


def sources(params, interval_ms):
    """The power sources of a run, the one that figures are read on first; may be empty.

    Args:
        params: its `power` is a list of {"source"} with "rail", "command" and "interval_ms"
            where they are needed.
        interval_ms: the period of those that do not name one.
    """
    asked = params.get("power", [])
    if not isinstance(asked, list) or len(asked) > _MOST_SOURCES:
        raise checks.bad("power must be a list of at most %d sources" % _MOST_SOURCES)
    return [_source(one, interval_ms) for one in asked]


def build(params):
    """What to build, by content."""
    return {
        "onnx": checks.sha256(params.get("onnx"), "onnx"),
        "runtime": checks.text(params, "runtime", BUILDERS),
        "precision": checks.text(params, "precision", PRECISIONS),
        "workspace_mib": checks.integer(params, "workspace_mib", 1, 1 << 20, 512),
        "shapes": checks.shapes(params, "shapes"),
        "profiles": checks.ranges(params, "profiles", _MOST_PROFILES),
        "build_index": checks.integer(params, "build_index", 0, 1 << 20, 0),
        "detailed": checks.flag(params, "detailed", False),
    }


def only_tensorrt(params):
    """Refuses any other runtime."""
    checks.text(params, "runtime", ("tensorrt",))


def _interval(params, default):
    return checks.integer(params, "interval_ms", 10, 10000, default)


def _source(asked, interval_ms):
    if not isinstance(asked, dict):
        raise checks.bad("a power source must be an object")
    source = checks.text(asked, "source", SOURCES)
    rail = None if asked.get("rail") is None else checks.text(asked, "rail")
    command = asked.get("command")
    if source == "command":
        plain = isinstance(command, list) and command
        if not plain or not all(isinstance(word, str) and word for word in command):
            raise checks.bad("command must be a list of words: the program and its arguments")
    elif command is not None:
        raise checks.bad("command belongs to the source `command`, not to %s" % source)
    read = _interval(asked, interval_ms)
    return {"source": source, "rail": rail, "command": command, "interval_ms": read}
