"""Engines where TensorRT has no Python: trtexec builds them and is the load that is measured.

trtexec tells no clock. What can be had is kept: when it was started and ended, when each of its
lines came, and its own times of each query, counted from a moment that it does not tell. The host
bounds that moment and lays windows where they hold for all it may have been.
"""

import os
import re
import signal
import subprocess

from . import blobs, checks, plans, procs, trt_refusals, trtexec
from .clock import Deadline, now_ns
from .errors import AgentError
from .power import PowerReader

RUNTIME = "trtexec"
WARMUP_MS = 200
MARGIN_S = 3.0
"""Load beyond what is planned: what trtexec's unknown zero of time may cost at both ends."""
_BUILD_LIMIT_S = 3600.0
_PROBE_LIMIT_S = 300.0
_BINDING = re.compile(
    r"(?:Created )?(input|output) binding for (\S+) with dimensions (\d+(?:x\d+)*)", re.IGNORECASE
)
_BUILD_FIXES = (
    # what trtexec prints, code, what to do
    ("out of memory", "out_of_memory", "close other programs on the board, or lower workspace_mib"),
    ("outofmemory", "out_of_memory", "close other programs on the board, or lower workspace_mib"),
    ("No importer registered", "unsupported_operator", "`hil check` names what fits"),
    ("UNSUPPORTED_NODE", "unsupported_operator", "`hil check` names what fits"),
    ("Plugin not found", "unsupported_operator", "`hil check` names what fits"),
    ("arse onnx file", "parse_failed", "`hil check` the network"),
)
# What TensorRT warns of before it builds without INT8 what was to be INT8.
_NO_INT8 = "int8 support requested on hardware without native int8 support"
_STATIC = "does not take explicit shapes"


def identity(board):
    """Release of TensorRT as trtexec prints it, like that of the other runtimes.

    Raises:
        AgentError: `no_runtime` where the board has no trtexec.
    """
    help_text = trtexec.help_text(board, _program(board))
    found = trtexec.VERSION.search(help_text)
    digits = None if found is None else found.group(1)
    return {"version": _dotted(digits), "platform": None, "dialect": None, "via": None}


def build(board, want, onnx, target):
    """Builds `onnx` into `target`, loads it once, and tells what it looks like.

    Raises:
        AgentError: as a build through Python.
    """
    program = _program(board)
    known = trtexec.help_text(board, program)
    if len(want.get("profiles", [])) > 1:
        raise AgentError(
            "unknown_shape",
            "trtexec builds one optimisation profile, %d were asked" % len(want["profiles"]),
            "this board has TensorRT without its Python module",
            "give one range (--shapes), or install JetPack's python3-libnvinfer",
        )
    with open(onnx, "rb") as file:
        trt_refusals.hold_quantised(want["precision"], file.read())
    argv = [program] + build_flags(known, want, onnx, target)
    done = board.run(argv, _BUILD_LIMIT_S)
    if done.status != 0 and _STATIC in done.output + done.errors:
        fixed = dict(want, shapes={}, profiles=[])
        done = board.run([program] + build_flags(known, fixed, onnx, target), _BUILD_LIMIT_S)
    if done.status != 0 or not os.path.exists(target):
        raise _build_failure(board, done)
    if _NO_INT8 in (done.output + done.errors).lower():
        raise trt_refusals.no_int8()
    at = trtexec.at_shapes(want["shapes"] if want.get("profiles") else {})
    tried = board.run(
        [program, "--loadEngine=" + target, "--iterations=1", "--duration=0", "--warmUp=0"] + at,
        _PROBE_LIMIT_S,
    )
    if tried.status != 0:
        raise _build_failure(board, tried)
    bindings = _BINDING.findall(tried.output)
    warned = [line for line in done.output.splitlines() if "[W]" in line]
    return {
        "inputs": [_tensor(row) for row in bindings if row[0].lower() == "input"],
        "outputs": [_tensor(row) for row in bindings if row[0].lower() == "output"],
        "device_memory_bytes": None,
        "messages": warned[-20:],
        "profiles": want.get("profiles", []),
        "profile": 0 if want.get("profiles") else None,
    }


def build_flags(known, want, onnx, target):
    """The arguments of a build in the words of this release (`known`: what `--help` prints)."""
    pool = "--memPoolSize=workspace:%d" if "--memPoolSize" in known else "--workspace=%d"
    only = "--skipInference" if "--skipInference" in known else "--buildOnly"
    flags = ["--onnx=" + onnx, "--saveEngine=" + target, pool % want["workspace_mib"], only]
    if want["precision"] in ("fp16", "int8") and "--fp16" in known:
        flags.append("--fp16")
    if want["precision"] == "int8" and "--int8" in known:
        flags.append("--int8")
    ranges = {name: [dims] * 3 for name, dims in want["shapes"].items()}
    for each in want.get("profiles", []):
        ranges.update(each)
    if ranges:
        for number, which in enumerate(("min", "opt", "max")):
            dims = {name: three[number] for name, three in ranges.items()}
            flags.append("--%sShapes=%s" % (which, trtexec.shapes_text(dims)))
    return flags


def run(board, store, job, plan):
    """Runs an engine for as long as a plan takes; returns the blob of its times.

    Emits `said` (stamped lines of trtexec) and a mark `trtexec` from its start to its end.

    Raises:
        AgentError: `worker_died` where trtexec fails; `timeout`; or the request's end.
    """
    program = _program(board)
    engine = store.require(checks.sha256(job.params.get("engine"), "engine"), "engine")
    load_s = int(plans.load_s(plan) + 2 * MARGIN_S) + 1
    target = store.fresh()
    known = trtexec.help_text(board, program)
    argv = [program] + trtexec.flags(known, engine, target, WARMUP_MS, load_s)
    argv += trtexec.at_shapes(checks.shapes(job.params, "shapes"))
    if checks.flag(job.params, "cuda_graph", False):
        argv.append("--useCudaGraph")
    try:
        _watch(board, job, argv, 600.0 + 3.0 * load_s)
        if not trtexec.filled(target):
            raise AgentError("worker_died", "trtexec wrote no times", " ".join(argv))
        times = store.adopt(target)
    finally:
        blobs.remove(target)
    return {"times": times, "argv": argv, "warmup_ms": WARMUP_MS}


def _watch(board, job, argv, limit_s):
    start_ns = now_ns()
    said = []

    def heard(lines):
        said.extend(text for _, text in lines)
        job.emit({"kind": "said", "lines": lines})

    process = board.children.spawn(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=board.environment(),
    )
    reader = PowerReader(process.stdout.fileno(), heard)
    deadline = Deadline(limit_s)
    try:
        while procs.wait_exit(process, 0.2) is None:
            job.check()
            if deadline.passed():
                raise AgentError("timeout", "trtexec did not finish in time", " ".join(argv))
        reader.join(5.0)
        stop_ns = now_ns()
    finally:
        procs.signal_group(process, signal.SIGKILL)
        process.wait()
        reader.join(2.0)
        board.children.forget(process)
    if process.returncode != 0:
        told = "\n".join(said[-6:])
        how = trtexec.ended(process.returncode)
        raise AgentError("worker_died", "trtexec %s" % how, told or None, "build the engine again")
    mark = {"kind": "mark", "name": RUNTIME, "index": 0, "inferences": None}
    job.emit(dict(mark, start_ns=start_ns, stop_ns=stop_ns))


def _program(board):
    program = board.trtexec()
    if program is None:
        raise AgentError("no_runtime", "this board has no trtexec", fix="sudo apt install tensorrt")
    return program


def _build_failure(board, done):
    said = [line for line in (done.output + "\n" + done.errors).splitlines() if "[E]" in line]
    why = "; ".join(said[-4:]) or done.tail() or "trtexec gave no reason"
    if done.status == -signal.SIGKILL:
        why = "; ".join(filter(None, ("it was killed (signal 9)", board.memory_text())))
        fix = "close other programs on the board, lower runtime.workspace_mib, or add swap"
        return AgentError("out_of_memory", "the board ran out of memory while building", why, fix)
    for words, code, fix in _BUILD_FIXES:
        if words.lower() in why.lower():
            memory = board.memory_text() if code == "out_of_memory" else None
            told = "; ".join(filter(None, (why, memory)))
            return AgentError(code, "trtexec could not build an engine", told, fix)
    return AgentError("build_failed", "trtexec could not build an engine", why)


def _tensor(row):
    # Inputs and outputs of ONNX files are 32 bit where no --inputIOFormats says otherwise;
    # trtexec does not print them, and nothing is read or written through them here.
    shape = [int(size) for size in row[2].split("x")]
    return {"name": row[1], "dtype": "unknown", "shape": shape}


def _dotted(digits):
    """8201 is 8.2.1, and 100300 is 10.3.0: two digits for all but the first; None: unknown."""
    if digits is None:
        return "unknown"
    if len(digits) > 4:
        parts = digits[:-4], digits[-4:-2], digits[-2:]
    else:
        parts = digits[0], digits[1], digits[2:]
    return ".".join(str(int(part)) for part in parts)
