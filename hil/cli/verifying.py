"""A bundle's claim on a board again: its network against its prototype, as its profile says.

Rule of this file: the test is the one that certified the network (`hil.synth.confirmation`), with
all of alpha for this one network and figures of today's builds alone.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil import bundle_checker
from hil.cli.bundling import folder_of
from hil.core.errors import ConfigError, LimitViolatedError, MeasurementError

if TYPE_CHECKING:
    from hil.core.evidence import RunPlan
    from hil.device.config import DeviceConfig
    from hil.device.session import Session
    from hil.synth.boardwork import BoardWork, Figures
    from hil.synth.certificate import Plan, Ruling
    from hil.synth.confirmation import Need
    from hil.synth.profile import Profile
    from hil.synth.store import RunStore


@dataclass(frozen=True)
class Claim:
    """One network of a bundle, and what it was certified against.

    Attributes:
        entry: of the network in the bundle's result; `prototype` likewise.
        onnx: file of the network and of the prototype, by name.
    """

    result: Mapping[str, Any]
    profile: Profile
    entry: Mapping[str, Any]
    onnx: Mapping[str, bytes]

    @property
    def prototype(self) -> Mapping[str, Any]:
        """The prototype's entry."""
        return dict(self.result["prototype"])


def read_claim(bundle: Path, network: str | None) -> Claim:
    """Read a network's claim from a bundle that does not contradict itself.

    Args:
        bundle: the file.
        network: name of a certified network; None is the first.

    Raises:
        ConfigError: it is no bundle, or has no such certified network.
        LimitViolatedError: the checker finds that something in it differs.
    """
    claims, files = bundle_checker.Claims(), dict[str, bytes]()
    try:
        files = bundle_checker.read_bundle(str(bundle))
        bundle_checker.check(claims, files)
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise ConfigError(
            f"{bundle} is no bundle", why=str(error), fix="name a file that `hil bundle` wrote"
        ) from error
    except bundle_checker.BROKEN as error:
        claims.say(False, "it can be read to its end", repr(error))
    wrong = [claim for word, claim, _ in claims if word == bundle_checker.BAD]
    if wrong:
        raise LimitViolatedError(
            f"{bundle} contradicts itself, so there is no claim to measure again",
            why="; ".join(wrong[:3]),
            fix=f"see all of it: python3 {bundle_checker.__file__} {bundle}",
        )
    result = json.loads(files["result.json"])
    found = [e for e in result["certified"] if network in (None, e["name"])]
    if not found:
        names = ", ".join(e["name"] for e in result["certified"]) or "none"
        raise ConfigError(
            f"the bundle has no certified network {network or ''}".rstrip(),
            why=f"certified are: {names}",
        )
    onnx = {
        entry["name"]: files[f"networks/{folder_of(entry)}/network.onnx"]
        for entry in (result["prototype"], found[0])
    }
    return Claim(result, _profile(files["profile.json"]), found[0], onnx)


def measured_again(
    claim: Claim, config: DeviceConfig, session: Session, store: RunStore, seed: int
) -> Ruling:
    """Build and measure network and prototype by turns until the claim is decided.

    Raises:
        ConfigError: joules of another rail would be compared.
        MeasurementError: a build could not be measured.
    """
    from hil.device.session import EngineSpec
    from hil.synth.boardwork import BoardWork
    from hil.synth.confirmation import Confirmation

    claim = replace(claim, profile=claim.profile.on_modes(config.state.modes))
    plan = claim.profile.confirmation_plan(session.provenance)
    plan = replace(plan, requirements=plan.costs, finalists=1, confidence=None)
    _require_rail(claim, plan.costs, config.power.rail)
    spec = EngineSpec(
        onnx_sha256="",
        precision=claim.profile.precision,
        runtime=config.runtime.name,
        workspace_mib=config.runtime.workspace_mib,
        cuda_graph=config.runtime.cuda_graph,
    )
    board = BoardWork(session, store, seed, spec, config.power.source, config.power.rail)
    windows = claim.profile.measure.confirmation.plan(config.power.interval_ms)
    confirmation = Confirmation(plan, (claim.entry["name"],))
    while needs := confirmation.needs_more():
        for need in needs:
            figures = _figures(claim, plan, board, windows, need)
            confirmation.add_figures(need.network, need.build, figures)
    return confirmation.ruling(claim.entry["name"])


def _figures(
    claim: Claim, plan: Plan, board: BoardWork, windows: RunPlan, need: Need
) -> dict[str, float]:
    """Measure one fresh build in every power mode that is asked for; by `Requirement.key`."""
    from hil.synth.boardwork import Model
    from hil.synth.requirements import EXACT

    name = need.network
    entry = claim.entry if name == claim.entry["name"] else claim.prototype
    there: dict[int | None, Figures] = {}
    for mode in (None, *claim.profile.requirements.modes()):
        figures = board.measure(
            name,
            lambda: Model(claim.onnx[name], entry.get("precision")),
            windows,
            stage="confirm",
            build=need.build,
            mode=mode,
            same_engine=claim.profile.scope == "engine",
        )
        if not figures.usable:
            raise MeasurementError(
                f"fresh build {need.build} of {name} could not be measured",
                why=figures.refused or "; ".join(figures.result["reasons"]),
                fix="run `hil doctor` on the device, then verify again",
            )
        there[mode] = figures
    values: dict[str, float] = {}
    for requirement in plan.costs:
        if requirement.metric in EXACT:
            values[requirement.key] = float(entry[requirement.metric])
            continue
        assert not isinstance(requirement.mode, str)
        known = there[requirement.mode].estimate(requirement.metric)
        if known is None:
            raise MeasurementError(
                f"a build gave no figure of {requirement.key}",
                why=str(there[requirement.mode].result.get(f"{requirement.metric}_reason")),
                fix="see the traces in the folder of raw traces with `hil rescore`",
            )
        values[requirement.key] = known.value
    return values


def _require_rail(claim: Claim, costs: tuple[Any, ...], rail: str | None) -> None:
    from hil.synth.requirements import ON_RAIL

    if rail != claim.result["rail"] and any(r.metric in ON_RAIL for r in costs):
        raise ConfigError(
            f"the bundle's joules are of rail {claim.result['rail']}, the device's of {rail}",
            why="two rails feed different parts of a board, so their joules say nothing of each "
            "other",
            fix="set power.rail in the device file, or verify on a board that has the rail",
        )


def _profile(data: bytes) -> Profile:
    from hil.synth.profile import load_profile

    with tempfile.TemporaryDirectory() as folder:
        # YAML holds all of JSON, so a bundle's profile is read as every other one.
        path = Path(folder) / "profile.yaml"
        path.write_bytes(data)
        return load_profile(path)
