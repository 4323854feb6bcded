"""The acceptance run's own parts: its cable, and an archive that tells nobody whose board it is."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def board_run():
    spec = importlib.util.spec_from_file_location("board_run", ROOT / "ci" / "board.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["board_run"] = module
    spec.loader.exec_module(module)
    return module


def test_a_cable_carries_until_it_is_cut_and_then_says_nothing(board_run):
    with socket.create_server(("127.0.0.1", 0)) as board:
        cable = board_run.Cable(board.getsockname())
        with cable.laid(), socket.create_connection(("127.0.0.1", cable.port)) as host:
            far, _ = board.accept()
            with far:
                host.sendall(b"to the board")
                assert far.recv(100) == b"to the board"
                far.sendall(b"and back")
                assert host.recv(100) == b"and back"

                cable.cut.set()
                host.settimeout(1.0)
                with pytest.raises(TimeoutError):  # silence, not a closed connection
                    _talk_for_ever(host, far)


def _talk_for_ever(host, far):
    while True:  # what was under way when it was cut may still arrive
        far.sendall(b"after the cut")
        assert host.recv(100) != b""


def test_what_is_sent_back_names_nobody(board_run, tmp_path, monkeypatch):
    monkeypatch.setattr(board_run.socket, "gethostname", lambda: "anna-laptop")
    monkeypatch.setenv("USER", "anna")
    folder = tmp_path / "board-1"
    folder.mkdir()
    (folder / "a.log").write_text("anna@anna-laptop at 10.0.0.7\n", encoding="utf-8")
    (folder / "a.json").write_text(json.dumps({"owner": "anna@anna-laptop"}), encoding="utf-8")
    (folder / "key").write_text("secret", encoding="utf-8")
    bench = board_run.Bench(folder)

    path = board_run.pack(bench, [board_run.Row("enrol", False, "no anna-laptop", 1.0)])

    with tarfile.open(path) as archive:
        names = archive.getnames()
        text = "".join(archive.extractfile(name).read().decode() for name in names)  # type: ignore[union-attr]
    assert names == ["board/results.json", "board/a.json", "board/a.log"]
    assert "anna" not in text
    assert "10.0.0.7" not in text


def test_make_hands_on_what_it_is_given():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = makefile.partition("\ntest-board:")[2].partition("\n\n")[0]

    for name in ("HOST", "BOARD_USER", "IDENTITY", "PORT", "ROOT", "FINGERPRINT", "MINUTES"):
        assert f"$({name})" in target or f"$(or $({name})," in target
