"""Jobs of synthesis as verbs open them: one torch thread, progress, and the label of figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cli.options import announce_wait, load_device, owner
from hil.cli.terminal import err, say

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.synth.loop import Job
    from hil.synth.profile import Profile
    from hil.synth.progress import Watcher
    from hil.synth.store import RunStore


@contextmanager
def job_on(
    profile: Profile, config: DeviceConfig, store: RunStore, *, verb: str, wait_s: float = 0.0
) -> Iterator[Job]:
    """Open the device of a run and give its job, with the seed that the run was made with."""
    from hil.synth.opening import open_job

    if profile.task != "table":  # whose task needs no torch at all
        from hil.synth.workbench import use_one_thread

        use_one_thread()
    with (
        _watching() as watch,
        open_job(
            *(profile, config, store, int(store.meta["seed"]), watch),
            owner=owner(verb),
            wait_s=wait_s,
            on_wait=announce_wait,
        ) as job,
    ):
        _label(job)
        yield job


@contextmanager
def bench_job(device: str, profile: str, run: Path) -> Iterator[Job]:
    """The job of a benchmark, on a new journal or on the one that lies in the folder."""
    from hil.synth.profile import find_profile
    from hil.synth.store import DATABASE, RunStore

    config, found = load_device(device, None), find_profile(profile, cwd=Path.cwd())
    settings = {"seed": 0, "device": device, "profile": found.name}
    fresh = not (run / DATABASE).exists()
    with (
        RunStore.create(run, settings) if fresh else RunStore.open(run) as store,
        job_on(found, config, store, verb="bench") as job,
    ):
        yield job


def _label(job: Job) -> None:
    """Say at once where figures come from, unless they are measured."""
    session = job.session
    if session.provenance == "emulated":
        say(f"{session.name} is an EMULATED board: its figures come from a model")
    if session.provenance == "replayed":
        of = "an EMULATED board" if session.board.emulated else "a board"
        say(f"{session.name} is a REPLAYED device: its figures were recorded on {of} before")


@contextmanager
def _watching() -> Iterator[Watcher]:
    """Progress with time left on a terminal; a line a stage elsewhere."""
    from hil.cli.watching import Lines, bars

    if err.is_terminal:
        with bars(err) as watch:
            yield watch
    else:
        yield Lines()
