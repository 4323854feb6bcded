"""Data of a task: training, search and held-out pictures, provably apart, the last one guarded.

Rule of this file: a search may look at `train` and `search` as often as it likes; `heldout` is
opened by one stage of a run only (the finalists), and every opening is counted with its reason.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.net.factory import load_factory

Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Pictures and their classes.

    Attributes:
        inputs: float32, `n x channels x height x width`.
        labels: int64, `n`, classes counted from 0.
    """

    inputs: Inputs
    labels: Labels

    def __post_init__(self) -> None:
        """Refuse what no network could be trained on.

        Raises:
            ConfigError: naming the first thing wrong with the arrays.
        """
        problem = _problem(self.inputs, self.labels)
        if problem:
            raise ConfigError(f"the data cannot be used: {problem}", fix=_FIX)

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self) -> tuple[str, ...]:
        """One sha256 a picture, over its content alone, so that equal pictures have equal ids."""
        return tuple(
            hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for x in self.inputs
        )


_FIX = (
    "let the data function return (inputs, labels): inputs float32 of shape "
    "pictures x channels x height x width, labels integers 0..classes-1, one a picture"
)


def _problem(inputs: object, labels: object) -> str | None:
    """What is wrong with two arrays, in words, or None."""
    if not isinstance(inputs, np.ndarray) or not isinstance(labels, np.ndarray):
        kinds = f"{type(inputs).__name__} and {type(labels).__name__}"
        return f"inputs and labels must be numpy arrays, not {kinds}"
    checks = (
        (inputs.ndim == 4, f"inputs must have 4 dimensions (NCHW), not shape {inputs.shape}"),
        (labels.shape == inputs.shape[:1], f"labels of shape {labels.shape} do not match inputs"),
        (inputs.size > 0, f"there is no picture in it: inputs have shape {inputs.shape}"),
        (inputs.dtype == np.float32, f"inputs must be float32, not {inputs.dtype}"),
        (labels.dtype == np.int64, f"labels must be int64, not {labels.dtype}"),
    )
    wrong = next((problem for fine, problem in checks if not fine), None)
    return wrong or _bad_values(inputs, labels)


def _bad_values(inputs: Inputs, labels: Labels) -> str | None:
    if not np.isfinite(inputs).all():
        return "inputs hold values that are not finite (NaN or infinity)"
    return "labels must be 0 or greater" if labels.min() < 0 else None


@dataclass(frozen=True)
class Opening:
    """One time somebody looked at the held-out pictures."""

    stage: str
    reason: str


class HeldOut:
    """Held-out pictures, behind a door that counts.

    The first stage to open it owns it for the rest of the run; the same stage may open it again
    (a resumed run does), any other is refused, because figures chosen after a look at held-out
    pictures say nothing about new ones.

    Args:
        split: the pictures.
        openings: what an interrupted run had already recorded.
    """

    def __init__(self, split: Split, openings: tuple[Opening, ...] = ()) -> None:
        self._split = split
        self._openings = openings

    def __len__(self) -> int:
        return len(self._split)

    @property
    def openings(self) -> tuple[Opening, ...]:
        """Every opening so far, oldest first."""
        return self._openings

    def ids(self) -> tuple[str, ...]:
        """Content ids (see `Split.ids`); they prove disjointness and give no picture away."""
        return self._split.ids()

    def open(self, reason: str, *, stage: str) -> Split:
        """The pictures, for the one stage that may see them.

        Raises:
            ConfigError: another stage opened them before.
            ValueError: the reason is empty.
        """
        if not reason.strip():
            raise ValueError("held-out data is opened for a stated reason only")
        if self._openings and self._openings[0].stage != stage:
            first = self._openings[0]
            raise ConfigError(
                f"held-out data is closed to '{stage}' ({reason})",
                why=f"'{first.stage}' opened it in this run ({first.reason})",
                fix="judge on the search split, or start a new run with other held-out data",
            )
        self._openings = (*self._openings, Opening(stage, reason))
        _log.info("held-out data opened by %s (%d): %s", stage, len(self._openings), reason)
        return self._split


@dataclass(frozen=True)
class Data:
    """A task's data, in three parts that share no picture.

    Attributes:
        train: what weights are fitted on.
        search: what candidates are compared on during a search.
        heldout: what the final figures are taken on, once.
        notes: what a person should know about how the parts came about.
    """

    train: Split
    search: Split
    heldout: HeldOut
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Hold the parts apart.

        Raises:
            ConfigError: a picture lies in two parts, or the parts differ in picture shape.
        """
        if self.train.inputs.shape[1:] != self.search.inputs.shape[1:]:
            shapes = f"{self.train.inputs.shape[1:]} and {self.search.inputs.shape[1:]}"
            raise ConfigError(f"training and search pictures differ in shape: {shapes}", fix=_FIX)
        parts = {
            "train": self.train.ids(),
            "search": self.search.ids(),
            "heldout": self.heldout.ids(),
        }
        for a, b in (("train", "search"), ("train", "heldout"), ("search", "heldout")):
            shared = set(parts[a]) & set(parts[b])
            if shared:
                raise ConfigError(
                    f"{len(shared)} pictures lie both in {a} and in {b}",
                    why=f"their pixels are equal, for example sha256 {min(shared)[:12]}",
                    fix="remove the duplicates, or return (inputs, labels) and let hil split them",
                )

    @property
    def classes(self) -> int:
        """Number of classes: one more than the highest label of train and search."""
        return 1 + int(max(self.train.labels.max(), self.search.labels.max()))


def split(
    inputs: Inputs, labels: Labels, *, seed: int, heldout: float = 0.5, search: float = 1 / 3
) -> Data:
    """Split pictures at random, class by class, so that every part holds every class alike.

    A picture that occurs more than once is kept once: its copies could otherwise fall on both
    sides. `Data.notes` says how many were left out.

    Args:
        inputs: see `Split`.
        labels: see `Split`.
        seed: same seed, same parts.
        heldout: share of the pictures that is held out.
        search: share of the rest that goes to the search part.

    Raises:
        ConfigError: the arrays are unusable, or a class has too few pictures for three parts.
    """
    whole = Split(inputs, labels)
    _, first = np.unique(np.array(whole.ids()), return_index=True)
    keep = np.sort(first)
    rng = np.random.Generator(np.random.Philox(seed))
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels[keep]):
        members = rng.permutation(keep[labels[keep] == label])
        held = round(len(members) * heldout)
        searched = round((len(members) - held) * search)
        if min(held, searched, len(members) - held - searched) < 1:
            raise ConfigError(
                f"class {label} has {len(members)} different pictures, too few for three parts",
                fix="add pictures of that class or leave the class out",
            )
        for part, chosen in zip(parts, np.split(members, [held, held + searched]), strict=True):
            part.extend(int(i) for i in chosen)
    held_part, search_part, train_part = (
        Split(inputs[np.sort(p)], labels[np.sort(p)]) for p in parts
    )
    dropped = len(labels) - len(keep)
    notes = (f"{dropped} pictures occur more than once and were kept once",) if dropped else ()
    return Data(train_part, search_part, HeldOut(held_part), notes)


def load_data(reference: str, args: Mapping[str, Any] | None = None, *, seed: int = 0) -> Data:
    """Data from a function named `module:function`, which returns `Data` or `(inputs, labels)`.

    Labels may be integers of any width; inputs must be float32 already, since only the author of
    the function knows how its pixels are to be scaled.

    Args:
        reference: the function.
        args: its keyword arguments.
        seed: seed of the automatic split.

    Raises:
        ConfigError: there is no such function, it does not take these arguments, finds no file, or
            returns something else or arrays that cannot be used.
    """
    function, given = load_factory(reference), dict(args or {})
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"data function '{reference}' does not take the arguments given",
            why=str(error),
            fix="make data.args in the profile match the function's parameters",
        ) from error
    try:
        made = function(**given)
    except OSError as error:
        raise ConfigError(f"data function '{reference}' finds no data", why=str(error)) from error
    if isinstance(made, Data):
        return made
    if not (isinstance(made, tuple) and len(made) == 2):
        kind = type(made).__name__
        raise ConfigError(f"data function '{reference}' returned a value of type {kind}", fix=_FIX)
    inputs, labels = made
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    return split(inputs, labels, seed=seed)
