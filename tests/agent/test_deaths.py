"""Engines that kill their worker, by real signals in real processes: each costs one request.

A library on the board does to its process what faulty ones do, at the stage that a file names.
"""

import os
import sys
from pathlib import Path

import pytest

from hil.agent import procs
from hil.agent.errors import AgentError
from hil.agent.workerlink import WorkerLink

from .conftest import gone, has_onnxruntime
from .test_engine_process import PLAN, children, network

LIBRARY = """\
import ctypes, importlib.machinery, importlib.util, os, signal, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PLAN = os.path.join(os.path.dirname(HERE), "dies")
elsewhere = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(HERE)]
spec = importlib.machinery.PathFinder.find_spec("onnxruntime", elsewhere)
real = sys.modules["onnxruntime"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)


def segfault():
    ctypes.string_at(0)


def fill():
    kills = os.path.join(os.path.dirname(HERE), "../proc/vmstat")
    with open(kills, "w") as file:
        file.write("nr_free_pages 7\\noom_kill 4\\n")
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does, which counts it


def hang():
    while True:
        time.sleep(60)


WAYS = {"segfault": segfault, "abort": os.abort, "fill": fill, "hang": hang,
        "exit": lambda: os._exit(3)}


def reached(stage):
    if os.path.exists(PLAN):
        with open(PLAN) as file:
            where, how = file.read().split()
        if where == stage:
            sys.stderr.write("[E] the last words of a library\\n")
            sys.stderr.flush()
            WAYS[how]()


class InferenceSession(real.InferenceSession):
    calls = 0

    def __init__(self, source, options, **more):
        reached("build" if options.optimized_model_filepath else "load")
        real_init(self, source, options, **more)

    def run(self, *args):
        self.calls += 1
        if self.calls > 20:  # the load is well under way
            reached("run")
        return real_run(self, *args)


real_init, real_run = real.InferenceSession.__init__, real.InferenceSession.run
real.InferenceSession = InferenceSession
"""
WAYS = {
    "segfault": (11, "a segmentation fault"),
    "abort": (6, "an abort"),
    "fill": (9, "out-of-memory killer ended a process"),
}


class Site:
    """The folder of the library, and what it is to do."""

    def __init__(self, board):
        self.folder = board.root / "site"
        (self.folder / "onnxruntime").mkdir(parents=True)
        (self.folder / "onnxruntime/__init__.py").write_text(LIBRARY)
        board.write("proc/vmstat", "nr_free_pages 9\noom_kill 3\n")

    def dies(self, stage, how):
        (self.folder / "dies").write_text(f"{stage} {how}")

    def lives(self):
        (self.folder / "dies").unlink(missing_ok=True)


@pytest.fixture
def site(bench):
    if not has_onnxruntime(bench.python):
        pytest.skip(f"{bench.python} has no onnxruntime")
    made = Site(bench.board)
    start = f'export PYTHONPATH={made.folder}\nexec {bench.python} "$@"\n'
    bench.board.program("python3", start)
    bench.python = f"{bench.board.root}/usr/bin/python3"
    return made


@pytest.fixture
def agent(bench, site):
    made = bench.greeted()
    made.lease()
    return made


def build_request(bench, agent, **more):
    fields = {"runtime": "onnxruntime", "precision": "fp32", **more}
    return {"onnx": bench.put(agent, network()), **fields}


def well(bench, agent, site):
    """The agent is whole: no child is left, and the same engine is built and run after it."""
    site.lives()
    assert children(agent.process.pid) == []
    engine = agent.call("engine_build", **build_request(bench, agent))["engine"]
    request = {"engine": engine, "runtime": "onnxruntime", "plan": PLAN, "power": []}
    assert "result" in agent.finish(agent.start("engine_run", **request))[0]
    assert os.listdir(bench.board.home / ".hil/incoming") == []


def check(error, how, doing):
    number, words = WAYS[how]
    assert error["code"] == "worker_died"
    assert error["message"] == f"the process died while {doing}"
    assert f"signal {number}" in error["why"]
    assert words in error["why"]
    assert "the last words of a library" in error["why"]
    assert error["fix"]


@pytest.mark.parametrize("how", sorted(WAYS))
def test_a_build_that_kills_its_worker_names_how_and_costs_itself_alone(bench, agent, site, how):
    site.dies("build", how)

    error = agent.error("engine_build", **build_request(bench, agent))

    check(error, how, "building the engine")
    well(bench, agent, site)


def test_a_load_that_kills_its_worker_names_how_and_costs_itself_alone(bench, agent, site):
    engine = agent.call("engine_build", **build_request(bench, agent))["engine"]
    site.dies("load", "segfault")

    request = {"engine": engine, "runtime": "onnxruntime", "plan": PLAN, "power": []}
    check(agent.error("engine_run", **request), "segfault", "loading the engine")
    well(bench, agent, site)


@pytest.mark.parametrize("how", ["segfault", "fill"])
def test_a_run_that_kills_its_worker_names_how_and_costs_itself_alone(bench, agent, site, how):
    engine = agent.call("engine_build", **build_request(bench, agent))["engine"]
    site.dies("run", how)
    plan = dict(PLAN, window_s=60)
    power = [{"source": "tegrastats"}]

    identity = agent.start(
        "engine_run", engine=engine, runtime="onnxruntime", plan=plan, power=power
    )
    answer, _ = agent.finish(identity)

    # The first calls are part of loading; after that the load itself is what died.
    check(answer["error"], how, "running the engine")
    well(bench, agent, site)


def test_a_worker_that_leaves_by_itself_is_told_with_its_status(bench, agent, site):
    site.dies("build", "exit")

    error = agent.error("engine_build", **build_request(bench, agent))

    assert (error["code"], "status 3" in error["why"]) == ("worker_died", True)
    well(bench, agent, site)


class Job:
    """A request that nobody cancels."""

    def check(self):
        """Nothing ends it early."""


@pytest.mark.parametrize(
    ("stage", "doing"),
    [("build", "building"), ("load", "loading"), ("infer", "running")],
)
def test_a_worker_that_hangs_is_ended_at_its_limit_and_said_to_have_hung(
    bench, site, tmp_path, stage, doing
):
    site.lives()
    (tmp_path / "net.onnx").write_bytes(network())
    (tmp_path / "x").write_bytes(bytes(12 * 40))
    env = {**os.environ, "PYTHONPATH": f"{site.folder}:{Path(__file__).parents[2]}"}
    argv = [sys.executable, "-c", "from hil.agent.worker import main; main('/')"]
    owned = procs.Children()
    limit_s = 2.0  # of the stage that hangs; the others may take their time
    build = {
        "runtime": "onnxruntime", "precision": "fp32", "onnx": str(tmp_path / "net.onnx"),
        "engine": str(tmp_path / "plan"), "shapes": {},
    }  # fmt: skip
    load = {"runtime": "onnxruntime", "engine": build["engine"], "inputs": {}, "warmup": 0}
    infer = {"inputs": {"x": str(tmp_path / "x")}, "count": 40, "outputs": [str(tmp_path / "y")]}
    pids = []

    def work():
        with WorkerLink(argv, owned, str(tmp_path / "err"), Job(), env) as worker:
            pids.append(worker._process.pid)
            for name, request in (("build", build), ("load", load), ("infer", infer)):
                if name == stage:
                    site.dies("run" if stage == "infer" else stage, "hang")
                worker.call(name, request, limit_s if name == stage else 300.0)

    with pytest.raises(AgentError) as caught:
        work()

    assert caught.value.code == "timeout"
    assert caught.value.message == f"{doing} the engine was not finished in time"
    assert "after 2 s" in caught.value.why
    assert gone(pids[0])


def test_what_the_kernel_counts_is_read_and_its_absence_is_no_claim(bench):
    from hil.agent.runner import _killer

    assert _killer(None, None) is None
    assert "ended nothing" in _killer(3, 3)
    assert "ended a process" in _killer(3, 4)
