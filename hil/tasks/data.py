"""Data of a task: training, search and held-out pictures, provably apart, the last one guarded.

Rule of this file: a search may look at `train` and `search` as often as it likes; `heldout` is
opened by one stage of a run only (the finalists), and every opening is counted with its reason.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.net.factory import load_factory
from hil.tasks import targets as answers
from hil.tasks.targets import VOID, Boxes, Kind, Labels, Masks, Targets

Inputs = NDArray[np.float32]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Pictures and their right answers.

    Attributes:
        inputs: float32, `n x channels x height x width`.
        targets: classes (int64, `n`), masks (uint8, `n x height x width`) or boxes (a tuple of
            float32 arrays `k x 5`); see `targets.py`.
        void: value of masks that stands for no class.
    """

    inputs: Inputs
    targets: Targets
    void: int | None = VOID

    def __post_init__(self) -> None:
        """Refuse what no network could be trained on.

        Raises:
            ConfigError: naming the first thing wrong with the arrays.
        """
        problem = _problem(self.inputs, self.targets)
        if problem:
            raise ConfigError(f"the data cannot be used: {problem}", fix=_FIX)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def kind(self) -> Kind:
        """Which kind of right answers there are."""
        return answers.kind_of(self.targets)

    @property
    def labels(self) -> Labels:
        """Classes, `n`, of data for classification."""
        assert self.kind == "classes"
        return self.targets  # type: ignore[return-value]

    @property
    def masks(self) -> Masks:
        """Masks, `n x height x width`, of data for segmentation."""
        assert self.kind == "masks"
        return self.targets  # type: ignore[return-value]

    @property
    def boxes(self) -> Boxes:
        """Boxes, one array a picture, of data for detection."""
        assert isinstance(self.targets, tuple)
        return self.targets

    def pick(self, chosen: NDArray[np.integer]) -> Split:
        """Some of the pictures, in that order."""
        return Split(self.inputs[chosen], answers.pick(self.targets, chosen), self.void)

    def portions(self, most: int | None) -> Iterator[Split]:
        """The pictures in order, at most so many at a time; None gives them all at once."""
        for start in range(0, len(self), most or len(self)):
            yield self.pick(np.arange(start, min(start + (most or len(self)), len(self))))

    def ids(self) -> tuple[str, ...]:
        """One sha256 a picture, over its content alone, so that equal pictures have equal ids."""
        return tuple(
            hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for x in self.inputs
        )


_FIX = (
    "let the data function return (inputs, answers): inputs float32 of shape "
    "pictures x channels x height x width; answers integers 0..classes-1, one a picture, or masks "
    "of them, pictures x height x width, or a list of boxes, k x 5 a picture: class, x0, y0, x1, y1"
)


def _problem(inputs: object, targets: object) -> str | None:
    """What is wrong with the arrays, in words, or None."""
    if not isinstance(inputs, np.ndarray) or not isinstance(targets, np.ndarray | tuple):
        kinds = f"{type(inputs).__name__} and {type(targets).__name__}"
        return f"inputs and labels must be numpy arrays, not {kinds}"
    checks = (
        (inputs.ndim == 4, f"inputs must have 4 dimensions (NCHW), not shape {inputs.shape}"),
        (inputs.size > 0, f"there is no picture in it: inputs have shape {inputs.shape}"),
        (inputs.dtype == np.float32, f"inputs must be float32, not {inputs.dtype}"),
    )
    wrong = next((problem for fine, problem in checks if not fine), None)
    wrong = wrong or answers.problem(targets, inputs.shape)
    if wrong is None and not np.isfinite(inputs).all():
        return "inputs hold values that are not finite (NaN or infinity)"
    return wrong or answers.bad_values(targets)


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
        names: of the classes, in order; empty where nobody named them.
    """

    train: Split
    search: Split
    heldout: HeldOut
    notes: tuple[str, ...] = field(default=())
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold the parts apart.

        Raises:
            ConfigError: a picture lies in two parts, or the parts differ in picture shape.
        """
        if self.train.inputs.shape[1:] != self.search.inputs.shape[1:]:
            shapes = f"{self.train.inputs.shape[1:]} and {self.search.inputs.shape[1:]}"
            raise ConfigError(f"training and search pictures differ in shape: {shapes}", fix=_FIX)
        if self.train.kind != self.search.kind:
            kinds = f"{self.train.kind} and {self.search.kind}"
            raise ConfigError(f"training and search pictures differ in answers: {kinds}", fix=_FIX)
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
        """Number of classes: as named, or one more than the highest of train and search."""
        parts = (self.train, self.search)
        return len(self.names) or 1 + max(answers.highest(p.targets, p.void) for p in parts)


def split(
    inputs: Inputs,
    targets: Targets,
    *,
    seed: int,
    heldout: float = 0.5,
    search: float = 1 / 3,
    void: int | None = VOID,
    names: tuple[str, ...] = (),
) -> Data:
    """Split pictures at random; where each has one class, so that every part holds all alike.

    A picture that occurs more than once is kept once: its copies could otherwise fall on both
    sides. `Data.notes` says how many were left out.

    Args:
        inputs: see `Split`.
        targets: see `Split`.
        seed: same seed, same parts.
        heldout: share of the pictures that is held out.
        search: share of the rest that goes to the search part.
        void: see `Split`.
        names: of the classes.

    Raises:
        ConfigError: the arrays are unusable, or a class has too few pictures for three parts.
    """
    whole = Split(inputs, targets, void)
    _, first = np.unique(np.array(whole.ids()), return_index=True)
    keep = np.sort(first)
    rng = np.random.Generator(np.random.Philox(seed))
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for title, like in _alike(whole, keep):
        members = rng.permutation(like)
        held = round(len(members) * heldout)
        searched = round((len(members) - held) * search)
        if min(held, searched, len(members) - held - searched) < 1:
            raise ConfigError(
                f"{title} {len(members)} different pictures, too few for three parts",
                fix="add pictures of that class or leave the class out",
            )
        for part, chosen in zip(parts, np.split(members, [held, held + searched]), strict=True):
            part.extend(int(i) for i in chosen)
    held_part, search_part, train_part = (whole.pick(np.sort(np.array(p))) for p in parts)
    dropped = len(whole) - len(keep)
    notes = (f"{dropped} pictures occur more than once and were kept once",) if dropped else ()
    return Data(train_part, search_part, HeldOut(held_part), notes, names)


def _alike(whole: Split, keep: NDArray[np.intp]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Pictures that are shared out together, and how a message begins that there are too few."""
    if whole.kind != "classes":
        yield "there are", keep
        return
    for label in np.unique(whole.labels[keep]):
        yield f"class {label} has", keep[whole.labels[keep] == label]


def load_data(reference: str, args: Mapping[str, Any] | None = None, *, seed: int = 0) -> Data:
    """Data from a function named `module:function`, which returns `Data` or `(inputs, answers)`.

    Classes and masks may be integers of any width, boxes a list; inputs must be float32 already,
    since only the author of the function knows how its pixels are to be scaled.

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
    inputs, targets = made
    return split(inputs, answers.given_as(targets), seed=seed)  # type: ignore[arg-type]
