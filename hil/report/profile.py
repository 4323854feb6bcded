"""The report of a profile: figures with both intervals, what they rest on, what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hil.report import recorded
from hil.report.document import Cell, Document, Section, ends, shown
from hil.report.recorded import Recorded

Result = Mapping[str, Any]
FIGURES = (
    ("energy, gross, mJ", "energy_mj"),
    ("energy, net of idle, mJ", "energy_net_mj"),
    ("inferences per joule, 1/J", "inferences_per_joule"),
    ("power under load, W", "power_w"),
    ("power idle, W", "idle_power_w"),
    ("latency p50, ms", "latency_p50_ms"),
    ("latency p90, ms", "latency_p90_ms"),
    ("latency p95, ms", "latency_p95_ms"),
    ("latency p99, ms", "latency_p99_ms"),
    ("latency p99.9, ms", "latency_p999_ms"),
    ("first inference, ms (once, not steady)", "first_inference_ms"),
    ("engine load, ms (once)", "engine_load_ms"),
    ("sensor lag, s", "lag_s"),
    ("of the power, the sampler itself, W", "sampler_power_w"),
)
_WORDS = "hil profile"


def document(result: Result, run: Recorded | None) -> Document:
    """Return the report of any kind of profile.

    Args:
        result: what `hil profile` keeps as result.json: one engine, fresh builds, a sweep, or
            one that a reference network stands beside.
        run: the raw evidence behind it, of several runs the first; None where it is not kept.
    """
    if result["schema"].startswith("hil/sweep"):
        return _sweep(result)
    sections = [
        _figures(result), *_limits(result), *_raw(result, run), *_layers(result),
        *_budgets(result), *_builds(result), *_drift(result), *fallbacks(result),
        *_rails(result), _device(result),
    ]  # fmt: skip
    return Document(
        kind=_WORDS,
        subject=f"{PurePath(result['model']).name} on {result['device']}",
        provenance=result["provenance"],
        validity=result["validity"],
        reasons=result["reasons"],
        facts=[str(result["calibration"])] if result.get("calibration") else [],
        cards=list(_cards(result)),
        sections=sections,
    )


def _cards(result: Result) -> Iterator[tuple[str, str]]:
    rail = result.get("rail")
    for name, unit, what in (
        ("energy_mj", "mJ", f"an inference, gross, as read on {rail}"),
        ("inferences_per_joule", "1/J", "inferences per joule"),
        ("latency_p50_ms", "ms", "median latency"),
        ("power_w", "W", "under load"),
    ):
        if result.get(name) is not None:
            wide = ends(result, f"{name}_ci95")
            yield f"{shown(result[name])} {unit}", f"{what}, 95 % {shown(wide)}" if wide else what


def _figures(result: Result) -> Section:
    rail = result.get("rail")
    rows: list[Sequence[Cell]] = []
    unknown = []
    for title, name in FIGURES:
        if name not in result:
            continue
        both = ends(result, f"{name}_ci95"), ends(result, f"{name}_u95_total")
        rows.append((title, result[name], *both))
        if result[name] is None:
            unknown.append(f"{title} is unknown: {result.get(f'{name}_reason')}.")
    stop = result.get("stopping") or result.get("stopped")
    stopped = [f"Stopped: {stop['outcome']}, {stop['why']}."] if stop else []
    read = f"95 %, as read on {rail}" if rail else "95 %, as read"
    return Section(
        title="Figures",
        note=" ".join([*unknown, *stopped]),
        columns=("figure", "value", read, "95 %, with the sensor's error"),
        rows=rows,
    )


def _limits(result: Result) -> Iterator[Section]:
    rows = [
        (
            limit["figure"],
            f"at least {limit['at_least']:g}" if limit["at_least"] is not None
            else f"at most {limit['at_most']:g}",
            limit["verdict"],
        )
        for limit in result.get("limits") or ()
    ]  # fmt: skip
    if rows:
        words = frozenset({0, 1, 2})
        yield Section("Limits", "", ("figure", "limit", "verdict"), rows, words)


def _raw(result: Result, run: Recorded | None) -> Iterator[Section]:
    if run is None:
        yield Section("Raw evidence", lines=["The raw evidence is not kept beside this result."])
        return
    if run.rails:
        yield Section(
            "Power by rail over time",
            "As the sensor told it, unfiltered. Rails nest and never add. Shaded: idle, settling,"
            " and the windows that the figures are made of.",
            picture=recorded.power(run),
        )
    if run.latencies_ms:
        known = {
            title.split(",")[0].removeprefix("latency "): result[name]
            for title, name in FIGURES
            if name.startswith("latency") and result.get(name) is not None
        }
        edges, counts, beyond = recorded.histogram(run.latencies_ms)
        more = f" {beyond} slower than the 99.9th percentile are not drawn." if beyond else ""
        slowest = max(run.latencies_ms)
        yield Section(
            "Latency distribution",
            f"{len(run.latencies_ms)} inferences.{more} The slowest took {shown(slowest)} ms."
            f" Host-device copies {result.get('latency_copies', 'excluded')}.",
            ("from, ms", "to, ms", "inferences"),
            [(shown(a), b, n) for a, b, n in zip(edges, edges[1:], counts, strict=False)],
            picture=recorded.latency(run, known),
            folded=True,
        )
    if run.temperatures_c:
        yield Section("Temperatures", "As seen between phases.", picture=recorded.temperatures(run))


def _layers(result: Result) -> Iterator[Section]:
    layers = result.get("layers")
    if not layers:
        return
    total = sum(layer["time_ms"] for layer in layers)
    yield Section(
        "Layers",
        f"As the runtime's profiler tells; they sum to {shown(total)} ms. The profiler adds its"
        " own time to each layer.",
        ("layer", "ms", "share, %"),
        [(str(x["name"]), x["time_ms"], 100 * x["time_ms"] / total if total else None)
         for x in layers],
    )  # fmt: skip


def _budgets(result: Result) -> Iterator[Section]:
    yield from _budget(result, "Error budget")
    for index, one in enumerate(result.get("builds") or (), 1):
        yield from _budget(one, f"Build {index}, error budget")


def _budget(result: Result, title: str) -> Iterator[Section]:
    terms = result.get("error_budget") or ()
    for figure in dict.fromkeys(term["figure"] for term in terms):
        mine = sorted(
            (term for term in terms if term["figure"] == figure),
            key=lambda term: -(term["half_width"] or 0.0),
        )
        sources = list(dict.fromkeys(term["source"] for term in mine if term["source"]))
        rows = [
            (
                term["name"],
                term["half_width"],
                None if term["share"] is None else 100 * term["share"],
                term["reducible_by"] or "",
                f"({sources.index(term['source']) + 1})" if term["source"] else "",
            )
            for term in mine
        ]
        unit = figure.rsplit("_", 1)[-1].replace("mj", "mJ").replace("w", "W")
        half = "half width, 95 %" + (f", {unit}" if unit in ("mJ", "W") else ", 1/J")
        yield Section(
            f"{title} of {figure}",
            note=" ".join(f"({i}) {source}." for i, source in enumerate(sources, 1)),
            columns=("term", half, "share of variance, %", "what shrinks it", "from"),
            rows=rows,
            text_columns=frozenset({0, 3, 4}),
            folded=figure != "energy_mj" or "Build" in title,
        )


def _builds(result: Result) -> Iterator[Section]:
    if "builds" in result:
        names = ("energy_mj", "latency_p50_ms", "latency_p99_ms")
        rows = [
            (str(one["engine_sha256"])[:12], *(one[name] for name in names), one["validity"])
            for one in result["builds"]
        ]
        columns = ("engine", "energy, mJ", "p50, ms", "p99, ms", "validity")
        yield Section("Fresh builds", "", columns, rows, frozenset({0, 4}))


def _drift(result: Result) -> Iterator[Section]:
    reference = result.get("reference")
    if reference and reference.get("drift"):
        rows = [
            (
                f"{row['at_s']:.0f} s",
                next(v for k, v in row.items() if k not in ("at_s", "relative")),
                100 * row["relative"],
            )
            for row in reference["drift"]
        ]
        note = f"The same network again and again beside the measured one: {reference['model']}."
        columns = ("after", "figure", "from its mean, %")
        yield Section("What the board did to the reference", note, columns, rows)


def fallbacks(result: Result) -> Iterator[Section]:
    """Yield what was done otherwise than planned, with the next step."""
    rows = [(f["reason"], f["consequence"], f["next_step"]) for f in result.get("fallbacks") or ()]
    if rows:
        words = frozenset({0, 1, 2})
        columns = ("not as planned", "so", "next step")
        yield Section("Fallbacks", "", columns, rows, words)


def _rails(result: Result) -> Iterator[Section]:
    rails = result.get("rails_mj")
    if rails:
        rows = sorted(rails.items(), key=lambda item: -item[1])
        yield Section(
            "Energy by rail", "Rails nest and never add.", ("rail", "mJ an inference"), rows
        )


def _device(result: Result) -> Section:
    board, state = result["board"], result.get("state") or {}
    told = {True: "yes", False: "no", None: None}
    engine = result.get("engine_sha256")
    shapes = ["x".join(map(str, each["shape"])) for each in result.get("inputs") or ()]
    rows: list[tuple[str, Cell]] = [
        ("board", board.get("model")),
        ("L4T", board.get("l4t")),
        ("runtime", result.get("runtime")),
        ("power mode", (state.get("nvpmodel") or {}).get("name")),
        ("clocks pinned", told[state.get("clocks_pinned")]),
        ("GPU clock, MHz", _mega(state.get("gpu_hz"))),
        ("memory clock, MHz", _mega(state.get("emc_hz"))),
        ("precision", result.get("precision")),
        ("engine sha256", engine),
        ("engine", "from the board's cache" if result.get("engine_cached") else "built now"),
        ("network sha256", result.get("onnx_sha256")),
        ("input", " ".join(shapes) or None),
        ("engine memory, MiB", result.get("memory_mib")),
        ("power sampled every, ms", result.get("sample_period_ms")),
        ("evidence sha256", (result.get("evidence") or {}).get("sha256")),
    ]
    known = [row for row in rows if row[1] is not None and (row[0] != "engine" or engine)]
    recorded_on = result.get("recorded")
    note = f"Recorded before: {recorded_on}." if recorded_on else ""
    return Section("Device and engine", note, ("what", "is"), known, frozenset({0, 1}))


def _mega(hertz: float | None) -> float | None:
    return None if hertz is None else hertz / 1e6


def _sweep(result: Result) -> Document:
    names = ("energy_mj", "power_w", "latency_p50_ms", "latency_p99_ms")
    rows: list[Sequence[Cell]] = []
    for point in result["points"]:
        one = point["result"]
        if one is None:
            rows.append((point["point"], *[None] * 5, f"failed: {point['error']['what']}"))
            continue
        told = "; ".join([one["validity"], *one["reasons"]])
        energy, *others = (one[name] for name in names)
        rows.append((point["point"], energy, ends(one, "energy_mj_ci95"), *others, told))
    columns = ("operating point", "energy, mJ", "95 %, as read", "power, W", "p50, ms", "p99, ms")
    table = Section("Operating points", "", (*columns, "validity"), rows, frozenset({0, 6}))
    subject = f"{PurePath(result['model']).name} on {result['device']}"
    return Document(
        _WORDS, subject, result["provenance"], None, sections=[table, *fallbacks(result)]
    )
