"""One network that is gated, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.cli.network import Network

if TYPE_CHECKING:
    from hil.measure.gate_baseline import Recorded
    from hil.measure.gate_demands import Demands


@dataclass(frozen=True)
class Entry:
    """One network to gate.

    Attributes:
        wanted: what is asked of it.
        base: the network it is compared with by turns; None for none.
        recorded: what it is compared with from a file; None for none.
    """

    network: Network
    wanted: Demands
    base: Network | None = None
    recorded: Recorded | None = None
