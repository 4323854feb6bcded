"""`hil bench hostile`: many boards with something wrong, and whether `hil` told its user so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from hil.bench.hostile_judge import BAD, GOOD
from hil.bench.hostile_run import LIMIT_S, Outcome, run_board
from hil.emulator.hostile.variants import VARIANTS
from hil.emulator.serve import Options

SCHEMA = "hil/bench-hostile@1"
Job = tuple[str, Options]
Tell = Callable[[Outcome], None]


def seeds(count: int, first: int = 0) -> Iterator[Job]:
    """Boards as seeds draw them."""
    for seed in range(first, first + count):
        yield f"seed {seed}", Options(hostile=seed, seed=seed)


def each_alone(names: Iterable[str] | None = None) -> Iterator[Job]:
    """One board for each variant, with nothing else wrong; all variants unless some are named."""
    for name in VARIANTS if names is None else names:
        yield name, Options(hostile=0, hostile_only=(name,))


def run_bench(
    jobs: Iterable[Job],
    verbs: Sequence[str],
    workers: int,
    tell: Tell = lambda _: None,
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Runs the path on every board.

    Args:
        jobs: labels and boards.
        verbs: those before `profile`.
        workers: boards at a time.
        tell: called with each outcome as it comes.
        limit_s: after so long a verb is taken to hang.

    Returns:
        The result, ready for JSON: counts by kind, failures by cause, every board.
    """
    outcomes = []
    # Threads: what takes time runs in the processes that each board and each verb start.
    with ThreadPoolExecutor(workers) as pool:
        waiting = [
            pool.submit(run_board, label, options, verbs, limit_s) for label, options in jobs
        ]
        try:
            for done in as_completed(waiting):
                outcomes.append(done.result())
                tell(outcomes[-1])
        except BaseException:  # Ctrl-C ends the boards under way and begins no other
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return summary(outcomes)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts endings by kind and by cause (the variants a board has)."""
    kinds = Counter(outcome.verdict.kind for outcome in outcomes)
    causes: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for name in outcome.variants or ("nothing wrong",):
            causes[name][outcome.verdict.kind] += 1
    failures = [outcome.as_json() for outcome in outcomes if not outcome.verdict.good]
    walls = sorted(outcome.wall_s for outcome in outcomes)
    return {
        "schema": SCHEMA,
        "provenance": "emulated",
        "boards": len(outcomes),
        "good": sum(outcome.verdict.good for outcome in outcomes),
        "kinds": {kind: kinds[kind] for kind in (*GOOD, *BAD)},
        "causes": {name: dict(causes[name]) for name in sorted(causes)},
        "failures": sorted(failures, key=lambda each: str(each["board"])),
        "wall_s_median": round(walls[len(walls) // 2], 1) if walls else None,
        "outcomes": sorted(
            (outcome.as_json() for outcome in outcomes), key=lambda each: str(each["board"])
        ),
    }
