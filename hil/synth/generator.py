"""G(s; theta_G): a seed becomes an architecture that every calibrated bound lets through.

A generator is a mixture, the screen it was learned with, and nothing else: saved as JSON it emits
the same architectures from the same seeds, without the run and without its list of networks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hil.core.errors import ConfigError, NothingFeasibleError
from hil.synth.emission import Mixture, draw, repair
from hil.synth.records import Arch
from hil.synth.screen import Screen
from hil.synth.searchspace import Encoder, SearchSpace, digest

SCHEMA = "hil/generator@1"


@dataclass(frozen=True)
class Emission:
    """One emitted architecture, and how it came about."""

    arch: Arch
    seed: int
    attempt: int
    edits: int


@dataclass(frozen=True)
class Generator:
    """A learned generator.

    Attributes:
        mixture: theta_G.
        screen: bounds its emissions must hold.
        generation: k of G_k.
        attempts: draws per seed before giving up.
        edits: repairs per draw.
    """

    mixture: Mixture
    screen: Screen
    generation: int = 0
    attempts: int = 12
    edits: int = 6

    def emit(self, seed: int) -> Emission:
        """The architecture of a seed, a non-negative integer.

        Raises:
            NothingFeasibleError: no attempt, repaired or not, held every bound.
        """
        encoder = self.screen.encoder
        for attempt in range(self.attempts):
            drawn = draw(self.mixture, [seed], attempt)[0]
            arch, edits = repair(self.screen, drawn, self.edits)
            if self.screen.holds(encoder.encode([arch]))[0] > 0:
                return Emission(arch, seed, attempt, edits)
        raise NothingFeasibleError(
            f"the generator knows no network that fits for seed {seed}",
            why=f"{self.attempts} draws with up to {self.edits} repairs each broke "
            f"{self._blame(seed)} at its calibrated bound",
            fix="loosen that limit, or search longer so that the bounds tighten",
        )

    def first(self, seeds: Sequence[int], attempts: int) -> list[Arch | None]:
        """Unrepaired architectures of many seeds: the first draw that holds, None without one.

        Much faster than `emit`; for judging a mixture rather than for shipping.
        """
        found: dict[int, Arch] = {}
        for attempt in range(attempts):
            open_seeds = [s for s in seeds if s not in found]
            if not open_seeds:
                break
            archs = draw(self.mixture, open_seeds, attempt)
            holds = self.screen.holds(self.screen.encoder.encode(archs))
            found.update({s: a for s, a, h in zip(open_seeds, archs, holds, strict=True) if h > 0})
        return [found.get(s) for s in seeds]

    def to_json(self) -> str:
        """The generator as text; equal generators give equal text."""
        data = {
            "schema": SCHEMA,
            "space": digest(self.screen.encoder.space),
            "generation": self.generation,
            "attempts": self.attempts,
            "edits": self.edits,
            "mixture": self.mixture.to_json(),
            "screen": self.screen.to_json(),
        }
        return json.dumps(data, sort_keys=True)

    @staticmethod
    def from_json(text: str, space: SearchSpace) -> Generator:
        """Inverse of `to_json`.

        Args:
            text: what `to_json` returned.
            space: the space it was learned on, traced anew.

        Raises:
            ConfigError: not a generator, or learned on another space.
        """
        data = _parse(text)
        if data["space"] != digest(space):
            raise ConfigError(
                "the generator was learned on another search space",
                why=f"its space has digest {data['space'][:12]}, this one {digest(space)[:12]}",
                fix="use the prototype and the freezes of the run that saved it",
            )
        screen = Screen.from_json(data["screen"], Encoder(space))
        mixture = Mixture.from_json(data["mixture"])
        return Generator(mixture, screen, data["generation"], data["attempts"], data["edits"])

    def _blame(self, seed: int) -> str:
        arch, _ = repair(self.screen, draw(self.mixture, [seed], 0)[0], self.edits)
        excesses = self.screen.excesses(self.screen.encoder.encode([arch]))[:, 0]
        return self.screen.limits[int(np.argmax(excesses))].metric


def _parse(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError("the file is no saved generator", why=str(error)) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ConfigError(
            "the file is no saved generator",
            why=f"its schema is not {SCHEMA}",
            fix="name the generator.json that a synthesis run saved",
        )
    return data
