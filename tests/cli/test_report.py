"""`hil report` finds out what a folder is, reports what is in it, and says what it takes."""

from __future__ import annotations

import csv
import json
import re

import pytest
from typer.testing import CliRunner

from hil.cli.app import app
from hil.cli.keeping import Keeper
from hil.cli.reporting import kept_document
from hil.core.errors import ConfigError, HostError
from hil.core.evidence import RunPlan
from hil.device.session import EngineSpec
from hil.measure.numbers import measurement
from hil.net.sample import sample_network
from hil.report.document import to_html
from hil.synth.store import RunStore

FALLBACK = {
    "reason": "the clocks could not be pinned",
    "consequence": "the governor may move them",
    "next_step": "grant sudo for jetson_clocks",
}


@pytest.fixture
def folder(tmp_path, fake_session):
    """What `hil profile` keeps of one engine, with layers and a fallback."""
    board = fake_session()
    info = board.build(EngineSpec(onnx_sha256="1" * 64))
    evidence = board.run(info, RunPlan(window_s=5.0, blocks=4), "tegrastats")
    keeper = Keeper(tmp_path / "kept")
    keeper.folder.mkdir()
    sha256 = keeper.evidence(evidence)
    keeper.result(
        {
            "schema": "hil/result@2",
            **measurement(evidence, "VDD_IN").to_json(),
            "model": "networks/<b>net</b>.onnx",
            "onnx_sha256": "1" * 64,
            "engine_sha256": info.engine_sha256,
            "precision": "fp16",
            "runtime": "tensorrt 8.2.1.8",
            "device": "fake",
            "board": {"model": "quill", "l4t": "32.7.4"},
            "layers": [{"name": "conv1", "time_ms": 0.75}, {"name": "conv2", "time_ms": 0.25}],
            "validity": "suspect",
            "reasons": ["the clocks moved"],
            "fallbacks": [FALLBACK],
            "evidence": {"file": str(keeper.folder / "evidence.json.gz"), "sha256": sha256},
        }
    )
    return keeper.folder


def table(document, title):
    return next(section for section in document.sections if section.title == title)


def test_a_profile_s_report_has_what_its_figures_rest_on(folder):
    kept = json.loads((folder / "result.json").read_text(encoding="utf-8"))

    made = kept_document(folder)

    figures = {row[0]: row[1:] for row in table(made, "Figures").rows}
    assert figures["energy, gross, mJ"][0] == kept["energy_mj"]
    assert figures["energy, gross, mJ"][1] == tuple(kept["energy_mj_ci95"])
    assert (made.validity, made.reasons) == ("suspect", ["the clocks moved"])
    assert table(made, "Fallbacks").rows == [tuple(FALLBACK.values())]
    shares = {row[0]: row[2] for row in table(made, "Layers").rows}
    assert shares == {"conv1": pytest.approx(75.0), "conv2": pytest.approx(25.0)}
    counted = sum(row[2] for row in table(made, "Latency distribution").rows)
    beyond = re.match(
        r"(\d+) inferences\.(?: (\d+) slower)?", table(made, "Latency distribution").note
    )
    assert counted + int(beyond.group(2) or 0) == int(beyond.group(1)) == 4 * 500


def test_power_is_drawn_by_rail_with_the_one_that_counts_first(folder):
    figure = table(kept_document(folder), "Power by rail over time").picture

    assert [line.name for line in figure.data] == ["VDD_IN", "VDD_SYS_GPU"]
    assert max(figure.data[0].y) == pytest.approx(5.0, abs=0.2)
    words = [note.text for note in figure.layout.annotations]
    assert {"idle", "settle", "windows"} <= set(words)
    assert len([shape for shape in figure.layout.shapes if shape.type == "rect"]) == 8


def test_equal_folders_give_equal_pages(folder):
    assert to_html(kept_document(folder)) == to_html(kept_document(folder))


def test_a_profile_without_its_evidence_still_has_a_report_that_says_so(folder):
    (folder / "evidence.json.gz").unlink()

    made = kept_document(folder)

    assert "not kept" in table(made, "Raw evidence").lines[0]
    assert table(made, "Figures").rows


def test_a_result_of_one_half_is_damaged_and_not_shown(folder):
    kept = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    del kept["board"]
    (folder / "result.json").write_text(json.dumps(kept), encoding="utf-8")

    with pytest.raises(HostError, match="not whole"):
        kept_document(folder)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, ConfigError),
        ("{", HostError),
        ("[]", ConfigError),
        ('{"schema": "hil/other@1"}', ConfigError),
    ],
    ids=["no result", "half a file", "a list", "another format"],
)
def test_what_has_no_report_is_told_with_what_has_one(tmp_path, content, error):
    if content is not None:
        (tmp_path / "result.json").write_text(content, encoding="utf-8")

    with pytest.raises(error) as told:
        kept_document(tmp_path)

    if error is ConfigError:
        assert "hil compare" in told.value.fix


def test_all_forms_are_written_and_the_page_only_when_no_other_is_asked_for(folder, tmp_path):
    words = ["report", str(folder / "result.json"), "--markdown", str(tmp_path / "r.md")]

    done = CliRunner().invoke(app, [*words, "--csv", str(tmp_path / "r.csv")])

    assert done.exit_code == 0, done.output
    assert not list(tmp_path.glob("*.html"))
    assert "**EMULATED**, suspect" in (tmp_path / "r.md").read_text(encoding="utf-8")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert {line["provenance"] for line in csv.DictReader(file)} == {"emulated"}


def test_a_run_that_is_not_finished_says_how_to_finish_it(tmp_path):
    RunStore.create(tmp_path / "run", {"seed": 0}).close()

    done = CliRunner().invoke(app, ["report", str(tmp_path / "run")])

    assert isinstance(done.exception, ConfigError)
    assert "--resume" in done.exception.fix


@pytest.mark.slow
@pytest.mark.board
def test_what_profile_and_compare_keep_is_reported(tmp_path, hil):
    (tmp_path / "net.onnx").write_bytes(sample_network())
    device = ("-d", "tx2-emulated.yaml", "--json")
    words = ("net.onnx", *device, "--blocks", "3", "--layers")
    one = json.loads(hil("profile", *words, cwd=tmp_path).stdout)
    words = ("net.onnx", "net.onnx", *device, "--target-ci", "10%")
    two = json.loads(hil("compare", *words, cwd=tmp_path).stdout)

    pages = {}
    for name, kept in (("one", one), ("two", two)):
        forms = ("-o", f"{name}.html", "--markdown", f"{name}.md", "--csv", f"{name}.csv")
        done = hil("report", kept["folder"], *forms, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pages[name] = (tmp_path / f"{name}.html").read_text(encoding="utf-8")

    assert "<title>EMULATED: hil profile: net.onnx" in pages["one"]
    assert "<h2>Layers</h2>" in pages["one"]
    assert "<h2>Error budget of energy_mj</h2>" in pages["one"]
    assert "<h2>Ratio per round: energy, gross</h2>" in pages["two"]
    with (tmp_path / "two.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    per_round = [
        float(line["value"])
        for line in lines
        if line["section"] == "Ratio per round: energy, gross" and line["column"] == "B / A"
    ]
    assert per_round == [r["b"]["energy_mj"] / r["a"]["energy_mj"] for r in two["rounds"]]
    for forged in ("http://", "https://"):
        body = re.sub(r"<script.*?</script>", "", pages["two"], flags=re.S)
        assert forged not in body
