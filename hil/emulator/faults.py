"""Faults on demand: what can go wrong with a board, switched on by whoever tests a recovery.

Rule of this file: it knows which faults there are and which are on; what each does is where the
thing that fails is. Faults outlive a reset of the board, and end when they are cleared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hil.emulator.client import BoardRefusedError

Settings = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """One fault: what it is, and its settings with their defaults.

    `times` counts occasions down to none and -1 is always; kinds without it stay until cleared.
    """

    meaning: str
    defaults: Mapping[str, float]


KINDS: Mapping[str, Kind] = {
    "link-cut": Kind(
        "every SSH connection is cut after the board has sent so many more bytes; new ones are "
        "refused for down_s of our time",
        {"bytes": 0, "down_s": 0, "times": 1},
    ),
    "slow-link": Kind(
        "what the board sends goes at bytes_per_s, each write delay_ms late",
        {"bytes_per_s": 50_000, "delay_ms": 20},
    ),
    "reboot": Kind(
        "all programs end, clocks and mode are as booted, the boot id is new, nothing answers for "
        "down_s of our time",
        {"down_s": 0.5, "times": 1},
    ),
    "sensor-dead": Kind("the power monitors cannot be read: EIO, and lines without rails", {}),
    "sensor-stuck": Kind("the power monitors keep what they read when it began", {}),
    "tegrastats-dies": Kind(
        "a tegrastats ends with a status after so many lines",
        {"lines": 20, "status": 1, "times": 1},
    ),
    "tegrastats-half": Kind(
        "one line in so many is cut off and has no newline; the next one follows at once",
        {"every": 7, "share": 0.6},
    ),
    "throttle": Kind("the die is at a temperature all at once", {"temp_c": 97, "times": 1}),
    "clock-step": Kind("the wall clock jumps; CLOCK_MONOTONIC does not", {"seconds": 3600}),
    "disk-full": Kind("no file can be created or opened for writing: ENOSPC", {}),
    "build-crash": Kind("an engine build ends its process by a signal", {"signal": 11, "times": 1}),
    "oom-kill": Kind("the kernel kills the program with the most device memory", {"times": 1}),
    "other-user": Kind("somebody else's program takes a share of the GPU", {"share": 0.3}),
}
AFTER = "after_s"
"""Every fault takes it: board time from now, or from a later reset, until it begins."""


def parse(text: str) -> tuple[str, Settings]:
    """Reads `NAME` or `NAME:setting=value,setting=value`.

    Raises:
        BoardRefusedError: no such fault or setting, or a value that is no number.
    """
    name, _, rest = text.partition(":")
    return name, settings_of(name, [part for part in rest.split(",") if part])


def settings_of(name: str, given: Iterable[str]) -> Settings:
    """Fills up the settings of a fault (see `parse`)."""
    kind = KINDS.get(name)
    if kind is None:
        raise BoardRefusedError(f"there is no fault {name}; known: {', '.join(sorted(KINDS))}")
    settings: Settings = {**kind.defaults, AFTER: 0.0}
    for part in given:
        key, _, value = part.partition("=")
        if key not in settings:
            known = ", ".join(sorted(settings))
            raise BoardRefusedError(f"{name} has no setting {key}; it has {known}")
        try:
            settings[key] = float(value)
        except ValueError as error:
            raise BoardRefusedError(f"{name}: {key}={value} is no number") from error
    return settings


@dataclass
class Faults:
    """Which faults are on. Safe from any thread."""

    _on: dict[str, Settings] = field(default_factory=dict)
    _actions: dict[str, Callable[[Settings], None]] = field(default_factory=dict)
    _ends: dict[str, Callable[[], None]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def does(
        self,
        name: str,
        action: Callable[[Settings], None],
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """Says what happens when a fault begins, and when it is cleared."""
        self._actions[name], self._ends[name] = action, end

    def begin(self, name: str, settings: Settings) -> None:
        """Switches a fault on."""
        with self._lock:
            self._on[name] = dict(settings)
        if name in self._actions:
            self._actions[name](settings)

    def clear(self, name: str | None = None) -> None:
        """Switches one fault off, or all."""
        names = [name] if name is not None else list(self._on)
        for each in names:
            with self._lock:
                known = self._on.pop(each, None)
            if known is not None and each in self._ends:
                self._ends[each]()

    def on(self, name: str) -> Settings | None:
        """The settings of a fault that is on, else None."""
        with self._lock:
            return self._on.get(name)

    def take(self, name: str) -> Settings | None:
        """The same, and one occasion less of those it has."""
        with self._lock:
            settings = self._on.get(name)
            if settings is None:
                return None
            left = settings.get("times", -1)
            if left > 0:
                settings["times"] = left - 1
                if left == 1:
                    del self._on[name]
            return settings

    def listing(self) -> dict[str, Settings]:
        """All that are on."""
        with self._lock:
            return {name: dict(settings) for name, settings in self._on.items()}
