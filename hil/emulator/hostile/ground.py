"""Lays a hostile board's defects out in its files, where a person would find and mend them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hil.emulator.boardmodel import BoardModel
from hil.emulator.hostile.quirks import PYTHON_VARIABLE, Quirks
from hil.emulator.launchers import launcher, python
from hil.emulator.parameters import with_parameters

HOST_FOLDERS = ("/usr/bin", "/bin")
HOST_TOOLS = """
awk base64 basename bash cat chmod cksum cmp comm cp cut date dd df diff dirname du echo env expr
false file find fold free getconf gpg grep groups gunzip gzip head hexdump hostname id install ip
kill less ln locale ls lsof md5sum mkdir mkfifo mktemp more mount mv nice nohup nproc od paste
perl pgrep pidof pkill printenv printf ps pwd readlink realpath renice rm rmdir scp sed seq setsid
sftp sh sha1sum sha256sum sleep sort split ssh stat stdbuf strings stty sync systemctl tac tail tar
taskset tee test timeout top touch tr true truncate tty uname uniq uptime vmstat watch wc which
who whoami xargs xxd xz yes zcat
""".split()  # noqa: SIM905 - a page instead of a hundred lines
"""What an Ubuntu has; a hostile board's session finds no other program of this host by its name,
and so no Python but the board's."""
STORED_CLOCKS = "var/lib/hil/clocks.conf"
TSTATS = "tmp/.tstats.txt"
STATE = ".hil"
OLD_AGENT = b"#!/usr/bin/env python3\nPK\x03\x04 an agent of a former version\n"


def path_of(root: Path, private: Path, quirks: Quirks) -> str:
    """PATH of a session: the board's folders, then this host's tools without what boards lack."""
    tools = private / "host"
    tools.mkdir(exist_ok=True)
    for name in HOST_TOOLS:
        found = [
            f"{folder}/{name}" for folder in HOST_FOLDERS if os.path.exists(f"{folder}/{name}")
        ]
        if found:
            os.symlink(found[0], f"{tools}/{name}")
    folders = quirks.path or ("usr/sbin", "usr/bin")
    return ":".join([*(f"{root}/{folder}" for folder in folders), str(tools)])


def furnish(root: Path, quirks: Quirks, environment: Mapping[str, str], tegrastats: str) -> None:
    """Takes away, moves and leaves behind what the quirks say.

    Args:
        root: the board's root folder, as a healthy board has it.
        quirks: what is wrong.
        environment: of the board's processes.
        tegrastats: where it is, from the root.
    """
    home = root / quirks.home
    if quirks.bashrc:
        (home / ".bashrc").write_text(quirks.bashrc, encoding="utf-8")
    _pythons(root, home, quirks, environment)
    _without(root, quirks, tegrastats)
    for name in quirks.leftovers:
        _LEFT[name](root, home)


def _pythons(root: Path, home: Path, quirks: Quirks, environment: Mapping[str, str]) -> None:
    def put(path: Path, packages: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        launcher(path, python(), {**environment, PYTHON_VARIABLE: packages})

    own = root / "usr/bin/python3"
    put(root / "usr/bin/python3.6", "jetpack")
    if quirks.python == "gone":
        own.unlink()
    else:
        put(own, "bare" if quirks.python == "newer" else "jetpack")
    if quirks.python == "conda":
        put(home / "miniconda3/bin/python3", "bare")


def _without(root: Path, quirks: Quirks, tegrastats: str) -> None:
    if quirks.nvpmodel == "missing":
        (root / "usr/sbin/nvpmodel").unlink()
    if quirks.tegrastats == "missing":
        (root / tegrastats).unlink()
    if quirks.tegrastats == "sbin":
        (root / tegrastats).replace(root / "usr/sbin/tegrastats")
    if not quirks.trtexec:
        (root / "usr/src/tensorrt/bin/trtexec").unlink(missing_ok=True)
    if quirks.clocks == "store-fails":
        (root / "var/lib/hil").rmdir()


def _older_agent(_root: Path, home: Path) -> None:
    state = home / STATE
    for folder in ("agent", "incoming", "blobs", "engines"):
        (state / folder).mkdir(parents=True, exist_ok=True)
        (state / folder).chmod(0o755)
    (state / "agent" / f"hil-agent-{'0' * 16}.pyz").write_bytes(OLD_AGENT)
    (state / "agent/.tmp.5f1c").write_bytes(OLD_AGENT[:20])
    (state / "incoming/half").write_bytes(b"\x08\x07half an upload")
    (state / "blobs" / ("ab" * 32)).write_bytes(b"not what its name says")


def _state_is_a_file(_root: Path, home: Path) -> None:
    (home / STATE).write_text("scp went to the wrong place\n")


def _tstats(root: Path, _home: Path) -> None:
    (root / TSTATS).write_bytes(b"\x01\x00\x00\x00")
    (root / TSTATS).chmod(0o600)


def _stored_clocks(root: Path, _home: Path) -> None:
    (root / STORED_CLOCKS).write_text('{"pinned": false}')


_LEFT = {
    "older-agent": _older_agent,
    "state-is-a-file": _state_is_a_file,
    "tstats": _tstats,
    "clocks.conf": _stored_clocks,
}


def alter(model: BoardModel, quirks: Quirks) -> None:
    """Gives a board's model the quirks of its hardware and of its boot."""
    board = with_parameters(model.board, quirks.parameters)
    modes = list(board.modes)
    template = board.mode(3)
    modes += [
        template.model_copy(update={"id": int(number), "name": name, "idle": None})
        for number, name in quirks.extra_modes.items()
    ]
    if quirks.one_core:
        one = {"denver_cores": 0, "denver_mhz": 0.0, "a57_cores": 1}
        modes = [mode.model_copy(update=one) for mode in modes]
    model.board = board.model_copy(update={"modes": tuple(modes)})
    model.mode_ids = tuple(mode.id for mode in modes)
    model.default_mode, model.boot_pinned = quirks.boot_mode, quirks.boot_pinned
    model.system_mb = quirks.system_mb
