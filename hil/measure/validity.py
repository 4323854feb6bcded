"""Whether a run may be believed: each check looks for one trap and names it with its figure.

Rule of these files: a check never changes a figure. `suspect` is a result to look into and measure
again; `invalid` is one that is not about the engine, the clocks or the rail it is said to be about.

Every threshold is a named constant with its ground. None rests on the thermal limits or
accuracy figures of a module that nobody here has verified on a board. Thresholds are set so that
an undisturbed run is seldom called suspect; `tests/measure/test_validity_rates.py` holds that.
"""

from __future__ import annotations

from hil.core.evidence import Evidence
from hil.measure import validity_load, validity_power
from hil.measure.findings import Finding, Verdict, verdict
from hil.measure.scene import Scene

__all__ = ["Finding", "Verdict", "judge", "judge_latency"]


def judge(scene: Scene) -> Verdict:
    """Check a run that had a power source."""
    checks = (*validity_power.CHECKS, *validity_load.POWERED_CHECKS)
    found = [finding for check in checks for finding in check(scene)]
    return verdict([*found, *_of_load(scene.evidence)])


def judge_latency(evidence: Evidence) -> Verdict:
    """Check a run without a power source."""
    return verdict(_of_load(evidence))


def _of_load(evidence: Evidence) -> list[Finding]:
    return [finding for check in validity_load.CHECKS for finding in check(evidence)]
