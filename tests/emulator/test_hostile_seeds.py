"""How a seed becomes a board with something wrong, and what is said about it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hil.core.errors import ConfigError
from hil.emulator.boardmodel import BoardModel
from hil.emulator.hostile import ground
from hil.emulator.hostile.quirks import NONE, read
from hil.emulator.hostile.variants import SLOTS, VARIANTS, drawn, named, quirks_of, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulated-board.md"
SEEDS = range(400)


def test_a_seed_is_always_the_same_board():
    for seed in SEEDS:
        assert drawn(seed) == drawn(seed)
        assert quirks_of(drawn(seed), seed) == quirks_of(drawn(seed), seed)


def test_seeds_known_by_heart_stay_what_they_are():
    # Pinned, because people write seeds down; a new slot must leave the others' draws alone.
    known = {seed: [variant.name for variant in drawn(seed)] for seed in range(6)}
    assert known == KNOWN


def test_most_boards_have_one_to_four_defects_and_some_have_none():
    counts = Counter(len(drawn(seed)) for seed in SEEDS)
    assert 0.05 < counts[0] / len(SEEDS) < 0.25
    assert sum(counts[n] for n in range(1, 5)) / len(SEEDS) > 0.7
    assert max(counts) <= 8


def test_no_two_variants_of_one_slot_meet():
    for seed in SEEDS:
        slots = [variant.slot for variant in drawn(seed)]
        assert len(slots) == len(set(slots))


def test_every_variant_is_drawn_by_some_seed():
    met = {variant.name for seed in range(6000) for variant in drawn(seed)}
    assert met == set(VARIANTS)
    assert len(SLOTS) > 20


def test_a_name_that_no_variant_has_is_refused():
    with pytest.raises(ConfigError, match="no variant of a hostile board is called gremlins"):
        named(["gremlins"])


def test_quirks_survive_being_written_and_read(tmp_path):
    for seed in SEEDS[:60]:
        quirks = quirks_of(drawn(seed), seed)
        quirks.write(tmp_path / "q.json")
        assert read(tmp_path / "q.json") == quirks


def test_a_board_without_variants_has_no_quirks():
    assert quirks_of((), 7) == NONE


def test_every_variant_has_a_source_and_a_sentence():
    for variant in VARIANTS.values():
        assert variant.source.strip()
        assert variant.does.endswith("."), variant.name


def test_what_a_variant_changes_is_more_than_its_name():
    for variant in VARIANTS.values():
        changed = quirks_of((variant,), 0)
        assert changed != NONE.__class__(names=(variant.name,)), variant.name


def test_hostile_numbers_are_numbers_of_the_board():
    for variant in VARIANTS.values():
        ground.alter(BoardModel("tx2"), quirks_of((variant,), 0))


def test_the_document_has_the_table_of_variants():
    assert table() in DOCUMENT.read_text(encoding="utf-8")


def test_the_command_line_lists_the_variants():
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli.app", "emulate", "--list-hostile"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(VARIANTS)


def test_the_server_says_what_is_wrong_with_its_board():
    argv = [sys.executable, "-m", "hil.emulator.serve", "--json"]
    argv += ["--hostile-only", "clock-1970,no-sftp"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        told = json.loads(server.stdout.readline())
        server.stdin.close()
        assert server.wait(30) == 0
    assert list(told["hostile"]) == ["clock-1970", "no-sftp"]


KNOWN: dict[int, list[str]] = {
    0: ["state-is-a-file"],
    1: ["lease-of-root"],
    2: ["slow-card"],
    3: ["locale-german", "older-agent"],
    4: ["triggered-monitors", "disk-full", "memory-full"],
    5: ["state-is-a-file", "rails-swapped", "clock-jumps"],
}
