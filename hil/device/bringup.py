"""First contact with a board: stages that each stand alone, within a budget of board time.

Rule of this file: a stage that fails costs only itself; time is the board's own, asked over the
link, so that a tape of a contact gives the same report as the contact did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hil.core.errors import HilError, InterruptedRunError, ProtocolError, Told
from hil.device.assumptions import Assumption, settled_by
from hil.device.config import DeviceConfig
from hil.device.link import Link
from hil.device.tape import Tape

Status = Literal["ok", "differs", "failed", "skipped"]
Verdict = Literal["holds", "differs", "unknown"]
LONGEST_S = 600.0
GRACE_S = 60.0
"""Wall time that a request may take beyond what is left, so that the board answers for itself."""


class SkipStageError(HilError):
    """A stage that cannot be run for want of something that an earlier one found."""


@dataclass(frozen=True)
class Lengths:
    """How long stages watch the board, in seconds of its time."""

    watch_s: float = 4.0
    periods_ms: tuple[int, ...] = (20, 50, 100, 1000)
    idle_s: float = 20.0
    steps: int = 4
    window_s: float = 2.5
    windows: int = 5
    rounds: int = 4
    build_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a stage found about one assumption."""

    id: str
    verdict: Verdict
    measured: str


@dataclass(frozen=True)
class Outcome:
    """What a stage found.

    Attributes:
        status: ok, or differs where something is not as assumed or as it should be.
        summary: one line.
        next_step: what to do; None exactly where the status is ok.
        findings: about assumptions, each at most once.
        facts: JSON data, kept in the report.
        proposed: fields of the device file that this stage knows better, by dotted name.
    """

    status: Status
    summary: str
    next_step: str | None = None
    findings: tuple[Found, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    proposed: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Contact:
    """A board while it is being met.

    Attributes:
        memory: what stages leave for later ones.
        limit_s: board time for all stages.
    """

    device: DeviceConfig
    link: Link
    lengths: Lengths = field(default_factory=Lengths)
    limit_s: float = LONGEST_S
    owner: str = "hil bringup"
    memory: dict[str, Any] = field(default_factory=dict)
    started_s: float | None = None
    left_s: float = LONGEST_S

    def now_s(self) -> float:
        """Return the board's time.

        Raises:
            HilError: the link is lost.
        """
        return int(self.link.client.request("clock")["t_ns"]) / 1e9

    def look_at_clock(self) -> float:
        """Return the board's time, and note what is left."""
        now_s = self.now_s()
        if self.started_s is None:
            self.started_s = now_s
        self.left_s = self.limit_s - (now_s - self.started_s)
        return now_s

    def recall(self, name: str, what: str) -> Any:
        """Return what an earlier stage left.

        Raises:
            SkipStageError: it left nothing.
        """
        if name not in self.memory:
            raise SkipStageError(f"it needs {what}", fix="mend the stage that should have found it")
        return self.memory[name]


@dataclass(frozen=True)
class Stage:
    """One stage: what it is called, how long it takes the board, and what it does."""

    name: str
    takes_s: float
    run: Callable[[Contact], Outcome]


@dataclass(frozen=True)
class Result:
    """A stage that is over."""

    stage: str
    outcome: Outcome
    board_s: float | None = None


def run_stages(
    contact: Contact,
    stages: Sequence[Stage],
    tape: Tape,
    *,
    on_result: Callable[[Result], None] = lambda _result: None,
    on_start: Callable[[Stage], None] = lambda _stage: None,
    ended_in: str | None = None,
) -> tuple[list[Result], str | None]:
    """Run every stage, whatever becomes of the others.

    Args:
        contact: the board.
        stages: in order.
        tape: told which stage is under way.
        on_result: told each result as it comes.
        on_start: told each stage that is begun.
        ended_in: in a replay, the stage in which the recorded contact was interrupted.

    Returns:
        A result for each stage, and the stage in which a person interrupted, if any.
    """
    results: list[Result] = []
    over: Outcome | None = None
    interrupted: str | None = None
    for stage in stages:
        tape.stage = stage.name
        if over is not None:
            result = Result(stage.name, over)
        else:
            on_start(stage)
            result, over = _one(contact, stage, stage.name == ended_in)
            if over is _STOPPED:
                interrupted = stage.name
        results.append(result)
        on_result(result)
    return results, interrupted


_STOPPED = Outcome("skipped", "interrupted before it began", "run hil bringup again")
_LOST = Outcome(
    "skipped", "the link to the board is lost", "check its power and network, then run it again"
)


def _one(contact: Contact, stage: Stage, ended: bool) -> tuple[Result, Outcome | None]:
    """Run a stage; also return what becomes of all later ones, None where they go on."""
    try:
        began_s = contact.look_at_clock()
        outcome = _late(contact, stage) or _tried(contact, stage)
        if ended:
            raise InterruptedRunError("interrupted")
        took_s = contact.look_at_clock() - began_s
    except InterruptedRunError:
        told = Outcome("failed", "interrupted by a person", "run hil bringup again")
        return Result(stage.name, told), _STOPPED
    except HilError as error:  # the clock cannot be asked: nobody is there any more
        outcome = _after_loss(stage, error)
        return Result(stage.name, outcome), _LOST
    return Result(stage.name, outcome, took_s), None


def _after_loss(stage: Stage, error: HilError) -> Outcome:
    told = _told(error)
    return Outcome(
        "failed",
        f"the link was lost: {told}",
        error.fix or _LOST.next_step,
        unknown(stage.name, "the link was lost"),
    )


def _late(contact: Contact, stage: Stage) -> Outcome | None:
    if stage.takes_s <= contact.left_s:
        return None
    why = f"it takes about {stage.takes_s:.0f} s and {max(0.0, contact.left_s):.0f} s are left"
    step = "run it again with a longer --max-time"
    return Outcome("skipped", why, step, unknown(stage.name, "not reached in time"))


def _tried(contact: Contact, stage: Stage) -> Outcome:
    try:
        return _complete(stage.name, stage.run(contact))
    except SkipStageError as error:
        return Outcome("skipped", error.what, error.fix, unknown(stage.name, error.what))
    except HilError as error:
        step = error.fix or "run `hil doctor`; if it stays, report it with the archive"
        if isinstance(error, ProtocolError):
            step = "this is a fault of hil: report it with the archive"
        told = _told(error)
        return Outcome("failed", told, step, unknown(stage.name, "the stage failed"))
    except Exception as error:  # noqa: BLE001 - a fault of one stage must not cost the others
        told = f"a fault of hil: {type(error).__name__}: {error}"
        step = "report it with the archive"
        return Outcome("failed", told, step, unknown(stage.name, "the stage failed"))


def _told(error: Told) -> str:
    return error.what if error.why is None else f"{error.what} ({error.why})"


def _complete(stage: str, outcome: Outcome) -> Outcome:
    """Name every assumption that the stage should have settled and did not."""
    seen = {found.id for found in outcome.findings}
    missing = [one for one in settled_by(stage) if one.id not in seen]
    if not missing:
        return outcome
    rest = tuple(Found(one.id, "unknown", "the board did not tell") for one in missing)
    return Outcome(
        outcome.status,
        outcome.summary,
        outcome.next_step,
        (*outcome.findings, *rest),
        outcome.facts,
        outcome.proposed,
    )


def unknown(stage: str, why: str) -> tuple[Found, ...]:
    """Return that nothing is known of what a stage should have settled."""
    return tuple(Found(one.id, "unknown", why) for one in settled_by(stage))


def judged(
    summary: str,
    findings: Sequence[Found],
    facts: Mapping[str, Any],
    next_step: str,
    proposed: Mapping[str, Any] | None = None,
    *,
    fine: bool = True,
) -> Outcome:
    """Return ok where all findings hold and all is fine, else differs with its next step."""
    good = fine and all(found.verdict != "differs" for found in findings)
    return Outcome(
        "ok" if good else "differs",
        summary,
        None if good else next_step,
        tuple(findings),
        facts,
        proposed or {},
    )


def held(id_: str, holds: bool | None, measured: str) -> Found:
    """Return a finding; None is a thing that the board does not tell."""
    return Found(id_, "unknown" if holds is None else "holds" if holds else "differs", measured)


def verdict_rows(
    results: Sequence[Result], assumptions: Sequence[Assumption]
) -> list[dict[str, Any]]:
    """Return every assumption with what was measured and what follows from it."""
    found = {one.id: one for result in results for one in result.outcome.findings}
    rows = []
    for one in assumptions:
        known = found.get(one.id) or Found(one.id, "unknown", one.settled_else or "not reached")
        follows = {"holds": "none", "differs": one.consequence}.get(
            known.verdict, f"still assumed; if wrong: {one.consequence}"
        )
        rows.append(
            {
                "id": one.id,
                "stage": one.stage,
                "assumed": one.statement,
                "measured": known.measured,
                "verdict": known.verdict,
                "consequence": follows,
            }
        )
    return rows
