"""How many tegrastats lines a second are read, on this machine, one thread.

    python bench/tegrastats_speed.py [--lines 4000] [--rounds 25]

Lines are those of the repository's logs, repeated with other figures, so that nothing is read from
memory; the figure is CPU time of the best round, as another program on the machine only ever slows
a round down. `slow` reads token by token, as the first line of every layout is.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.core.tegrastats import Reading, RunningMean, parse, parse_slowly

LOGS = Path(__file__).parents[1] / "tests" / "data" / "tegrastats"
BOARDS = {
    "tx2_r32": ("tx2_1", 1),
    "tx2_r28_root": ("tx2_2", 0),
    "agx_orin_r36_root": ("agx_orin_4", 0),
    "orin_nano_r36": ("orin_nano_3", 0),
    "agx_orin_jetpack7": ("agx_orin_3", 0),
}


def varied(line: str, count: int, seed: int) -> list[str]:
    """Return the line with other loads, temperatures and powers each time."""
    rng = random.Random(seed)

    def other(match: re.Match[str]) -> str:
        return str(max(0, int(match[0]) + rng.randint(-9, 9)))

    head, bracket, rest = line.partition("CPU [")
    return [head + bracket + re.sub(r"(?<![\w.])\d+", other, rest) + "\n" for _ in range(count)]


def lines_per_s(read: Callable[[str], Reading | None], lines: Sequence[str], rounds: int) -> float:
    """Return the best round's lines a second of CPU time."""
    best_s = float("inf")
    for _ in range(rounds):
        start_s = time.process_time()
        for line in lines:
            read(line)
        best_s = min(best_s, time.process_time() - start_s)
    return len(lines) / best_s


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    told: dict[str, dict[str, int]] = {}
    for seed, (board, (name, index)) in enumerate(BOARDS.items()):
        line = (LOGS / f"{name}.log").read_text(encoding="ascii").splitlines()[index]
        lines = varied(line, given.lines, seed)
        assert all(parse(one) == parse_slowly(one) is not None for one in lines)
        means = RunningMean()

        def checked(one: str, means: RunningMean = means) -> Reading | None:
            reading = parse(one)
            if reading is not None:
                means.add(reading)
            return reading

        told[board] = {
            "parse_lines_per_s": round(lines_per_s(parse, lines, given.rounds)),
            "parse_and_mean_lines_per_s": round(lines_per_s(checked, lines, given.rounds)),
            "slow_lines_per_s": round(lines_per_s(parse_slowly, lines[:500], 3)),
        }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
