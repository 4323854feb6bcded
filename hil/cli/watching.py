"""Progress of long work: bars with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hil.cli.terminal import say


class Lines:
    """One line a stage, and one a quarter of it: for logs."""

    def __init__(self) -> None:
        self._name, self._total, self._done = "", 1, 0

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self._name, self._total, self._done = name, max(total, 1), 0
        say(f"{name} ...")

    def advance(self, note: str = "") -> None:
        """One piece of it is done."""
        before = 4 * self._done // self._total
        self._done += 1
        if note or 4 * self._done // self._total > before:
            say(f"  {self._name}: {self._done} of {self._total}" + (f" ({note})" if note else ""))


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str, total: int) -> None:
        self._finish()
        self._task = self._progress.add_task(name, total=total, note="")

    def advance(self, note: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=note)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=max(task.completed, 1), note="")
            self._progress.update(self._task, completed=max(task.completed, 1))

    def close(self) -> None:
        self._finish()


@contextmanager
def bars(console: Console) -> Iterator[_Bars]:
    """A bar a stage, with the time it still takes."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        watch = _Bars(progress)
        yield watch
        watch.close()
