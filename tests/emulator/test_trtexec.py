"""trtexec of 8.2: flags, report, files, and that its times are the board's."""

from __future__ import annotations

import json
import re
import statistics

import pytest

from hil.emulator.trt import trtexec

from .conftest import network

pytestmark = pytest.mark.board

KEYS = {
    f"{edge}{part}Ms" for edge in ("start", "end") for part in ("Enq", "H2d", "Compute", "D2h")
} | {"h2dMs", "computeMs", "d2hMs", "latencyMs", "endToEndMs"}
"""What --exportTimes of 8.2 writes of a query."""
LOOP = """
import sys, time
import numpy as np, tensorrt as trt, pycuda.driver as cuda
cuda.init(); kept = cuda.Device(0).make_context()
engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(open(sys.argv[1], "rb").read())
context = engine.create_execution_context()
sizes = [4 * int(np.prod(tuple(engine.get_binding_shape(i)))) for i in range(engine.num_bindings)]
blocks = [cuda.mem_alloc(size) for size in sizes]
stream = cuda.Stream()
for _ in range(300):
    start = time.monotonic()
    context.execute_async_v2([int(b) for b in blocks], stream.handle); stream.synchronize()
    print(time.monotonic() - start)
"""


@pytest.fixture
def exec_on(board, tmp_path):
    def run(*flags: str, data: bytes | None = None):
        (tmp_path / "n.onnx").write_bytes(network() if data is None else data)
        program = f"{board.root}/usr/src/tensorrt/bin/trtexec"
        return board.run(program, *(flag.replace("@", str(tmp_path)) for flag in flags))

    return run


@pytest.fixture
def engine(exec_on, tmp_path):
    done = exec_on("--onnx=@/n.onnx", "--fp16", "--saveEngine=@/e.plan", "--buildOnly")
    assert done.returncode == 0, done.stderr
    return tmp_path / "e.plan"


def milliseconds(text: str, name: str, figure: str) -> float:
    found = re.search(rf"{re.escape(name)}: .*?{re.escape(figure)} = ([\d.e-]+) ms", text)
    assert found is not None, name
    return float(found.group(1))


@pytest.mark.parametrize(
    "later",
    [
        "--memPoolSize=workspace:64",
        "--infStreams=1",
        "--skipInference",
        "--builderOptimizationLevel=3",
    ],
)
def test_flags_of_later_releases_are_unknown(exec_on, later):
    done = exec_on("--onnx=@/n.onnx", later)
    assert done.returncode == 1
    assert f"Unknown option: {later.partition('=')[0]}" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("&&&& FAILED TensorRT.trtexec [TensorRT v8201]")


def test_flags_without_anything_behind_them_are_refused_honestly(exec_on):
    done = exec_on("--onnx=@/n.onnx", "--useCudaGraph")
    assert done.returncode == 1
    assert "EMULATED: nothing stands behind --useCudaGraph" in done.stderr


def test_a_model_is_needed(exec_on):
    assert "Model missing" in exec_on("--fp16").stderr


def test_int8_is_warned_of_and_left_out_as_tensorrt_does(exec_on):
    done = exec_on("--onnx=@/n.onnx", "--int8", "--buildOnly")
    assert done.returncode == 0
    assert "without native Int8 support" in done.stdout + done.stderr


def test_a_plan_of_another_kind_is_refused(exec_on, tmp_path):
    (tmp_path / "bad.plan").write_bytes(b"not a plan")
    done = exec_on("--loadEngine=@/bad.plan")
    assert done.returncode == 1
    assert "magicTag" in done.stderr


def test_exported_times_hold_the_warm_up_and_agree_with_the_report(exec_on, engine, tmp_path):
    done = exec_on(
        "--loadEngine=@/e.plan", "--warmUp=200", "--duration=2", "--iterations=10", "--streams=1",
        "--useSpinWait", "--noDataTransfers", "--exportTimes=@/t.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "t.json").read_text())
    assert all(set(row) == KEYS for row in rows)
    kept = [row for row in rows if row["startComputeMs"] >= 200]
    warm = len(rows) - len(kept)
    assert warm > 0
    assert f"Warmup completed {warm} queries over 200 ms" in done.stdout
    trace = re.search(r"Timing trace has (\d+) queries over ([\d.]+) s", done.stdout)
    assert int(trace.group(1)) == len(kept)
    assert float(trace.group(2)) == pytest.approx(2.0, abs=0.01)
    median = milliseconds(done.stdout, "GPU Compute Time", "median")
    assert median == pytest.approx(statistics.median(row["computeMs"] for row in kept), rel=1e-4)
    assert all(row["h2dMs"] == row["d2hMs"] == 0 for row in rows)
    starts = [row["startComputeMs"] for row in rows]
    assert starts == sorted(starts)


def test_transfers_come_on_top_of_the_computation(exec_on, engine):
    done = exec_on("--loadEngine=@/e.plan", "--duration=1")
    compute = milliseconds(done.stdout, "GPU Compute Time", "mean")
    copies = sum(milliseconds(done.stdout, n, "mean") for n in ("H2D Latency", "D2H Latency"))
    assert copies > 0
    latency = float(re.search(r"\] Latency: .*?mean = ([\d.e-]+)", done.stdout).group(1))
    assert latency == pytest.approx(compute + copies, rel=1e-4)


def test_its_times_are_those_of_a_loop_less_what_the_host_adds(board, exec_on, engine):
    board.run("sudo", "-n", "jetson_clocks")
    done = exec_on("--loadEngine=@/e.plan", "--duration=1", "--noDataTransfers", "--useSpinWait")
    compute = milliseconds(done.stdout, "GPU Compute Time", "median")
    loop = [float(line) * 1e3 for line in board.python(LOOP, str(engine)).split()]
    assert 0.05 < statistics.median(loop) - compute < 0.5


def test_it_takes_the_boards_time(board, exec_on, engine):
    before = float(board.python("import time; print(time.monotonic())"))
    exec_on("--loadEngine=@/e.plan", "--duration=5", "--warmUp=500")
    assert 5.5 < float(board.python("import time; print(time.monotonic())")) - before < 5.6


def test_profiles_name_every_layer(exec_on, engine, tmp_path):
    done = exec_on(
        "--loadEngine=@/e.plan", "--duration=1", "--separateProfileRun", "--dumpProfile",
        "--exportProfile=@/p.json",
    )  # fmt: skip
    first, *layers = json.loads((tmp_path / "p.json").read_text())
    assert first["count"] > 100
    assert sum(layer["percentage"] for layer in layers) == pytest.approx(100)
    for layer in layers:
        assert set(layer) == {"name", "timeMs", "averageMs", "percentage"}
        assert layer["averageMs"] == pytest.approx(layer["timeMs"] / first["count"])
        assert layer["name"] in done.stdout


def test_profiling_in_the_benchmark_run_slows_it(exec_on, engine):
    apart = exec_on(
        "--loadEngine=@/e.plan", "--duration=1", "--separateProfileRun", "--dumpProfile"
    )
    within = exec_on("--loadEngine=@/e.plan", "--duration=1", "--dumpProfile")
    medians = [milliseconds(done.stdout, "GPU Compute Time", "median") for done in (apart, within)]
    assert medians[1] > medians[0]


def test_equal_lines_parse_to_equal_options():
    options = trtexec.parse(["--onnx=a=b.onnx", "--fp16"])
    assert options.given == {"onnx": "a=b.onnx", "fp16": ""}
