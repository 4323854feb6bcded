"""The one list of fallbacks: each fact has its words, and a board as expected has none."""

from __future__ import annotations

import pytest

from hil.core.fallbacks import (
    WITHOUT_JOULES,
    Fallback,
    from_json,
    of_board,
    of_run,
    unknown_rail,
    wall_clock_facts,
)

DENIED = {"what": "sudo does not let this user run nvpmodel -m 0", "why": "no", "fix": "sudoers"}
LOST = {"source": "tegrastats", "why": "it died", "instead": None}
BOARDS = (
    ({"session": {"denied": [DENIED]}}, "unpinned", "suspect"),
    ({"session": {"found_pinned": True}}, "pinned_before", "note"),
    ({"import_deaths": {"numpy": {"plain": -4, "coretype": 0}}}, "numpy_coretype", "note"),
    ({"import_deaths": {"numpy": {"plain": -4, "coretype": -4}}}, "without_numpy", "note"),
    ({"cores_online": 1}, "one_core", "note"),
    ({"cores_online": 2, "session": {"cores_online": 1}}, "one_core", "note"),
    ({"display": ["Xorg"]}, "shared_gpu", "suspect"),
    ({"session": {"wall_clock_off_s": -1.7e9}}, "wall_clock", "note"),
    ({"session": {"wall_clock_stepped_s": 60.0}}, "wall_clock_stepped", "note"),
    ({"session": {"files": "agent", "files_why": "no SFTP"}}, "files_by_agent", "note"),
    ({"session": {"home": "/var/tmp/hil-1000", "home_why": "EROFS"}}, "other_folder", "note"),
    ({"session": {"python": "/usr/bin/python3.6"}}, "other_python", "note"),
    (
        {"session": {"python": "/usr/bin/python3.6", "python_lacks": "has no TensorRT"}},
        "other_python",
        "note",
    ),
    ({"session": {"no_power": LOST}}, "no_joules", "suspect"),
)
RUNS = (
    ({"via": "libcudart"}, None, "cuda_runtime", "note"),
    ({"spec": {"runtime": "trtexec"}}, None, "trtexec_engine", "suspect"),
    ({}, {"instead_of": {**LOST, "instead": "ina3221"}}, "other_power_source", "note"),
)


def complete(found: Fallback) -> None:
    assert all(found.to_json().values()), found
    assert not found.reason.endswith(".")
    assert from_json(found.to_json()) == found


@pytest.mark.parametrize(("board", "name", "severity"), BOARDS)
def test_each_fact_of_a_board_has_its_words(board, name, severity):
    (found,) = of_run(board, {})

    assert (found.name, found.severity) == (name, severity)
    complete(found)


@pytest.mark.parametrize(("engine", "power", "name", "severity"), RUNS)
def test_each_fact_of_a_run_has_its_words(engine, power, name, severity):
    (found,) = of_run({}, engine, power)

    assert (found.name, found.severity) == (name, severity)
    complete(found)


def test_a_board_as_expected_has_none():
    board = {"cores_online": 6, "display": [], "import_deaths": {}, "clocks_pinned": False}
    session = {"denied": [], "found_pinned": False}

    assert of_run({**board, "session": session}, {"via": "pycuda", "spec": {}}, {}) == ()
    assert of_board({}) == ()


@pytest.mark.parametrize(
    ("rails", "step"),
    [
        (("VDD_IN", "VDD_SYS_GPU"), "rail: VDD_IN}"),
        (("POM_5V_GPU", "POM_5V_IN"), "rail: POM_5V_IN}"),
        (("VDD_GPU_SOC", "VDD_CPU_CV"), "none of these rails is known to hold the whole module"),
        ((), "by hand"),
    ],
)
def test_an_unknown_rail_names_those_there_are_and_the_line_to_write(rails, step):
    found = unknown_rail("VDD_X", rails, "tegrastats")

    complete(found)
    assert found.name in WITHOUT_JOULES
    assert step in found.next_step
    assert all(rail in found.reason for rail in rails)


@pytest.mark.parametrize(
    ("now_s", "before_s", "told"),
    [
        (0.4, -0.3, {}),
        (-30.0, -30.0, {}),
        (-7200.2, -7200.9, {"wall_clock_off_s": -7200.0}),
        (0.1, -100.2, {"wall_clock_stepped_s": 100.0}),
    ],
)
def test_a_wall_clock_is_told_only_where_it_is_wrong_and_rounded(now_s, before_s, told):
    assert wall_clock_facts(now_s, before_s) == told


def test_another_python_with_tensorrt_is_the_next_step():
    board = {"tensorrt_elsewhere": "/usr/bin/python3.6"}

    (found,) = of_run(board, {"spec": {"runtime": "trtexec"}})

    assert "agent.python: /usr/bin/python3.6" in found.next_step
