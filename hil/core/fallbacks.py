"""What `hil` does where a board is not as expected: the one list, worded here and nowhere else.

Rule of this file: pure. Boards and sessions tell facts; this names what follows from each of them:
why, what it costs, and what to do about it. `suspect` fallbacks make every result that rests on
them suspect; notes change no figure. Whatever falls back elsewhere has a row here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

SESSION = "session"
"""Key of the facts that a session adds to what the board told of itself."""
Facts = Mapping[str, Any]
WITHOUT_JOULES = ("no_joules", "unknown_rail")
"""Names of those after which no joules are told."""
WALL_CLOCK_OFF_S = 3600.0
WALL_CLOCK_STEP_S = 10.0


@dataclass(frozen=True)
class Fallback:
    """One thing done otherwise than planned.

    Attributes:
        name: for programs; stays the same over releases.
        reason: what was found.
        consequence: what it means for figures.
        next_step: what makes it go away.
        severity: whether results that rest on it are suspect.
    """

    name: str
    reason: str
    consequence: str
    next_step: str
    severity: Literal["note", "suspect"] = "note"

    @property
    def line(self) -> str:
        """The fallback as one reason of a result."""
        return f"{self.reason}: {self.consequence}"

    def to_json(self) -> dict[str, str]:
        """Return plain data, as results hold it."""
        return asdict(self)


def from_json(data: Mapping[str, str]) -> Fallback:
    """Read what `to_json` wrote."""
    return Fallback(**data)  # type: ignore[arg-type]


def of_run(board: Facts, engine: Facts, power: Facts | None = None) -> tuple[Fallback, ...]:
    """Return the fallbacks of one run.

    Args:
        board: what the board told of itself, the session's own facts under `session`.
        engine: the engine as evidence keeps it.
        power: settings of the source that figures are read on; None for a run without.
    """
    return (*of_board(board), *_of_engine(board, engine), *_of_power(board, power or {}))


def of_board(board: Facts) -> tuple[Fallback, ...]:
    """Return what is done otherwise on a board, whatever runs on it."""
    session = board.get(SESSION) or {}
    rows = (_runtime, _pinning, _libraries, _cores, _display, _clock, _reaching)
    return tuple(found for row in rows for found in row(board, session))


def _runtime(_board: Facts, session: Facts) -> Iterator[Fallback]:
    chosen = session.get("runtime") or {}
    over = chosen.get("passed_over") or ()
    if over:
        yield Fallback(
            "other_runtime",
            "; ".join(f"{each['name']} is not used: {each['why']}" for each in over),
            f"{chosen['used']} runs the exported network: latency and energy are those of this "
            f"runtime, not of {over[0]['name']}",
            "install what is missing into hil's own environment, or name the runtime in the device "
            "file (runtime.name)",
        )


def _pinning(_board: Facts, session: Facts) -> Iterator[Fallback]:
    for denied in session.get("denied") or ():
        yield Fallback(
            "unpinned",
            f"{denied['what']} ({denied['why']})" if denied.get("why") else denied["what"],
            "power mode and clocks are as found and could move during a run",
            denied.get("fix") or "run `hil doctor`: it prints the sudoers line to add",
            "suspect",
        )
    if session.get("found_pinned"):
        yield Fallback(
            "pinned_before",
            "the clocks were pinned before this session",
            "they stay pinned afterwards, and no other clocks are known to go back to",
            "whoever pinned them: sudo jetson_clocks --restore FILE, or reboot the board",
        )


def _libraries(board: Facts, _session: Facts) -> Iterator[Fallback]:
    for name, seen in sorted((board.get("import_deaths") or {}).items()):
        died = f"importing {name} on the board ends Python by {_signal(seen.get('plain'))}"
        if seen.get("coretype") == 0:
            yield Fallback(
                f"{name}_coretype",
                died,
                "it is imported with OPENBLAS_CORETYPE=ARMV8, which it survives; no figure changes",
                f"put OPENBLAS_CORETYPE=ARMV8 into /etc/environment there, or update {name}",
            )
        else:
            yield Fallback(
                f"without_{name}",
                f"{died}, with OPENBLAS_CORETYPE=ARMV8 too",
                f"the board is used without {name}",
                f"install a {name} that was built for this board",
            )


def _signal(status: Any) -> str:
    if not isinstance(status, int):
        return "a signal"
    known = {4: "illegal instruction", 6: "abort", 7: "bus error", 11: "segmentation fault"}
    number = -status
    return f"signal {number} ({known[number]})" if number in known else f"signal {number}"


def _cores(board: Facts, session: Facts) -> Iterator[Fallback]:
    if session.get("cores_online", board.get("cores_online")) == 1:
        yield Fallback(
            "one_core",
            "only one CPU core of the board is online",
            "inferences, the driver and the power source share it: latency and energy are those "
            "of a board in this state",
            "choose a power mode with more cores (sudo nvpmodel -m 0), if that is not meant",
        )


def _display(board: Facts, _session: Facts) -> Iterator[Fallback]:
    programs = board.get("display") or ()
    if programs:
        yield Fallback(
            "shared_gpu",
            f"a desktop runs on the board ({', '.join(programs)})",
            "it draws with the same GPU whenever it likes",
            "end it while measuring: sudo systemctl isolate multi-user.target",
            "suspect",
        )


def wall_clock_facts(off_s: float, off_before_s: float) -> dict[str, float]:
    """Return what a session tells of its board's wall clock: nothing where it is right.

    Rounded, so that what two runs of one board tell is the same.

    Args:
        off_s: how far it is ahead of ours now.
        off_before_s: how far it was when the session opened.
    """
    told = {}
    if abs(off_before_s) > WALL_CLOCK_OFF_S:
        told["wall_clock_off_s"] = 3600.0 * round(off_before_s / 3600.0)
    if abs(off_s - off_before_s) > WALL_CLOCK_STEP_S:
        told["wall_clock_stepped_s"] = 10.0 * round((off_s - off_before_s) / 10.0)
    return told


def _clock(_board: Facts, session: Facts) -> Iterator[Fallback]:
    step = "set the time on the board (timedatectl set-ntp true); no figure depends on it"
    off_s, stepped_s = session.get("wall_clock_off_s"), session.get("wall_clock_stepped_s")
    if off_s is not None:
        yield Fallback(
            "wall_clock",
            f"the board's wall clock is {_span(off_s)} {'ahead' if off_s > 0 else 'behind'}",
            "dates that the board writes are unreliable; figures use its monotonic clock alone",
            step,
        )
    if stepped_s is not None:
        yield Fallback(
            "wall_clock_stepped",
            f"the board's wall clock was set by {_span(stepped_s)} during the session",
            "dates that the board writes are unreliable; figures use its monotonic clock alone",
            step,
        )


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0)):
        if abs(seconds) >= 2 * length:
            return f"{abs(seconds) / length:.0f} {unit}"
    return f"{abs(seconds):.0f} s"


def _reaching(_board: Facts, session: Facts) -> Iterator[Fallback]:
    if session.get("files") == "agent":
        yield Fallback(
            "files_by_agent",
            f"the board opens no file channel beside the agent's ({session.get('files_why')})",
            "files travel over the agent's channel, checked by sha256; no figure changes",
            "enable `Subsystem sftp` and MaxSessions 10 in the board's /etc/ssh/sshd_config",
        )
    if session.get("home"):
        yield Fallback(
            "other_folder",
            f"the login's home cannot be written ({session.get('home_why')})",
            f"networks and engines are kept in {session['home']}, which a reboot may empty, and "
            "travel over the agent's channel, checked by sha256; no figure changes",
            "make the home folder writable",
        )
    if session.get("python"):
        yield Fallback(
            "other_python",
            f"the login's python3 {session['python_lacks']}"
            if session.get("python_lacks")
            else "the login's PATH on the board has no python3",
            f"{session['python']} runs the agent; no figure changes",
            f"set agent.python: {session['python']} in the device file",
        )


def _of_engine(board: Facts, engine: Facts) -> Iterator[Fallback]:
    if engine.get("via") == "libcudart":
        yield Fallback(
            "cuda_runtime",
            "the board has no PyCUDA",
            "memory and streams come from the CUDA runtime by ctypes; no figure changes",
            "nothing needs to be done",
        )
    if (engine.get("spec") or {}).get("runtime") == "trtexec":
        yield trtexec_engine(board)


def trtexec_engine(board: Facts) -> Fallback:
    """Return the fallback of a board whose TensorRT cannot be used from Python."""
    elsewhere = board.get("tensorrt_elsewhere")
    step = "sudo apt install python3-libnvinfer"
    if elsewhere:
        step = f"set agent.python: {elsewhere} in the device file, which has TensorRT"
    return Fallback(
        "trtexec_engine",
        (board.get(SESSION) or {}).get("trtexec_why")
        or "the board has trtexec and no TensorRT for its Python",
        "trtexec built and ran the engine: it tells no clock, so windows lie inside its load with "
        "generous edges; latency is its own, of the computation alone; it launches one inference "
        "while the one before computes, so a small network takes less time and energy an inference "
        "than one by one; there are no outputs, and nothing measured so is certified",
        step,
        "suspect",
    )


def _of_power(board: Facts, settings: Facts) -> Iterator[Fallback]:
    lost = settings.get("instead_of") or (board.get(SESSION) or {}).get("no_power")
    if not lost:
        return
    instead = lost.get("instead")
    if instead is None:
        yield no_power(str(lost["why"]))
    else:
        yield Fallback(
            "other_power_source",
            f"{lost['source']} cannot be used ({lost['why']})",
            f"power was read by {instead} from the board's own monitors (sysfs INA3221) instead",
            f"see what `{lost['source']}` says on the board, or set power.source: {instead}",
        )


def no_power(why: str) -> Fallback:
    """Return the fallback of a run whose joules are refused."""
    return Fallback(
        "no_joules",
        why,
        "latency is measured, joules are refused",
        "name a power source that works there in the device file (power.source)",
        "suspect",
    )


def unknown_rail(rail: str, rails: Sequence[str], source: str) -> Fallback:
    """Return the fallback of a run whose rail the board does not print."""
    if not rails:
        return Fallback(
            "no_joules",
            f"no line of {source} held any rail",
            "latency is measured, joules are refused",
            f"run {source} on the board by hand and see what it prints",
            "suspect",
        )
    total = next((name for name in ("VDD_IN", "POM_5V_IN") if name in rails), None)
    step = f"put `power: {{source: {source}, rail: {total or 'NAME'}}}` into the device file"
    if total is None:
        step += "; none of these rails is known to hold the whole module"
    return Fallback(
        "unknown_rail",
        f"the board has no rail {rail}; {source} prints {', '.join(rails)}",
        "latency is measured, joules are refused",
        step,
        "suspect",
    )
