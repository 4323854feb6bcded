"""Requirements as people write them: lists, power modes, gains, and mistakes by line."""

from __future__ import annotations

import pytest

from hil.core.errors import ConfigError
from hil.core.yamlfile import YamlFileError
from hil.synth.profile import load_profile
from hil.synth.requirements import Limit, Requirement, describe, screens, search_limit

HEAD = """\
schema: hil/profile@1
name: least
task: classification
prototype: {factory: "mine:network"}
data: {factory: "mine:pictures"}
requirements:
"""


def loaded(folder, lines):
    path = folder / "p.yaml"
    path.write_text(HEAD + lines, encoding="utf-8")
    return load_profile(path)


def problems(folder, lines):
    with pytest.raises(YamlFileError) as caught:
        loaded(folder, lines)
    return [(p.line, p.field, p.message) for p in caught.value.problems]


def test_a_list_stands_wherever_a_limit_may(tmp_path):
    profile = loaded(
        tmp_path,
        "  energy_mj: {at_most: 40 %}\n"
        "  latency_p99_ms: [{at_most: 8}, {at_most: 12, nvpmodel: 1}]\n"
        "  accuracy: [{lose_at_most: 1}, {at_least: 97}]\n",
    )

    assert profile.requirements.all() == (
        Requirement("energy_mj", Limit(0.4, relative=True)),
        Requirement("latency_p99_ms", Limit(8.0)),
        Requirement("latency_p99_ms", Limit(12.0), mode=1),
        Requirement("accuracy", Limit(1.0), "lose_at_most"),
        Requirement("accuracy", Limit(97.0), "at_least"),
    )
    assert profile.requirements.modes() == (1,)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("energy_net_mj", "at_most"),
        ("inferences_per_joule", "at_least"),
        ("latency_p50_ms", "at_most"),
        ("latency_p90_ms", "at_most"),
        ("latency_p95_ms", "at_most"),
        ("power_w", "at_most"),
        ("memory_mib", "at_most"),
        ("macs", "at_most"),
        ("parameters", "at_most"),
    ],
)
@pytest.mark.parametrize(("written", "limit"), [("5", Limit(5.0)), ("50 %", Limit(0.5, True))])
def test_any_metric_can_be_limited_in_its_unit_or_by_the_prototype(
    tmp_path, metric, kind, written, limit
):
    profile = loaded(tmp_path, f"  {metric}: {{{kind}: {written}}}\n")
    assert profile.requirements.all() == (Requirement(metric, limit, kind),)


@pytest.mark.parametrize(
    ("lines", "line", "field", "words"),
    [
        ("  energy_mj: [{at_most: 4}, {at_most: 4 mJ}]\n", 7, "energy_mj[1].at_most", "'40 %'"),
        ("  energy_mj:\n    - {at_most: 4}\n    - {at_most: 4}\n", 7, "energy_mj", "twice"),
        ("  energy_mj: []\n", 7, "energy_mj", "at least 1"),
        ("  energy_mj: {at_least: 4}\n", 7, "energy_mj.at_least", "unknown field"),
        ("  inferences_per_joule: {at_most: 4}\n", 7, "inferences_per_joule.at_most", "unknown"),
        ("  memory_mib: {at_most: 4, nvpmodel: 1}\n", 7, "memory_mib", "leave nvpmodel out"),
        ("  energy_mj: {at_most: 4, nvpmodel: -1}\n", 7, "energy_mj.nvpmodel", "0"),
        ("  joules: {at_most: 4}\n", 7, "joules", "known here"),
    ],
)
def test_a_mistake_is_named_by_its_line(tmp_path, lines, line, field, words):
    found = problems(tmp_path, lines)
    assert any(
        (number, name) == (line, f"requirements.{field}") and words in message
        for number, name, message in found
    ), found


def test_a_certificate_over_boards_is_refused_with_what_is_missing(tmp_path):
    lines = "  energy_mj: {at_most: 4}\nscope: board\n"
    ((line, field, message),) = problems(tmp_path, lines)
    assert (line, field) == (8, "scope")
    assert "two boards" in message
    assert "lease" in message
    assert loaded(tmp_path, "  energy_mj: {at_most: 4}\nscope: engine\n").scope == "engine"
    assert loaded(tmp_path, "  energy_mj: {at_most: 4}\n").scope == "build"


def test_power_modes_are_called_by_the_names_of_the_device_file(tmp_path):
    profile = loaded(tmp_path, "  energy_mj: [{at_most: 4}, {at_most: 3, nvpmodel: MAXQ}]\n")

    named = profile.on_modes({"MAXN": 0, "MAXQ": 1})

    assert [r.mode for r in named.requirements.all()] == [None, 1]
    with pytest.raises(ConfigError) as caught:
        profile.on_modes({"MAXN": 0})
    assert "MAXQ" in str(caught.value)
    assert "MAXN" in str(caught.value.why)
    assert "state" in str(caught.value.fix)


def test_the_search_screens_other_modes_by_how_the_prototype_moves():
    slow = Requirement("latency_p99_ms", Limit(12.0), mode=1)
    share = Requirement("energy_mj", Limit(0.4, relative=True), mode=1)
    same = Requirement("energy_mj", Limit(0.4, relative=True))

    moved = screens((slow, share, same), {slow.key: 20.0, share.key: 5.0}, {"latency_p99_ms": 10.0})

    assert moved == (Requirement("latency_p99_ms", Limit(6.0)), same)
    assert slow.key == "latency_p99_ms@nvpmodel1"


def test_gains_are_kept_from_below():
    demand = Requirement("inferences_per_joule", Limit(2.5, relative=True), "at_least")
    limit = search_limit(demand, 100.0)
    assert (limit.metric, limit.bound, limit.sense) == ("inferences_per_joule", 250.0, "min")
    assert describe(demand, 100.0) == (
        "inferences per joule at least 250 % of the prototype's 100 1/J = 250 1/J"
    )
    assert search_limit(Requirement("parameters", Limit(1e5))).metric == "params"
    assert "power mode 1" in describe(Requirement("power_w", Limit(5.0), mode=1))


def test_a_demand_written_before_there_were_modes_is_still_read():
    old = {"metric": "energy_mj", "kind": "at_most", "amount": 4.5, "relative": False}
    assert Requirement.from_json(old) == Requirement("energy_mj", Limit(4.5))
    new = Requirement("energy_mj", Limit(4.5), mode=2)
    assert Requirement.from_json(new.to_json()) == new
