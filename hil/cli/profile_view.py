"""How a profile is shown: figures with both intervals, what stopped it, what to doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hil.cli.budget_view import show_budget
from hil.cli.terminal import out, say
from hil.report.figures import number

Result = Mapping[str, Any]
DIGITS = 4
LONGEST_CELL = 40
WIDE, WIDE_UNLIMITED = 125, 97
"""Columns of a terminal on which both intervals have room, beside limits and without."""
COLOURS = {"valid": "bold green", "suspect": "bold yellow", "invalid": "bold red"}
VERDICTS = {"feasible": "green", "infeasible": "bold red", "undecided": "yellow"}
_FIRST = "first_inference_ms"
_ROWS = (
    ("energy, gross", "energy_mj", "mJ"),
    ("energy, net of idle", "energy_net_mj", "mJ"),
    ("inferences per joule", "inferences_per_joule", "1/J"),
    ("power under load", "power_w", "W"),
    ("power idle", "idle_power_w", "W"),
    ("latency p50", "latency_p50_ms", "ms"),
    ("latency p90", "latency_p90_ms", "ms"),
    ("latency p95", "latency_p95_ms", "ms"),
    ("latency p99", "latency_p99_ms", "ms"),
    ("latency p99.9", "latency_p999_ms", "ms"),
)


def show(result: Result, *, explain: bool = False) -> None:
    """Print a profile of any kind."""
    kind = result["schema"]
    if kind.startswith("hil/sweep"):
        _show_sweep(result)
    else:
        _show_heading(result)
        out.print(figures_table(result))
        if kind.startswith("hil/builds"):
            _show_builds(result)
        if kind.startswith("hil/referenced"):
            _show_reference(result)
        if explain:
            _show_budgets(result)
        _show_layers(result)
        for line in notes(result):
            out.print(line, soft_wrap=True, highlight=False)


def show_kept(result: Result) -> None:
    """Say where result and raw evidence lie, once they do."""
    if result.get("folder"):
        say(f"kept: {result['folder']} (hil rescore {result['folder']} recomputes it)")


def heading(result: Result) -> Text:
    """Return the first line: where the figures come from, and whether to believe them."""
    provenance, validity = result["provenance"], result["validity"]
    text = Text.assemble((f" {provenance.upper()} ", _badge(provenance)), " ")
    text.append(f"{validity.upper()}", style=COLOURS[validity])
    return text.append(f"  {result['model']} on {result['device']}", style="bold")


def _badge(provenance: str) -> str:
    return "bold white on magenta" if provenance == "emulated" else "bold black on cyan"


def _show_heading(result: Result) -> None:
    out.print(heading(result), soft_wrap=True)
    for line in where(result):
        out.print(line, style="dim", soft_wrap=True, highlight=False)


def where(result: Result) -> list[str]:
    """Return what the figures are about: board, state, engine, conditions."""
    board, state = result["board"], result.get("state") or {}
    mode = state.get("nvpmodel") or {}
    parts = [board.get("model"), board.get("l4t") and f"L4T {board['l4t']}", result.get("runtime")]
    parts.append(mode.get("name"))
    told = {True: "clocks pinned", False: "clocks not pinned", None: None}
    pinned = told[state.get("clocks_pinned")]
    hertz = state.get("gpu_hz")
    parts.append(pinned and (f"{pinned}, GPU {hertz / 1e6:.0f} MHz" if hertz else pinned))
    lines = ["  ".join(str(part) for part in parts if part)]
    engine = [result.get("precision")]
    if result.get("engine_sha256"):
        engine.append(f"engine {result['engine_sha256'][:12]}")
        engine.append("from the board's cache" if result.get("engine_cached") else "built now")
    sizes = ["x".join(map(str, t["shape"])) for t in result.get("inputs") or ()]
    engine += [f"input {' '.join(sizes)}" if sizes else None]
    copies = result.get("latency_copies")
    engine.append(f"host-device copies {copies}" if copies else None)
    rate = result.get("rate")
    if rate:
        missed = f", {rate['missed']} missed" if rate.get("missed") else ""
        engine.append(f"paced at {rate['asked_hz']:g} Hz, got {rate['achieved_hz']:.4g}{missed}")
    lines.append("  ".join(str(part) for part in engine if part))
    recorded = {"emulated": "an EMULATED board", "measured": "a board"}.get(
        str(result.get("recorded"))
    )
    return lines + ([f"REPLAYED: recorded on {recorded} before"] if recorded else [])


def figures_table(result: Result) -> Table:
    """Return the table of figures; columns appear only where something stands in them."""
    limits = {limit["figure"]: limit for limit in result.get("limits") or ()}
    total = any(result.get(f"{field}_u95_total") for _, field, _ in _ROWS)
    rail = result.get("rail")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    read_on = f"as read on {rail}" if rail else "as read"
    table.add_column(f"95 %, {read_on}", justify="right", no_wrap=not limits)
    brief = out.width < (WIDE if limits else WIDE_UNLIMITED)
    briefest = bool(limits) and out.width < WIDE_UNLIMITED + 10
    if total:
        table.add_column("in all" if brief else "95 %, with the sensor's error", justify="right")
    if limits:
        table.add_column("limit", justify="right")
        table.add_column("verdict", overflow="fold", min_width=len("(EMULATED)"))
    for title, field, unit in _ROWS:
        if field not in result:
            continue
        value = result[field]
        if value is None:
            why = str(result.get(f"{field}_reason"))
            table.add_row(title, "-", escape(why) if len(why) <= LONGEST_CELL else "see below")
            continue
        ends = result[f"{field}_ci95"]
        row = [title, f"{number(value, DIGITS)} {unit}", interval(value, ends, brief=briefest)]
        if total:
            whole = result.get(f"{field}_u95_total")
            row.append(interval(value, whole, brief=brief) if whole else "")
        if limits:
            row += _limit_cells(limits.get(field), unit)
        table.add_row(*row)
    for title, field in (("engine load", "engine_load_ms"), ("first inference", _FIRST)):
        if result.get(field) is not None:
            table.add_row(title, f"{number(result[field], DIGITS)} ms", "[dim]once, not steady[/]")
    return table


def _limit_cells(limit: Result | None, unit: str) -> list[str]:
    if limit is None:
        return ["", ""]
    least = limit["at_least"]
    sign, value = ("≥", least) if least is not None else ("≤", limit["at_most"])
    verdict = limit["verdict"]
    colour = VERDICTS[verdict.removesuffix("_emulated")]
    shown = verdict.replace("_emulated", " (EMULATED)").replace("_replayed", " (REPLAYED)")
    return [f"{sign} {value:g} {unit}", f"[{colour}]{shown}[/]"]


def interval(value: float, ends: Sequence[float], *, brief: bool = False) -> str:
    """Return an interval as people read it: how far off its ends are, and unless brief both."""
    low, high = ends
    both = escape(f"[{number(low, DIGITS)}, {number(high, DIGITS)}]")
    half = (high - low) / 2
    if half >= abs(value):  # a share of what may be nothing at all says nothing
        return both
    share = f"±{100 * half / abs(value):.2g} %"
    return share if brief else f"{share}  {both}"


def unplanned(result: Result) -> list[str]:
    """Return what was done otherwise than planned, and what to do about it."""
    lines = []
    for each in result.get("fallbacks") or ():
        lines.append(f"not as planned: {each['reason']}: {each['consequence']}")
        lines.append(f"  next: {each['next_step']}")
    return lines


def notes(result: Result) -> list[str]:
    """Return the lines below the table."""
    fallbacks = result.get("fallbacks") or ()
    told = {f"{each['reason']}: {each['consequence']}" for each in fallbacks}
    lines = [
        f"{title} is unknown: {why}"
        for title, field, _ in _ROWS
        if result.get(field, 0) is None
        and len(why := str(result[f"{field}_reason"])) > LONGEST_CELL
        and why not in told  # it stands below, once
    ]
    rails = result.get("rails_mj")
    if rails:
        shares = [f"{name} {number(mj, 3)}" for name, mj in rails.items()]
        lines.append(f"rails, mJ an inference (they nest, never add): {', '.join(shares)}")
    for other in result.get("others") or ():
        lines.append(_other_line(other))
    if result.get("energy_mj") is not None and not result.get("energy_mj_u95_total"):
        why = result.get("energy_mj_u95_total_reason") or "see the single runs"
        lines.append(f"how far the reading itself is off is not known: {why}")
    warmup = result.get("warmup_inferences")
    if warmup is not None:
        lines.append(f"latency steady from inference {warmup} on")
    stopping = result.get("stopping") or result.get("stopped")
    if stopping:
        looks = stopping.get("looks")
        seen = f" ({looks} look{'s' if looks > 1 else ''})" if looks else ""
        lines.append(f"stopped: {stopping['outcome']}, {stopping['why']}{seen}")
    blocks = result.get("blocks")
    if blocks:
        total_s = sum(block["duration_s"] for block in blocks)
        lines.append(f"measured: {len(blocks)} windows, {total_s:.0f} s of steady load")
    lag = result.get("lag_s")
    if lag:
        lines.append(f"sensor lag: {_seconds(result, 'lag_s')}")
    sampler = result.get("sampler_power_w")
    if sampler is not None:
        lines.append(f"of the power, the sampler itself: {_watts(result, 'sampler_power_w')}")
    if result.get("calibration"):
        lines.append(str(result["calibration"]))
    crosscheck = result.get("trtexec")
    if crosscheck:
        lines.append(_trtexec_line(crosscheck))
    lines += unplanned(result)
    colour = COLOURS[result["validity"]]
    lines += [
        f"[{colour}]{result['validity']}:[/] {escape(reason)}" for reason in result["reasons"]
    ]
    return [line if line.startswith("[") else escape(line) for line in lines]


def _seconds(result: Result, field: str) -> str:
    ends = result.get(f"{field}_ci95")
    return f"{result[field]:.3g} s" + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else "")


def _watts(result: Result, field: str) -> str:
    ends = result.get(f"{field}_ci95")
    return f"{result[field]:.3g} W" + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else "")


def _other_line(other: Result) -> str:
    if other["energy_mj"] is None:
        return f"beside it, {other['source']} {other['rail']}: {other['reason']}"
    told = f"beside it, {other['source']} {other['rail']}: {number(other['energy_mj'], DIGITS)} mJ"
    ratio = other.get("ratio")
    if ratio is None:
        return told
    ends = other.get("ratio_ci95")
    shown = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
    return f"{told}, {ratio:.4g} of the first{shown}"


def _trtexec_line(check: Result) -> str:
    if check["latency_p50_ms"] is None:
        return f"trtexec: {check['reason']}"
    ratio, ends = check["ours_to_trtexec"], check["ours_to_trtexec_ci95"]
    beside = "too few to compare" if ratio is None else (
        f"ours is {ratio:.3f} of it [{ends[0]:.3f}, {ends[1]:.3f}]: {check['verdict']}"
    )  # fmt: skip
    return (
        f"trtexec: p50 {number(check['latency_p50_ms'], DIGITS)} ms over "
        f"{check['inferences']} inferences; {beside} (computation alone; ours holds the launch)"
    )


def _show_builds(result: Result) -> None:
    table = Table(title="builds", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for title in ("engine", "energy mJ", "p50 ms", "p99 ms", "validity"):
        table.add_column(title, justify="left" if title == "engine" else "right")
    for one in result["builds"]:
        shown = [_cell(one, name) for name in ("energy_mj", "latency_p50_ms", "latency_p99_ms")]
        table.add_row(one["engine_sha256"][:12], *shown, one["validity"])
    out.print(table)
    for name, parts in result["build_to_build"].items():
        if name not in ("energy_mj", "latency_p50_ms"):
            continue
        sds = [parts[key] for key in ("sd", "sd_within_runs", "sd_between_builds")]
        differ, within, add = (number(sd, 2) for sd in sds)
        low, high = (number(end, DIGITS) for end in parts["one_build_ci95"])
        say(
            f"{name}: builds differ by {differ} (standard deviation), where the runs' own error "
            f"makes {within}: what the builds add is {add}; a further build comes to lie in "
            f"[{low}, {high}]"
        )


def _cell(result: Result, name: str) -> str:
    return "-" if result[name] is None else number(result[name], DIGITS)


def _show_reference(result: Result) -> None:
    drift = result["reference"]["drift"]
    out.print(
        escape(f"what the board did to the reference, {result['reference']['model']}:"),
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("after", "reference", "from its mean"):
        table.add_column(title, justify="right")
    for row in drift:
        figure = next(value for key, value in row.items() if key not in ("at_s", "relative"))
        table.add_row(f"{row['at_s']:.0f} s", number(figure, DIGITS), f"{row['relative']:+.2%}")
    out.print(table)
    own = result.get("energy_mj_undivided")
    if own is not None:
        wide = interval(own, result["energy_mj_undivided_ci95"])
        out.print(f"energy, gross, drift not divided out: {number(own, DIGITS)} mJ  {wide}",
                  soft_wrap=True, highlight=False)  # fmt: skip


def _show_budgets(result: Result) -> None:
    if result.get("error_budget"):
        show_budget(result)
    for index, one in enumerate(result.get("builds") or (), 1):
        say(f"build {index}:")
        show_budget(one)


def _show_layers(result: Result) -> None:
    if "layers" not in result:
        return
    table = Table(
        title="layers, as the runtime's profiler tells", box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("layer", overflow="fold")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    total = sum(layer["time_ms"] for layer in result["layers"])
    for layer in result["layers"]:
        share = layer["time_ms"] / total if total else 0.0
        table.add_row(escape(str(layer["name"])), f"{layer['time_ms']:.4f}", f"{share:.1%}")
    out.print(table)
    p50 = result["latency_p50_ms"]
    if p50:
        say(
            f"layers sum to {total:.4g} ms, the median inference takes {p50:.4g} ms "
            "(the profiler adds its own time to each layer)"
        )


def show_point_line(row: Result) -> None:
    """Print one operating point as soon as it is known."""
    if row["error"] is not None:
        say(f"{row['point']}: failed: {row['error']['what']}")
        return
    result = row["result"]
    energy, p50 = _cell(result, "energy_mj"), _cell(result, "latency_p50_ms")
    say(f"{row['point']}: {energy} mJ, p50 {p50} ms, {result['validity']}")


def _show_sweep(result: Result) -> None:
    from hil.measure.sweep import least

    rows = result["points"]
    text = Text.assemble((f" {result['provenance'].upper()} ", _badge(result["provenance"])))
    out.print(text.append(f" {result['model']} on {result['device']}", style="bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("operating point")
    for title in ("energy mJ", "95 %, as read", "power W", "p50 ms", "p99 ms", "validity"):
        table.add_column(title, justify="right")
    best = {
        name: least([row["result"] and row["result"][name] for row in rows])
        for name in ("energy_mj", "latency_p50_ms")
    }
    for index, row in enumerate(rows):
        table.add_row(*_point_cells(row, {name for name, i in best.items() if i == index}))
    out.print(table)
    for row in rows:
        for reason in row["result"]["reasons"] if row["result"] else ():
            say(f"{row['point']}: {reason}")


def _point_cells(row: Result, best: set[str]) -> list[str]:
    one = row["result"]
    if one is None:
        return [row["point"], "-", f"[red]{escape(row['error']['what'])}[/]", "", "", "", "failed"]

    def cell(name: str) -> str:
        text = _cell(one, name)
        return f"[bold green]{text}[/]" if name in best else text

    ends = one["energy_mj_ci95"]
    wide = interval(one["energy_mj"], ends) if ends else ""
    colour = COLOURS[one["validity"]]
    return [
        row["point"],
        cell("energy_mj"),
        wide,
        _cell(one, "power_w"),
        cell("latency_p50_ms"),
        _cell(one, "latency_p99_ms"),
        f"[{colour}]{one['validity']}[/]",
    ]
