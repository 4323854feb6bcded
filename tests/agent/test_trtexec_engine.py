"""Engines by trtexec on the real agent: the words of each release, its failures, its load."""

import json
import time

import pytest

from hil.agent import trtexec_engine

from .conftest import gone
from .test_engine_process import children

WANT = {"workspace_mib": 512, "precision": "fp16", "shapes": {}}
V8 = "--workspace=N --buildOnly --fp16 --streams=N --noDataTransfers"
V10 = "--memPoolSize=poolspec --skipInference --fp16 --infStreams=N"
TRTEXEC = """\
echo "trtexec $*" >> {calls}
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec"
for word in "$@"; do case "$word" in
  --help) echo "{known}"; exit 0;;
  --saveEngine=*) save="${{word#*=}}";;
  --exportTimes=*) times="${{word#*=}}";;
  --minShapes=*) {shapes};;
esac; done
{more}
if [ -n "$save" ]; then printf 'a plan' > "$save"; exit 0; fi
echo "[01/01/1970-00:00:00] [I] Created input binding for x with dimensions 1x3x8x8"
echo "[01/01/1970-00:00:00] [I] Output binding for y with dimensions 1x10 is created."
echo "[01/01/1970-00:00:00] [I] Starting inference"
/bin/sleep {sleep}
[ -n "$times" ] && echo '{rows}' > "$times"
echo "[01/01/1970-00:00:00] [I] === Performance summary ==="
"""
ROWS = [
    {"startComputeMs": 10.0 * n, "endComputeMs": 10.0 * n + 9, "latencyMs": 9.0} for n in range(30)
]
# ModelProto.graph (7) with one NodeProto (1) of op_type (4) QuantizeLinear.
QUANTISED = b"\x3a\x12\x0a\x10\x22\x0eQuantizeLinear"
PLAN = {
    "idle_s": 0.1,
    "settle_s": 0.1,
    "window_s": 0.1,
    "blocks": 1,
    "tail_s": 0.0,
    "interval_ms": 50,
}


def install(board, known=V8, more="", shapes=":", sleep=0):
    text = TRTEXEC.format(
        calls=board.calls_file,
        known=known,
        more=more,
        shapes=shapes,
        sleep=sleep,
        rows=json.dumps(ROWS),
    )
    board.program("trtexec", text)


@pytest.fixture
def agent(bench):
    made = bench.greeted()
    made.lease()
    return made


def request(bench, agent, **more):
    fields = {"onnx": bench.put(agent, b"a network"), "runtime": "trtexec", "precision": "fp16"}
    return {**fields, **more}


def builds(board, flag="--saveEngine"):
    return [call for call in board.calls() if flag in call]


def wait_until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("known", "flags"),
    [
        (V8, ["--workspace=512", "--buildOnly", "--fp16"]),
        (V10, ["--memPoolSize=workspace:512", "--skipInference", "--fp16"]),
        (V10.replace("--fp16", ""), ["--memPoolSize=workspace:512", "--skipInference"]),
    ],
)
def test_a_build_speaks_each_release_s_words(known, flags):
    said = trtexec_engine.build_flags(known, WANT, "/n.onnx", "/n.plan")

    assert said == ["--onnx=/n.onnx", "--saveEngine=/n.plan", *flags]


def test_int8_allows_fp16_for_what_the_network_does_not_quantise():
    known, want = V8 + " --int8", dict(WANT, precision="int8")

    assert trtexec_engine.build_flags(known, want, "/n", "/p")[-2:] == ["--fp16", "--int8"]


def test_int8_that_trtexec_quietly_leaves_out_is_refused(bench, agent):
    warning = "Int8 support requested on hardware without native Int8 support, performance will be"
    install(bench.board, known=V8 + " --int8", more=f'echo "[W] [TRT] {warning}"')
    quantised = bench.put(agent, QUANTISED)

    error = agent.error("engine_build", onnx=quantised, runtime="trtexec", precision="int8")

    assert (error["code"], "no fast INT8" in error["message"]) == ("build_failed", True)
    plain = agent.error("engine_build", **request(bench, agent, precision="int8"))
    assert "not quantised" in plain["message"]


def test_shapes_of_a_build_are_all_the_same():
    shapes = {"x": [1, 3, 8, 8], "y": [1, 2]}

    said = trtexec_engine.build_flags(V8, dict(WANT, shapes=shapes), "/n", "/p")

    assert [word.partition("=")[2] for word in said[-3:]] == ["x:1x3x8x8,y:1x2"] * 3


@pytest.mark.parametrize(
    ("digits", "release"),
    [("8201", "8.2.1"), ("8502", "8.5.2"), ("100300", "10.3.0"), (None, "unknown")],
)
def test_a_release_is_read_as_trtexec_prints_it(digits, release):
    assert trtexec_engine._dotted(digits) == release


def test_it_is_built_looked_at_and_kept(bench, agent):
    install(bench.board)

    made = agent.call("engine_build", **request(bench, agent))

    assert (made["cached"], made["runtime_version"], made["plan_bytes"]) == (False, "8.2.1", 6)
    assert made["inputs"] == [{"name": "x", "dtype": "unknown", "shape": [1, 3, 8, 8]}]
    assert made["outputs"] == [{"name": "y", "dtype": "unknown", "shape": [1, 10]}]
    assert agent.call("engine_build", **request(bench, agent))["cached"]
    assert len(builds(bench.board)) == 1


def test_a_network_of_fixed_shape_is_built_without_naming_it(bench, agent):
    refusal = 'echo "[E] Static model does not take explicit shapes"; exit 1'
    install(bench.board, shapes=refusal)

    made = agent.call("engine_build", **request(bench, agent, shapes={"x": [1, 3, 8, 8]}))

    assert made["plan_bytes"] == 6
    assert ["--minShapes" in call for call in builds(bench.board)] == [True, False]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("[E] [TRT] ModelImporter.cpp:720: No importer registered for op: Foo", "unsupported_oper"),
        ("[E] Failed to parse onnx file", "parse_failed"),
        ("[E] [TRT] 2: [virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no further)", "out_of"),
        ("[E] Engine could not be created from network", "build_failed"),
        ("", "build_failed"),
    ],
)
def test_a_build_that_fails_says_whose_fault_it_is(bench, agent, said, code):
    bench.board.write("proc/meminfo", "MemTotal: 8042320 kB\nMemAvailable: 1048576 kB\n")
    install(bench.board, more=f"echo '{said}'; exit 1")

    error = agent.error("engine_build", **request(bench, agent))

    assert error["code"].startswith(code)
    if code == "out_of":
        assert "1024 MiB available now" in error["why"]
    assert not list((bench.board.home / ".hil/incoming").iterdir())


def test_a_build_that_the_kernel_kills_names_memory(bench, agent):
    install(bench.board, more="kill -9 $$")

    error = agent.error("engine_build", **request(bench, agent))

    assert error["code"] == "out_of_memory"
    assert "memory: 7853 MiB in all" in error["why"]
    assert "swap" in error["fix"]


def run(bench, agent, **more):
    fields = {"engine": bench.put(agent, b"a plan"), "runtime": "trtexec", "plan": PLAN}
    return agent.start("engine_run", **{**fields, **more})


def test_its_load_comes_home_with_its_lines_and_times(bench, agent):
    install(bench.board, sleep=0.3)

    message, events = agent.finish(
        run(bench, agent, power=[{"source": "tegrastats", "rail": "VDD_IN"}])
    )

    marks = {e["name"]: e for e in events if e["kind"] == "mark"}
    assert list(marks) == ["idle_before", "trtexec", "idle_after"]
    load = marks["trtexec"]
    assert load["stop_ns"] - load["start_ns"] > 0.3e9
    said = [line for e in events if e["kind"] == "said" for line in e["lines"]]
    assert any("Starting inference" in text for _, text in said)
    assert all(load["start_ns"] < t_ns < load["stop_ns"] for t_ns, _ in said)
    power = [t for e in events if e["kind"] == "power" for t, _ in e["lines"]]
    assert power[0] < load["start_ns"]
    assert power[-1] > marks["idle_after"]["stop_ns"]
    done = message["result"]["trtexec"]
    assert json.loads(bench.blob(done["times"])) == ROWS
    assert "--noDataTransfers" in done["argv"]


def test_a_load_that_fails_says_its_last_lines_and_leaves_nothing(bench, agent):
    install(bench.board, more="echo '[E] Engine deserialization failed'; exit 1")

    error = agent.finish(run(bench, agent))[0]["error"]

    assert error["code"] == "worker_died"
    assert "deserialization failed" in error["why"]
    assert not list((bench.board.home / ".hil/incoming").iterdir())


def test_a_load_that_is_cancelled_ends_at_once(bench, agent):
    install(bench.board, sleep=60)
    identity = run(bench, agent, plan=dict(PLAN, idle_s=0.0))
    wait_until(lambda: len(builds(bench.board, "--exportTimes")) == 1)
    begun = children(agent.process.pid)

    agent.send({"notify": "cancel", "id": identity})

    assert agent.finish(identity)[0]["error"]["code"] == "cancelled"
    assert begun
    assert all(gone(pid) for pid in begun)


@pytest.mark.parametrize("change", [{"rate_hz": 10.0}, {"max_blocks": 9}])
def test_what_trtexec_cannot_keep_is_refused(bench, agent, change):
    install(bench.board)

    error = agent.finish(run(bench, agent, plan={**PLAN, **change}))[0]["error"]

    assert error["code"] == "bad_request"


def test_a_board_without_trtexec_says_so(bench, agent):
    assert agent.error("engine_build", **request(bench, agent))["code"] == "no_runtime"
