from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.emulator.board import load_board
from hil.emulator.kernels import Kernel, lower
from hil.emulator.physics import (
    build_seconds,
    execution,
    jitter,
    kernel_seconds,
    pipeline,
    tactic_factors,
)
from hil.emulator.reference_networks import NetworkBuilder, mobilenet_v1, resnet_v1, vgg16

BOARD = load_board("tx2")
MAXN = BOARD.mode(0).clocks(pinned=True)
MATRIX = ("conv3x3", "conv1x1", "conv", "gemm")


def convolution(m: int, n: int, k: int, kind: str = "conv1x1", precision: str = "fp32") -> Kernel:
    size = 4 if precision == "fp32" else 2
    return Kernel(
        "c", ("c",), kind, m * n * k, 0, size * m * k, size * m * n, size * n * k, m, n, k, 1,
        precision,
    )  # fmt: skip


def duration(model, precision: str, mode: int = 0) -> float:
    clocks = BOARD.mode(mode).clocks(pinned=True)
    return execution(BOARD, lower(model, precision), clocks, 40.0).duration_s


@given(
    m=st.integers(1, 20000),
    n=st.integers(1, 1100),
    k=st.integers(1, 5000),
    more=st.tuples(st.integers(0, 300), st.integers(0, 100), st.integers(0, 100)),
    kind=st.sampled_from(MATRIX),
    precision=st.sampled_from(["fp32", "fp16"]),
)
@settings(max_examples=200, deadline=None)
def test_more_work_is_never_faster(m, n, k, more, kind, precision):
    small = convolution(m, n, k, kind, precision)
    large = convolution(m + more[0], n + more[1], k + more[2], kind, precision)

    assert kernel_seconds(BOARD, large, MAXN) >= kernel_seconds(BOARD, small, MAXN)


@given(
    gpu=st.sampled_from(BOARD.gpu.clock_steps_mhz),
    emc=st.sampled_from([204.0, 665.0, 1331.2, 1600.0, 1866.0]),
    cpu=st.floats(345.6, 2035.2),
    precision=st.sampled_from(["fp32", "fp16"]),
)
@settings(max_examples=30, deadline=None)
def test_lower_clocks_are_never_faster(gpu, emc, cpu, precision):
    kernels = [convolution(1024, 16 * i, 144, "conv3x3", precision) for i in range(1, 9)]
    slow = replace(MAXN, gpu_mhz=gpu, emc_mhz=emc, cpu_mhz=cpu)

    fast_run, slow_run = (execution(BOARD, kernels, c, 40.0) for c in (MAXN, slow))

    assert slow_run.duration_s >= fast_run.duration_s


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_kernel_beats_the_arithmetic_peak_beyond_winograd(precision):
    # 256 multiply-adds a clock, twice that at FP16; F(2x2, 3x3) saves a factor of 2.25.
    kernel = convolution(56 * 56, 512, 4608, "conv3x3", precision)
    peak = 256 * 1300.5e6 * (2 if precision == "fp16" else 1)

    rate = kernel.macs / kernel_seconds(BOARD, kernel, MAXN)

    assert 0.3 * peak < rate < 2.25 * peak


def test_streaming_stays_under_the_datasheets_bandwidth():
    size = 64 << 20
    kernel = replace(
        convolution(1, 1, 1), kind="copy", macs=0, ops=size // 4, bytes_in=size, bytes_out=size
    )

    rate = 2 * size / kernel_seconds(BOARD, kernel, MAXN)

    assert 0.4 * 59.7e9 < rate < 0.85 * 59.7e9


def test_cost_climbs_in_steps_of_channels_not_with_each_channel():
    times = [kernel_seconds(BOARD, convolution(196, n, 2304), MAXN) for n in range(65, 97)]

    assert len(set(times)) <= 3
    wide = kernel_seconds(BOARD, convolution(196, 160, 2304), MAXN)
    assert wide > times[-1]


def test_small_networks_wait_for_the_host_and_large_ones_for_the_gpu():
    tiny = [convolution(64, 16, 144, "conv3x3")] * 30
    large = [convolution(12544, 64, 576, "conv3x3")] * 30
    slow_cpu = replace(MAXN, cpu_mhz=MAXN.cpu_mhz / 2)

    tiny_ratio, large_ratio = (
        execution(BOARD, kernels, slow_cpu, 40.0).duration_s
        / execution(BOARD, kernels, MAXN, 40.0).duration_s
        for kernels in (tiny, large)
    )

    assert tiny_ratio > 1.6
    assert large_ratio < 1.1


@pytest.mark.parametrize(
    ("kind", "low_us", "high_us"),
    [("conv1x1", 22, 27), ("pool", 19, 25), ("elementwise", 16, 23), ("pointwise", 34, 48)],
)
def test_each_small_kernel_more_costs_what_nas_bench_cells_show(kind, low_us, high_us):
    # Straight line through 12,483 cells on counts of kernels alone: 24 us a convolution,
    # 21 a pooling, 18 a sum, 37 a ReLU by itself, 48 a sum with a constant.
    kernel = replace(convolution(1024, 16, 16), kind=kind)
    if kind != "conv1x1":
        kernel = replace(kernel, macs=0)

    runs = [execution(BOARD, [kernel] * count, MAXN, 40.0).duration_s for count in (100, 280)]

    assert low_us <= 1e6 * (runs[1] - runs[0]) / 180 <= high_us


@given(
    times=st.lists(st.floats(0, 1e-3), min_size=1, max_size=30),
    data=st.data(),
    before=st.floats(0, 1e-3),
)
@settings(max_examples=100, deadline=None)
def test_the_host_and_the_gpu_play_as_an_event_simulation_does(times, data, before):
    submits = data.draw(st.lists(st.floats(0, 1e-3), min_size=len(times), max_size=len(times)))
    host, device = before, 0.0
    for time, submit in zip(times, submits, strict=True):
        host += submit
        device = max(device, host) + time

    padded = [np.array([*row, 0.0, 0.0]) for row in (times, submits)]
    duration_s, host_s = pipeline(*padded, before, 5e-5)

    assert duration_s == pytest.approx(max(device, host) + 5e-5)
    assert host_s == pytest.approx(host)


def test_a_depthwise_kernel_works_channel_by_channel():
    def seconds(channels: int) -> float:
        kernel = replace(convolution(196, 1, 9, "depthwise"), groups=channels)
        return kernel_seconds(BOARD, replace(kernel, macs=196 * 9 * channels), MAXN)

    assert seconds(63) == seconds(64) < seconds(65)
    assert seconds(514) - seconds(258) == pytest.approx(seconds(258) - seconds(2))


def test_half_precision_helps_vgg_much_and_mobilenet_hardly():
    # NVIDIA's table, mode 3: VGG-16 79.2 to 38.2 ms, MobileNet v1 12.9 to 12.9 ms.
    vgg = [duration(vgg16(), precision, 3) for precision in ("fp32", "fp16")]
    mobile = [duration(mobilenet_v1(1.0, 224), precision, 3) for precision in ("fp32", "fp16")]

    assert vgg[0] / vgg[1] > 1.8
    assert mobile[0] / mobile[1] < 1.2


@pytest.mark.parametrize(
    ("units", "precision", "published_ms"),
    [((3, 4, 6, 3), "fp16", 15.7), ((3, 4, 6, 3), "fp32", 27.1), ((3, 8, 36, 3), "fp32", 78.2)],
)
def test_resnets_take_what_nvidia_published(units, precision, published_ms):
    # NVIDIA's own tolerance for these rows is 10 %; its figures hold copies too.
    seconds = duration(resnet_v1(units), precision, 3)

    assert 1e3 * seconds == pytest.approx(published_ms, rel=0.15)


def test_an_execution_adds_up():
    net = NetworkBuilder(3, 32, 32)
    model = net.model(net.conv_bn_relu(net.conv_bn_relu(net.input, 16, 3), 16, 3))
    kernels = lower(model, "fp16")

    run = execution(BOARD, kernels, MAXN, 40.0)

    assert [name for name, _ in run.layers] == [kernel.name for kernel in kernels]
    busy = sum(seconds for _, seconds in run.layers)
    assert busy < run.duration_s
    assert run.activity.gpu_busy == pytest.approx(busy / run.duration_s)
    assert run.activity.submitting + run.activity.waiting == pytest.approx(1.0)
    assert run.device_memory_bytes > sum(kernel.bytes_weights for kernel in kernels)


def test_a_slower_tactic_lengthens_its_own_layer_only():
    kernels = [convolution(12544, 64, 576, "conv3x3"), convolution(12544, 64, 64)]

    plain = execution(BOARD, kernels, MAXN, 40.0)
    slowed = execution(BOARD, kernels, MAXN, 40.0, factors=(1.0, 1.5))

    assert slowed.layers[0] == plain.layers[0]
    assert slowed.layers[1][1] == pytest.approx(1.5 * plain.layers[1][1])


def test_tactics_differ_by_build_and_repeat_by_seed():
    kernels = [convolution(64, 64, 64)] * 400

    def draw(seed: int) -> tuple[float, ...]:
        return tactic_factors(kernels, np.random.default_rng(seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1)[:10] == tactic_factors(kernels[:10], np.random.default_rng(1))
    assert 0.008 < float(np.std(draw(1))) < 0.03


def test_latencies_have_a_narrow_body_and_a_tail_to_the_right():
    latencies = jitter(5e-3, 20000, np.random.default_rng(3))

    p1, p50, p999 = np.quantile(latencies, [0.01, 0.5, 0.999])
    assert p50 == pytest.approx(5e-3, rel=0.002)
    assert p999 - p50 > 2 * (p50 - p1)
    assert latencies.min() > 4.9e-3


def test_building_takes_longer_for_larger_networks():
    small = lower(mobilenet_v1(0.25, 128), "fp16")
    large = lower(resnet_v1((3, 8, 36, 3)), "fp16")

    assert 5.0 < build_seconds(small) < build_seconds(large) < 1800.0
