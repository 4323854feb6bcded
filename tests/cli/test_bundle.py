"""A bundle says what its traces say, and a checker with nothing installed finds what does not."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from scipy import special

from hil import bundle_checker
from hil.cli.bundling import bundle_files, packed

pytestmark = [pytest.mark.slow, pytest.mark.board, pytest.mark.torch]

CHECKER = Path(bundle_checker.__file__)
_spec = importlib.util.spec_from_file_location("forging", Path(__file__).with_name("forging.py"))
assert _spec is not None
assert _spec.loader is not None
forging = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(forging)


@pytest.fixture(scope="module")
def honest(uninterrupted) -> dict[str, bytes]:
    """The files of the bundle of a real run."""
    return bundle_files(uninterrupted[1])


def checked(files: dict[str, bytes], place: Path) -> tuple[int, list[str]]:
    """The checker's exit code and what it says, all of it."""
    target = place / "some.hil"
    target.write_bytes(packed(files))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = bundle_checker.main([str(target), "--all"])
    return code, said.getvalue().splitlines()


def differing(lines: list[str]) -> str:
    return "\n".join(line for line in lines if line.startswith("differs: "))


def test_everything_in_an_honest_bundle_is_reproduced_with_nothing_installed(
    uninterrupted, workplace, hil, tmp_path
):
    target = tmp_path / "run.hil"
    made = hil("bundle", str(uninterrupted[1]), "-o", str(target), cwd=workplace)
    with zipfile.ZipFile(target) as archive:
        archive.extract("check.py", tmp_path)

    done = subprocess.run(
        [sys.executable, "-I", "-S", "check.py", str(target), "--all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    count = int(done.stdout.splitlines()[-1].split()[0])
    assert done.stdout.splitlines()[-1].endswith("0 differs; 0 cannot be checked")
    assert count > 200
    for metric in ("energy_mj", "energy_net_mj", "latency_p99_ms", "accuracy"):
        assert f": {metric} (stated" in done.stdout


def test_the_checker_is_small_and_knows_the_standard_library_alone():
    text = CHECKER.read_text(encoding="utf-8")
    named = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add((node.module or ".").split(".")[0])

    assert text.count("\n") <= 400
    assert named <= set(sys.stdlib_module_names)


def test_the_same_run_gives_the_same_bytes(uninterrupted, honest):
    assert packed(honest) == packed(bundle_files(uninterrupted[1]))


def test_what_was_emulated_is_called_so_and_no_way_to_a_board_is_told(honest):
    told = json.loads(honest["manifest.json"])
    device = json.loads(honest["device.json"])

    assert told["provenance"] == "emulated"
    assert honest["README.txt"].startswith(b"EMULATED FIGURES")
    assert json.loads(honest["result.json"])["certified"][0]["verdict"] == "feasible_emulated"
    assert not {"ssh", "agent", "lease", "local"} & device.keys()
    assert "/" not in json.loads(honest["result.json"])["run"]


@pytest.mark.parametrize("df", [1, 2, 3, 6, 15, 99])
@pytest.mark.parametrize("p", [1e-6, 0.0015, 0.018, 0.4, 0.7, 0.975])
def test_its_own_t_distribution_is_students(df, p):
    t = float(special.stdtrit(df, p))

    assert bundle_checker.t_below(t, df) == pytest.approx(p, rel=1e-9)
    assert bundle_checker.t_quantile(p, df) == pytest.approx(t, rel=1e-7)


# --- falsifications ------------------------------------------------------------------------------


def in_block(trace, stamp: int) -> bool:
    return any(
        m["start_ns"] <= stamp <= m["stop_ns"] for m in trace["marks"] if m["name"] == "block"
    )


def one_reading(f):
    def change(trace):
        lines = trace["power"][0]["lines"]
        at = next(i for i, (stamp, _) in enumerate(lines) if in_block(trace, stamp))
        before, _, after = lines[at][1].partition("VDD_IN ")
        now, _, rest = after.partition("/")
        lines[at][1] = f"{before}VDD_IN {int(now) - 300}/{rest}"

    f.traced(1, change)


def readings_with_means(f):
    def change(trace):
        record = trace["power"][0]
        record["lines"] = forging.with_means(
            record["lines"],
            "VDD_IN",
            lambda stamp, now: now * 98 // 100 if in_block(trace, stamp) else now,
        )

    f.traced(1, change)


def truncated(f):
    def change(trace):
        lines = trace["power"][0]["lines"]
        del lines[len(lines) * 6 // 10 :]

    f.traced(2, change)


def stamps(f):
    def change(trace):
        record = trace["power"][0]
        # Readings of the idle before come to lie in the first block.
        record["lines"] = [[stamp + 4_000_000_000, line] for stamp, line in record["lines"]]

    f.traced(1, change)


def block_length(f):
    def change(trace):
        block = [m for m in trace["marks"] if m["name"] == "block"][-1]
        block["start_ns"] += (block["stop_ns"] - block["start_ns"]) // 20
        trace["latency_ns"][-1] = [ns * 9 // 10 for ns in trace["latency_ns"][-1]]

    f.traced(1, change)


def dropped_block(f):
    def change(trace):
        trace["marks"] = [m for m in trace["marks"] if (m["name"], m["index"]) != ("block", 2)]
        del trace["latency_ns"][2]

    f.traced(1, change)


def dropped_block_and_plan(f):
    dropped_block(f)
    f.traced(1, lambda trace: trace["plan"].update(blocks=2))


def latencies(f):
    def change(trace):
        for block in trace["latency_ns"]:
            usual = sorted(block)[len(block) // 2]
            block[:] = [min(ns, usual) for ns in block]

    f.traced(1, change)


def latencies_left_out(f):
    f.traced(1, lambda trace: trace["latency_ns"][0].remove(max(trace["latency_ns"][0])))


def engine_of_result(f):
    f.winning(lambda entry: entry["engines_sha256"].__setitem__(0, "ab" * 32))


def engine_of_build(f):
    f.rowed(1, lambda row: row.update(engine_sha256="ab" * 32))
    engine_of_result(f)


def limit_of_proof(f):
    f.winning(lambda entry: entry["proofs"][0].update(limit=0.95))


def limit_of_profile(f):
    f.change("profile", lambda p: p["requirements"].update(energy_mj={"at_most": "95 %"}))


def requirement_left_out(f):
    f.change("profile", lambda p: p["requirements"].pop("latency_p99_ms"))

    def change(result):
        kept = [r for r in result["requirements"] if r["metric"] != "latency_p99_ms"]
        result["requirements"] = kept

    f.change("result", change)


def dropped_build(f):
    row = f.row(2)
    del f.files[f"evidence/{row['evidence']}.json.gz"]
    f.change("builds", lambda rows: rows.remove(row))

    def change(entry):
        entry["evidence"].remove(row["evidence"])
        entry["engines_sha256"].remove(row["engine_sha256"])
        entry["builds"] -= 1

    f.winning(change)


def duplicated_build(f):
    f.put_trace(3, f.trace(1))


def duplicated_build_renamed(f):
    own, other = f.trace(3), f.trace(1)
    other["engine"] = own["engine"]
    other["start"] = own["start"]
    f.put_trace(3, other)


def exchanged_pairs(f):
    f.rowed(1, lambda row: row.update(build=99))
    f.rowed(2, lambda row: row.update(build=1))
    f.rowed(99, lambda row: row.update(build=2))


def energy_of_result(f):
    f.winning(lambda entry: entry.update(energy_mj=entry["energy_mj"] * 0.97))


def energy_of_build(f):
    f.rowed(1, lambda row: row["figures"].update(energy_mj=row["figures"]["energy_mj"] * 0.99))


def net_energy_of_build(f):
    figures = f.row(1)["figures"]
    less = figures["energy_net_mj"] - 0.05 * figures["energy_mj"]
    f.rowed(1, lambda row: row["figures"].update(energy_net_mj=less))


def interval_of_result(f):
    f.winning(lambda entry: entry["energy_mj_ci95"].__setitem__(1, entry["energy_mj"] * 1.0001))


def verdict(f):
    f.winning(lambda entry: entry.update(verdict="infeasible"))


def unlabelled_verdict(f):
    f.winning(lambda entry: entry.update(verdict="feasible"))


def unlabelled_proof(f):
    f.winning(lambda entry: entry["proofs"][0].update(verdict="feasible"))


def bound(f):
    f.winning(lambda entry: entry["proofs"][0].update(bound=entry["proofs"][0]["bound"] * 0.98))


def looks(f):
    f.winning(lambda entry: entry["proofs"][0].update(builds=4, looks=2))


def alpha(f):
    f.change("profile", lambda profile: profile.update(alpha=0.2))


def onnx(f):
    own, other = (f"networks/{name}/network.onnx" for name in (f.winner, "prototype"))
    f.files[own] = f.files[other]


def prototype(f):
    def change(rows):
        for row in rows:
            if row["network"] in ("prototype", f.winner):
                row["network"] = f.winner if row["network"] == "prototype" else "prototype"

    f.change("builds", change)


def rail(f):
    f.change("result", lambda result: result.update(rail="VDD_SYS_SOC"))
    f.change("device", lambda device: device["power"].update(rail="VDD_SYS_SOC"))


def provenance_of_result(f):
    f.change("result", lambda result: result.update(provenance="measured"))


def provenance_of_all_that_says_it(f):
    for name in ("result", "builds"):
        f.files[f"{name}.json"] = f.files[f"{name}.json"].replace(b"emulated", b"measured")
    f.files["result.json"] = f.files["result.json"].replace(b"feasible_measured", b"feasible")
    f.files["result.json"] = f.files["result.json"].replace(b"tx2-measured", b"tx2-emulated")
    f.change("device", lambda device: device.update(driver="ssh"))
    f.change("manifest", lambda told: told.update(provenance="measured"))
    f.traced(1, lambda trace: trace.update(provenance="measured"))


def answers(f):
    def change(right):
        right[f.winner] = right[f.winner].replace("0", "1", 5)

    f.change("answers", change)


def accuracy(f):
    f.winning(lambda entry: entry.update(accuracy=entry["accuracy"] + 1))


def lag(f):
    f.rowed(1, lambda row: row["figures"].update(lag_s=6.0))


def removed_file(f):
    del f.files[f"evidence/{f.row(1)['evidence']}.json.gz"]


def extra_file(f):
    f.files["evidence/better.json.gz"] = f.files[f"evidence/{f.row(1)['evidence']}.json.gz"]


FALSIFIED = [
    (one_reading, "running mean"),
    (readings_with_means, ": energy_mj (stated"),
    (truncated, "does not cover"),
    (stamps, ": energy_mj (stated"),
    (block_length, ": energy_mj (stated"),
    (dropped_block, "every block is there"),
    (dropped_block_and_plan, "the profile's plan"),
    (latencies, ": latency_p99_ms (stated"),
    (latencies_left_out, "latencies fill the blocks"),
    (engine_of_result, "its engines"),
    (engine_of_build, "network, engine and build of the trace"),
    (limit_of_proof, "is judged at the profile's"),
    (limit_of_profile, "requirements are the profile's"),
    (requirement_left_out, "nothing else is judged"),
    (dropped_build, ": feasible_emulated (undecided)"),
    (duplicated_build, "it is no other's"),
    (duplicated_build_renamed, "it is no other's"),
    (exchanged_pairs, "network, engine and build of the trace"),
    (energy_of_result, "energy_mj, mean of builds"),
    (energy_of_build, ": energy_mj (stated"),
    (net_energy_of_build, ": energy_net_mj (stated"),
    (interval_of_result, "energy_mj, an end"),
    (verdict, ": infeasible (feasible)"),
    (unlabelled_verdict, ": feasible (feasible)"),
    (unlabelled_proof, "energy_mj, its verdict"),
    (bound, "energy_mj, bound"),
    (looks, "energy_mj, its verdict"),
    (alpha, "energy_mj, error"),
    (onnx, "its ONNX file"),
    (prototype, "its ONNX file"),
    (rail, ": energy_mj (stated"),
    (provenance_of_result, "the device is what the figures say"),
    (provenance_of_all_that_says_it, "where it was measured"),
    (answers, ": accuracy (stated"),
    (accuracy, ": accuracy (stated"),
    (lag, "the lag of its sensor"),
    (removed_file, "no file is missing"),
    (extra_file, "none beside them"),
]


@pytest.mark.parametrize(("forge", "found"), FALSIFIED, ids=[f.__name__ for f, _ in FALSIFIED])
def test_a_falsified_bundle_is_found_out_by_its_manifest(honest, tmp_path, forge, found):
    forged = forging.Forged(honest, refreshed=False)
    forge(forged)

    code, said = checked(forged.done(), tmp_path)

    assert code == 1
    assert "is as the manifest says" in differing(said)


@pytest.mark.parametrize(("forge", "found"), FALSIFIED, ids=[f.__name__ for f, _ in FALSIFIED])
def test_with_every_hash_made_to_agree_the_arithmetic_finds_it(honest, tmp_path, forge, found):
    forged = forging.Forged(honest, refreshed=True)
    forge(forged)

    code, said = checked(forged.done(), tmp_path)

    assert code == 1
    assert "as the manifest says" not in differing(said)
    assert found in differing(said)


def test_a_manifest_that_was_edited_is_found(honest, tmp_path):
    forged = forging.Forged(honest, refreshed=False)
    forged.change("manifest", lambda told: told["files"]["result.json"].update(sha256="0" * 64))

    code, said = checked(forged.done(), tmp_path)

    assert code == 1
    assert "file result.json" in differing(said)


def test_an_engine_renamed_wherever_it_stands_cannot_be_found(honest, tmp_path):
    """What no arithmetic can tell, said as a test so that nobody believes otherwise."""
    forged = forging.Forged(honest, refreshed=True)
    old = forged.row(1)["engine_sha256"]
    forged.traced(1, lambda trace: trace["engine"].update(engine_sha256="ab" * 32))
    for name in ("result.json", "builds.json"):
        forged.files[name] = forged.files[name].replace(old.encode(), b"ab" * 32)

    code, said = checked(forged.done(), tmp_path)

    assert code == 0, differing(said)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/absolute", "a/../../b", "back\\slash", ".hid"]
)
def test_names_that_would_leave_the_bundle_are_refused(honest, tmp_path, name):
    code, said = checked({**honest, name: b"x"}, tmp_path)

    assert code == 2
    assert "no bundle" in said[0]


def test_what_claims_to_be_larger_than_any_bundle_is_refused(honest, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_checker, "MOST_BYTES", 1000)

    assert checked(honest, tmp_path)[0] == 2


def test_links_are_refused(honest, tmp_path):
    target = tmp_path / "linked.hil"
    target.write_bytes(packed(honest))
    with zipfile.ZipFile(target, "a") as archive:
        link = zipfile.ZipInfo("evidence/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")

    assert bundle_checker.main([str(target)]) == 2


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all"])
def test_what_is_no_bundle_is_told_as_such(tmp_path, data):
    target = tmp_path / "none.hil"
    target.write_bytes(data)

    assert bundle_checker.main([str(target)]) == 2
    assert bundle_checker.main([str(tmp_path / "absent.hil")]) == 2


def test_an_unfinished_run_has_no_bundle(uninterrupted, workplace, hil, tmp_path):
    from hil.synth.store import RunStore

    RunStore.create(tmp_path / "young", {"seed": 0}).close()

    done = hil("bundle", str(tmp_path / "young"), cwd=workplace)

    assert done.returncode == 2
    assert "not finished" in done.stderr
