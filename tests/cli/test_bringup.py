"""A first contact with the emulated board, shortened; its replay; what a cut or Ctrl-C leaves."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hil.cli.bringup_stages import stages
from hil.cli.bringup_work import Telling, meet, replay, secrets_of, unreached
from hil.core.errors import DeviceError, ExitCode, HilError, InterruptedRunError
from hil.device.archive import Recorded, packed, unpacked
from hil.device.bringup import Contact, Lengths, run_stages
from hil.device.bringup_file import settle
from hil.device.bringup_report import report
from hil.device.config import SshDevice, find_device, load_device
from hil.device.opening import device_link
from hil.device.redaction import Secrets
from hil.device.tape import Tape, recorded

pytestmark = pytest.mark.board

NEVER_S = 1e6
SHORT = Lengths(
    watch_s=1.0,
    periods_ms=(50, 100),
    idle_s=6.0,
    steps=2,
    windows=5,
    rounds=2,
    build_s={"resnet50": NEVER_S, "vgg16": NEVER_S},
)
LIMIT_S = 600.0
DEVICE = find_device("tx2-emulated", cwd=Path("/"))


def reported(results, contact, secrets=None) -> str:
    """Return the report as the command prints it, without its header."""
    secrets = secrets or secrets_of(contact.device, contact)
    told = report(results, contact.device, contact.provenance, {}, secrets)
    return json.dumps(told, indent=1)


def again(contact: Recorded, results, folder: Path) -> tuple[str, str]:
    """Return the report of a contact, and that of its archive's replay."""
    secrets = secrets_of(DEVICE, contact)
    live = reported(results, contact, secrets)
    path = folder / "bringup-x.tar.gz"
    path.write_bytes(packed(contact, json.loads(live), secrets))
    kept = unpacked(path)
    return live, reported(replay(kept, Telling()), kept)


@pytest.fixture(scope="module")
def met():
    """One contact with the emulated board."""
    return meet(DEVICE, SHORT, LIMIT_S, "anna@bench hil bringup (pid 1)", Telling())


def test_every_stage_is_run_and_none_fails(met):
    results, contact = met
    by_name = {result.stage: result.outcome for result in results}

    assert list(by_name) == [stage.name for stage in stages(SHORT)]
    assert {n for n, o in by_name.items() if o.status == "failed"} == set()
    assert {n for n, o in by_name.items() if o.status == "skipped"} == {
        "published-resnet50",
        "published-vgg16",
    }
    assert contact.provenance == "emulated"
    tau_s = by_name["step"].facts["tau_s"]
    assert 0.3 < tau_s < 0.55  # the emulated monitors average over 0.42 s
    ratio = by_name["published-mobilenet"].facts["ratio"]
    assert 0.7 < ratio < 1.3
    low, high = by_name["against-itself"].facts["ratio_ci95"]
    assert low < 1 < high


def test_the_replay_gives_the_same_report_byte_for_byte(met, tmp_path):
    results, contact = met

    live, replayed = again(contact, results, tmp_path)

    assert replayed == live


def test_the_archive_tells_nobody_whose_board_it_is(met, tmp_path):
    results, contact = met
    secrets = Secrets(frozenset({"bench"}), frozenset({"anna"}))
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed(contact, json.loads(reported(results, contact, secrets)), secrets))

    with tarfile.open(path) as archive:
        texts = [archive.extractfile(entry).read().decode() for entry in archive]  # type: ignore[union-attr]

    whole = "\n".join(texts)
    assert "GPU@" in whole  # the evidence is in it
    for hidden in ("anna", "bench", contact.hello["boot_id"], "BEGIN OPENSSH", "/tmp/hil-board-"):
        assert hidden not in whole


def test_the_device_file_it_writes_is_read_back(met, tmp_path):
    results, _ = met
    source = tmp_path / "tx2-emulated.yaml"
    shipped = Path(__file__).parents[2] / "devices" / "tx2-emulated.yaml"
    source.write_bytes(shipped.read_bytes())

    settled = settle(source, results, write=False, cwd=tmp_path)

    found = load_device(settled.path)
    assert (found.board, found.state.clocks, found.power.rail) == ("jetson-tx2", True, "VDD_IN")
    assert settled.diff == ""


@dataclass
class Meddling:
    """A client that does something else from the n-th request of a method on."""

    inner: Any
    method: str
    error: BaseException
    first: int = 1
    for_good: bool = False
    seen: int = field(default=0)

    def request(self, method, params=None, **more):
        if self.for_good and self.seen >= self.first:
            raise self.error
        if method == self.method:
            self.seen += 1
            if self.seen >= self.first:
                raise self.error
        return self.inner.request(method, params, **more)


@pytest.fixture(scope="module")
def board():
    """The emulated board's link, for contacts that go wrong."""
    with device_link(DEVICE) as link:
        yield link


def contact_with(link, count):
    """Meet the board as far as some stages."""
    tape = Tape()
    contact = Contact(DEVICE, recorded(link, tape, lambda: 60.0), SHORT, LIMIT_S, "anna@bench")
    results, ended_in = run_stages(contact, stages(SHORT)[:count], tape)
    provenance = link.provenance
    return results, Recorded({}, DEVICE, link.hello, provenance, LIMIT_S, SHORT, tape, ended_in)


@pytest.mark.parametrize(
    ("method", "failing"),
    [
        ("probe", {"identity"}),
        ("transcript", {"identity", "environment", "privileges", "sensor", "modes"}),
        ("power_watch", {"rails", "period", "idle"}),
        ("lease_acquire", {"lease"}),
        ("board_pin", {"modes"}),
    ],
)
def test_what_a_board_refuses_costs_only_the_stages_that_need_it(board, method, failing):
    broken = Meddling(board.client, method, HilError("it says no", fix="ask again"))

    results, _ = contact_with(replace(board, client=broken), 9)

    told = {result.stage: result.outcome for result in results}
    status = {name: outcome.status for name, outcome in told.items()}
    assert {n for n, s in status.items() if s in ("failed", "skipped")} >= failing
    assert {n for n, s in status.items() if s == "failed"} <= failing
    assert all(outcome.next_step for outcome in told.values() if outcome.status != "ok")
    assert len(results) == 9


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        (InterruptedRunError("interrupted by SIGINT"), False),
        (DeviceError("the link to 10.1.2.3 was lost", why="no cable", fix="plug it in"), True),
    ],
)
def test_what_was_collected_before_the_end_is_kept_and_replayed(board, error, for_good, tmp_path):
    broken = Meddling(board.client, "power_watch", error, first=3, for_good=for_good)

    results, contact = contact_with(replace(board, client=broken), 9)
    missing = stages(SHORT)[9:]
    live, replayed = again(contact, results, tmp_path)

    status = [result.outcome.status for result in results]
    assert status[:4].count("failed") == 0
    assert "failed" in status
    assert status[-1] == "skipped"
    assert "10.1.2.3" not in live
    # a replay runs all stages; those that this contact was not to run are skipped in it
    first, second = json.loads(live)["stages"], json.loads(replayed)["stages"]
    assert second[: len(first)] == first
    assert [row["status"] for row in second[len(first) :]] == ["skipped"] * len(missing)


def test_a_board_that_cannot_be_reached_leaves_a_report_all_the_same(tmp_path):
    from tests.device.conftest import free_port, make_key

    make_key(tmp_path / "key")
    device = SshDevice.model_validate(
        {
            "schema": "hil/device@1",
            "name": "gone",
            "driver": "ssh",
            "board": "jetson-tx2",
            "ssh": {
                "host": "127.0.0.1",
                "port": free_port(),
                "user": "anna",
                "identity": tmp_path / "key",
                "host_key": (tmp_path / "key.pub").read_text(encoding="utf-8").strip(),
            },
        }
    )

    results, contact = meet(device, SHORT, LIMIT_S, "x", Telling())
    live, replayed = again(contact, results, tmp_path)

    assert [r.outcome.status for r in results] == ["failed"] + ["skipped"] * (len(results) - 1)
    assert replayed == live
    assert "127.0.0.1" not in live
    assert unreached(SHORT, contact.refusal, Telling())[0] == results[0]


def test_the_command_line_replays_and_refuses(hil, met, tmp_path):
    results, contact = met
    told = json.loads(reported(results, contact))
    (tmp_path / "b.tar.gz").write_bytes(packed(contact, told, secrets_of(DEVICE, contact)))
    (tmp_path / "bad.tar.gz").write_bytes(b"no archive")

    good = hil("bringup", "--from", "b.tar.gz", "--json", "-o", "r.json", cwd=tmp_path)
    bad = hil("bringup", "--from", "bad.tar.gz", cwd=tmp_path)
    both = hil("bringup", "--from", "b.tar.gz", "--device", "x", cwd=tmp_path)

    assert good.returncode == ExitCode.GOOD, good.stderr
    printed = json.loads(good.stdout)
    assert printed == json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert {**printed, "header": {}} == told
    assert (bad.returncode, both.returncode) == (ExitCode.USAGE, ExitCode.USAGE)
    assert "no archive of a bring-up" in bad.stderr
