"""Runs that the host steers, several meters, load steps and trtexec, on the real agent."""

import json
import os
import signal
import time

import pytest

from .conftest import gone, has_onnxruntime, latencies
from .test_engine_process import METER, PLAN, build, children, network, of_blocks

LONGER = dict(PLAN, blocks=2, max_blocks=6)


@pytest.fixture
def agent(bench):
    if not has_onnxruntime(bench.python):
        pytest.skip(f"{bench.python} has no onnxruntime")
    made = bench.greeted()
    made.lease()
    return made


@pytest.fixture
def engine(bench, agent):
    return build(agent, bench.put(agent, network()))["engine"]


def start(agent, engine, method="engine_run", **more):
    request = {"engine": engine, "runtime": "onnxruntime", "plan": LONGER, "power": METER}
    return agent.start(method, **dict(request, **more))


def is_block(message, index):
    event = message.get("event", {})
    return event.get("name") == "block" and event["index"] == index


def answering(agent, identity, stop_after):
    """Answers each block after it has ended; returns the last message and all events."""
    events = []
    while True:
        message = agent.receive()
        assert message is not None, agent.stderr.read_text()
        if "event" not in message:
            return message, events
        events.append(message["event"])
        for block in range(1, 6):
            if is_block(message, block):
                answer = {"notify": "answer", "id": identity, "block": block}
                agent.send({**answer, "go": block < stop_after})


def names(events):
    return [(e["name"], e["index"]) for e in events if e["kind"] == "mark"]


@pytest.mark.parametrize(("stop_after", "blocks"), [(1, 3), (2, 4), (99, 6)])
def test_the_host_ends_a_run_one_block_after_it_has_seen_enough(agent, engine, stop_after, blocks):
    message, events = answering(agent, start(agent, engine), stop_after)

    assert "result" in message, message
    load = [("settle", 0), *(("block", n) for n in range(blocks)), ("tail", 0)]
    assert names(events) == [("idle_before", 0), *load, ("idle_after", 0)]
    series = of_blocks(events)
    for mark in (e for e in events if e.get("name") == "block"):
        assert len(series[mark["index"]]) == mark["inferences"]


def test_a_block_s_mark_comes_after_every_power_line_of_its_time(agent, engine):
    _, events = answering(agent, start(agent, engine), 99)

    told = []
    for event in events:
        if event["kind"] == "power":
            told += [t_ns for t_ns, _ in event["lines"]]
        elif event.get("name") == "block":
            later = [t for e in events if e["kind"] == "power" for t, _ in e["lines"]][len(told) :]
            assert all(t_ns > event["stop_ns"] for t_ns in later)
    assert len(told) > 10


def test_a_plan_without_a_cap_needs_no_answer(agent, engine):
    message, events = agent.finish(start(agent, engine, plan=PLAN))

    assert "result" in message
    assert names(events).count(("block", 1)) == 1
    assert ("block", 2) not in names(events)


def until_it_waits(agent, engine):
    """Starts a run that is left waiting for its first answer."""
    identity = start(agent, engine)
    while not is_block(agent.receive(), 2):
        pass
    return identity


def test_a_run_that_waits_for_an_answer_can_be_cancelled(agent, engine):
    identity = until_it_waits(agent, engine)

    agent.send({"notify": "cancel", "id": identity})

    assert agent.finish(identity)[0]["error"]["code"] == "cancelled"
    assert children(agent.process.pid) == []
    assert agent.call("ping") == {}


def test_a_host_that_goes_away_while_it_is_awaited_leaves_nothing_behind(agent, engine):
    until_it_waits(agent, engine)
    begun = children(agent.process.pid)

    assert agent.end_input() == 0

    assert len(begun) == 2
    assert all(gone(pid) for pid in begun)


def test_a_worker_killed_while_it_waits_costs_only_the_run(agent, engine):
    identity = until_it_waits(agent, engine)
    worker = children(agent.process.pid)[0]

    os.kill(worker, signal.SIGKILL)

    assert agent.finish(identity)[0]["error"]["code"] == "worker_died"
    assert agent.call("ping") == {}


@pytest.mark.parametrize("answer", [{"block": 1}, {"block": "1", "go": True}, {"go": True}])
def test_an_answer_that_is_none_ends_the_run_and_not_the_agent(agent, engine, answer):
    identity = until_it_waits(agent, engine)

    agent.send({"notify": "answer", "id": identity, **answer})

    assert agent.finish(identity)[0]["error"]["code"] == "bad_request"
    assert agent.call("ping") == {}


def test_an_answer_about_another_block_ends_the_run(agent, engine):
    identity = until_it_waits(agent, engine)

    agent.send({"notify": "answer", "id": identity, "block": 4, "go": True})

    assert agent.finish(identity)[0]["error"]["code"] == "bad_request"


def test_answers_that_nobody_waits_for_are_dropped(agent, engine):
    stray = {"notify": "answer", "block": 1, "go": False}
    agent.send({**stray, "id": 77})
    identity = start(agent, engine, plan=PLAN)
    agent.send({**stray, "id": identity})

    message, events = agent.finish(identity)

    assert "result" in message
    assert ("block", 1) in names(events)


def test_a_paced_run_says_how_many_slots_it_kept(agent, engine):
    plan = dict(PLAN, rate_hz=100, window_s=0.3)

    _, events = agent.finish(start(agent, engine, plan=plan, power=[]))

    for mark in (e for e in events if e.get("name") == "block"):
        slots = (mark["stop_ns"] - mark["start_ns"]) / 1e7
        assert mark["inferences"] + mark["missed"] == pytest.approx(slots, abs=1.0)
        assert mark["inferences"] <= 32


def test_how_the_load_came_up_is_told(agent, engine):
    _, events = agent.finish(start(agent, engine, plan=PLAN, power=[]))

    (loaded,) = (e for e in events if e["kind"] == "start")
    phases = [(e["phase"], len(latencies(e))) for e in events if e["kind"] == "latency"]
    settle = next(e for e in events if e.get("name") == "settle")
    assert loaded["load_ns"] > 0
    assert phases[0] == ("warmup", 1 + PLAN["warmup"])  # loading into this runtime runs it once
    assert ("settle", settle["inferences"]) in phases


def test_two_meters_are_read_at_once_each_under_its_number(bench, agent, engine):
    loop = 'while true; do echo "1.5 $1"; /bin/sleep 0.01; done\n'
    bench.board.program("meter", loop)
    second = {"source": "command", "command": ["meter", "7.25"], "rail": "wall"}

    message, events = agent.finish(start(agent, engine, plan=PLAN, power=[*METER, second]))

    told = message["result"]["power"]
    assert [one["source"] for one in told] == ["tegrastats", "command"]
    assert told[1]["argv"][1:] == ["7.25"]
    assert told[1]["settings"]["rail"] == "wall"
    by_source = {0: set(), 1: set()}
    for event in events:
        if event["kind"] == "power":
            by_source[event["source"]] |= {line for _, line in event["lines"]}
    assert by_source == {0: {"RAM 1/2MB VDD_IN 4000/4000"}, 1: {"1.5 7.25"}}
    assert children(agent.process.pid) == []


def test_a_second_meter_that_is_not_there_refuses_the_run_before_it_starts(bench, agent, engine):
    missing = {"source": "command", "command": ["no-such-meter"]}

    message, events = agent.finish(start(agent, engine, power=[*METER, missing]))

    assert message["error"]["code"] == "no_power"
    assert events == []
    assert "tegrastats --interval 20" not in bench.board.calls()


def test_load_steps_follow_one_another_without_a_gap(agent, engine):
    steps = {"interval_ms": 20, "idle_s": 0.1, "hold_s": 0.1, "steps": 3}

    message, events = agent.finish(start(agent, engine, "step_response", **steps))

    assert message["result"]["power"][0]["source"] == "tegrastats"
    marks = [e for e in events if e["kind"] == "mark"]
    on_off = [(name, n) for n in range(3) for name in ("on", "off")]
    assert names(events) == [("idle_before", 0), *on_off, ("idle_after", 0)]
    for on, off in zip(marks[1:-1:2], marks[2:-1:2], strict=True):
        assert on["inferences"] > 0
        assert off["inferences"] is None
        assert on["stop_ns"] == off["start_ns"]
        assert off["stop_ns"] - off["start_ns"] >= 100e6
    stamps = [t_ns for e in events if e["kind"] == "power" for t_ns, _ in e["lines"]]
    assert stamps[0] < marks[0]["start_ns"] < marks[-1]["stop_ns"] < stamps[-1]


def test_the_board_s_clock_is_told_between_two_looks_at_ours(agent):
    rows = []
    for _ in range(5):
        before_ns = time.monotonic_ns()
        rows.append((before_ns, agent.call("clock")["t_ns"], time.monotonic_ns()))

    assert all(before <= there <= after for before, there, after in rows)


TRTEXEC = """\
echo "trtexec $*" >> {calls}
case "$1" in --help) echo "  --streams=N --noDataTransfers --exportTimes"; exit 0;; esac
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec"
for word in "$@"; do case "$word" in --exportTimes=*) target="${{word#*=}}";; esac; done
[ -n "$target" ] && echo '{times}' > "$target"
exit {status}
"""
TIMES = [{"startComputeMs": 150, "latencyMs": 2.0}, {"startComputeMs": 250, "latencyMs": 1.0}]


def install_trtexec(board, times=TIMES, status=0, more=""):
    text = TRTEXEC.format(calls=board.calls_file, times=json.dumps(times), status=status)
    board.program("trtexec", text.replace("--streams=N", more or "--streams=N"))


@pytest.fixture
def leased(bench):
    made = bench.greeted()
    made.lease()
    return made


def trtexec(bench, agent):
    return {"engine": bench.put(agent, b"a plan"), "runtime": "tensorrt"}


@pytest.mark.parametrize(
    ("more", "flag"), [("--streams=N", "--streams=1"), ("--infStreams=N", "--infStreams=1")]
)
def test_trtexec_s_own_times_come_home_as_it_wrote_them(bench, leased, more, flag):
    install_trtexec(bench.board, more=more)

    told = leased.call("engine_trtexec", **trtexec(bench, leased))

    assert json.loads(bench.blob(told["times"])) == TIMES
    assert told["version"] == "8201"
    assert told["warmup_ms"] == 200
    assert {flag, "--noDataTransfers", "--useSpinWait", "--warmUp=200"} <= set(told["argv"])
    engine = next(word for word in told["argv"] if word.startswith("--loadEngine="))
    assert engine.endswith(trtexec(bench, leased)["engine"])
    assert list((bench.board.home / ".hil/incoming").iterdir()) == []


def test_a_trtexec_that_fails_is_told_in_its_words(bench, leased):
    install_trtexec(bench.board, status=1)

    error = leased.error("engine_trtexec", **trtexec(bench, leased))

    assert error["code"] == "worker_died"
    assert "status 1" in error["message"]
    assert "TensorRT v8201" in error["why"]
    assert list((bench.board.home / ".hil/incoming").iterdir()) == []


def test_without_trtexec_or_for_another_runtime_there_is_no_second_opinion(bench, leased):
    assert leased.error("engine_trtexec", **trtexec(bench, leased))["code"] == "no_runtime"
    install_trtexec(bench.board)
    other = dict(trtexec(bench, leased), runtime="onnxruntime")
    assert leased.error("engine_trtexec", **other)["code"] == "bad_request"
