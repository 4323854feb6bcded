"""Whether a run may be believed: each check looks for one trap and names it with its figure.

Rule of these files: a check never changes a figure. `suspect` is a result to look into and measure
again; `invalid` is one that is not about the engine, the clocks or the rail it is said to be about.

Every threshold is a named constant with its ground. None rests on the thermal limits or
accuracy figures of a module that nobody here has verified on a board. Thresholds are set so that
an undisturbed run is seldom called suspect; `tests/measure/test_validity_rates.py` holds that.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil.core.evidence import Evidence
from hil.core.fallbacks import Fallback
from hil.measure import validity_gpu, validity_load, validity_power
from hil.measure.findings import Finding, Verdict, suspect, verdict
from hil.measure.scene import Scene
from hil.measure.sensors import SensorErrors

__all__ = ["Finding", "Verdict", "judge", "judge_latency"]


def judge(
    scene: Scene, fallbacks: Sequence[Fallback] = (), sensor: SensorErrors | None = None
) -> Verdict:
    """Check a run that had a power source, and what was done otherwise than planned in it."""
    checks = (*validity_power.CHECKS, *validity_load.POWERED_CHECKS)
    found = [finding for check in checks for finding in check(scene)]
    found += validity_gpu.judge(scene, sensor)
    return verdict([*found, *_of_load(scene.evidence), *_of_fallbacks(fallbacks)])


def judge_latency(evidence: Evidence, fallbacks: Sequence[Fallback] = ()) -> Verdict:
    """Check a run without a power source."""
    return verdict([*_of_load(evidence), *_of_fallbacks(fallbacks)])


def _of_fallbacks(fallbacks: Sequence[Fallback]) -> list[Finding]:
    return [suspect(each.line) for each in fallbacks if each.severity == "suspect"]


def _of_load(evidence: Evidence) -> list[Finding]:
    return [finding for check in validity_load.CHECKS for finding in check(evidence)]
