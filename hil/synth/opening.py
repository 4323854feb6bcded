"""A job from its profile and its device: which bench, which board."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hil.core.errors import ConfigError
from hil.device.config import DeviceConfig, ReplayDevice
from hil.device.opening import OnWait, open_session
from hil.device.precisions import require_precision
from hil.device.session import EngineSpec, Session
from hil.synth.boardwork import BoardWork
from hil.synth.loop import Job, OpenBench
from hil.synth.pools import Threads
from hil.synth.profile import Profile
from hil.synth.progress import Watcher
from hil.synth.store import RunStore
from hil.synth.tabular import open_table
from hil.synth.work import Bench, Board


@contextmanager
def open_job(
    profile: Profile,
    config: DeviceConfig,
    store: RunStore,
    seed: int,
    watch: Watcher,
    *,
    owner: str,
    wait_s: float = 0.0,
    on_wait: OnWait | None = None,
) -> Iterator[Job]:
    """Open a profile's device and give back a job on it.

    Raises:
        ConfigError: the device cannot do the task.
        ExportError: the device does not offer a precision of the profile.
        DeviceError, LeaseTimeoutError: see `open_session`.
    """
    recorded = isinstance(config, ReplayDevice) and config.replay.table is not None
    if (profile.task == "table") != recorded:
        raise _mismatch(profile, config)
    if not recorded:
        for precision in sorted(profile.precisions):
            require_precision(config, precision)
    profile = profile.on_modes(config.state.modes)
    with Threads() as pools:
        if isinstance(config, ReplayDevice) and config.replay.table is not None:
            board, opener = open_table(profile, config, store, seed)
            yield Job(profile, seed, store, board, opener, watch, pools, config.power.interval_ms)
            return
        with open_session(config, owner=owner, wait_s=wait_s, on_wait=on_wait) as session:
            work = _work(profile, config, session, store, seed)
            opener = _traced(profile, config, store, seed)
            yield Job(profile, seed, store, work, opener, watch, pools, config.power.interval_ms)


def _mismatch(profile: Profile, config: DeviceConfig) -> ConfigError:
    if profile.task == "table":
        return ConfigError(
            f"{config.name} cannot measure the networks of a table",
            why=f"profile {profile.name} is of task table, whose networks exist as records only",
            fix="name a device of driver replay with that table, such as replay-nb201.yaml",
        )
    return ConfigError(
        f"{config.name} holds a table and takes no networks",
        why=f"profile {profile.name} is of task {profile.task}",
        fix="name a board, or a profile of task table, such as nb201.yaml",
    )


def _work(
    profile: Profile, config: DeviceConfig, session: Session, store: RunStore, seed: int
) -> Board:
    spec = EngineSpec(
        onnx_sha256="",
        precision=profile.precision,
        runtime=config.runtime.name,
        workspace_mib=config.runtime.workspace_mib,
        cuda_graph=config.runtime.cuda_graph,
    )
    return BoardWork(session, store, seed, spec, config.power.source, config.power.rail)


def _traced(profile: Profile, config: DeviceConfig, store: RunStore, seed: int) -> OpenBench:
    def opener(watch: Watcher, check: Callable[[int], None]) -> Bench:
        # Torch takes seconds to import, and a table needs none of it.
        from hil.synth.workbench import open_workbench

        return open_workbench(profile, store, seed, config.runtime.opset, watch, check)

    return opener
