"""A benchmark that was cut off goes on where it stopped, and never trusts another's searches."""

from __future__ import annotations

import pytest

from hil.bench.search_journal import Journal, code_digest
from hil.bench.search_run import Trace

TRACE = Trace((None, 3, 3), (5, 3), 9, 1, 0.25)
SETTINGS = {"budget": 3}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run" / "searches.jsonl"


def test_what_ended_is_known_again(file):
    Journal(file, SETTINGS).put("a", TRACE)

    again = Journal(file, SETTINGS)
    assert again.get("a") == TRACE
    assert again.get("b") is None


def test_a_line_cut_short_is_searched_again_and_spoils_no_other(file):
    Journal(file, SETTINGS).put("a", TRACE)
    whole = file.read_text()
    file.write_text(whole.rstrip("\n")[:-10])

    after = Journal(file, SETTINGS)
    assert after.get("a") is None
    after.put("b", TRACE)
    assert Journal(file, SETTINGS).get("b") == TRACE


def test_searches_under_other_settings_are_not_taken_over(file):
    Journal(file, SETTINGS).put("a", TRACE)

    assert Journal(file, {"budget": 4}).get("a") is None


def test_the_code_is_part_of_the_settings(file, monkeypatch):
    Journal(file, SETTINGS).put("a", TRACE)
    monkeypatch.setattr("hil.bench.search_journal.code_digest", lambda: "other code")

    assert len(code_digest()) == 64
    assert Journal(file, SETTINGS).get("a") is None
