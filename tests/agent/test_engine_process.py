"""Engines on the real agent, through ONNX Runtime: build, run beside power, infer, layers."""

import itertools
import json
import os
import signal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from .conftest import gone, has_onnxruntime, latencies

PLAN = {
    "idle_s": 0.1,
    "settle_s": 0.05,
    "window_s": 0.1,
    "blocks": 2,
    "tail_s": 0.02,
    "interval_ms": 20,
    "warmup": 2,
}
METER = [{"source": "tegrastats"}]
WEIGHT = (np.arange(12, dtype=np.float32).reshape(3, 4) - 5) / 7


def network(shape=(1, 3), operator="Relu", domain="", opset=13):
    """y = operator(x W): one matrix product, one operator."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node(operator, ["h"], ["y"], name="last", domain=domain),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 4])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    domains = [helper.make_opsetid("", opset)]
    if domain:
        domains.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=domains, ir_version=7).SerializeToString()


@pytest.fixture
def agent(bench):
    if not has_onnxruntime(bench.python):
        pytest.skip(f"{bench.python} has no onnxruntime")
    made = bench.greeted()
    made.lease()
    return made


def build(agent, sha256, **more):
    request = {"onnx": sha256, "runtime": "onnxruntime", "precision": "fp32"}
    return agent.call("engine_build", **dict(request, **more))


def ort_error(agent, sha256, **more):
    request = {"onnx": sha256, "runtime": "onnxruntime", "precision": "fp32"}
    return agent.error("engine_build", **dict(request, **more))


def run(agent, engine, **more):
    request = {"engine": engine, "runtime": "onnxruntime", "plan": PLAN, "power": METER}
    return agent.finish(agent.start("engine_run", **dict(request, **more)))


def of_blocks(events):
    of_load = [e for e in events if e["kind"] == "latency" and e["phase"] == "block"]
    return {event["index"]: latencies(event) for event in of_load}


def test_an_engine_is_built_once_and_found_again(bench, agent):
    sha256 = bench.put(agent, network())

    made = build(agent, sha256)
    again = build(agent, sha256)
    fresh = build(agent, sha256, build_index=1)

    assert made["cached"] is False
    assert made["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3]}]
    assert made["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 4]}]
    assert made["device_memory_bytes"] is None
    assert made["plan_bytes"] == len(bench.blob(made["engine"]))
    assert made["build_s"] > 0
    assert dict(again, cached=False) == made
    assert again["cached"] is True
    assert fresh["cached"] is False
    assert fresh["key"] != made["key"]


def test_a_damaged_cache_builds_anew(bench, agent):
    sha256 = bench.put(agent, network())
    made = build(agent, sha256)
    (bench.board.home / ".hil/engines" / (made["key"] + ".json")).write_text("{")

    assert build(agent, sha256)["cached"] is False


def test_the_outputs_of_stacked_samples_are_numpys(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    samples = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    blob = bench.put(agent, samples.tobytes())

    told = agent.call(
        "engine_infer", engine=engine, runtime="onnxruntime", inputs={"x": blob}, count=7
    )

    (output,) = told["outputs"]
    assert (output["name"], output["dtype"], output["shape"]) == ("y", "float32", [7, 4])
    got = np.frombuffer(bench.blob(output["sha256"]), np.float32).reshape(7, 4)
    np.testing.assert_allclose(got, np.maximum(samples @ WEIGHT, 0), rtol=1e-6, atol=1e-6)
    assert os.listdir(bench.board.home / ".hil/incoming") == []


def test_values_that_do_not_fit_are_refused_with_the_size_needed(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    blob = bench.put(agent, bytes(10))
    request = {"engine": engine, "runtime": "onnxruntime", "count": 2}

    assert "24" in agent.error("engine_infer", **request, inputs={"x": blob})["message"]
    assert "x" in agent.error("engine_infer", **request, inputs={})["message"]
    strange = agent.error("engine_infer", **request, inputs={"x": blob, "z": blob})
    assert "z" in strange["message"]


def test_a_run_is_one_load_between_two_idles_with_power_around_all_of_it(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]

    answer, events = run(agent, engine)

    assert answer["result"]["copies"] == "excluded"
    (told,) = answer["result"]["power"]
    assert (told["source"], told["exit"]) == ("tegrastats", None)
    assert told["argv"][1:] == ["--interval", "20"]
    assert told["settings"]["interval_ms"] == 20
    assert "tegrastats --interval 20" in bench.board.calls()
    marks = [event for event in events if event["kind"] == "mark"]
    names = [(mark["name"], mark["index"]) for mark in marks]
    load = [("settle", 0), ("block", 0), ("block", 1), ("tail", 0)]
    assert names == [("idle_before", 0), *load, ("idle_after", 0)]
    for before, after in itertools.pairwise(marks):
        assert before["start_ns"] < before["stop_ns"] <= after["start_ns"]
    for before, after in itertools.pairwise(marks[1:5]):
        assert after["start_ns"] - before["stop_ns"] < 50_000_000  # no pause in the load
    stamps = [t_ns for event in events if event["kind"] == "power" for t_ns, _ in event["lines"]]
    assert stamps == sorted(stamps)
    assert stamps[0] < marks[0]["start_ns"]
    assert stamps[-1] > marks[-1]["stop_ns"]


def test_each_blocks_latencies_are_counted_and_fill_its_window(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]

    _, events = run(agent, engine, power=[])

    series = of_blocks(events)
    blocks = [e for e in events if e["kind"] == "mark" and e["name"] == "block"]
    assert sorted(series) == [0, 1]
    for mark in blocks:
        taken = series[mark["index"]]
        duration_ns = mark["stop_ns"] - mark["start_ns"]
        assert len(taken) == mark["inferences"]
        assert duration_ns >= PLAN["window_s"] * 1e9
        assert duration_ns / 3 < sum(taken) <= duration_ns
    assert not any(event["kind"] == "power" for event in events)


def test_the_boards_state_is_told_before_during_and_after(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]

    _, events = run(agent, engine, power=[])

    states = [event for event in events if event["kind"] == "state"]
    assert len(states) == 6  # before, after settling, two blocks and the tail, and at the end
    assert states[0]["nvpmodel"] == {"id": 3, "name": "MODE_3"}
    assert states[2]["nvpmodel"] is None  # asking would disturb the board
    assert states[2]["gpu_hz"] == 1300500000
    assert [s["t_ns"] for s in states] == sorted(s["t_ns"] for s in states)


def test_given_inputs_are_used_and_must_fit(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    good, bad = bench.put(agent, bytes(12)), bench.put(agent, bytes(13))

    assert "result" in run(agent, engine, power=[], inputs={"x": good})[0]
    assert run(agent, engine, power=[], inputs={"x": bad})[0]["error"]["code"] == "bad_request"


def test_without_a_meter_there_is_no_power_and_no_figure(bench, agent):
    os.unlink(bench.board.root / "usr/bin/tegrastats")
    engine = build(agent, bench.put(agent, network()))["engine"]

    answer, events = run(agent, engine)

    assert answer["error"]["code"] == "no_power"
    assert events == []


def test_a_meter_that_says_nothing_is_no_power(bench, agent):
    bench.board.program("tegrastats", "echo 'cannot open /tmp/.tstats.txt' >&2; exit 3\n")
    engine = build(agent, bench.put(agent, network()))["engine"]

    answer, _ = run(agent, engine)

    assert answer["error"]["code"] == "no_power"
    assert "cannot open" in answer["error"]["why"]
    assert "status 3" in answer["error"]["why"]


def test_a_meter_that_ends_early_is_told(bench, agent):
    bench.board.program("tegrastats", "echo 'VDD_IN 1/1'; printf 'VDD_IN 99'; exit 0\n")
    engine = build(agent, bench.put(agent, network()))["engine"]

    answer, events = run(agent, engine)

    assert [told["exit"] for told in answer["result"]["power"]] == [0]
    lines = [line for e in events if e["kind"] == "power" for _, line in e["lines"]]
    assert lines == ["VDD_IN 1/1"]


def test_a_cancelled_run_ends_its_children_and_the_agent_lives_on(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    plan = dict(PLAN, window_s=60)
    request = {"engine": engine, "runtime": "onnxruntime", "plan": plan, "power": METER}
    identity = agent.start("engine_run", **request)
    while agent.receive().get("event", {}).get("name") != "settle":
        pass

    agent.send({"notify": "cancel", "id": identity})

    assert agent.finish(identity)[0]["error"]["code"] == "cancelled"
    assert children(agent.process.pid) == []
    assert agent.call("ping") == {}


def test_a_worker_that_is_killed_costs_the_run_and_not_the_agent(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    plan = dict(PLAN, window_s=60)
    request = {"engine": engine, "runtime": "onnxruntime", "plan": plan, "power": []}
    identity = agent.start("engine_run", **request)
    while agent.receive().get("event", {}).get("name") != "settle":
        pass

    (worker,) = children(agent.process.pid)
    os.kill(worker, signal.SIGKILL)

    error = agent.finish(identity)[0]["error"]
    assert error["code"] == "worker_died"
    assert "memory" in error["why"]
    assert "result" in run(agent, engine, power=[])[0]


def test_the_end_of_input_ends_a_run_and_gives_the_board_back(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    agent.call("board_pin", nvpmodel=0, clocks=True)
    plan = dict(PLAN, window_s=60)
    request = {"engine": engine, "runtime": "onnxruntime", "plan": plan, "power": METER}
    agent.start("engine_run", **request)
    while agent.receive().get("event", {}).get("name") != "settle":
        pass
    begun = children(agent.process.pid)

    assert agent.end_input() == 0

    assert len(begun) == 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in begun)
    assert (bench.board.root / "mode").read_text() == "3"


def test_a_killed_agent_leaves_no_process_behind(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]
    plan = dict(PLAN, window_s=60)
    request = {"engine": engine, "runtime": "onnxruntime", "plan": plan, "power": METER}
    agent.start("engine_run", **request)
    while agent.receive().get("event", {}).get("name") != "settle":
        pass
    begun = children(agent.process.pid)

    agent.process.kill()
    agent.process.wait()

    assert len(begun) == 2
    assert all(gone(pid) for pid in begun)


def test_shapes_that_are_not_fixed_must_be_given(bench, agent):
    sha256 = bench.put(agent, network(shape=("batch", 3)))

    refusal = ort_error(agent, sha256)
    assert refusal["code"] == "unknown_shape"
    assert "--shape x=" in refusal["fix"]
    assert ort_error(agent, sha256, shapes={"x": [2, 4]})["code"] == "unknown_shape"
    assert ort_error(agent, sha256, shapes={"q": [2, 3]})["code"] == "unknown_shape"
    made = build(agent, sha256, shapes={"x": [2, 3]})
    assert made["inputs"][0]["shape"] == [2, 3]
    assert made["outputs"][0]["shape"] == [2, 4]
    assert "result" in run(agent, made["engine"], power=[])[0]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"this is no network", "parse_failed"),
        (network(opset=99), "unsupported_opset"),
        (network(operator="Frobnicate", domain="com.example"), "unsupported_operator"),
    ],
)
def test_what_the_runtime_refuses_has_its_own_code(bench, agent, data, code):
    assert ort_error(agent, bench.put(agent, data))["code"] == code


def test_a_precision_the_runtime_has_not_is_refused(bench, agent):
    refusal = ort_error(agent, bench.put(agent, network()), precision="fp16")

    assert refusal["code"] == "build_failed"
    assert "fp32" in refusal["fix"]


def test_a_runtime_without_cuda_graphs_says_so(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]

    answer, _ = run(agent, engine, power=[], cuda_graph=True)

    assert answer["error"]["code"] == "no_runtime"
    assert "cuda_graph" in answer["error"]["fix"]
    assert "result" in run(agent, engine, power=[], cuda_graph=False)[0]
    assert run(agent, engine, cuda_graph="yes")[0]["error"]["code"] == "bad_request"


def test_a_board_without_tensorrt_says_so(bench, agent):
    refusal = ort_error(agent, bench.put(agent, network()), runtime="tensorrt")

    assert refusal["code"] == "no_runtime"


def test_networks_and_engines_that_are_not_there_are_bad_requests(bench, agent):
    assert ort_error(agent, "a" * 64)["code"] == "bad_request"
    assert run(agent, "b" * 64)[0]["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    "change",
    [{"blocks": 0}, {"window_s": "8"}, {"idle_s": -1}, {"interval_ms": 1}, {"warmup": 1.5}],
)
def test_plans_that_make_no_sense_are_refused(bench, agent, change):
    engine = build(agent, bench.put(agent, network()))["engine"]

    error = run(agent, engine, plan=dict(PLAN, **change))[0]["error"]

    assert error["code"] == "bad_request"
    assert next(iter(change)) in error["message"]


def test_layers_are_named_and_timed(bench, agent):
    engine = build(agent, bench.put(agent, network()))["engine"]

    layers = agent.call("engine_layers", engine=engine, runtime="onnxruntime", iterations=5)

    names = " ".join(layer["name"] for layer in layers["layers"])
    assert "product" in names
    assert "last" in names
    assert all(0 <= layer["time_ms"] < 100 for layer in layers["layers"])
    json.dumps(layers)


def test_the_plan_holds_the_network_it_was_built_from(bench, agent):
    made = build(agent, bench.put(agent, network()))

    header, _, model = bench.blob(made["engine"]).partition(b"\n")

    assert json.loads(header) == {"format": "hil/ort-plan@1", "shapes": {}}
    assert {node.op_type for node in onnx.load_from_string(model).graph.node} >= {"Relu"}


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
