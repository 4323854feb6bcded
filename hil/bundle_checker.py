"""Check a bundle of networks: `python3 check.py FILE.hil`, with the standard library alone.

It shares no code with what made the bundle. From the raw power lines, stamps and latencies it works
out every figure in its own plain way, from these every bound and verdict, and says of each claim:
reproduced, differs (by how much), or cannot be checked (and why). Exit codes: 0 all is reproduced,
1 something differs, 2 no bundle, 5 nothing differs and something cannot be checked. Not repeated:
the fit of a sensor's lag (it is bounded), intervals within a build, counts of MACs, the search. A
trace made up with all that follows from it is found by measuring again alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import zipfile
import zlib
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

ENERGY_TOLERANCE = 2e-4  # of a figure in joules, beside the lag's correction
NET_TOLERANCE = 0.01  # of the gross energy: idle is cut here by a plainer rule
MOST_LAG = 0.01  # of an energy; a larger correction is not taken on trust
MOST_BYTES, MOST_FILES, LINK = 1 << 30, 5000, 0o12
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
JSON = ("answers", "builds", "device", "manifest", "profile", "result")
FIXED = {"README.txt", "check.py", *(f"{name}.json" for name in JSON)}
PROVENANCE = {"ssh": "measured", "local": "measured", "emulated": "emulated", "replay": "replayed"}
QUANTILES = {f"latency_p{q}_ms": q for q in (50, 90, 95, 99)}
POWERED = ("energy_mj", "inferences_per_joule", "power_w")
FIELDS = ("metric", "kind", "amount", "relative", "nvpmodel")
SHARE = "plausible_share"
BROKEN = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, zlib.error)
Json = Any
GOOD, BAD, OPEN = "reproduced", "differs", "cannot be checked"


class Claims(list[tuple[str, str, str]]):
    """(word, claim, detail) in order; `of` is what is spoken of."""

    of = ""

    def say(self, good: bool | None, claim: str, detail: object = "") -> bool:
        """Note one claim; None is one that cannot be checked."""
        self.append((OPEN if good is None else GOOD if good else BAD, self.of + claim, str(detail)))
        return bool(good)

    def near(self, claim: str, stated: float, own: float, allowed: float = 0.0) -> None:
        """Note whether a stated number is ours, up to `allowed` in its unit and rounding."""
        good = abs(stated - own) <= allowed + 1e-9 * max(abs(stated), abs(own))
        self.say(good, claim, f"stated {stated:.8g}, found {own:.8g}, {stated - own:+.2g} apart")


def read_bundle(path: str) -> dict[str, bytes]:
    """Return a bundle's files; nothing is written anywhere."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        odd = [n for n in names if not PLAIN.fullmatch(n)]
        odd += [i.filename for i in infos if i.external_attr >> 28 == LINK]
        large = sum(i.file_size for i in infos) > MOST_BYTES or len(infos) > MOST_FILES
        if odd or large or len({*names}) < len(names) or "manifest.json" not in names:
            raise zipfile.BadZipFile(f"its names or sizes are no bundle's {odd[:3]}")
        return {name: archive.read(name) for name in names}


def t_below(t: float, df: int) -> float:
    """Chance that Student's t lies below `t` (Abramowitz and Stegun, 26.5.8 and 26.7.1)."""
    x, a, b, part = df / (df + t * t), df / 2, 0.5, 0.0
    flip = x > (a + 1) / (a + b + 2)
    a, b, x = (b, a, 1 - x) if flip else (a, b, x)
    if 0 < x < 1:
        beta = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
        part = math.exp(beta + a * math.log(x) + b * math.log1p(-x)) / a * d
        for m in range(1, 500):
            even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
            for step in (even, odd):
                d, c = 1 / (1 + step * d), 1 + step / c
                part *= c * d
            if abs(c * d - 1) < 1e-15:
                break
    both = 1 - part if flip else part
    return both / 2 if t < 0 else 1 - both / 2


def t_quantile(p: float, df: int) -> float:
    """Where `t_below` reaches p."""
    low, high = -1e9, 1e9
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, df) < p else (low, middle)
    return (low + high) / 2


def power_samples(record: Json, rail: str) -> tuple[list[tuple[int, float]], str]:
    """Return (ns, W) of a rail as tegrastats prints it, and where its own running mean breaks."""
    pattern = re.compile(rf"(?<!\S){re.escape(rail)} (\d+)(?:mW)?(?:/(\d+)(?:mW)?)?(?!\S)")
    samples, fault, total, count = list[tuple[int, float]](), "", 0, 0
    for stamp, line in record["lines"]:
        if not (match := pattern.search(line)):
            continue
        count, total = count + 1, total + int(match[1])
        if match[2] is not None and int(match[2]) != total // count and not fault:
            fault = f"line {count} has {match[2]} mW, the lines so far {total // count} mW"
        if samples and stamp == samples[-1][0]:
            samples.pop()
        if not samples or stamp > samples[-1][0]:
            samples.append((stamp, int(match[1]) / 1000))
    return samples, fault


def joules(samples: list[tuple[int, float]], start: int, stop: int) -> float:
    """Integrate a polygon of power from `start` to `stop` (ns)."""
    if not samples or samples[0][0] > start or samples[-1][0] < stop:
        raise ValueError(f"the trace does not cover {start} to {stop} ns")
    total = 0.0
    for (t0, w0), (t1, w1) in pairwise(samples):
        a, b = max(t0, start), min(t1, stop)
        if a < b:
            total += (w0 + (w1 - w0) * ((a + b) / 2 - t0) / (t1 - t0)) * (b - a) / 1e9
    return total


def figures_of(evidence: Json, rail: str, lag_s: float) -> Json:
    """Return a run's figures from its raw trace; `lag` is the part a sensor may hide."""
    marks, pooled = evidence["marks"], sorted(ns for b in evidence["latency_ns"] for ns in b)
    found = {n: pooled[(q * len(pooled) + 99) // 100 - 1] / 1e6 for n, q in QUANTILES.items()}
    samples, found["fault"] = power_samples(evidence["power"][0], rail)
    load = [m for m in marks if m["name"] in ("settle", "block", "tail")]
    blocks = [(m["start_ns"], m["stop_ns"], m["inferences"]) for m in load if m["name"] == "block"]
    read, idle = [joules(samples, start, stop) for start, stop, _ in blocks], []
    for name, since in (("idle_before", samples[0][0]), ("idle_after", load[-1]["stop_ns"])):
        for m in (m for m in marks if m["name"] == name):
            first = max(m["start_ns"], since + 1e9 * max(2.1, 5 * lag_s))
            seen = [t for t, _ in samples if first <= t < m["stop_ns"]]
            if len(seen) > 1:
                idle.append(joules(samples, seen[0], seen[-1]) / (seen[-1] - seen[0]) * 1e9)
    spans, done = [(stop - start) / 1e9 for start, stop, _ in blocks], sum(b[2] for b in blocks)
    settled, found["energy_net_mj"] = (blocks[0][0] - load[0]["start_ns"]) / 1e9, None
    found["lag"] = lag_s * math.exp(-settled / lag_s) / min(spans) if lag_s > 0 else 0.0
    found["blocks"] = [1000 * j / b[2] for j, b in zip(read, blocks, strict=True)]
    found["power_w"] = fmean(j / span for j, span in zip(read, spans, strict=True))
    found["energy_mj"] = fmean(found["blocks"])
    found["inferences_per_joule"] = 1000 / found["energy_mj"]
    if len(idle) == 2:
        found["energy_net_mj"] = found["energy_mj"] - 1000 * fmean(idle) * sum(spans) / done
    return found


def check_build(claims: Claims, row: Json, evidence: Json, result: Json, profile: Json) -> Json:
    """Compare one build's stated figures with those of its trace; return the latter."""
    mode = "" if row["nvpmodel"] is None else f", power mode {row['nvpmodel']}"
    claims.of, stated = f"{row['network']}, build {row['build']}{mode}: ", row["figures"]
    plan, engine, lists = evidence["plan"], evidence["engine"], evidence["latency_ns"]
    wanted = {"blocks": 4, **profile.get("measure", {}).get("confirmation", {})}
    blocks = [m for m in evidence["marks"] if m["name"] == "block"]
    claims.say(all(plan.get(k, v) == v for k, v in wanted.items()), "the profile's plan")
    claims.say([m["index"] for m in blocks] == list(range(plan["blocks"])), "every block is there")
    full = [len(each) for each in lists] == [m["inferences"] for m in blocks]
    for each, m in zip(lists, blocks, strict=False):
        full = full and min(each) > 0 and sum(each) <= m["stop_ns"] - m["start_ns"]
    claims.say(full, "latencies fill the blocks they are of")
    spec, index = engine["spec"], row["build"] if result["scope"] == "build" else 1
    told = [engine["engine_sha256"], spec["onnx_sha256"], engine["device_memory_bytes"]]
    same = told == [row["engine_sha256"], row["onnx_sha256"], row["device_memory_bytes"]]
    claims.say(same and spec["build_index"] == index, "network, engine and build of the trace")
    said = "emulated" if evidence["board"].get("emulated") else evidence["provenance"]
    claims.say({said, evidence["provenance"]} == {result["provenance"]}, "where it was measured")
    power = evidence["power"][0]
    if (power["source"], power["clock"]) != ("tegrastats", "board"):
        claims.say(None, "figures", f"no reader here for {power['source']}, {power['clock']} clock")
        return stated
    own = figures_of(evidence, result["rail"], stated["lag_s"] or 0.0)
    claims.say(not own["fault"], "the power tool's own running mean", own["fault"])
    claims.say(own["lag"] < MOST_LAG, "the lag of its sensor hides little", own["lag"])
    net, own["energy_net_mj"] = own["energy_net_mj"], stated["energy_net_mj"]
    part, shown = ENERGY_TOLERANCE + min(own["lag"], MOST_LAG), stated["energy_net_mj"] or 1
    pairs = [(metric, stated[metric], own[metric], part) for metric in POWERED]
    pairs += [(metric, stated[metric], own[metric], 0.0) for metric in QUANTILES]
    pairs += [("a block", *b, part) for b in zip(row["blocks"], own["blocks"], strict=True)]
    slack = NET_TOLERANCE * abs(own["energy_mj"] / shown)
    pairs += [("energy_net_mj", shown, net, slack)] if net and own["energy_net_mj"] else []
    for metric, said, found, part in (pair for pair in pairs if pair[1] is not None):
        claims.near(metric, said, found, part * abs(said))
    return own


class Test:
    """The sequential test as a profile sets it: demands, looks, and the error each may spend."""

    def __init__(self, profile: Json, device: Json) -> None:
        modes, self.demands = device.get("state", {}).get("modes", {}), []
        for metric, limits in profile["requirements"].items():
            for limit in limits if isinstance(limits, list) else [limits]:
                kind = next(k for k in ("at_most", "at_least", "lose_at_most") if k in limit)
                mode, (amount, relative) = limit.get("nvpmodel"), self.read(limit[kind])
                one = (metric, kind, amount, relative, modes.get(mode, mode))
                self.demands += [] if metric == SHARE else [one]
        self.trusted = {SHARE} | ({"accuracy"} if profile.get("confidence") else set())
        self.costs = [d for d in self.demands if d[0] != "accuracy"]
        builds = profile.get("measure", {}).get("confirmation", {}).get("builds", {})
        self.alpha, most = profile.get("alpha", 0.05), builds.get("at_most", 16)
        self.unseen = math.log1p(self.read(builds.get("unseen", 0.05))[0])
        self.looks = [builds.get("at_least", 3)]
        while self.looks[-1] < most:
            self.looks.append(min(most, max(self.looks[-1] + 1, round(self.looks[-1] * 4 / 3))))

    def read(self, written: float | str) -> tuple[float, bool]:
        """Read a number, or a percentage as text; return it and whether it is the latter."""
        share = isinstance(written, str)
        return float(str(written).strip(" %")) / (100 if share else 1), share

    def error(self, x: list[float], unseen: float) -> float:
        """Error at which builds show that a limit is kept: of Student's t, or of unseen builds."""
        n, gap = len(x), -fmean(x)
        part = gap / unseen if unseen > 0 else math.copysign(1, gap)
        student = t_below(-gap / max(stdev(x), 0.001) * math.sqrt(n), n - 1)
        return max(student, (1 - min(1.0, max(0.0, part))) ** n)

    def finding(self, demand: Json, own: list[float], other: list[float], left: int) -> Json:
        """Judge one demand at the look that decides it, or at the last there are builds for."""
        metric, kind, limit, relative, _ = demand
        if metric in ("macs", "parameters", "memory_mib"):
            worst = max(own) / min(other)
            word = "feasible" if worst <= limit else "infeasible"
            return {"verdict": word, "estimate": worst, "bound": worst, "least": 0.0}
        unseen, sign = self.unseen * math.sqrt(1 + relative), 1 if kind == "at_most" else -1
        logs = [sign * math.log(a / b / limit) for a, b in zip(own, other, strict=True)]
        found: Json = {"verdict": "undecided", "least": math.inf}
        for look, n in enumerate((n for n in self.looks if n <= len(own)), 1):
            x, part = logs[:n], n * n / sum(m * m for m in self.looks)
            may, kept = self.alpha / left * part, self.error(logs[:n], unseen)
            found["least"] = min(found["least"], kept / part)
            if found["verdict"] != "undecided":
                continue
            lost = kept > may >= self.error([-v for v in x], unseen)
            word = "feasible" if kept <= may else "infeasible" if lost else "undecided"
            half = -t_quantile(may, n - 1) * max(stdev(x), 0.001) / math.sqrt(n)
            half = max(half, unseen * (1 - may ** (1 / n))) * (-1 if lost else 1)
            value, bound = (limit * math.exp(sign * (fmean(x) + v)) for v in (0, half))
            found |= {"verdict": word, "estimate": value, "bound": bound, "error": may}
            found |= {"builds": n, "looks": look}
        return found

    def findings(self, name: str, figures: Json, left: int) -> Json:
        """Judge a network's costs on all its builds, each beside the prototype's in the pair."""
        rounds = sorted(b for n, b, m in figures if n == name and m is None)
        if any(relative for *_, relative, _ in self.costs):
            rounds = [b for b in rounds if ("prototype", b, None) in figures]
        rounds = rounds[: max((n for n in self.looks if n <= len(rounds)), default=0)]
        found = {}
        for d in self.costs if rounds else []:
            own = [figures[name, b, d[4]][d[0]] for b in rounds]
            other = [figures["prototype", b, d[4]][d[0]] if d[3] else 1.0 for b in rounds]
            found[d] = self.finding(d, own, other, left)
        return found

    def rulings(self, names: list[str], figures: Json, fallen: set[str]) -> Json:
        """Judge finalists together: (verdict, findings by demand), alpha shared by Holm."""
        words, spent, kept, size = {}, {}, set[str](), len(names)
        for name in names:
            found = self.findings(name, figures, size).values()
            lost = name in fallen or any(f["verdict"] == "infeasible" for f in found)
            spent[name] = math.inf if lost else max((f["least"] for f in found), default=math.inf)
            words[name] = "infeasible" if lost else "undecided"
        for rank, name in enumerate(sorted(names, key=spent.__getitem__)):
            if spent[name] * (size - rank) > self.alpha:
                break
            kept, words[name] = kept | {name}, "feasible"
        left = {name: min(size, max(1, size - len(kept)) + (name in kept)) for name in names}
        return {n: (words[n], self.findings(n, figures, left[n])) for n in names}


def check_network(claims: Claims, entry: Json, rows: Json, onnx: str, result: Json) -> None:
    """Hold a network's stated figures and hashes to its builds, and its file to its hash."""
    own = [r for r in rows if r["network"] == entry["name"]]
    plain = sorted((r for r in own if r["nvpmodel"] is None), key=lambda r: r["build"])
    modes = sorted(r["evidence"] for r in own if r not in plain)
    claims.of = f"{entry['name']}: "
    claims.say(entry["evidence"] == [r["evidence"] for r in plain], "traces of its builds")
    claims.say(entry["engines_sha256"] == [r["engine_sha256"] for r in plain], "its engines")
    claims.say(modes == sorted(m["evidence"] for m in entry.get("modes", ())), "other power modes")
    claims.say(entry["builds"] == len(plain) > 1, "number of builds", f"{len(plain)} are there")
    claims.say({onnx} == {entry["onnx_sha256"], *(r["onnx_sha256"] for r in own)}, "its ONNX file")
    claims.say(entry["provenance"] == result["provenance"], "provenance", entry["provenance"])
    for metric in (*POWERED, "energy_net_mj", *QUANTILES):
        values = [r["figures"][metric] for r in plain]
        if metric in entry and None not in values:
            claims.near(f"{metric}, mean of builds", entry[metric], fmean(values))
            half = t_quantile(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
            for stated, sign in zip(entry[f"{metric}_ci95"], (-1, 1), strict=True):
                claims.near(f"{metric}, an end", stated, fmean(values) + sign * half, 1e-6 * half)


def check_certificates(claims: Claims, result: Json, test: Test, kinds: Json, right: Json) -> None:
    """Compare every bound with that of the stated figures, every verdict with both kinds."""
    entries, told = result["certified"] + result["not_certified"], result["provenance"]
    lost, fallen, base = {}, set[str](), result["prototype"]["accuracy"]
    for entry in [result["prototype"], *entries]:
        own, score, claims.of = right.get(entry["name"]), entry["accuracy"], f"{entry['name']}: "
        broken = {p["metric"] for p in entry["proofs"] if p["verdict"] == "infeasible"}
        fallen |= {entry["name"]} if broken & test.trusted else set()
        if own is None:
            claims.say(None, "accuracy", "no answers picture by picture are kept")
        else:
            claims.near("accuracy", score, 100 * own.count("1") / len(own))
        for d in (d for d in test.demands if d[0] == "accuracy"):
            sign, value = (-1, score) if d[1] == "at_least" else (1, base - score)
            word = "infeasible" if sign * (value - d[2]) > 1e-9 else "feasible"
            lost[entry["name"], d] = {"estimate": value}
            if "accuracy" not in test.trusted:
                lost[entry["name"], d]["verdict"] = word
                fallen |= {entry["name"]} if word == "infeasible" else set()
    mine, raw = (test.rulings([e["name"] for e in entries], each, fallen) for each in kinds)
    label = {"feasible": "feasible" if told == "measured" else f"feasible_{told}"}
    for entry in entries:
        (word, found), claims.of = mine[entry["name"]], f"{entry['name']}: "
        good = (word, entry in result["certified"]) == (raw[entry["name"]][0], word == "feasible")
        claims.say(good and label.get(word, word) == entry["verdict"], entry["verdict"], word)
        proofs = {(p["metric"], p["limit"], p.get("nvpmodel")): p for p in entry["proofs"]}
        for d in test.demands:
            proof = proofs.pop((d[0], d[2], d[4]), None)
            if not claims.say(proof is not None, f"{d[0]} is judged at the profile's {d[2]:g}"):
                continue
            own = found.get(d) or lost[entry["name"], d]
            for key in {"estimate", "bound", "error"} & own.keys():
                claims.near(f"{d[0]}, {key}", proof[key], own[key], 1e-7 * abs(own[key]))
            same = all(proof[k] == own[k] for k in {"builds", "looks"} & own.keys())
            word = own.get("verdict", proof["verdict"])
            claims.say(same and label.get(word, word) == proof["verdict"], f"{d[0]}, its verdict")
        claims.say({key[0] for key in proofs} <= {SHARE}, "nothing else is judged")


def check(claims: Claims, files: Json) -> None:
    """Go through a bundle from its manifest to its verdicts."""
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    data = {name: json.loads(files[f"{name}.json"]) for name in JSON}
    told, result, rows, device = (data[k] for k in ("manifest", "result", "builds", "device"))
    for name in sorted({*files, *told["files"]} - {"manifest.json"}):
        same = sha256.get(name) == told["files"].get(name, {}).get("sha256")
        claims.say(same, f"file {name} is as the manifest says")
    groups = (result[k] for k in ("baselines", "certified", "not_certified"))
    entries = {e["name"]: e for e in [result["prototype"], *(e for g in groups for e in g)]}
    onnx = {name: f"networks/{name.replace(' ', '-')}/network.onnx" for name in entries}
    names = {*FIXED, *onnx.values(), *(f"evidence/{r['evidence']}.json.gz" for r in rows)}
    claims.say(names == {*files}, "no file is missing, none beside them", sorted(names ^ {*files}))
    where = {PROVENANCE[device["driver"]], told["provenance"], result["provenance"]}
    claims.say(len(where) == 1, "the device is what the figures say", sorted(where))
    claims.say(device["name"] == result["device"], "device", result["device"])
    claims.say(device["power"]["rail"] == result["rail"], "rail", result["rail"])
    test = Test(data["profile"], device)
    asked = sorted(str(tuple(r.get(f) for f in FIELDS)) for r in result["requirements"])
    asked = [one for one in asked if SHARE not in one]
    claims.say(asked == sorted(map(str, test.demands)), "requirements are the profile's")
    stated, raw, seen = {}, {}, set[str]()
    for row in rows:
        name, entry = f"evidence/{row['evidence']}.json.gz", entries[row["network"]]
        plain = zlib.decompressobj(31).decompress(files[name], MOST_BYTES // 4)
        evidence, claims.of = json.loads(plain), f"trace {row['evidence'][:12]}: "
        claims.say(sha256[name] == row["evidence"], "its name is its hash")
        prints = {str(each) for each in [*evidence["latency_ns"], evidence["power"][0]["lines"]]}
        claims.say(not prints & seen, "it is no other's")
        seen |= prints
        fixed = {**entry, "memory_mib": (row["device_memory_bytes"] or 0) / 2**20}
        key, both = (row["network"], row["build"], row["nvpmodel"]), {**result, **entry}
        raw[key] = {**fixed, **check_build(claims, row, evidence, both, data["profile"])}
        stated[key] = {**fixed, **row["figures"]}
    for name, entry in entries.items():
        check_network(claims, entry, rows, sha256[onnx[name]], result)
    check_certificates(claims, result, test, [stated, raw], data["answers"])
    unseen, claims.of = {"macs", "parameters", *test.trusted}, ""
    for metric in unseen & {r["metric"] for r in result["requirements"]}:
        claims.say(None, metric, "what it follows from is not in the bundle")


def main(arguments: list[str]) -> int:
    """Print all that is not reproduced (`--all`: everything), and how much is."""
    claims = Claims()
    try:
        check(claims, read_bundle(arguments[0]))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        sys.stdout.write(f"no bundle: {error}\nusage: python3 check.py FILE.hil [--all]\n")
        return 2
    except BROKEN as error:
        claims.say(False, "it can be read to its end", f"{type(error).__name__}: {error}")
    for word, claim, detail in claims:
        if word != GOOD or "--all" in arguments:
            sys.stdout.write(f"{word}: {claim}" + (f" ({detail})\n" if detail else "\n"))
    count = {word: sum(c[0] == word for c in claims) for word in (GOOD, BAD, OPEN)}
    sys.stdout.write("; ".join(f"{n} {word}" for word, n in count.items()) + "\n")
    return 1 if count[BAD] else 5 if count[OPEN] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [""]))
