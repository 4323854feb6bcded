"""The space of a profile's job: what its `space` section asks for, around its traced prototype.

Whoever opens a job and whoever opens what it left must come to the same space.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from hil.core.errors import ConfigError
from hil.net.graph import Trace
from hil.net.space import Choices, Space, Variable, build_space
from hil.synth.choosable import Choosable
from hil.synth.profile import Profile


def space_of(profile: Profile, trace: Trace) -> Space:
    """Every choice that the profile asks for and the trace allows.

    Raises:
        ConfigError: a name to freeze that the prototype does not have, or an impossible choice.
    """
    asked = profile.space
    if asked is None:
        return build_space(trace)
    choices = choices_of(asked, profile.precision)
    everything = build_space(trace, choices=choices)
    frozen = frozen_by(asked.freeze or (), everything.variables, trace)
    return build_space(trace, frozen, choices) if frozen else everything


def choices_of(asked: Choosable, precision: str) -> Choices:
    """A profile's wishes as the space takes them.

    Args:
        asked: the section of the profile.
        precision: the prototype's.
    """
    others = [name for name in asked.precisions or () if name != precision]
    return Choices(
        kernels=asked.kernels,
        resolutions=asked.resolutions or (),
        # A single one is the job's own, which needs no choice.
        precisions=(precision, *others) if others else (),
        granule=asked.granule or Choices.granule,
    )


def frozen_by(
    patterns: Sequence[str], variables: Sequence[Variable], trace: Trace
) -> tuple[str, ...]:
    """Variables that patterns name, by their own name or by that of a module they change.

    Raises:
        ConfigError: a pattern that names neither a variable nor an operation of the prototype.
    """
    known = [*(v.name for v in variables), *(v.name for v in trace.vertices)]
    for pattern in patterns:
        # What is frozen anyway may be named: the pattern says what the person wants, no more.
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(
                f"space.freeze: nothing of the prototype is called {pattern}",
                why=f"there are {', '.join(known)}",
                fix="name a module, a variable, or a pattern such as 'head.*'",
            )
    return tuple(
        v.name
        for v in variables
        if any(fnmatchcase(name, p) for p in patterns for name in (v.name, *v.vertices))
    )
