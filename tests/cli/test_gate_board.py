"""Gates from the command line, and from the CI files that ship, to emulated boards over SSH."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from hil.core.errors import LeaseTimeoutError
from hil.device.config import load_device
from hil.device.opening import device_link, open_session
from hil.net.sample import sample_network

pytestmark = [pytest.mark.slow, pytest.mark.board]
ROOT = Path(__file__).parents[2]
DEVICE = ("-d", "tx2-emulated.yaml")
VIRTUAL_BIN = str(Path(sys.executable).parent)
SERVED = """
schema: hil/device@1
name: served
driver: ssh
board: jetson-tx2
ssh: {{host: {host}, user: {user}, port: {port}, identity: {identity}, host_key: "{host_key}"}}
agent: {{root: {root}}}
runtime: {{name: tensorrt, precision: fp16, workspace_mib: 512, opset: 13}}
state: {{nvpmodel: 2, clocks: true}}
power: {{source: tegrastats, rail: VDD_IN, interval_ms: 100}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gating")
    (folder / "net.onnx").write_bytes(sample_network())
    return folder


@pytest.fixture
def served(tmp_path):
    """An emulated board that outlives a session, as a board on a bench does; its device file."""
    command = [sys.executable, "-m", "hil.emulator.serve", "--json", "--board", "tx2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        path = tmp_path / "served.yaml"
        path.write_text(SERVED.format(**json.loads(server.stdout.readline())), encoding="utf-8")
        yield path
        server.stdin.close()
        server.wait(timeout=60)


def test_a_gate_by_turns_passes_and_leaves_every_file(place, hil):
    done = hil(
        *("gate", "net.onnx", *DEVICE, "--baseline-model", "net.onnx", "--seed", "3"),
        *("--margin", "energy_mj=10%", "--latency-p99-ms", "5", "--json", "--no-keep"),
        *("--junit", "j.xml", "--markdown", "m.md", "--summary", "s.md", "--annotations"),
        *("--bencher", "b.json", "--benchmark-json", "g.json"),
        cwd=place,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [check["status"] for check in result["checks"]] == ["passed", "passed"]
    low, high = result["checks"][1]["ratio_ci95"]
    assert low < 1 < high
    assert result["provenance"] == "emulated"
    suite = ET.parse(place / "j.xml").getroot()[0]
    assert suite.attrib["name"] == "hil gate on tx2-emulated (EMULATED)"
    assert [case.attrib["name"] for case in suite.iter("testcase")] == [
        "latency_p99_ms budget",
        "energy_mj regression",
    ]
    assert (place / "m.md").read_text() == (place / "s.md").read_text()
    assert "::notice title=hil gate::the figures of this gate are EMULATED" in done.stderr
    assert len(json.loads((place / "g.json").read_text())) == 2


def test_figures_of_a_file_are_written_compared_and_refused_where_unlike(place, hil):
    gated = ("gate", "net.onnx", *DEVICE, "--latency-only", "--no-keep")
    wrote = hil(*gated, "--write-baseline", "base.json", cwd=place)
    again = hil(*gated, "--baseline", "base.json", "--json", cwd=place)
    unlike = hil(*gated, "--baseline", "base.json", "--precision", "fp32", cwd=place)

    assert wrote.returncode == 0, wrote.stderr
    assert again.returncode == 0, again.stderr
    (check,) = json.loads(again.stdout)["checks"]
    assert (check["metric"], check["status"]) == ("latency_p99_ms", "passed")
    assert json.loads(again.stdout)["models"][0]["baseline"]["kind"] == "file"
    assert unlike.returncode == 2, unlike.stderr
    assert "precision: fp16 there, fp32 here" in unlike.stderr


def test_a_broken_budget_is_confirmed_on_fresh_engines_and_exits_with_1(place, hil):
    done = hil(
        *("gate", "net.onnx", *DEVICE, "--latency-only", "--latency-p99-ms", "0.01", "--json"),
        *("--junit", "j.xml"),
        cwd=place,
    )

    assert done.returncode == 1, done.stderr
    (check,) = json.loads(done.stdout)["checks"]
    assert (check["status"], check["fresh_builds"]) == ("violated", 6)
    assert len(set(json.loads(done.stdout)["models"][0]["fresh_engines_sha256"])) >= 1
    assert ET.parse(place / "j.xml").getroot().find(".//failure") is not None


def test_a_board_that_is_not_there_is_an_error_of_the_bench(place, hil, tmp_path):
    # A port that nobody listens on; the file of results is written all the same.
    told = {"host": "127.0.0.1", "user": "hil", "port": 9, "identity": tmp_path / "key"}
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True
    )
    public = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    device = tmp_path / "gone.yaml"
    device.write_text(SERVED.format(**told, host_key=public, root="/"), encoding="utf-8")

    done = hil(
        *("gate", "net.onnx", "-d", str(device), "--energy-mj", "5", "--junit", "gone.xml"),
        cwd=place,
    )

    assert done.returncode == 3, done.stderr
    suite = ET.parse(place / "gone.xml").getroot()[0]
    assert suite.attrib["errors"] == "1"
    assert suite.find(".//error").attrib["type"] == "hil.gate.error"


def test_a_cancelled_job_puts_the_board_back_and_frees_it(place, served):
    before = probe(served)
    environment = {"HIL_DEVICE": str(served), "HIL_MODELS": "net.onnx", "HIL_OUT": "cancelled"}
    environment |= {"HIL_BUDGET_FILE": str(place / "gate.yaml"), "HIL_MAX_TIME": "2h"}
    (place / "gate.yaml").write_text("schema: hil/gate@1\nbudgets: {energy_mj: 900}\n")
    with subprocess.Popen(
        ["bash", str(ROOT / "ci" / "hil-gate.sh")],
        cwd=place,
        env=os.environ | environment | {"PATH": f"{VIRTUAL_BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if "net.onnx: 1 checks" in line:
                break
        during = probe(served)
        with pytest.raises(LeaseTimeoutError), open_session(load_device(served), owner="other"):
            pass
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)

    assert process.returncode == 130, stderr
    assert "the board is as it was found" in stderr
    assert (before["nvpmodel"]["id"], before["clocks_pinned"]) == (0, False)
    assert (during["nvpmodel"]["id"], during["clocks_pinned"]) == (2, True)
    after = probe(served)
    assert (after["nvpmodel"]["id"], after["clocks_pinned"]) == (0, False)
    with open_session(load_device(served), owner="next") as session:
        assert session.provenance == "emulated"


def probe(device: Path):
    with device_link(load_device(device)) as link:
        return link.client.request("probe", timeout_s=300)


# The workflow that ships, run here as a runner would.


def expression(text, known):
    """Evaluate what stands in ${{ }}: names, strings, == and !=, && over ||, as GitHub does."""

    def term(word):
        word = word.strip()
        if word.startswith("fromJSON("):
            return json.loads(expression(word[len("fromJSON(") : -1], known))
        for sign, truth in (("==", True), ("!=", False)):
            if f" {sign} " in word:
                left, right = word.split(f" {sign} ")
                return ((term(left) or "") == (term(right) or "")) is truth
        return word[1:-1] if word.startswith("'") else known.get(word)

    def conjunction(words):
        value = None
        for word in words.split(" && "):
            value = term(word)
            if not value:
                return value
        return value

    if text.startswith("fromJSON("):
        return term(text)
    value = None
    for words in text.split(" || "):
        value = conjunction(words)
        if value:
            return value
    return value


def filled(value, known):
    text = str(value)
    if text.startswith("${{"):
        return expression(text[3:-2].strip(), known) or ""
    assert "${{" not in text
    return text


def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "jetson.yml").read_text())


def git(*words, cwd):
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *name, *words], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def steps_on(workspace, known, path):
    """Run each step of the workflow that is a command, the local action's as well."""
    environment = {**os.environ, "PATH": f"{VIRTUAL_BIN}:{os.environ['PATH']}"}
    environment |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(workspace / "summary.md")}
    environment |= {"GITHUB_PATH": str(workspace / "path.txt")}
    for step in workflow()["jobs"]["gate"]["steps"]:
        run, given, action = step.get("run"), step.get("env", {}), None
        if step.get("uses", "").startswith("./"):
            action = workspace / step["uses"]
            told = yaml.safe_load((action / "action.yml").read_text())
            inputs = {f"inputs.{k}": v.get("default", "") for k, v in told["inputs"].items()}
            inputs |= {f"inputs.{k}": filled(v, known) for k, v in step["with"].items()}
            (inner,) = told["runs"]["steps"]
            run, given = inner["run"], {k: filled(v, inputs) for k, v in inner["env"].items()}
        if run is None:
            continue
        own = {k: filled(v, known) for k, v in given.items()}
        own |= {} if action is None else {"GITHUB_ACTION_PATH": str(action)}
        done = subprocess.run(
            ["bash", "-e", "-c", run],
            cwd=workspace,
            env=environment | own,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        yield step["name"], done


def test_the_workflows_own_steps_gate_a_pull_request_on_the_emulated_board(tmp_path):
    for name in (".github", "ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "old net.onnx").write_bytes(b"never gated")
    (tmp_path / "nets" / "net.onnx").write_bytes(sample_network())
    (tmp_path / "gate.yaml").write_text(
        "schema: hil/gate@1\nbudgets: {energy_mj: 900}\nmargins: {energy_mj: 15 %}\n"
    )
    git("init", "-q", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "-qm", "before", cwd=tmp_path)
    known = {
        "github.event_name": "pull_request",
        "github.event.pull_request.base.sha": git("rev-parse", "HEAD", cwd=tmp_path),
        "vars.HIL_MODELS": "nets/n*.onnx",
        "vars.HIL_DEVICE": "the-real-board.yaml",
        "vars.HIL_BUDGET_FILE": "gate.yaml",
    }

    ran = dict(steps_on(tmp_path, known, tmp_path))

    assert list(ran) == ["Make hil available", "Gate"]
    for name, done in ran.items():
        assert done.returncode == 0, (name, done.stderr)
    suite = ET.parse(tmp_path / "hil-gate" / "junit.xml").getroot()[0]
    assert "EMULATED" in suite.attrib["name"]
    assert {case.attrib["classname"] for case in suite.iter("testcase")} == {"nets/net.onnx"}
    assert "EMULATED" in (tmp_path / "summary.md").read_text()
    assert not (tmp_path / "path.txt").exists()  # hil was there


def test_a_pull_request_never_names_the_boards_runner_or_device():
    job = workflow()["jobs"]["gate"]
    step = next(step for step in job["steps"] if step["name"] == "Gate")
    told = {"inputs.runner": '["self-hosted", "jetson"]', "vars.HIL_DEVICE": "board.yaml"}

    for event, runner, device in (
        ("pull_request", ["ubuntu-latest"], "tx2-emulated.yaml"),
        ("push", ["self-hosted", "jetson"], "board.yaml"),
    ):
        known = told | {"github.event_name": event}
        assert expression(job["runs-on"][3:-2].strip(), known) == runner
        assert filled(step["with"]["device"], known) == device
    events = workflow()[True]  # YAML 1.1 reads `on` so
    assert set(events) == {"push", "pull_request", "workflow_dispatch"}
    assert workflow()["permissions"] == {"contents": "read"}


def test_no_value_is_put_into_a_command_and_actions_are_pinned():
    files = [*(ROOT / ".github").rglob("*.yml")]
    assert len(files) == 2
    for path in files:
        told = yaml.safe_load(path.read_text())
        steps = told["runs"]["steps"] if "runs" in told else told["jobs"]["gate"]["steps"]
        for step in steps:
            assert "${{" not in step.get("run", "")
            used = step.get("uses", "./")
            assert used.startswith("./") or len(used.partition("@")[2]) == 40
    assert "${{" not in (ROOT / "ci" / "hil-gate.sh").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HIL_MODELS": "$(touch owned) `touch owned`;touch owned"}, "there is no network"),
        ({"HIL_MODELS": "--json"}, "there is no network --json"),
        ({"HIL_BASELINE_REF": "--upload-pack=x"}, "there is no commit"),
        ({"HIL_BASELINE_REF": "HEAD;touch owned"}, "there is no commit"),
        ({"HIL_WAIT": "5s --json; touch owned"}, "is not a duration"),
        ({"HIL_DEVICE": "$(touch owned)"}, "$(touch owned)"),
        ({"HIL_DEVICE": ""}, "HIL_DEVICE"),
    ],
)
def test_no_value_becomes_a_command_or_an_option(place, tmp_path, changes, said):
    shutil.copy(place / "net.onnx", tmp_path / "net.onnx")
    git("init", "-q", cwd=tmp_path)
    (tmp_path / "gate.yaml").write_text("schema: hil/gate@1\nbudgets: {energy_mj: 900}\n")
    environment = {"HIL_DEVICE": "tx2-emulated.yaml", "HIL_MODELS": "net.onnx"}
    environment |= {"HIL_BUDGET_FILE": "gate.yaml"} | changes
    environment |= {"PATH": f"{VIRTUAL_BIN}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", str(ROOT / "ci" / "hil-gate.sh")],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not (tmp_path / "owned").exists()


def test_the_gitlab_template_runs_the_same_script_and_forgives_the_bench_alone():
    template = yaml.safe_load((ROOT / "ci" / "gitlab" / "hil-gate.yml").read_text())[".hil-gate"]

    assert template["script"] == ['bash "$HIL_SCRIPT"']
    assert (ROOT / template["variables"]["HIL_SCRIPT"]).is_file()
    assert template["allow_failure"]["exit_codes"] == [3, 4, 8]
    first = template["rules"][0]
    assert first["when"] == "never"
    assert "CI_MERGE_REQUEST_SOURCE_PROJECT_ID != $CI_PROJECT_ID" in first["if"]
