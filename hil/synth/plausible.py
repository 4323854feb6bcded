"""How sure an emulated board's figures are: intervals, and shares, over plausible boards.

Rule of this file: it forms figures of draws that the board's session gives; it models nothing. A
row of the draws is one plausible board, so networks are compared on the same board, row by row.

The draws are of a typical inference, without timing noise. A p99 latency is the drawn latency
times the network's own tail, p99 over p50 as measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.device.session import PlausibleDraws
from hil.synth.boardwork import Figures, Model
from hil.synth.candidates import Candidate
from hil.synth.demands import Requirements
from hil.synth.records import FloatArray
from hil.synth.requirements import Requirement
from hil.synth.work import Board

SHARE = "plausible_share"
METRICS = ("energy_mj", "latency_p50_ms", "latency_p99_ms")
"""What is drawn, in the names that requirements use."""

REAL = "the board itself was measured: no model of it stands in between"
UNTOLD = "the emulated board does not say how sure its model is"
NOTHING_DRAWN = "no energy or latency is limited"


@dataclass(frozen=True)
class Plausible:
    """Joint draws for several networks of a run.

    Attributes:
        keys: the networks, by column.
        draws: as the session gave them.
    """

    keys: tuple[str, ...]
    draws: PlausibleDraws

    def figures(self, metric: str, key: str, tail: float | None) -> FloatArray | None:
        """A network's figure on every plausible board; None where its tail is needed and unknown.

        Args:
            metric: one of `METRICS`.
            key: the network.
            tail: its p99 over p50 latency.
        """
        column = self.keys.index(key)
        if metric == "energy_mj":
            return self.draws.energy_mj[:, column]
        latency_ms = self.draws.latency_ms[:, column]
        if metric == "latency_p50_ms":
            return latency_ms
        return None if tail is None else latency_ms * tail


@dataclass(frozen=True)
class Doubt:
    """What is known of how sure figures are: draws, or why there are none."""

    plausible: Plausible | None
    reason: str | None


@dataclass(frozen=True)
class Entrant:
    """A network as the draws take it: its column and its measured tail (p99 over p50)."""

    key: str
    tail: float | None


def ask(board: Board, networks: Sequence[tuple[str, Callable[[], Model]]]) -> Doubt:
    """Ask the board for joint draws, once for the same networks in a run.

    Args:
        board: the run's board.
        networks: key in the journal and file of each; files are made only where needed.
    """
    if board.session.provenance == "replayed" and board.session.board.emulated:
        return Doubt(None, UNTOLD)
    if board.session.provenance != "emulated":
        return Doubt(None, REAL)
    unique = dict(networks)
    keys = tuple(unique)
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()
    step = board.store.step("plausible", name, lambda: _drawn(board, keys, unique))
    if step["draws"] is None:
        return Doubt(None, UNTOLD)
    draws = _from_json(board.store.json_blob(step["draws"]))
    if board.rail != draws.rail:
        return Doubt(None, f"energy is read on {board.rail}, the draws are of {draws.rail}")
    return Doubt(Plausible(keys, draws), None)


def _drawn(
    board: Board, keys: Sequence[str], networks: Mapping[str, Callable[[], Model]]
) -> dict[str, Any]:
    draws = board.plausible([networks[key] for key in keys])
    if draws is None:
        return {"draws": None}
    fields = {
        "keys": list(keys),
        "board": draws.board,
        "boards": draws.boards,
        "rail": draws.rail,
        "energy_mj": draws.energy_mj.tolist(),
        "latency_ms": draws.latency_ms.tolist(),
    }
    return {"draws": board.store.put_json(fields)}


def _from_json(data: Mapping[str, Any]) -> PlausibleDraws:
    energy_mj, latency_ms = (np.array(data[name]) for name in ("energy_mj", "latency_ms"))
    return PlausibleDraws(data["board"], data["boards"], data["rail"], energy_mj, latency_ms)


def tail_of(builds: Sequence[Figures]) -> float | None:
    """A network's p99 over its p50 latency, over all builds measured; None where unknown."""
    pairs = [(f.estimate("latency_p99_ms"), f.estimate("latency_p50_ms")) for f in builds]
    known = [p99.value / p50.value for p99, p50 in pairs if p99 is not None and p50 is not None]
    return float(np.mean(known)) if known else None


def share(
    plausible: Plausible,
    requirements: Sequence[Requirement],
    network: Entrant,
    prototype: Entrant,
) -> float | None:
    """The share of plausible boards on which a network keeps its energy and latency limits.

    A limit relative to the prototype is one to the prototype's figure on the same plausible board.
    Memory and accuracy are the same on all of them; other power modes are not drawn. None where no
    energy or latency is limited, or a p99 latency is whose tail was not measured.
    """
    kept: NDArray[np.bool_] | None = None
    for requirement in requirements:
        if requirement.metric not in METRICS or requirement.mode is not None:
            continue
        figure = plausible.figures(requirement.metric, network.key, network.tail)
        base: FloatArray | None = np.ones(1)
        if requirement.limit.relative:
            base = plausible.figures(requirement.metric, prototype.key, prototype.tail)
        if figure is None or base is None:
            return None
        good = np.asarray(figure <= requirement.limit.amount * base)
        kept = good if kept is None else kept & good
    return None if kept is None else float(np.mean(kept))


def likely(
    board: Board, requirements: Requirements, candidates: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """The candidates that fit on the demanded share of plausible boards; all, where none does.

    Fresh builds are not spent on networks that would be refused in the end. Where all would be,
    the best of them are confirmed, so that the run ends with figures and with what refused them.

    Args:
        board: the run's board.
        requirements: all demands of the profile.
        candidates: every network measured, the prototype first.
    """
    demanded = requirements.least_share
    reference, *searched = candidates
    good = [c for c in searched if c.verdict == "feasible" and c.trained is not None]
    if demanded is None or not good:
        return tuple(searched)
    asked = (reference, *good)
    files = [c.figures[0] for c in asked]
    # One file may be measured in two precisions: those are two engines.
    keys = [f"{f.onnx_sha256}:{f.engine.get('precision')}" for f in files]
    models = [partial(f.model, board.store) for f in files]
    doubt = ask(board, list(zip(keys, models, strict=True)))
    if doubt.plausible is None:
        return tuple(searched)
    entrants = [Entrant(k, tail_of(c.figures)) for k, c in zip(keys, asked, strict=True)]
    kept = []
    for candidate, entrant in zip(good, entrants[1:], strict=True):
        found = share(doubt.plausible, requirements.all(), entrant, entrants[0])
        if found is not None and found >= demanded:
            kept.append(candidate)
    return tuple(kept or searched)


def percentiles(values: FloatArray | None) -> dict[str, float] | None:
    """5th, 50th and 95th percentile."""
    if values is None:
        return None
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    return {"p5": low, "p50": middle, "p95": high}


def predicted(plausible: Plausible, network: Entrant) -> dict[str, dict[str, float] | None]:
    """Each figure of a network over plausible boards."""
    drawn = {m: plausible.figures(m, network.key, network.tail) for m in METRICS}
    energy_mj = drawn["energy_mj"]
    assert energy_mj is not None
    shown = {metric: percentiles(values) for metric, values in drawn.items()}
    return {**shown, "inferences_per_joule": percentiles(1e3 / energy_mj)}


def predicted_ratio(
    plausible: Plausible, network: Entrant, other: Entrant
) -> dict[str, dict[str, float] | None]:
    """A network's figure over another's on the same plausible board, as intervals over boards.

    The metrics, and which way the ratio goes, are those of the `_ratio` fields of a result.
    """
    ratios: dict[str, FloatArray | None] = {}
    for metric in METRICS:
        own = plausible.figures(metric, network.key, network.tail)
        base = plausible.figures(metric, other.key, other.tail)
        ratios[metric] = None if own is None or base is None else own / base
    energy = ratios.pop("energy_mj")
    assert energy is not None
    return {
        "inferences_per_joule": percentiles(1.0 / energy),
        **{metric: percentiles(values) for metric, values in ratios.items()},
    }


def refusal(demanded: float, found: float | None, doubt: Doubt) -> dict[str, Any] | None:
    """The receipt of a finalist that fits on too few plausible boards; None where it fits.

    A share that cannot be told refuses, too, except on a real board, of which nothing is in doubt.
    """
    if doubt.reason == REAL or (found is not None and found >= demanded):
        return None
    wanted = f"at least {100 * demanded:.4g} % are demanded"
    if found is None:
        text = f"refused: on what share of plausible boards it fits is unknown, {wanted}"
        text += f" ({doubt.reason or NOTHING_DRAWN})"
    else:
        assert doubt.plausible is not None
        name = doubt.plausible.draws.board.upper()
        text = f"refused: it keeps the energy and latency limits on {100 * found:.3g} % of the "
        text += f"plausible {name}s, {wanted}"
    return {
        "metric": SHARE,
        "limit": demanded,
        "value": found,
        "measured": False,
        "excess": None if found is None else demanded - found,
        "contributions": [],
        "text": text,
    }
