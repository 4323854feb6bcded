"""`hil synthesize`: networks that are proven to fit a budget on a board."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import (
    DeviceOption,
    HostOption,
    JsonOption,
    WaitOption,
    announce_wait,
    load_device,
    owner,
    seconds,
)
from hil.cli.terminal import err, out, print_json, say
from hil.core.errors import ConfigError, InterruptedRunError, NothingFeasibleError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.device.session import Session
    from hil.synth.loop import Job, Outcome
    from hil.synth.profile import Profile
    from hil.synth.progress import Watcher
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
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Synthesize networks that fit an energy and latency budget on a board."""
    started_s = time.monotonic()
    store, settings, config, job_profile = _open(resume, run, device, host, profile, seed)
    with store:
        try:
            outcome = _work(store, settings, config, job_profile, seconds(wait))
            result = _write(outcome, time.monotonic() - started_s)
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
) -> tuple[RunStore, Mapping[str, Any], DeviceConfig, Profile]:
    from hil.synth.profile import find_profile, load_profile
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
        return (
            store,
            settings,
            load_device(settings["device"], host),
            load_profile(resume / "profile.yaml"),
        )
    if not device:
        raise ConfigError(
            "no device given", fix="add --device tx2-emulated.yaml, or your own board's file"
        )
    from hil.core.names import resolve

    config = load_device(device, host)
    job_profile = find_profile(profile, cwd=Path.cwd())
    settings = {"seed": seed, "device": device, "profile": job_profile.name}
    store = RunStore.create(run or _fresh_folder(job_profile.name), settings)
    source = resolve(profile, "profiles", cwd=Path.cwd())
    (store.path / "profile.yaml").write_bytes(source.read_bytes())
    return store, settings, config, job_profile


def _fresh_folder(name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{stamp}"


def _work(
    store: RunStore,
    settings: Mapping[str, Any],
    config: DeviceConfig,
    profile: Profile,
    wait_s: float,
) -> Outcome:
    from hil.device.opening import open_session
    from hil.synth.loop import synthesize
    from hil.synth.workbench import use_one_thread

    use_one_thread()
    say(f"run folder: {store.path}")
    session_of = open_session(
        config, owner=owner("synthesize"), wait_s=wait_s, on_wait=announce_wait
    )
    with session_of as session, watching() as watch:
        if session.provenance == "emulated":
            say(f"{session.name} is an EMULATED board: its figures come from a model")
        seed = int(settings["seed"])
        return synthesize(job_of(profile, seed, store, session, watch, config))


def job_of(
    profile: Profile,
    seed: int,
    store: RunStore,
    session: Session,
    watch: Watcher,
    config: DeviceConfig,
) -> Job:
    """What a synthesis is given, from a profile and a device file."""
    from hil.synth.loop import Job

    return Job(
        profile=profile.on_modes(config.state.modes),
        seed=seed,
        store=store,
        session=session,
        watch=watch,
        runtime=config.runtime.name,
        workspace_mib=config.runtime.workspace_mib,
        cuda_graph=config.runtime.cuda_graph,
        power=config.power.source,
        rail=config.power.rail,
        interval_ms=config.power.interval_ms,
        opset=config.runtime.opset,
    )


@contextmanager
def watching() -> Iterator[Watcher]:
    """Progress with time left on a terminal; a line a stage elsewhere."""
    from hil.cli.watching import Lines, bars

    if err.is_terminal:
        with bars(err) as watch:
            yield watch
    else:
        yield Lines()


def _write(outcome: Outcome, wall_s: float) -> dict[str, Any]:
    """Write the run's results beside its journal; return the final object."""
    from hil.cli.artifacts import write_networks, write_report
    from hil.synth.results import result_json, search_rows

    folder = outcome.job.store.path
    result = result_json(outcome, str(folder), wall_s)
    rows = search_rows(outcome)
    text = json.dumps({"result": result, "search": rows}, indent=1)
    (folder / RESULT).write_text(text, encoding="utf-8")
    (folder / GENERATOR).write_bytes(outcome.job.store.blob(result["generator"]["sha256"]))
    write_networks(outcome.job.store, result, folder / "networks")
    write_report(outcome.job.store, result, rows, folder / REPORT)
    return result


def _show(result: Mapping[str, Any], folder: Path) -> None:
    from hil.cli.tables import networks_table

    out.print(networks_table(result))
    for line in closing_lines(result):
        say(line)
    say(f"folder: {folder} (report.html, networks/, generator.json, result.json)")


def closing_lines(result: Mapping[str, Any]) -> list[str]:
    """What the table means, in sentences."""
    from hil.report.plausible import headline, over_boards

    cost, generator = result["cost"], result["generator"]
    lines = [
        f"{cost['measurements']} networks measured, {cost['trainings']} trained; the board refused "
        f"{cost['refused_before_training']} before any training was spent on them",
        f"the learned generator makes {generator['distinct']} different networks of "
        f"{generator['seeds']} fresh seeds, {generator['never_proposed']} of them never proposed "
        f"before; it refuses {generator['refused']} seeds",
    ]
    if result["certified"] and result["baselines"]:
        best, uniform = result["certified"][0], result["baselines"][0]
        share = best["inferences_per_joule"] / uniform["inferences_per_joule"]
        words = f"{share:.2f}x the inferences per joule of uniform width scaling"
        sure = over_boards(result, best, "predicted_ratio_to_baseline")
        lines.insert(0, f"EMULATED: {words} ({sure})" if sure else words)
    elif result["certified"]:
        lines.insert(
            0,
            "no uniform width scaling that was tried keeps the accuracy demanded, so at equal "
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
