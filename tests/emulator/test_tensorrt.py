"""The TensorRT and PyCUDA stand-ins: names, refusals, engines, numerics, time."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import hil.emulator
from hil.emulator.board import load_board
from hil.emulator.kernels import lower
from hil.emulator.physics import execution
from hil.emulator.trt import builder, limits, plan

from .conftest import network

API = Path(hil.emulator.__file__).parent / "data" / "api_tensorrt_source-8.2.1.json"

PRELUDE = """
import sys, json, time, hashlib
import numpy as np
import tensorrt as trt, pycuda.driver as cuda
cuda.init(); context = cuda.Device(0).make_context()
logger = trt.Logger(trt.Logger.WARNING)
data = open(sys.argv[1], "rb").read()
builder = trt.Builder(logger)
net = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
parser = trt.OnnxParser(net, logger)
def build(fp16=True, cache=None, profile=None):
    assert parser.parse(data), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.max_workspace_size = 1 << 28
    if fp16: config.set_flag(trt.BuilderFlag.FP16)
    if cache is not None: config.set_timing_cache(cache, False)
    if profile:
        p = builder.create_optimization_profile(); p.set_shape(*profile)
        config.add_optimization_profile(p)
    return builder.build_serialized_network(net, config)
def load(serialized):
    engine = trt.Runtime(logger).deserialize_cuda_engine(serialized)
    return engine, engine.create_execution_context()
def buffers(engine, context):
    shapes = [tuple(context.get_binding_shape(i)) for i in range(engine.num_bindings)]
    sizes = [4 * int(np.prod(shape)) for shape in shapes]
    return [cuda.mem_alloc(size) for size in sizes], sizes
"""


@pytest.fixture
def tensorrt(monkeypatch):
    """The stand-in, imported in this process; nothing here needs the board itself."""
    standins = str(Path(hil.emulator.__file__).parent / "standins")
    monkeypatch.syspath_prepend(standins)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("tensorrt")
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        del sys.modules[name]


@pytest.fixture
def run(board, tmp_path):
    def run_program(program: str, data: bytes, *arguments: str) -> str:
        path = tmp_path / "network.onnx"
        path.write_bytes(data)
        return board.python(PRELUDE + program, str(path), *arguments)

    return run_program


def public(thing: object) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def test_no_public_name_is_missing_from_the_real_release(tensorrt):
    api = json.loads(API.read_text())
    # A function of the plugin library, whose names the record of the API leaves out.
    names = public(tensorrt) - {"init_libnvinfer_plugins"}
    assert len(names) > 20
    assert names <= set(api)
    for name in names:
        kind = getattr(tensorrt, name)
        if hasattr(kind, "__members__"):
            assert set(kind.__members__) <= set(api[name]), name
        else:
            assert inspect.isclass(kind)
            allowed = set(api[name])
            if name == "Logger":
                allowed |= {"Severity", *api["Severity"]}
            assert public(kind) <= allowed, name


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        ("IBuilderConfig", "set_memory_pool_limit"),
        ("IBuilderConfig", "builder_optimization_level"),
        ("ICudaEngine", "num_io_tensors"),
        ("ICudaEngine", "get_tensor_name"),
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_input_shape"),
    ],
)
def test_names_of_later_releases_raise(tensorrt, kind, later):
    with pytest.raises(AttributeError):
        getattr(getattr(tensorrt, kind), later)


@pytest.mark.parametrize("name", ["MemoryPoolType", "TensorIOMode", "HardwareCompatibilityLevel"])
def test_modules_names_of_later_releases_raise(tensorrt, name):
    with pytest.raises(AttributeError):
        getattr(tensorrt, name)


def test_instances_take_no_attributes_that_the_real_ones_lack(tensorrt):
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    config = tensorrt.Builder(logger).create_builder_config()
    with pytest.raises(AttributeError):
        config.memory_pool_limit = 1
    with pytest.raises(AttributeError):
        _ = config.set_memory_pool_limit


def test_a_class_with_an_invented_name_cannot_be_defined(tensorrt):
    guarded = importlib.import_module("tensorrt._surface").Guarded
    with pytest.raises(TypeError, match=r"no Builder\.magic"):

        class _Bad(guarded, real="Builder"):
            def magic(self):
                """Not in 8.2.1."""


def test_the_board_has_fp16_and_no_int8(tensorrt):
    made = tensorrt.Builder(tensorrt.Logger())
    assert made.platform_has_fast_fp16
    assert not made.platform_has_fast_int8
    assert tensorrt.__version__ == "8.2.1.8"


def refused(*nodes: onnx.NodeProto, **options) -> list[limits.Refusal]:
    return limits.refusals(onnx.load_from_string(network(*nodes, **options)))


def test_opset_13_is_the_newest():
    assert refused(opset=13) == []
    assert "up to Opset 13" in refused(opset=14)[0].text


@pytest.mark.parametrize("operator", ["Mod", "RoiAlign", "OneHot", "NonZero", "Reciprocal", "Xor"])
def test_operators_that_the_table_denies_are_refused(operator):
    (found,) = refused(helper.make_node(operator, ["a"], ["y"], name="n"))
    assert (found.code, found.node, found.function) == (
        "UNSUPPORTED_NODE",
        1,
        "importFallbackPluginImporter",
    )
    assert f"No importer registered for op: {operator}" in found.text


def test_foreign_domains_are_refused():
    node = helper.make_node("Relu", ["a"], ["y"], domain="com.example")
    assert refused(node)[0].code == "UNSUPPORTED_NODE"


def test_convolution_weights_must_be_in_the_file():
    assert refused(weights_as_input=True)[0].function == "importConv"


@pytest.mark.parametrize(
    ("mode", "transform", "fine"),
    [
        ("nearest", "asymmetric", True),
        ("linear", "half_pixel", True),
        ("linear", "align_corners", True),
        ("cubic", "half_pixel", False),
        ("linear", "tf_crop_and_resize", False),
    ],
)
def test_resize_modes(mode, transform, fine):
    node = helper.make_node(
        "Resize", ["a", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=transform
    )
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], "float32"), "s")
    assert (refused(node, extra=(scales,)) == []) is fine


def test_pooling_with_indices_or_in_one_dimension_is_refused():
    with_indices = helper.make_node("MaxPool", ["a"], ["y", "i"], kernel_shape=[2, 2])
    one = helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[2])
    assert "Indices" in refused(with_indices)[0].text
    assert "2D or 3D" in refused(one)[0].text


def test_topk_count_must_be_known():
    k = numpy_helper.from_array(np.array([3], "int64"), "k")
    fixed = helper.make_node("TopK", ["a", "k"], ["y", "i"])
    computed = helper.make_node("TopK", ["a", "a"], ["y", "i"])
    assert refused(fixed, extra=(k,)) == []
    assert refused(computed)[0].function == "importTopK"


def test_a_plan_reads_back_and_belongs_to_one_release_and_gpu():
    made = plan.Plan(b"onnx", "fp16", 1, (), (), (), ({"name": "k"},), (1.5,), "NONE", "net")
    data = made.to_bytes()
    assert plan.from_bytes(data) == made
    with pytest.raises(plan.PlanError, match="Version tag does not match"):
        plan.from_bytes(data.replace(b"8.2.1.8", b"8.5.2.2"))
    with pytest.raises(plan.PlanError, match="incompatible device"):
        plan.from_bytes(data.replace(b'"capability":[6,2]', b'"capability":[7,2]'))
    with pytest.raises(plan.PlanError, match="Magic tag"):
        plan.from_bytes(b"ftrt" + data)


def test_timing_caches_of_strangers_are_refused():
    assert builder.read_cache(b"") == builder.TimingCache()
    assert builder.read_cache(b"\x00garbage") is None
    cache = builder.TimingCache({"a": 1.5})
    assert builder.read_cache(cache.to_bytes()) == cache


@pytest.mark.board
def test_parser_says_what_it_refuses_and_where(board, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(network(helper.make_node("Mod", ["a", "a"], ["y"], name="n")))
    program = PRELUDE + (
        "print(parser.parse(data), parser.num_errors)\n"
        "e = parser.get_error(0); print(e.code(), e.node(), e.func()); print(e.desc())\n"
        "print(builder.build_serialized_network(net, builder.create_builder_config()))"
    )
    told = board.python(program, str(path)).splitlines()
    assert told[0] == "False 1"
    assert told[1] == "ErrorCode.UNSUPPORTED_NODE 1 importFallbackPluginImporter"
    assert "Plugin not found" in told[2]
    assert told[3] == "None"


@pytest.mark.board
def test_rubbish_and_implicit_batches_are_refused(run):
    said = run(
        "print(parser.parse(b'rubbish'), parser.get_error(0).code())\n"
        "old = trt.OnnxParser(builder.create_network(), logger)\n"
        "print(old.parse(data), old.get_error(0).desc())",
        network(),
    ).splitlines()
    assert said[0] == "False ErrorCode.MODEL_DESERIALIZE_FAILED"
    assert "EXPLICIT_BATCH" in said[1]


EXECUTE = """
engine, ctx = load(build(sys.argv[2] == "fp16"))
memory, sizes = buffers(engine, ctx)
stream = cuda.Stream()
x = np.linspace(-1, 1, sizes[0] // 4, dtype=np.float32)
cuda.memcpy_htod_async(memory[0], x, stream)
ctx.execute_async_v2([int(each) for each in memory], stream.handle)
y = np.empty(sizes[1] // 4, np.float32)
cuda.memcpy_dtoh_async(y, memory[1], stream)
stream.synchronize()
print(json.dumps(y.tolist()))
"""


@pytest.mark.board
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 4e-3)])
def test_engines_compute_what_the_network_computes(run, precision, tolerance):
    data = network()
    got = np.array(json.loads(run(EXECUTE, data, precision)), "float32")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = np.linspace(-1, 1, 3 * 16 * 16, dtype="float32").reshape(1, 3, 16, 16)
    want = session.run(None, {"x": x})[0].ravel()
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    if precision == "fp16":
        assert np.array_equal(got, got.astype("float16").astype("float32"))
        assert not np.array_equal(got, want)


@pytest.mark.board
def test_results_belong_to_the_inputs_of_their_execution(run):
    said = run(
        "engine, ctx = load(build(False)); memory, sizes = buffers(engine, ctx)\n"
        "bind = [int(each) for each in memory]\n"
        "def out():\n"
        "    y = np.empty(sizes[1] // 4, np.float32); cuda.memcpy_dtoh(y, memory[1]); return y\n"
        "one, two = (np.full(sizes[0] // 4, v, np.float32) for v in (1, 2))\n"
        "cuda.memcpy_htod(memory[0], one); ctx.execute_v2(bind); first = out()\n"
        "ctx.execute_v2(bind); cuda.memcpy_htod(memory[0], two); late = out()\n"
        "ctx.execute_v2(bind); second = out()\n"
        "print(np.array_equal(first, late), np.allclose(second, 2 * first), first.max() > 0)",
        network(),
    )
    assert said.split() == ["True", "True", "True"]


LOOP = """
engine, ctx = load(build()); memory, sizes = buffers(engine, ctx)
bind = [int(each) for each in memory]; stream = cuda.Stream()
stamps = [time.monotonic_ns()]
for _ in range(int(sys.argv[2])):
    ctx.execute_async_v2(bind, stream.handle); stream.synchronize()
    stamps.append(time.monotonic_ns())
print(json.dumps(stamps))
"""


@pytest.mark.board
def test_executions_take_the_modelled_time_with_a_tail_to_the_right(run, board):
    board.run("sudo", "-n", "jetson_clocks")
    data = network()
    spans = np.diff(json.loads(run(LOOP, data, "3000"))) / 1e9
    kernels = lower(onnx.load_from_string(data), "fp16")
    tx2 = load_board("tx2")
    model = execution(tx2, kernels, tx2.mode(0).clocks(pinned=True), 30.0)
    # Tactics differ by a few per cent from build to build; the loop's median is the build's own.
    assert np.median(spans) == pytest.approx(model.duration_s, rel=0.06)
    assert spans.max() > 1.05 * np.median(spans)
    assert spans.min() > 0.97 * np.median(spans)


@pytest.mark.board
def test_equal_seeds_give_equal_latencies(run, board):
    data = network()
    board.reset(4)
    first = run(LOOP, data, "300")
    board.reset(4)
    assert run(LOOP, data, "300") == first
    board.reset(5)
    assert run(LOOP, data, "300") != first


@pytest.mark.board
def test_load_shows_in_the_true_power(run, board):
    board.run("sudo", "-n", "jetson_clocks")
    board.python("import time; time.sleep(1)")
    run(LOOP, network(), "2000")
    truth = json.loads(board.run("hil-board", "truth").stdout)
    column = truth["rails"].index("VDD_SYS_GPU")
    idle = [power[column] for _, _, what, power in truth["pieces"] if what == 0]
    busy = [(b - a, power[column]) for a, b, what, power in truth["pieces"] if what != 0]
    assert max(power for _, power in busy) > 2 * np.median(idle)
    assert sum(span for span, _ in busy) > 0.5e9


@pytest.mark.board
def test_building_takes_board_time_and_rebuilding_makes_other_tactics(run):
    said = run(
        "start = time.monotonic(); one = bytes(build()); took = time.monotonic() - start\n"
        "two = bytes(build())\n"
        "print(took, hashlib.sha256(one).hexdigest(), hashlib.sha256(two).hexdigest())",
        network(),
    ).split()
    assert float(said[0]) > 5
    assert said[1] != said[2]


@pytest.mark.board
def test_a_timing_cache_keeps_tactics_and_saves_build_time(run):
    said = run(
        "config = builder.create_builder_config(); cache = config.create_timing_cache(b'')\n"
        "def timed():\n"
        "    start = time.monotonic(); made = bytes(build(True, cache))\n"
        "    return time.monotonic() - start, hashlib.sha256(made).hexdigest()\n"
        "(a, one), (b, two) = timed(), timed()\n"
        "print(a > b, one == two, len(bytes(cache.serialize())) > 50)",
        network(),
    )
    assert said.split() == ["True", "True", "True"]


@pytest.mark.board
def test_open_shapes_need_a_profile_and_follow_it(run):
    data = network(shape=("n", 3, 16, 16))
    said = run(
        "assert parser.parse(data)\n"
        "print(builder.build_serialized_network(net, builder.create_builder_config()))\n"
        "made = build(True, None, ('x', (1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16)))\n"
        "engine, ctx = load(made)\n"
        "print(tuple(engine.get_binding_shape(0)), tuple(engine.get_profile_shape(0, 0)[2]))\n"
        "print(ctx.set_binding_shape(0, (4, 3, 16, 16)), tuple(ctx.get_binding_shape(1)))\n"
        "print(ctx.set_binding_shape(0, (5, 3, 16, 16)))",
        data,
    ).splitlines()
    assert said == [
        "None",
        "(-1, 3, 16, 16) (4, 3, 16, 16)",
        "True (4, 8, 16, 16)",
        "False",
    ]


@pytest.mark.board
def test_the_profiler_tells_every_layer_and_their_sum_is_below_the_latency(run):
    said = run(
        "class Layers(trt.IProfiler):\n"
        "    def __init__(self):\n"
        "        trt.IProfiler.__init__(self); self.times = {}\n"
        "    def report_layer_time(self, name, ms): self.times[name] = ms\n"
        "engine, ctx = load(build()); memory, _ = buffers(engine, ctx)\n"
        "bind = [int(each) for each in memory]\n"
        "start = time.monotonic(); ctx.execute_v2(bind); took = time.monotonic() - start\n"
        "ctx.profiler = Layers(); ctx.execute_v2(bind)\n"
        "print(json.dumps([took * 1e3, ctx.profiler.times, engine.num_layers]))",
        network(),
    )
    took_ms, times, layers = json.loads(said)
    assert len(times) == layers
    assert any("conv" in name and "relu" in name for name in times)
    assert 0 < sum(times.values()) < took_ms


@pytest.mark.board
def test_memory_runs_out_as_cuda_says(run):
    said = run(
        "try: cuda.mem_alloc(9 << 30)\n"
        "except cuda.MemoryError as error: print(error)\n"
        "free = cuda.mem_get_info()[0]; block = cuda.mem_alloc(1 << 30)\n"
        "print(free - cuda.mem_get_info()[0]); block.free(); print(free - cuda.mem_get_info()[0])",
        network(),
    ).splitlines()
    assert said == ["cuMemAlloc failed: out of memory", str(1 << 30), "0"]


@pytest.mark.board
def test_a_dead_process_gives_its_memory_back(run, board):
    program = "block = cuda.mem_alloc(6 << 30); print(hashlib.md5(b'').hexdigest())"
    assert run(program, network()) == run(program, network())
    assert hashlib.md5(b"").hexdigest() in run(program, network())


@pytest.mark.board
def test_events_measure_the_stream(run):
    said = run(
        "engine, ctx = load(build()); memory, _ = buffers(engine, ctx)\n"
        "bind = [int(each) for each in memory]; stream = cuda.Stream()\n"
        "before, after = cuda.Event(), cuda.Event()\n"
        "before.record(stream); start = time.monotonic()\n"
        "for _ in range(5): ctx.execute_async_v2(bind, stream.handle)\n"
        "after.record(stream); print(time.monotonic() - start, after.query())\n"
        "after.synchronize(); print((time.monotonic() - start) * 1e3 - before.time_till(after))",
        network(),
    ).split()
    assert said[:2] == ["0.0", "False"]
    assert abs(float(said[2])) < 1e-6


@pytest.mark.board
def test_a_build_without_memory_names_the_layer_it_stopped_at(run, board):
    said = run(
        "import os\n"
        "os.dup2(1, 2)\n"
        "hog = cuda.mem_alloc(cuda.mem_get_info()[0] - 1000)\n"
        "print(build())",
        network(),
    )
    assert "Error Code 2: OutOfMemory (no further information)" in said
    assert re.search(r"Could not find any implementation for node .*conv", said)
    assert said.splitlines()[-1] == "None"


@pytest.mark.board
def test_free_clocks_make_the_first_inferences_slow(run):
    program = LOOP.replace("stamps = [", "time.sleep(1)\nstamps = [")
    stamps = np.array(json.loads(run(program, network(), "4000"))) / 1e9
    taken, since = np.diff(stamps), stamps[1:] - stamps[0]
    early, late = np.median(taken[since < 0.04]), np.median(taken[since > 0.3])
    assert early > 2 * late
    pinned = LOOP.replace("stamps = [", "import os; os.system('sudo -n jetson_clocks')\nstamps = [")
    assert np.median(np.diff(json.loads(run(pinned, network(), "500")))) / 1e9 == pytest.approx(
        late, rel=0.03
    )
