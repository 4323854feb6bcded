"""A gate's outcome for other programs: JUnit XML, Bencher's and github-action-benchmark's JSON.

Rule of this file: pure, data in (the JSON of `hil gate`), text out.

JUnit as CI servers read it: a violation is a failure, what kept us from measuring is an error,
inconclusive is skipped with its reason; figures stand in the case's output, and what they were
measured under in the suite's properties.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from hil.report.gate_text import PER, device_of, figure, headline, label, line

Result = Mapping[str, Any]
_ELEMENTS = {"violated": "failure", "error": "error", "inconclusive": "skipped"}
# What XML 1.0 cannot hold, whoever named a file so.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SLUG_LENGTH = 64


def junit(result: Result) -> str:
    """Return the gate as JUnit XML: one case for each check."""
    checks = result["checks"]
    counts = {
        name: sum(check["status"] == status for check in checks)
        for status, name in (("violated", "failures"), ("error", "errors"))
    }
    total = {"tests": len(checks), **counts}
    root = ET.Element("testsuites", {"name": "hil gate", **_texts(total)})
    suite = ET.SubElement(root, "testsuite", {"name": _xml(f"hil gate on {device_of(result)}")})
    skipped = sum(check["status"] == "inconclusive" for check in checks)
    suite.attrib |= _texts({**total, "skipped": skipped})
    suite.attrib |= {"time": f"{result['board_s']:.3f}", "timestamp": str(result["created"])}
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(result):
        ET.SubElement(properties, "property", {"name": _xml(name), "value": _xml(value)})
    for check in checks:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": _xml(check["model"]),
                "name": f"{check['metric']} {check['purpose']}",
                "time": "0",
            },
        )
        element = _ELEMENTS.get(check["status"])
        if element is not None:
            told = {"message": _xml(check["reason"])}
            told |= {} if element == "skipped" else {"type": f"hil.gate.{check['status']}"}
            ET.SubElement(case, element, told).text = _xml(_labelled(result, check))
        ET.SubElement(case, "system-out").text = _xml(_labelled(result, check))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def bencher(result: Result) -> str:
    """Return Bencher Metric Format: networks, their measures, each with its 95 % interval."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for check in result["checks"]:
        if check["value"] is None:
            continue
        low, high = check["value_ci95"]
        measure = f"{check['metric']}"[:_SLUG_LENGTH].replace("_", "-")
        told.setdefault(_named(result, check), {})[measure] = {
            "value": check["value"],
            "lower_value": low,
            "upper_value": high,
        }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def benchmark_json(result: Result) -> str:
    """Return github-action-benchmark's customSmallerIsBetter; accuracy is bigger, so left out."""
    rows: dict[str, dict[str, Any]] = {}
    for check in result["checks"]:
        if check["value"] is None or check["metric"] == "accuracy":
            continue
        low, high = check["value_ci95"]
        name = f"{_named(result, check)} {check['metric']}"
        rows[name] = {
            "name": name,
            "unit": PER.get(check["unit"], check["unit"]),
            "value": check["value"],
            "range": f"[{low:.6g}, {high:.6g}]",
            "extra": line(check),
        }
    return json.dumps(list(rows.values()), indent=2, ensure_ascii=False) + "\n"


def _named(result: Result, check: Mapping[str, Any]) -> str:
    return f"{check['model']} on {device_of(result)}"


def _labelled(result: Result, check: Mapping[str, Any]) -> str:
    kind = label(result)
    text = f"{line(check)}\nfigure: {figure(check)}"
    return f"{kind}: {text}" if kind else text


def _properties(result: Result) -> list[tuple[str, str]]:
    rows = [("outcome", headline(result)), ("provenance", str(result["provenance"]))]
    rows += [(name, str(value)) for name, value in (result.get("board") or {}).items()]
    rows += [("rail", str(result.get("rail"))), ("false_alarm", str(result["false_alarm"]))]
    for model in result["models"]:
        rows.append((f"{model['name']} onnx_sha256", str(model["onnx_sha256"])))
        for name, value in (model.get("conditions") or {}).items():
            rows.append((f"{model['name']} {name}", str(value)))
    return rows


def _texts(numbers: Mapping[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in numbers.items()}


def _xml(text: str) -> str:
    return _NO_XML.sub("?", str(text))
