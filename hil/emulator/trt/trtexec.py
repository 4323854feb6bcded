"""`trtexec` of TensorRT 8.2 on the emulated board: its flags, its lines, its files.

Flags of later releases are refused as 8.2 refuses what it does not know.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hil.emulator import boardtime, pipes
from hil.emulator.attending import Reader
from hil.emulator.trt import queries, report
from hil.emulator.trt.engine import Context

RELEASE = "TensorRT.trtexec [TensorRT v8201]"
VALUED = {
    "onnx": "ONNX model",
    "saveEngine": "Save the serialized engine",
    "loadEngine": "Load a serialized engine",
    "workspace": "Set workspace size in megabytes (default = 16)",
    "timingCacheFile": "Save/load the serialized global timing cache",
    "shapes": "Set input shapes for dynamic shapes inference inputs",
    "minShapes": "Build with dynamic shapes using a profile with the min shapes provided",
    "optShapes": "Build with dynamic shapes using a profile with the opt shapes provided",
    "maxShapes": "Build with dynamic shapes using a profile with the max shapes provided",
    "warmUp": "Run for N milliseconds to warmup before measuring performance (default = 200)",
    "duration": "Run performance measurements for at least N seconds wallclock time (default = 3)",
    "iterations": "Run at least N inference iterations (default = 10)",
    "avgRuns": "Report performance measurements averaged over N consecutive iterations",
    "percentile": "Report performance for the P percentage (default = 99%)",
    "streams": "Instantiate N engines to use concurrently (default = 1)",
    "device": "Select cuda device N (default = 0)",
    "exportTimes": "Write the timing results in a json file (default = disabled)",
    "exportProfile": "Write the profile information per layer in a json file",
}
PLAIN = {
    "fp16": "Enable fp16 precision, in addition to fp32 (default = disabled)",
    "int8": "Enable int8 precision, in addition to fp32 (default = disabled)",
    "explicitBatch": "Use explicit batch sizes when building the engine",
    "buildOnly": "Skip inference perf measurement (default = disabled)",
    "noDataTransfers": "Disable DMA transfers to and from device (default = enabled)",
    "useSpinWait": "Actively synchronize on GPU events (default = disabled)",
    "separateProfileRun": "Do not attach the profiler in the benchmark run",
    "dumpProfile": "Print profile information per layer (default = disabled)",
    "verbose": "Use verbose logging (default = false)",
    "help": "Print this message",
}
UNMODELLED = frozenset(
    """
    best sparsity safe consistency restricted directIO refit noTF32 useCudaGraph exposeDMA
    threads useManagedMemory timeDeserialize timeRefit idleTime sleepTime calib plugins
    useDLACore allowGPUFallback minTiming avgTiming inputIOFormats outputIOFormats uff
    deploy model output uffInput uffNHWC maxBatch batch loadInputs dumpOutput exportOutput
    dumpRefit dumpLayerInfo exportLayerInfo profilingVerbosity tacticSources noBuilderCache
    """.split()  # noqa: SIM905 - forty names are easier to read so
)
"""Flags of 8.2 that nothing stands behind here."""


class RefusedError(Exception):
    """trtexec gives up, in the words it logs."""


@dataclass(frozen=True)
class Options:
    """A parsed command line: flags without their dashes, with their values."""

    given: dict[str, str]

    def has(self, name: str) -> bool:
        """Whether a flag is given."""
        return name in self.given

    def number(self, name: str, default: float) -> float:
        """A flag's number.

        Raises:
            RefusedError: it is none.
        """
        try:
            return float(self.given.get(name, default))
        except ValueError as error:
            raise RefusedError(f"Invalid value for --{name}: {self.given[name]}") from error


def parse(arguments: list[str]) -> Options:
    """Reads a command line.

    Raises:
        RefusedError: what 8.2 does not know, line by line; or what is not emulated.
    """
    given: dict[str, str] = {}
    unknown: list[str] = []
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in {*VALUED, *PLAIN, *UNMODELLED}:
            unknown.append(f"Unknown option: {argument.partition('=')[0]} {value}")
        given[name] = value
    if unknown:
        raise RefusedError("\n".join(unknown))
    missing = [f"--{name}" for name in given if name in UNMODELLED]
    if missing:
        raise RefusedError(f"EMULATED: nothing stands behind {', '.join(missing)} on this board")
    if not {"help", "onnx", "loadEngine"} & set(given):
        raise RefusedError("Model missing or format not recognized")
    return Options(given)


def say(text: str, level: str = "I") -> None:
    """Logs as 8.2's samples do: everything to stdout, errors to stderr.

    The board's clock stands still until a program of the board that reads it has done so: what
    trtexec does next must not make its reader's stamp late on a busy host.
    """
    reader = _reader()
    before = reader.looked() if reader is not None else (0, 0)
    stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
    out = sys.stderr if level == "E" else sys.stdout
    for line in text.split("\n"):
        out.write(f"[{stamp}] [{level}] {line}\n")
    out.flush()
    if reader is not None and out is sys.stdout:
        reader.wait(before)


@lru_cache(maxsize=1)
def _reader() -> Reader | None:
    """Who reads what this process prints, where that is a program of the board."""
    if pipes.pipe_inode(1) is None:
        return None
    reader = Reader(boardtime.current().words, os.getppid())
    return reader if reader.attended else None


def help_text() -> str:
    """The flags that are emulated."""
    flags = {**{f"{name}=X": text for name, text in VALUED.items()}, **PLAIN}
    return "\n".join(["=== trtexec options ===", *(f"  --{n:<22}{t}" for n, t in flags.items())])


def measure(context: Context, options: Options) -> None:
    """Runs the queries and reports."""
    profiling = options.has("dumpProfile") or options.has("exportProfile")
    apart = options.has("separateProfileRun")
    warmup_ms = options.number("warmUp", 200)
    plan = queries.Plan(
        warmup_ms=warmup_ms,
        duration_ms=options.number("duration", 3) * 1e3,
        iterations=int(options.number("iterations", 10)),
        transfers=not options.has("noDataTransfers"),
        spin=options.has("useSpinWait"),
        profiled=profiling and not apart,
    )
    profile = report.Profile()
    say("Starting inference")
    done = queries.run(context, plan, profile.add if plan.profiled else None)
    averaged = max(1, int(options.number("avgRuns", 10)))
    lines, warnings = report.summary(done, warmup_ms, averaged, options.number("percentile", 99))
    say("\n".join(lines))
    for warning in warnings:
        say(warning, "W")
    say("Explanations of the performance metrics are printed in the verbose logs.\n")
    if options.given.get("exportTimes"):
        report.export_times(Path(options.given["exportTimes"]), done)
    if profiling and apart:
        queries.run(
            context, queries.Plan(0.0, 0.0, 1000, plan.transfers, plan.spin, True), profile.add
        )
    if options.has("dumpProfile"):
        say("\n".join(profile.lines()))
    if options.given.get("exportProfile"):
        profile.export(Path(options.given["exportProfile"]))
