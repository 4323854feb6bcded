"""A run's pictures are those it was started with: resumed on others, its steps would be mixed."""

from __future__ import annotations

import hashlib

from hil.core.errors import ConfigError
from hil.synth.store import RunStore
from hil.tasks.data import Data


def fingerprint(data: Data) -> str:
    """A sha256 over what a network takes of every picture, part by part."""
    digest = hashlib.sha256()
    for part in (data.train, data.search, data.heldout):
        for picture in part.ids():
            digest.update(picture.encode("ascii"))
        digest.update(b"|")
    return digest.hexdigest()


def require_same(data: Data, store: RunStore) -> None:
    """Record a run's pictures, or hold them against those recorded.

    Raises:
        ConfigError: the run was started with others.
    """
    now = fingerprint(data)
    if store.step("data", "pictures", lambda: {"sha256": now})["sha256"] != now:
        raise ConfigError(
            "the data set is not the one this run was started with",
            why="some of its pictures, their parts or what is done to them changed",
            fix="put the data set back as it was, or start a new run",
        )
