"""Each trap is set once; the verdict must name it, with its figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hil.core.evidence import RunPlan
from hil.measure.findings import steady_change
from hil.measure.numbers import measurement


class Containing(str):
    """Equal to any text that holds this one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self) in other

    __hash__ = str.__hash__


def verdict(evidence) -> tuple[str, str]:
    got = measurement(evidence, "VDD_IN")
    return got.validity, "; ".join(got.reasons)


def without(evidence, first: int, count: int):
    lines = evidence.power_lines
    return relined(evidence, lines[:first] + lines[first + count :])


def relined(evidence, lines):
    return replace(evidence, power=(replace(evidence.power[0], lines=tuple(lines)),))


def stated(evidence, **changes):
    """Change what the kernel told after the second block."""
    states = list(evidence.states)
    states[3] = states[3] | changes
    return replace(evidence, states=tuple(states))


SECOND_BLOCK = 190


def test_lost_lines_are_suspect(script):
    # Only the running mean can show one line lost among readings that differ.
    assert verdict(without(script.but(noise_w=0.3).evidence(), SECOND_BLOCK, 1)) == (
        "suspect",
        Containing("lost or altered"),
    )


def test_a_hole_in_the_samples_is_suspect_and_a_large_one_invalid(script):
    evidence = script.evidence()

    small = measurement(without(evidence, SECOND_BLOCK, 4), "VDD_IN")
    large = measurement(without(evidence, SECOND_BLOCK, 10), "VDD_IN")

    assert (small.validity, large.validity) == ("suspect", "invalid")
    assert any("no power sample for 500 ms in block 1" in reason for reason in small.reasons)
    assert any("no power sample for 1100 ms in block 1" in reason for reason in large.reasons)


def test_few_samples_in_a_block_are_suspect(script):
    sparse = script.but(plan=RunPlan(interval_ms=400))

    assert verdict(sparse.evidence()) == ("suspect", Containing("hold 80 power samples"))


def test_a_source_slower_than_asked_is_suspect(script):
    slow = script.evidence(plan=RunPlan(interval_ms=40))

    assert verdict(slow) == ("suspect", Containing("each 100 ms where 40 ms"))


def test_an_unread_line_is_suspect(script):
    evidence = script.evidence()
    lines = list(evidence.power_lines)
    lines[5] = (lines[5][0], lines[5][1][:-3] + "x")

    got = verdict(relined(evidence, lines))

    assert got == ("suspect", Containing("1 of 488 power lines unread"))


def test_stamps_that_go_back_are_invalid(script):
    evidence = script.evidence()
    lines = list(evidence.power_lines)
    lines[5] = (lines[3][0], lines[5][1])

    got = verdict(relined(evidence, lines))

    assert got == ("invalid", Containing("a stamp before"))


def test_a_source_that_restarted_is_suspect(script):
    evidence = script.but(noise_w=0.3).evidence()
    again = script.but(noise_w=0.3).lines(np.random.default_rng(7))
    lines = (*evidence.power_lines[:10], *[(t + 10**9, x) for t, x in again])

    got = verdict(relined(evidence, lines))

    assert got == ("suspect", Containing("restarted"))


def test_short_windows_are_suspect(script):
    short = script.but(
        plan=RunPlan(window_s=2.2, blocks=6), latency_ms=lambda b, rng: rng.normal(10, 0.05, 220)
    )

    assert verdict(short.evidence()) == ("suspect", Containing("2.2 s, shorter than 2.5 s"))


@pytest.mark.parametrize(("settle_s", "expected"), [(1.0, "suspect"), (0.2, "invalid")])
def test_too_little_settling_counts_against_the_run(script, settle_s, expected):
    hasty = script.but(plan=RunPlan(settle_s=settle_s))

    got = verdict(hasty.evidence())

    assert got == (expected, Containing(f"{settle_s:.2f} s of load before the first window"))


def test_parts_that_exceed_the_total_are_invalid(script):
    swapped = script.but(parts=(("VDD_SYS_GPU", 0.7), ("VDD_SYS_CPU", 0.5)))

    assert verdict(swapped.evidence()) == ("invalid", Containing("rails mislabelled"))


def test_a_rail_that_never_moves_is_invalid(script):
    stuck = script.but(noise_w=0.0, load_w=lambda _: 3.0)

    assert verdict(stuck.evidence()) == ("invalid", Containing("never changed"))


def test_load_within_the_sensors_steps_is_suspect(script):
    def stepped(level_w):
        return lambda t: level_w + (0.0383 if int(t * 10) % 7 == 0 else 0.0)

    faint = script.but(noise_w=0.0, idle_w=stepped(3.0), load_w=stepped(3.0383))

    assert verdict(faint.evidence()) == ("suspect", Containing("net energy is not resolved"))


def test_idle_that_changed_is_suspect(script):
    _, stop = script.load_s
    changed = script.but(idle_w=lambda t: 3.0 if t < stop else 3.5)

    assert verdict(changed.evidence()) == ("suspect", Containing("idle went from 3.0"))


def test_a_burst_of_the_system_at_idle_is_no_change(script):
    burst = script.but(idle_w=lambda t: 4.2 if 5.0 < t < 5.6 else 3.0)

    assert verdict(burst.evidence())[0] == "valid"


def test_foreign_load_at_idle_is_suspect(script):
    shared = script.but(gr3d=lambda t, busy: "40%@1300")

    assert verdict(shared.evidence()) == ("suspect", Containing("GPU was 40 % busy at idle"))


def test_fast_heating_is_suspect_and_what_a_tx2_shows_is_not(script):
    assert verdict(script.but(temp_c=lambda t: 31 + 0.07 * t).evidence())[0] == "valid"
    assert verdict(script.but(temp_c=lambda t: 31 + 0.25 * t).evidence()) == (
        "suspect",
        Containing("GPU rose by 7.5 C in 30 s"),
    )


def test_a_moving_gpu_clock_in_the_lines_is_suspect(script):
    moving = script.but(gr3d=lambda t, busy: "99%@1300" if t < 20 else "99%@1122")

    assert verdict(moving.evidence()) == ("suspect", Containing("between 1122 and 1300 MHz"))


def test_swapping_is_suspect(script):
    paging = script.but(swap_mb=lambda t: 10 + (5 if t > 20 else 0))

    assert verdict(paging.evidence()) == ("suspect", Containing("swap grew by 5 MB"))


def test_power_that_drifts_is_suspect(script):
    drifting = script.but(load_w=lambda t: 5.0 * (1 + 0.002 * (t - 10)))

    assert verdict(drifting.evidence()) == ("suspect", Containing("power drifted by +4."))


def test_latency_that_drifts_is_suspect(script):
    drifting = script.but(latency_ms=lambda b, rng: rng.normal(9 + 0.2 * b, 0.05, size=800))

    assert verdict(drifting.evidence()) == ("suspect", Containing("latency drifted by +6."))


@pytest.mark.parametrize(
    ("changes", "expected", "told"),
    [
        ({"nvpmodel": {"id": 1, "name": "MAXQ"}}, "invalid", "power mode changed"),
        ({"clocks_pinned": False}, "invalid", "pinned for a part"),
        ({"gpu_hz": 1_122_000_000}, "invalid", "GPU clock moved between 1122 and 1300 MHz"),
        ({"emc_hz": 1_600_000_000}, "invalid", "memory clock moved"),
        ({"throttle": ["gpu-balanced"]}, "invalid", "slowed itself down under load: gpu-balanced"),
        ({"gpu_hz": 1_299_000_000}, "valid", ""),
        ({"gpu_hz": None, "emc_hz": None, "nvpmodel": None, "throttle": None}, "valid", ""),
    ],
)
def test_the_boards_state_counts(script, changes, expected, told):
    assert verdict(stated(script.evidence(), **changes)) == (expected, Containing(told))


def test_clocks_that_are_not_pinned_are_suspect(script):
    evidence = script.evidence()
    loose = tuple(state | {"clocks_pinned": False} for state in evidence.states)

    got = verdict(replace(evidence, states=loose))

    assert got == ("suspect", Containing("not pinned"))


def test_counts_that_disagree_are_invalid(script):
    evidence = script.evidence()
    short = (evidence.latency_ns[0][:-1], *evidence.latency_ns[1:])

    got = verdict(replace(evidence, latency_ns=short))

    assert got == ("invalid", Containing("counts 800 inferences and tells 799"))


def test_latencies_longer_than_their_block_are_invalid(script):
    impossible = script.but(latency_ms=lambda b, rng: rng.normal(11, 0.05, size=800))

    assert verdict(impossible.evidence()) == ("invalid", Containing("more than its length"))


def test_the_worst_finding_decides_and_all_are_told(script):
    both = stated(script.but(swap_mb=int).evidence(), throttle=["cpu-balanced"])

    got = measurement(both, "VDD_IN")

    assert got.validity == "invalid"
    assert len(got.reasons) == 2


def test_noise_alone_is_seldom_taken_for_drift():
    rng = np.random.default_rng(5)
    # Blocks of a TX2 with its bursts differ by about 1.5 %.
    called = [steady_change(rng.normal(5.0, 0.075, size=4)) is not None for _ in range(1000)]

    assert np.mean(called) < 0.05


def test_a_plain_drift_is_taken_for_one():
    assert steady_change([5.0, 5.1, 5.2, 5.3]) == pytest.approx(0.3 / 5.15)
    assert steady_change([5.0, 5.01, 5.02, 5.03]) is None
