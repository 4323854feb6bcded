"""Stages stand alone: whatever becomes of one, the others are run, or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from hil.core.errors import DeviceError, HilError, InterruptedRunError, MeasurementError
from hil.device.assumptions import ASSUMPTIONS, settled_by
from hil.device.bringup import (
    Contact,
    Outcome,
    SkipStageError,
    Stage,
    held,
    judged,
    run_stages,
    verdict_rows,
)
from hil.device.config import LocalDevice
from hil.device.link import Link
from hil.device.tape import Tape, played, recorded

DEVICE = LocalDevice.model_validate(
    {"schema": "hil/device@1", "name": "b", "driver": "local", "board": "jetson-tx2"}
)
NAMES = ("identity", "rails", "engine", "restore")


@dataclass
class FakeClient:
    """An agent whose clock moves on by `step_s` each time it is asked."""

    step_s: float = 1.0
    now_s: float = 50.0
    lost: bool = False
    asked: list[str] = field(default_factory=list)

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        on_event: Any = None,
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        self.asked.append(method)
        if self.lost:
            raise DeviceError("the link is lost", why="no cable", fix="plug it in")
        self.now_s += self.step_s
        if on_event is not None:
            on_event({"kind": "state", "n": len(self.asked)})
        return {"t_ns": int(self.now_s * 1e9)}


class NoFiles:
    def upload(self, data: bytes) -> str:
        return "name"

    def download(self, sha256: str) -> bytes:
        return b"\xff" if sha256 == "b" * 64 else b"text 1.5\n"

    def close(self) -> None:
        pass


def contact_of(client, **changes) -> Contact:
    return Contact(DEVICE, Link(client, NoFiles(), {}, "measured"), **changes)


def fine(contact: Contact) -> Outcome:
    contact.link.client.request("clock")
    return judged("fine", [], {}, "nothing")


def stages_with(bad, act, takes_s=0.0):
    return [Stage(name, takes_s, act if name == bad else fine) for name in NAMES]


def raiser(error):
    def act(_contact):
        raise error

    return act


@pytest.mark.parametrize("bad", NAMES)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MeasurementError("no power", fix="look"), "failed"),
        (HilError("odd"), "failed"),
        (ValueError("a bug"), "failed"),
        (SkipStageError("it needs an engine", fix="build one"), "skipped"),
    ],
)
def test_a_stage_that_fails_costs_only_itself(bad, error, status):
    results, interrupted = run_stages(
        contact_of(FakeClient()), stages_with(bad, raiser(error)), Tape()
    )

    assert {r.stage: r.outcome.status for r in results} == {
        name: status if name == bad else "ok" for name in NAMES
    }
    assert interrupted is None
    assert all(r.outcome.next_step for r in results if r.outcome.status != "ok")
    failed = next(r for r in results if r.stage == bad)
    assert str(error).split(";")[0] in failed.outcome.summary


def test_a_lost_link_keeps_what_was_found_and_says_so_of_the_rest():
    client = FakeClient()

    def pull(contact):
        client.lost = True
        contact.link.client.request("power_watch")
        raise AssertionError("not reached")

    results, interrupted = run_stages(contact_of(client), stages_with("rails", pull), Tape())

    assert [r.outcome.status for r in results] == ["ok", "failed", "skipped", "skipped"]
    assert "link" in results[1].outcome.summary
    assert "link" in results[2].outcome.summary
    assert interrupted is None
    assert client.asked[-1] != "clock" or client.asked.count("power_watch") == 1


def test_ctrl_c_keeps_what_was_found_and_names_the_stage():
    tape = Tape()
    act = raiser(InterruptedRunError("interrupted by SIGINT"))

    results, interrupted = run_stages(contact_of(FakeClient()), stages_with("engine", act), tape)

    assert [r.outcome.status for r in results] == ["ok", "ok", "failed", "skipped"]
    assert interrupted == "engine"


def test_a_stage_longer_than_what_is_left_is_skipped_and_the_next_is_tried():
    contact = contact_of(FakeClient(step_s=20.0), limit_s=150.0)
    stages = [
        Stage("identity", 10.0, fine),
        Stage("engine", 95.0, fine),
        Stage("restore", 5.0, fine),
    ]

    results, _ = run_stages(contact, stages, Tape())

    assert [r.outcome.status for r in results] == ["ok", "skipped", "ok"]
    assert "takes about 95 s and 90 s are left" in results[1].outcome.summary
    assert {f.verdict for f in results[1].outcome.findings} == {"unknown"}


def test_board_time_is_the_boards_own():
    results, _ = run_stages(contact_of(FakeClient(step_s=3.0)), stages_with("", fine), Tape())

    assert [r.board_s for r in results] == [6.0] * len(NAMES)  # its own question, and the end's


def test_every_assumption_of_a_stage_is_told_even_where_the_stage_says_nothing():
    results, _ = run_stages(contact_of(FakeClient()), stages_with("", fine), Tape())
    rows = verdict_rows(results, ASSUMPTIONS)

    assert [row["id"] for row in rows] == [one.id for one in ASSUMPTIONS]
    of_rails = {f.id for r in results if r.stage == "rails" for f in r.outcome.findings}
    assert of_rails == {one.id for one in settled_by("rails")}
    assert {row["verdict"] for row in rows} == {"unknown"}
    assert all("if wrong" in row["consequence"] for row in rows)


@pytest.mark.parametrize(
    ("holds", "verdict", "consequence"),
    [(True, "holds", "none"), (False, "differs", "joules are of a part only")],
)
def test_a_verdict_names_what_follows(holds, verdict, consequence):
    act = lambda _: judged("x", [held("total-rail", holds, "3 W of 5 W")], {}, "see below")  # noqa: E731

    results, _ = run_stages(contact_of(FakeClient()), stages_with("rails", act), Tape())

    row = next(r for r in verdict_rows(results, ASSUMPTIONS) if r["id"] == "total-rail")
    assert (row["verdict"], row["measured"]) == (verdict, "3 W of 5 W")
    assert row["consequence"].startswith(consequence)
    assert results[1].outcome.status == ("ok" if holds else "differs")


# -- the tape


def exchange(link: Link) -> list[Any]:
    """Say one of each kind; errors come back as what they say."""
    heard: list[Any] = []
    told: list[Any] = [heard]
    for act in (
        lambda: link.client.request("clock", on_event=heard.append),
        lambda: link.files.upload(b"12345"),
        lambda: link.files.download("a" * 64),
        lambda: link.files.download("b" * 64),
    ):
        try:
            told.append(act())
        except HilError as error:
            told.append((type(error), error.what, error.why, error.fix))
    return told


@pytest.mark.parametrize("lost", [False, True])
def test_a_tape_answers_as_the_board_did(lost):
    import json

    tape = Tape()
    link = Link(FakeClient(lost=lost), NoFiles(), {"pid": 1}, "measured")

    live = exchange(recorded(link, tape, lambda: 60.0))
    kept = Tape(json.loads(json.dumps(tape.exchanges)))
    again = exchange(played(kept, {"pid": 1}, "measured"))

    assert again == live
    assert len(live[0]) == (0 if lost else 1)


def test_a_tape_ends_where_a_person_ended_it():
    class Interrupted(FakeClient):
        def request(self, method, params=None, *, on_event=None, timeout_s=60.0):
            raise InterruptedRunError("by SIGINT")

    tape = Tape()
    link = recorded(Link(Interrupted(), NoFiles(), {}, "measured"), tape, lambda: 60.0)

    with pytest.raises(InterruptedRunError, match="by SIGINT"):
        link.client.request("clock")
    with pytest.raises(InterruptedRunError, match="by SIGINT"):
        played(tape, {}, "measured").client.request("clock")


def test_a_tape_of_another_release_is_named_as_such():
    link = played(
        Tape([{"kind": "request", "method": "probe", "events": [], "result": {}}]), {}, "m"
    )

    with pytest.raises(HilError, match="another release"):
        link.client.request("clock")


def test_no_request_outlives_the_time_that_is_left():
    class Waits(FakeClient):
        def request(self, method, params=None, *, on_event=None, timeout_s=60.0):
            self.asked.append(timeout_s)
            return {}

    client = Waits()
    link = recorded(Link(client, NoFiles(), {}, "measured"), Tape(), lambda: 7.0)

    link.client.request("engine_build", timeout_s=1800.0)
    link.client.request("clock", timeout_s=2.0)

    assert client.asked == [7.0, 2.0]
