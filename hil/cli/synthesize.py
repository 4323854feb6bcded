"""`hil synthesize`: networks that are proven to fit a budget on a board."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.jobs import job_on
from hil.cli.options import (
    DeviceOption,
    HostOption,
    JsonOption,
    WaitOption,
    load_device,
    seconds,
)
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError, InterruptedRunError, NothingFeasibleError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.synth.comparing import Attempt
    from hil.synth.loop import Outcome
    from hil.synth.profile import Profile
    from hil.synth.store import RunStore

RESULT = "result.json"
REPORT = "report.html"
GENERATOR = "generator.json"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("synthesize", help="Synthesize networks that fit an energy and latency budget.")(
        synthesize
    )


def synthesize(
    device: DeviceOption = "",
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile: a path, or a name in ./profiles.")
    ] = "digits.yaml",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: in ./runs).")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Also let other methods spend the same budget: evolution,tpe,..."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Synthesize networks that fit an energy and latency budget on a board."""
    started_s = time.monotonic()
    store, settings, config, job_profile = _open(
        resume, run, device, host, profile, seed, _methods(compare)
    )
    with store:
        try:
            outcome, attempts = _work(store, settings, config, job_profile, seconds(wait))
            result = _write(outcome, time.monotonic() - started_s, attempts)
        except (InterruptedRunError, KeyboardInterrupt) as error:
            raise InterruptedRunError(
                "interrupted; everything finished so far is kept",
                fix=f"continue with: hil synthesize --resume {store.path}",
            ) from error
    if as_json:
        print_json(result)
    else:
        _show(result, store.path)
    if not result["certified"]:
        raise NothingFeasibleError(
            "no network met every requirement",
            why=_nearest(result),
            fix="loosen the limit that is named, or search longer (budget.measurements)",
        )


def _open(
    resume: Path | None,
    run: Path | None,
    device: str,
    host: str | None,
    profile: str,
    seed: int,
    compare: tuple[str, ...],
) -> tuple[RunStore, Mapping[str, Any], DeviceConfig, Profile]:
    from hil.synth.profile import PROFILE_FOLDER, find_profile, load_run_profile
    from hil.synth.store import RunStore

    if resume is not None:
        store = RunStore.open(resume)
        settings = store.meta
        if device and device != settings["device"]:
            store.close()
            raise ConfigError(
                f"the run at {resume} was measured on {settings['device']}, not on {device}",
                why="figures of two boards cannot be mixed in one run",
                fix="leave --device out, or start a new run",
            )
        if compare and list(compare) != settings.get("compare", []):
            store.close()
            raise ConfigError(
                f"the run at {resume} compares other methods",
                why=f"it was started with: {', '.join(settings.get('compare', [])) or 'none'}",
                fix="leave --compare out, or start a new run",
            )
        return (
            store,
            settings,
            load_device(settings["device"], host),
            load_run_profile(resume, settings),
        )
    if not device:
        raise ConfigError(
            "no device given", fix="add --device tx2-emulated.yaml, or your own board's file"
        )
    from hil.core.names import resolve

    config = load_device(device, host)
    job_profile = find_profile(profile, cwd=Path.cwd())
    named = {"compare": list(compare)} if compare else {}
    source = resolve(profile, "profiles", cwd=Path.cwd())
    place = {PROFILE_FOLDER: str(source.parent.resolve())}
    settings = {"seed": seed, "device": device, "profile": job_profile.name, **place, **named}
    store = RunStore.create(run or _fresh_folder(job_profile.name), settings)
    (store.path / "profile.yaml").write_bytes(source.read_bytes())
    return store, settings, config, job_profile


def _methods(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    from hil.synth.comparing import named_methods

    return named_methods(text)


def _fresh_folder(name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{stamp}"


def _work(
    store: RunStore,
    settings: Mapping[str, Any],
    config: DeviceConfig,
    profile: Profile,
    wait_s: float,
) -> tuple[Outcome, tuple[Attempt, ...]]:
    from hil.synth.comparing import compare
    from hil.synth.loop import synthesize

    say(f"run folder: {store.path}")
    with job_on(profile, config, store, verb="synthesize", wait_s=wait_s) as job:
        outcome = synthesize(job)
        names = settings.get("compare", ())
        return outcome, compare(job, outcome.start, outcome.candidates, names)


def _write(outcome: Outcome, wall_s: float, attempts: tuple[Attempt, ...]) -> dict[str, Any]:
    """Write the run's results beside its journal; return the final object."""
    from hil.cli.artifacts import write_networks, write_report
    from hil.synth.results import result_json, search_rows

    folder = outcome.job.store.path
    result = result_json(outcome, str(folder), wall_s, attempts)
    rows = search_rows(outcome)
    text = json.dumps({"result": result, "search": rows}, indent=1)
    (folder / RESULT).write_text(text, encoding="utf-8")
    (folder / GENERATOR).write_bytes(outcome.job.store.blob(result["generator"]["sha256"]))
    write_networks(outcome.job.store, result, folder / "networks")
    write_report(outcome.job.store, result, rows, folder / REPORT)
    return result


def _show(result: Mapping[str, Any], folder: Path) -> None:
    from hil.cli.tables import methods_table, networks_table

    out.print(networks_table(result))
    if result["compare"] is not None:
        out.print(methods_table(result))
        say(result["compare"]["statement"])
    for line in closing_lines(result):
        say(line)
    for note in result["notes"]:
        say(f"note: {note}")
    say(f"folder: {folder} (report.html, networks/, generator.json, result.json)")


def closing_lines(result: Mapping[str, Any]) -> list[str]:
    """What the table means, in sentences."""
    from hil.report.plausible import headline, over_boards

    cost, generator = result["cost"], result["generator"]
    passed = cost.get("passed_over_after_glance")
    lines = [
        f"{cost['measurements']} networks measured, {cost['trainings']} trained; the board refused "
        f"{cost['refused_before_training']} before any training was spent on them"
        + (f"; {passed} more fit and promised too little to be trained" if passed else ""),
        f"the learned generator makes {generator['distinct']} different networks of "
        f"{generator['seeds']} fresh seeds, {generator['never_proposed']} of them never proposed "
        f"before; it refuses {generator['refused']} seeds",
    ]
    if result["certified"] and result["baselines"]:
        best, uniform = result["certified"][0], result["baselines"][0]
        share = best["inferences_per_joule"] / uniform["inferences_per_joule"]
        words = f"{share:.2f}x the inferences per joule of uniform width scaling"
        sure = over_boards(result, best, "predicted_ratio_to_baseline")
        label = "" if result["provenance"] == "measured" else f"{result['provenance'].upper()}: "
        lines.insert(0, f"{label}{words} ({sure})" if sure else f"{label}{words}")
    elif result["certified"]:
        lines.insert(
            0,
            f"{result.get('baselines_reason') or 'nothing was scaled uniformly'}, so at equal "
            "accuracy the ratio against it is the one against the prototype",
        )
    refused = [
        f"{entry['name']} {receipt['text']}"
        for entry in result["not_certified"]
        for receipt in entry.get("receipts", ())
    ]
    first = headline(result)
    return [*([first] if first else []), *refused, *lines]


def _nearest(result: Mapping[str, Any]) -> str:
    nearest = result["least_violating"]
    if nearest is None:
        refused = [
            f"{e['name']} {r['text']}"
            for e in result["not_certified"]
            for r in e.get("receipts", ())
        ]
        if refused:
            return "; ".join(refused)
        return "none of the finalists could be confirmed; see the table"
    parts = [
        f"{r['metric']} {r['value']:.4g} against {r['limit']:.4g}"
        for r in nearest["receipts"]
        if r["excess"] > 0
    ]
    return f"the least violating one has {', '.join(parts) or 'no confirmed figures'}"
