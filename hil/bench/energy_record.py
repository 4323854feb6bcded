"""What is kept of one judged scenario: figures, truths and answers side by side."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fixed:
    """What a fixed length of so many blocks would have said: mean, half width, truth in mJ."""

    blocks: int
    value: float
    half: float
    truth: float


@dataclass(frozen=True)
class Record:
    """One scenario, judged. Energies in mJ an inference.

    Attributes:
        strata: every stratum it belongs to.
        refusal: why there is no figure; None where there is one.
        truth: expected reading of this sensor over the windows measured.
        realised: what those windows really held, as this sensor would average it.
        absolute: expected true energy, free of the sensor's errors.
        same: whether tegrastats' whole lines, looked at one look at a time, gave what brief lines
            gave; None where only brief lines were read.
        verdict: on the limit, where there is one; `right` is what the truth says of it.
        margin: distance of the limit from the truth, relative to the truth.
        window_s: time in windows; `load_s` from the load's start to the last window's end;
            `board_s` the whole run.
        peers: by name: value, low, high, truth, realised, seconds.
    """

    index: int
    stratum: str
    strata: tuple[str, ...]
    blocks: int
    looks: int
    window_s: float
    load_s: float
    board_s: float
    truth: float
    realised: float
    absolute: float
    truth_net: float
    same: bool | None = None
    outcome: str = ""
    validity: str = ""
    reasons: tuple[str, ...] = ()
    refusal: str | None = None
    interval: tuple[float, float, float] | None = None
    u95: tuple[float, float, float] | None = None
    net: tuple[float, float, float] | None = None
    limit: float | None = None
    verdict: str | None = None
    right: str | None = None
    margin: float | None = None
    peers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    fixed: tuple[Fixed, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether our tool gives a figure and does not call it invalid."""
        return self.refusal is None and self.validity != "invalid"
