"""A gate's outcome as CI servers, trackers and people read it: rules of the formats, and labels."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.report.gate_files import bencher, benchmark_json, junit
from hil.report.gate_text import change, headline, line, markdown, workflow_commands


def check(status="passed", **changes):
    made = {
        "model": "net.onnx",
        "metric": "energy_mj",
        "unit": "mJ",
        "purpose": "regression",
        "kind": "ratio",
        "bound": 1.03,
        "asked": "at most +3 % of the baseline's",
        "status": status,
        "value": 7.69,
        "value_ci95": [7.6, 7.8],
        "baseline": 7.38,
        "baseline_ci95": [7.3, 7.4],
        "ratio": 1.042,
        "ratio_ci95": [1.031, 1.054],
        "change": 0.31,
        "change_ci95": [0.23, 0.4],
        "rounds": 12,
        "fresh_builds": 6,
        "p": 0.001,
        "reason": "104.2 % of the baseline's, [103.1, 105.4]",
        "next_step": None,
        "note": None,
        "exit_code": {"passed": 0, "violated": 1, "inconclusive": 5, "error": 3}[status],
    }
    return made | changes


def result(*checks, provenance="emulated", **changes):
    return {
        "schema": "hil/gate-result@1",
        "created": "2026-11-24T10:00:00+00:00",
        "provenance": provenance,
        "device": "tx2-01",
        "board": {"model": "quill", "l4t": "32.7.4"},
        "rail": "VDD_IN",
        "models": [
            {
                "name": "net.onnx",
                "onnx_sha256": "ab",
                "conditions": {"precision": "fp16"},
                "validity": "suspect",
                "reasons": ["B: it was hot"],
                "rounds_dropped": 1,
                "fallbacks": [],
            }
        ],
        "notes": ["not calibrated"],
        "false_alarm": 0.01,
        "board_s": 252.0,
        "checks": list(checks),
    } | changes


ALL = [check(status) for status in ("passed", "violated", "inconclusive", "error")]
NO_FIGURE = dict.fromkeys(("value", "value_ci95", "ratio", "ratio_ci95", "change", "change_ci95"))

# What the schema that Jenkins' xUnit plugin publishes (junit-10.xsd) allows: attributes (with ! the
# required ones) and children of each element.
RULES = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name!", "tests!", "failures!", "errors!", "group", "time", "skipped", "timestamp"}
        | {"hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name!", "value!"}, set()),
    "testcase": (
        {"name!", "time", "classname", "group"},
        {"skipped", "error", "failure", "rerunFailure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
MIXED = {"failure", "error", "skipped", "system-out"}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def breaches(element):
    """Where an element breaks the schema's rules, in words."""
    attributes, children = RULES.get(element.tag, (None, None))
    if attributes is None:
        return [f"unknown element {element.tag}"]
    known = {name.rstrip("!") for name in attributes}
    found = [f"{element.tag} has no attribute {a}" for a in element.attrib if a not in known]
    required = {name[:-1] for name in attributes if name.endswith("!")}
    found += [f"{element.tag} lacks {name}" for name in required - set(element.attrib)]
    if element.tag in ("testsuite", "testsuites") and "time" in element.attrib:
        found += [] if TIME.fullmatch(element.attrib["time"]) else ["time is no time"]
    if element.tag not in MIXED and (element.text or "").strip():
        found.append(f"text in {element.tag}")
    for child in element:
        found += [] if child.tag in children else [f"{child.tag} in {element.tag}"]
        found += breaches(child)
    return found


@pytest.mark.parametrize("checks", [ALL, [], [check("error", **NO_FIGURE)]])
def test_junit_keeps_the_common_schema(checks):
    root = ET.fromstring(junit(result(*checks)))

    assert root.tag == "testsuites"
    assert breaches(root) == []


def test_the_rules_find_what_breaks_them():
    bad = ET.fromstring(
        "<testsuite name='a' tests='1'><testcase flavour='x'><p/></testcase></testsuite>"
    )

    assert (
        len(breaches(bad)) == 6
    )  # two counts, a name, an attribute, a child in place, and unknown


def test_each_outcome_is_told_as_ci_servers_count_it():
    suite = ET.fromstring(junit(result(*ALL)))[0]
    cases = suite.findall("testcase")

    assert [next(c.tag for c in case) for case in cases] == [
        "system-out",
        "failure",
        "skipped",
        "error",
    ]
    counts = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert cases[1].attrib["name"] == "energy_mj regression"
    assert "[+3.1, +5.4]" in cases[1].find("failure").text
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["net.onnx precision"] == "fp16"


@given(st.text(max_size=40))
def test_any_name_of_a_network_is_held_by_every_format(name):
    told = result(check("violated", model=name, reason=name))

    assert breaches(ET.fromstring(junit(told))) == []
    json.loads(bencher(told))
    json.loads(benchmark_json(told))
    (row,) = [one for one in markdown(told).splitlines() if one.startswith("| ❌")]
    assert row.count("|") == 7
    assert not re.search(r"[<>`]", row)
    for command in workflow_commands(told):
        assert "\n" not in command
        assert "\r" not in command


def test_a_name_cannot_speak_to_the_runner():
    name = "a\n::add-mask::secret\n::set-output name=x::y"
    (command, notice) = workflow_commands(result(check("violated", model=name)))

    assert command.startswith("::error title=hil gate violated (EMULATED)::a%0A::add-mask::secret")
    assert notice.startswith("::notice ")


def test_a_change_is_told_in_engineering_units():
    assert change(check()) == "+0.31 mJ/inference, +4.2 % [+3.1, +5.4]"
    assert change(check(change=None)) == "104.2 % of the limit [103.1, 105.4]"
    points = check(metric="accuracy", unit="%", ratio=None, ratio_ci95=None, change=-1.5)
    assert change(points | {"change_ci95": [-2.1, -0.9]}) == "-1.50 points [-2.10, -0.90]"
    assert change(check(**NO_FIGURE)) == "-"


@pytest.mark.parametrize(
    ("provenance", "label"), [("emulated", "EMULATED"), ("replayed", "REPLAYED")]
)
def test_what_is_not_measured_is_labelled_in_every_output(provenance, label):
    told = result(*ALL, provenance=provenance)

    for text in (markdown(told), junit(told), bencher(told), benchmark_json(told)):
        assert label in text
    assert all(case.find("system-out").text.startswith(label) for case in
               ET.fromstring(junit(told)).iter("testcase"))  # fmt: skip
    assert all(label in command for command in workflow_commands(told))
    measured = result(*ALL, provenance="measured")
    for text in (markdown(measured), junit(measured), bencher(measured), benchmark_json(measured)):
        assert label not in text


def test_trackers_get_values_with_their_intervals():
    told = result(check(), check(metric="accuracy", unit="%", value=93.0, value_ci95=[92.0, 94.0]))

    measures = json.loads(bencher(told))["net.onnx on tx2-01 (EMULATED)"]
    assert measures["energy-mj"] == {"value": 7.69, "lower_value": 7.6, "upper_value": 7.8}
    assert measures["accuracy"]["value"] == 93.0
    (row,) = json.loads(benchmark_json(told))
    assert {"name", "unit", "value", "range", "extra"} == set(row)
    assert (row["unit"], row["value"]) == ("mJ/inference", 7.69)


def test_unknown_is_left_out_and_never_zero():
    told = result(check("error", **NO_FIGURE))

    assert json.loads(bencher(told)) == {}
    assert json.loads(benchmark_json(told)) == []
    assert "| - |" in markdown(told)


def test_doubts_and_next_steps_are_told():
    told = result(check("inconclusive", next_step="measure longer", note="margin raised"))

    text = markdown(told)
    assert "suspect, B: it was hot" in text
    assert "1 rounds left out" in text
    assert "margin raised" in line(told["checks"][0])
    assert "next: measure longer" in line(told["checks"][0])
    assert headline(told) == "1 check: 1 inconclusive"
    assert headline(result()) == "nothing was asked; the baseline was measured"
