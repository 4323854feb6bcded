"""How long a network's kernels take on a board at given clocks, and what the board draws meanwhile.

Rule of this file: pure functions of (board, kernels, clocks, temperature); randomness comes in
as a generator. Model of time, per kernel:

    on the GPU:  start-up cycles + max(arithmetic, traffic)
    arithmetic:  blocks of threads in whole waves over the SMs (so cost climbs in steps with
                 channels and positions), best block size chosen as the engine builder would
    traffic:     DRAM bytes at the achievable bandwidth, or all bytes at the L2's
                 depthwise: channels in whole waves over the SMs, a fixed cost for each
    on the host: a submission cost by CPU clock and kind of kernel; the GPU waits for it where
                 networks are small

`Execution` is of one network; `hil.emulator.batch` runs many with the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from hil.emulator.board import Board, Build, Clocks, Noise
from hil.emulator.kernels import MATRIX_KINDS, Kernel
from hil.emulator.power import Activity, idle_power_w, rail_power_w

__all__ = ["Execution", "build_seconds", "execution", "idle_power_w", "jitter", "tactic_factors"]


@dataclass(frozen=True)
class Execution:
    """One inference, run back to back with others like it.

    Attributes:
        duration_s: host to host, from the first submission to the end of synchronisation,
            input and output already on the device.
        rail_power_w: mean power of every rail while such inferences run back to back.
        layers: GPU time of each kernel, in launch order.
        device_memory_bytes: weights and activations.
        activity: what the power follows from.
    """

    duration_s: float
    rail_power_w: dict[str, float]
    layers: tuple[tuple[str, float], ...]
    device_memory_bytes: int
    activity: Activity


def execution(
    board: Board,
    kernels: Sequence[Kernel],
    clocks: Clocks,
    temp_c: float,
    factors: Sequence[float] | None = None,
) -> Execution:
    """Runs a network on the model of the board.

    Args:
        board: the board.
        kernels: the network, lowered.
        clocks: what the board runs at; nothing is throttled here.
        temp_c: die temperature; leakage follows it.
        factors: one per kernel, GPU time of this build's tactic over the model's
            (`tactic_factors`); None for the model's own.
    """
    scale = factors if factors is not None else [1.0] * len(kernels)
    times = [
        kernel_seconds(board, kernel, clocks) * factor
        for kernel, factor in zip(kernels, scale, strict=True)
    ]
    submits = [submit_seconds(board, kernel.kind, clocks) for kernel in kernels]
    duration_s, host_s = (
        float(value)
        for value in pipeline(np.array(times), np.array(submits), *ends_seconds(board, clocks))
    )
    work = Work.of(board, kernels)
    activity = work.activity(sum(times), duration_s, host_s)
    return Execution(
        duration_s=duration_s,
        rail_power_w=rail_power_w(board, clocks, temp_c, activity),
        layers=tuple((kernel.name, time) for kernel, time in zip(kernels, times, strict=True)),
        device_memory_bytes=_memory(kernels),
        activity=activity,
    )


def kernel_seconds(board: Board, kernel: Kernel, clocks: Clocks) -> float:
    """Returns the GPU time of one kernel in seconds."""
    hz = clocks.gpu_mhz * 1e6
    work = max(_arithmetic_cycles(board, kernel) / hz, _traffic_seconds(board, kernel, clocks))
    return board.timing.kernel_cycles / hz + work


def _arithmetic_cycles(board: Board, kernel: Kernel) -> float:
    gpu, timing = board.gpu, board.timing
    lanes = gpu.sms * gpu.cores_per_sm
    pointwise = kernel.ops / (lanes * timing.lane_efficiency)
    if kernel.macs == 0:
        return pointwise
    if kernel.kind not in MATRIX_KINDS:
        # Depthwise kernels are bound by loads and instructions, not by multipliers: half-width
        # numbers buy nothing.
        channel = kernel.m * kernel.n * kernel.k / gpu.cores_per_sm
        channel_cycles = channel / timing.efficiency[kernel.kind] + timing.depthwise_channel_cycles
        return ceil(kernel.groups / gpu.sms) * channel_cycles
    fp16 = kernel.precision == "fp16"
    efficiency = (timing.efficiency_fp16 if fp16 else timing.efficiency)[kernel.kind]
    rate = gpu.cores_per_sm * efficiency * (gpu.fp16_rate if fp16 else 1.0)
    inner = ceil(kernel.k / timing.k_granule) * timing.k_granule + timing.k_ramp
    return min(
        _waves(kernel, tile.rows, tile.columns, gpu.sms)
        * (tile.rows * tile.columns * inner / (rate * tile.efficiency))
        for tile in timing.tiles
    )


def _waves(kernel: Kernel, rows: int, columns: int, sms: int) -> int:
    """Counts the blocks that the busiest SM works through."""
    return ceil(ceil(kernel.m / rows) * ceil(kernel.n / columns) * kernel.groups / sms)


def dram_bytes(board: Board, kernel: Kernel) -> float:
    """Estimates the bytes a kernel moves to and from DRAM.

    Weights are read anew in every inference. Of the activations, what fits in the L2 cache is
    still there from the kernel before; the share that misses rises smoothly with the size.
    """
    touched = kernel.bytes_in + kernel.bytes_out
    missed = touched * touched / (touched + board.gpu.l2_bytes)
    return kernel.bytes_weights + missed


def _traffic_seconds(board: Board, kernel: Kernel, clocks: Clocks) -> float:
    memory = board.memory
    peak = clocks.emc_mhz * 1e6 * memory.transfers_per_clock * memory.bus_bytes
    cache = clocks.gpu_mhz * 1e6 * board.gpu.l2_bytes_per_clock
    everything = kernel.bytes_in + kernel.bytes_out + kernel.bytes_weights
    return max(dram_bytes(board, kernel) / (peak * memory.achievable), everything / cache)


def submit_seconds(board: Board, kind: str, clocks: Clocks) -> float:
    """Returns how long the host is busy with submitting a kernel of a kind, in seconds."""
    timing = board.timing
    weight = timing.enqueue_weight.get(kind, 1.0)
    return weight * (timing.enqueue_us * 1e-6 + timing.enqueue_cycles / (clocks.cpu_mhz * 1e6))


def ends_seconds(board: Board, clocks: Clocks) -> tuple[float, float]:
    """Returns what comes before the first submission and after the last kernel, in seconds."""
    timing = board.timing
    return timing.inference_cycles / (clocks.cpu_mhz * 1e6), timing.inference_us * 1e-6


def pipeline(times: Any, submits: Any, before_s: float, after_s: float) -> tuple[Any, Any]:
    """Plays submissions against the GPU: kernel i starts when it is submitted and i-1 is done.

    Args:
        times: GPU time of each kernel along the last axis, in seconds; zeros may pad the end.
        submits: submission time of each kernel, of the same shape.
        before_s: host time before the first submission.
        after_s: from the end of the last kernel to the return of the host.

    Returns:
        Duration, and how long the host was busy, in seconds, over the other axes.
    """
    submitted = before_s + np.cumsum(submits, axis=-1)
    remaining = np.cumsum(times[..., ::-1], axis=-1)[..., ::-1]
    host = before_s + np.sum(submits, axis=-1)
    # The last kernel that had to wait for the host decides: from there the GPU never rests.
    end = np.max(submitted + remaining, axis=-1, initial=before_s)
    return np.maximum(end, host) + after_s, host


@dataclass(frozen=True)
class Work:
    """What one inference does, summed over its kernels (or arrays of such sums)."""

    macs: Any
    macs_fp16: Any
    ops: Any
    dram_bytes: Any

    @classmethod
    def of(cls, board: Board, kernels: Sequence[Kernel]) -> Work:
        """Adds up a network's kernels."""
        half = sum(kernel.macs for kernel in kernels if kernel.precision == "fp16")
        return cls(
            macs=sum(kernel.macs for kernel in kernels) - half,
            macs_fp16=half,
            ops=sum(kernel.ops for kernel in kernels),
            dram_bytes=sum(dram_bytes(board, kernel) for kernel in kernels),
        )

    def activity(self, gpu_s: Any, duration_s: Any, host_s: Any) -> Activity:
        """Returns what the board does while such inferences run back to back.

        Args:
            gpu_s: time with a kernel on the GPU, of one inference.
            duration_s: of one inference.
            host_s: time the host is busy; it waits for the rest.
        """
        return Activity(
            gpu_busy=gpu_s / duration_s,
            macs_per_s=self.macs / duration_s,
            macs_fp16_per_s=self.macs_fp16 / duration_s,
            ops_per_s=self.ops / duration_s,
            dram_bytes_per_s=self.dram_bytes / duration_s,
            submitting=host_s / duration_s,
            waiting=1.0 - host_s / duration_s,
        )


def _memory(kernels: Sequence[Kernel]) -> int:
    """Estimates device memory: all weights, and twice the largest pair of activations."""
    weights = sum(kernel.bytes_weights for kernel in kernels)
    largest = max((kernel.bytes_in + kernel.bytes_out for kernel in kernels), default=0)
    return weights + 2 * largest


def tactic_factors(
    kernels: Sequence[Kernel], rng: np.random.Generator, noise: Noise | None = None
) -> tuple[float, ...]:
    """Draws what this build's choice of tactics makes of each kernel's time.

    Args:
        kernels: the network, lowered.
        rng: drawn from three times per kernel, so that kernel i's factor depends on i alone.
        noise: the board's; None for the TX2's.
    """
    chosen = noise if noise is not None else _tx2().noise
    factors = []
    for _ in kernels:
        spread, switch, cost = rng.standard_normal(), rng.random(), rng.random()
        low, high = chosen.tactic_switch_cost
        lost = low + (high - low) * cost if switch < chosen.tactic_switch_share else 0.0
        factors.append(max(0.5, 1.0 + chosen.tactic_sd * spread) * (1.0 + lost))
    return tuple(factors)


def jitter(
    duration_s: float, count: int, rng: np.random.Generator, noise: Noise | None = None
) -> np.ndarray:
    """Draws the latencies of consecutive inferences: a narrow body with a tail to the right.

    Args:
        duration_s: what the model gives for one inference.
        count: how many.
        rng: where the numbers come from.
        noise: the board's; None for the TX2's.

    Returns:
        `count` latencies in seconds.
    """
    chosen = noise if noise is not None else _tx2().noise
    body = duration_s * (1.0 + chosen.jitter_sd * rng.standard_normal(count).clip(-3.0, 3.0))
    delayed = rng.random(count) < chosen.jitter_tail_share
    delays = rng.exponential(chosen.jitter_tail_us * 1e-6, count)
    latencies: np.ndarray = body + delays * delayed
    return latencies


def build_seconds(kernels: Sequence[Kernel], build: Build | None = None) -> float:
    """Estimates how long the board's TensorRT takes to build the engine, in seconds.

    Args:
        kernels: the network, lowered; each is timed with several tactics at MAXN's clocks.
        build: the board's; None for the TX2's.
    """
    board = _tx2()
    costs = build if build is not None else board.build
    clocks = board.mode(0).clocks(pinned=True)
    total = costs.base_s
    for kernel in kernels:
        tactics = costs.tactics.get(kernel.kind, costs.tactics["default"])
        run = kernel_seconds(board, kernel, clocks)
        total += tactics * (costs.tactic_s + costs.repeats * run)
    return total


def _tx2() -> Board:
    from hil.emulator.board import load_board

    return load_board("tx2")
