"""What trtexec 8.2 prints and writes about its queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.emulator.trt.queries import Query

PARTS = ("enqueue", "h2d", "compute", "d2h")


def span_ms(query: Query, part: str) -> float:
    """How long a part of a query took."""
    start, stop = getattr(query, part)
    return float(stop - start) / 1e6


def export_times(path: Path, queries: Sequence[Query]) -> None:
    """Writes every query, those of the warm-up too, as release 8.2 does."""
    rows = []
    for query in queries:
        row: dict[str, float] = {}
        for part, name in zip(PARTS, ("Enq", "H2d", "Compute", "D2h"), strict=True):
            start, stop = getattr(query, part)
            row |= {f"start{name}Ms": start / 1e6, f"end{name}Ms": stop / 1e6}
        row |= {f"{part}Ms": span_ms(query, part) for part in PARTS[1:]}
        row |= {"latencyMs": query.latency_ns / 1e6, "endToEndMs": query.end_to_end_ns / 1e6}
        rows.append(", ".join(f'"{name}" : {_number(value)}' for name, value in row.items()))
    text = "\n".join(f"{', ' if index else '  '}{{ {row} }}" for index, row in enumerate(rows))
    path.write_text(f"[\n{text}\n]\n")


def _number(value: float) -> str:
    """A float as a C++ stream writes it: six significant digits."""
    return f"{value:.6g}"


def summary(
    queries: Sequence[Query], warmup_ms: float, averaged: int, percentile: float
) -> tuple[list[str], list[str]]:
    """The lines of the report, and its warnings.

    Args:
        queries: all of them.
        warmup_ms: those that began to compute before are the warm-up.
        averaged: queries per line of averages.
        percentile: which one is shown, 0 to 100.
    """
    first = next(i for i, q in enumerate(queries) if q.compute[0] / 1e6 >= warmup_ms)
    kept = queries[first:]
    wall_ms = (queries[-1].d2h[1] - kept[0].h2d[0]) / 1e6
    lines = [
        f"Warmup completed {first} queries over {_number(warmup_ms)} ms",
        f"Timing trace has {len(kept)} queries over {_number(wall_ms / 1e3)} s",
        "",
        "=== Trace details ===",
        f"Trace averages of {averaged} runs:",
        *(_average(kept[i : i + averaged]) for i in range(0, len(kept) - averaged + 1, averaged)),
        "",
        "=== Performance summary ===",
        f"Throughput: {_number(len(kept) / wall_ms * 1e3)} qps",
    ]
    figures: dict[str, Callable[[Query], float]] = {
        "Latency": lambda q: q.latency_ns / 1e6,
        "End-to-End Host Latency": lambda q: q.end_to_end_ns / 1e6,
        "Enqueue Time": lambda q: span_ms(q, "enqueue"),
        "H2D Latency": lambda q: span_ms(q, "h2d"),
        "GPU Compute Time": lambda q: span_ms(q, "compute"),
        "D2H Latency": lambda q: span_ms(q, "d2h"),
    }
    for name, figure in figures.items():
        lines.append(f"{name}: {_spread(sorted(map(figure, kept)), percentile)}")
    total_s = sum(span_ms(q, "compute") for q in kept) / 1e3
    lines += [
        f"Total Host Walltime: {_number(wall_ms / 1e3)} s",
        f"Total GPU Compute Time: {_number(total_s)} s",
    ]
    return lines, _warnings(kept)


def _average(queries: Sequence[Query]) -> str:
    def mean(figure: Callable[[Query], float]) -> str:
        return _number(sum(map(figure, queries)) / len(queries))

    return (
        f"Average on {len(queries)} runs - GPU latency: {mean(lambda q: span_ms(q, 'compute'))} ms"
        f" - Host latency: {mean(lambda q: q.latency_ns / 1e6)} ms"
        f" (end to end {mean(lambda q: q.end_to_end_ns / 1e6)} ms,"
        f" enqueue {mean(lambda q: span_ms(q, 'enqueue'))} ms)"
    )


def _spread(values: Sequence[float], percentile: float) -> str:
    count = len(values)
    excluded = int((1 - percentile / 100) * count)
    half = count // 2
    median = values[half] if count % 2 else (values[half - 1] + values[half]) / 2
    shown = {
        "min": values[0],
        "max": values[-1],
        "mean": sum(values) / count,
        "median": median,
        f"percentile({_number(percentile)}%)": values[max(count - 1 - excluded, 0)],
    }
    return ", ".join(f"{name} = {_number(value)} ms" for name, value in shown.items())


def _warnings(queries: Sequence[Query]) -> list[str]:
    def middle(part: str) -> float:
        values = sorted(span_ms(query, part) for query in queries)
        return values[len(values) // 2]

    if middle("enqueue") <= 0.8 * middle("compute"):
        return []
    return [
        "* Throughput may be bound by Enqueue Time rather than GPU Compute and the GPU may be "
        "under-utilized.",
        "  If not already in use, --useCudaGraph (utilize CUDA graphs where possible) may increase "
        "the throughput.",
    ]


class Profile:
    """Times of layers, as `--dumpProfile` prints and `--exportProfile` writes them."""

    def __init__(self) -> None:
        self._total_ms: dict[str, float] = {}
        self._first: str | None = None
        self._count = 0

    def add(self, layer: str, milliseconds: float) -> None:
        """Takes in one layer of one query."""
        self._first = self._first if self._first is not None else layer
        self._count += layer == self._first
        self._total_ms[layer] = self._total_ms.get(layer, 0.0) + milliseconds

    def export(self, path: Path) -> None:
        """Writes the profile."""
        everything = sum(self._total_ms.values())
        rows: list[dict[str, object]] = [{"count": self._count}]
        for name, total in self._total_ms.items():
            rows.append(
                {
                    "name": name,
                    "timeMs": total,
                    "averageMs": total / self._count,
                    "percentage": total / everything * 100,
                }
            )
        path.write_text("[\n  " + "\n, ".join(json.dumps(row) for row in rows) + "\n]\n")

    def lines(self) -> list[str]:
        """The table of `--dumpProfile`."""
        width = max(len(name) for name in (*self._total_ms, "Layer")) + 1
        everything = sum(self._total_ms.values())
        head = f"{'Layer':>{width}}   Time (ms)   Avg. Time (ms)   Time %"
        rows = [
            f"{name:>{width}}{total:12.2f}{total / self._count:17.4f}"
            f"{total / everything * 100:9.1f}"
            for name, total in (*self._total_ms.items(), ("Total", everything))
        ]
        return ["", f"=== Profile ({self._count} iterations ) ===", head, *rows, ""]
