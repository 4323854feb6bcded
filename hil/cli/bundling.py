"""What goes into a bundle: one file that carries a run's networks and the proof of what they cost.

Rule of this file: it gathers what a finished run has kept, and computes and judges nothing; that
is for `hil/bundle_checker.py`, which goes into every bundle and shares no code with this.

Format history: hil/bundle@1 (first).
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cli.report import read_result
from hil.core.errors import ConfigError
from hil.core.yamlfile import read_document

if TYPE_CHECKING:
    from hil.synth.store import RunStore, Step

SCHEMA = "hil/bundle@1"
CHECKER = Path(__file__).parents[1] / "bundle_checker.py"
FIGURES = (
    *("energy_mj", "energy_net_mj", "inferences_per_joule", "power_w"),
    *("latency_p50_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms", "lag_s"),
)
# How a board is reached, and as whom, is nobody's business who checks what it measured.
PRIVATE = frozenset({"ssh", "agent", "lease", "local"})
_EPOCH = (1980, 1, 1, 0, 0, 0)


def bundle_files(run: Path) -> dict[str, bytes]:
    """Return the files of a finished run's bundle by name, the manifest among them.

    Raises:
        ConfigError: the run is not finished, keeps no raw traces, or its device file is gone.
        HostError: a file of the run is missing or damaged.
    """
    from hil.synth.store import RunStore

    with RunStore.open(run, write=False) as store:
        result = {**read_result(run)["result"], "run": run.resolve().name}
        entries = entries_of(result)
        rows = list(_rows(store, entries))
        files = {f"evidence/{r['evidence']}.json.gz": store.blob(r["evidence"]) for r in rows}
        for entry in entries:
            files[f"networks/{folder_of(entry)}/network.onnx"] = store.blob(entry["onnx_sha256"])
        files["answers.json"] = _json(_answers(store, rows))
        files["device.json"] = _json(_device(str(store.meta["device"])))
    files["result.json"] = _json(result)
    files["builds.json"] = _json([{k: v for k, v in r.items() if k != "key"} for r in rows])
    files["profile.json"] = _json(read_document(run / "profile.yaml").data)
    files["check.py"] = CHECKER.read_bytes()
    files["README.txt"] = _readme(result).encode()
    return {**files, "manifest.json": manifest(files, result["provenance"])}


def entries_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the networks of a result that were measured on fresh builds, the prototype first."""
    groups = (result["baselines"], result["certified"], result["not_certified"])
    return [result["prototype"], *(entry for group in groups for entry in group)]


def folder_of(entry: Mapping[str, Any]) -> str:
    """Return the folder's name of a network."""
    return str(entry["name"]).replace(" ", "-")


def manifest(files: Mapping[str, bytes], provenance: str) -> bytes:
    """Return the manifest: size and sha256 of every other file."""
    told = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
        if name != "manifest.json"
    }
    return _json({"schema": SCHEMA, "provenance": provenance, "files": told})


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a zip whose bytes depend on the files' names and content alone.

    Nothing is compressed again (what is large is compressed already), so that the bytes do not
    depend on a release of zlib either.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name])
    return target.getvalue()


def _rows(store: RunStore, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every fresh build of every entry, in the order in which they were measured."""
    owners: dict[str, str] = {}
    for entry in entries:
        shas = [*entry["evidence"], *(mode["evidence"] for mode in entry.get("modes", ()))]
        if not all(shas) or entry["onnx_sha256"] is None:
            raise ConfigError(
                f"there are no raw traces of {entry['name']}",
                why="its figures were taken from a record, and a bundle proves what it says by "
                "the traces alone",
                fix="bundle a run that measured its networks on a board",
            )
        owners.update(dict.fromkeys(shas, entry["name"]))
    for step in store.steps("measure"):
        name = owners.get(step.value["evidence"])
        if name is not None and step.key.startswith("confirm:"):
            yield _row(step, name)


def _row(step: Step, name: str) -> dict[str, Any]:
    value, result = step.value, step.value["result"]
    key, _, last = step.key.removeprefix("confirm:").rpartition(":")
    mode = None
    if last.startswith("nvpmodel"):
        mode = int(last.removeprefix("nvpmodel"))
        key, _, last = key.rpartition(":")
    return {
        "key": key,
        "network": name,
        "build": int(last),
        "nvpmodel": mode,
        "onnx_sha256": value["onnx"],
        "engine_sha256": value["engine"]["engine_sha256"],
        "device_memory_bytes": value["engine"]["device_memory_bytes"],
        "evidence": value["evidence"],
        "figures": {name: result.get(name) for name in FIGURES},
        "blocks": [block["energy_mj"] for block in result["blocks"]],
        "validity": result["validity"],
        "reasons": result["reasons"],
    }


def _answers(store: RunStore, rows: list[dict[str, Any]]) -> dict[str, str | None]:
    """Return what each network got right of the held-out pictures, in their order.

    None where the task's score is no count of right answers.
    """
    answers = {}
    for name, key in {row["network"]: row["key"] for row in rows}.items():
        answers[name] = (store.find("answers", key) or {}).get("right")
    return answers


def _device(name: str) -> dict[str, Any]:
    from hil.core.names import resolve

    data = read_document(resolve(name, "devices", cwd=Path.cwd())).data
    return {key: value for key, value in dict(data).items() if key not in PRIVATE}


def _readme(result: Mapping[str, Any]) -> str:
    provenance = result["provenance"]
    label = "" if provenance == "measured" else f"{str(provenance).upper()} FIGURES. "
    return (
        f"{label}Networks of profile {result['profile']} on {result['device']} "
        f"({result['board']}), with the raw traces behind every {provenance} figure.\n\n"
        "Check it with Python 3.10 or later and nothing else, from outside this file:\n"
        "    unzip -p FILE.hil check.py > check.py; python3 check.py FILE.hil\n"
        "Whoever made this file also put check.py there: read it (400 lines), or take the one "
        "that comes with hil (hil/bundle_checker.py).\n"
    )


def _json(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, default=str)
    return (text + "\n").encode()
