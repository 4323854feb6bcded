"""Shares and intervals over plausible boards, counted by hand on draws of a few rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hil.core.stats import Estimate
from hil.device.session import EngineSpec, PlausibleDraws
from hil.synth.boardwork import BoardWork, Figures, Model
from hil.synth.plausible import (
    REAL,
    UNTOLD,
    Doubt,
    Entrant,
    Plausible,
    ask,
    likely,
    percentiles,
    predicted,
    predicted_ratio,
    refusal,
    share,
    tail_of,
)
from hil.synth.plausible_fields import demanded_share, over_plausible_boards, refused
from hil.synth.profile import Requirements
from hil.synth.requirements import Limit, Requirement
from hil.synth.store import RunStore

# Five plausible boards. Columns: the prototype, then a smaller network.
ENERGY_MJ = np.array([[4.0, 1.0], [4.0, 2.0], [5.0, 2.4], [6.0, 2.9], [8.0, 5.0]])
LATENCY_MS = np.array([[1.0, 0.4], [1.0, 0.4], [1.0, 0.4], [1.0, 0.6], [2.0, 0.8]])
DRAWS = PlausibleDraws("tx2", 5, "VDD_IN", ENERGY_MJ, LATENCY_MS)
PLAUSIBLE = Plausible(("whole", "small"), DRAWS)
WHOLE, SMALL = Entrant("whole", 1.0), Entrant("small", 1.0)
HALF_ENERGY = Requirement("energy_mj", Limit(0.5, relative=True))
HALF_P99 = Requirement("latency_p99_ms", Limit(0.5, relative=True))


class Emulated:
    """An emulated board that answers with the draws above and counts what it is asked."""

    provenance = "emulated"

    def __init__(self, draws: PlausibleDraws | None = DRAWS) -> None:
        self.draws = draws
        self.asked: list[list[bytes]] = []
        self.resets: list[int] = []

    def reset(self, seed: int) -> None:
        self.resets.append(seed)

    def put_blob(self, data: bytes) -> bytes:
        return data

    def build(self, spec: EngineSpec) -> bytes:
        assert spec.build_index == 1
        return spec.onnx_sha256

    def plausible(self, infos: list[bytes]) -> PlausibleDraws | None:
        self.asked.append(list(infos))
        return self.draws


class Silent:
    """A session that must not be used at all."""

    def __init__(self, provenance: str) -> None:
        self.provenance = provenance


@pytest.fixture
def board(tmp_path):
    """Return how a session becomes a board of the run in this test's folder, opened or new."""
    folder, stores = tmp_path / "run", []

    def made(session, rail="VDD_IN") -> BoardWork:
        store = RunStore.open(folder) if folder.exists() else RunStore.create(folder, {"seed": 0})
        stores.append(store)
        return BoardWork(session, store, 0, EngineSpec(""), "tegrastats", rail)

    yield made
    for store in stores:
        store.close()


def unmade() -> Model:
    raise AssertionError("the file is made again")


def test_a_share_compares_networks_on_the_same_board():
    # Ratios of energy: 0.25, 0.5, 0.48, 0.483, 0.625: four keep one half, limit included.
    assert share(PLAUSIBLE, [HALF_ENERGY], SMALL, WHOLE) == pytest.approx(4 / 5)
    # Ratios of latency: 0.4, 0.4, 0.4, 0.6, 0.4; together boards 0, 1 and 2 remain.
    assert share(PLAUSIBLE, [HALF_P99], SMALL, WHOLE) == pytest.approx(4 / 5)
    assert share(PLAUSIBLE, [HALF_ENERGY, HALF_P99], SMALL, WHOLE) == pytest.approx(3 / 5)


def test_an_absolute_limit_is_against_the_drawn_figure():
    assert share(PLAUSIBLE, [Requirement("energy_mj", Limit(2.4))], SMALL, WHOLE) == 3 / 5
    assert share(PLAUSIBLE, [Requirement("latency_p50_ms", Limit(0.5))], SMALL, WHOLE) == 3 / 5


def test_a_p99_carries_the_networks_own_tail():
    tailed, steady = Entrant("small", 1.3), Entrant("whole", 1.0)
    limit = [HALF_P99]
    # 0.4 x 1.3 = 0.52 > 0.5, and on the last board 0.8 x 1.3 = 1.04 > 1.
    assert share(PLAUSIBLE, limit, tailed, steady) == 0.0
    # With the same tail on both sides nothing changes.
    assert share(PLAUSIBLE, limit, tailed, Entrant("whole", 1.3)) == pytest.approx(4 / 5)
    assert share(PLAUSIBLE, limit, Entrant("small", None), steady) is None
    p50 = [Requirement("latency_p50_ms", Limit(0.5, relative=True))]
    assert share(PLAUSIBLE, p50, tailed, steady) == pytest.approx(4 / 5)


def test_memory_and_accuracy_say_nothing_about_plausible_boards():
    others = [
        Requirement("memory_mib", Limit(1.0)),
        Requirement("accuracy", Limit(99.0), "at_least"),
    ]

    assert share(PLAUSIBLE, others, SMALL, WHOLE) is None
    assert share(PLAUSIBLE, [*others, HALF_ENERGY], SMALL, WHOLE) == pytest.approx(4 / 5)


def test_percentiles_of_a_known_row():
    assert percentiles(np.arange(101.0)) == {"p5": 5.0, "p50": 50.0, "p95": 95.0}


def test_a_ratio_of_inferences_per_joule_grows_as_energy_falls():
    ratio = predicted_ratio(PLAUSIBLE, SMALL, WHOLE)

    assert ratio["inferences_per_joule"]["p50"] == pytest.approx(6.0 / 2.9)
    assert ratio["latency_p50_ms"]["p50"] == pytest.approx(0.4)
    assert ratio.keys() == {"inferences_per_joule", "latency_p50_ms", "latency_p99_ms"}
    assert predicted(PLAUSIBLE, SMALL)["energy_mj"]["p50"] == 2.4
    assert predicted(PLAUSIBLE, SMALL)["inferences_per_joule"]["p50"] == pytest.approx(1e3 / 2.4)
    assert predicted(PLAUSIBLE, Entrant("small", None))["latency_p99_ms"] is None


def test_a_network_against_itself_is_one_on_every_board():
    ratio = predicted_ratio(PLAUSIBLE, SMALL, SMALL)

    assert ratio["inferences_per_joule"] == {"p5": 1.0, "p50": 1.0, "p95": 1.0}


def test_a_real_board_is_not_even_asked(board):
    doubt = ask(board(Silent("measured")), [("a", unmade)])

    assert doubt == Doubt(None, REAL)


def test_a_resumed_run_reads_the_draws_and_asks_nobody(board):
    session = Emulated()
    networks = [("whole", lambda: Model(b"w")), ("small", lambda: Model(b"s"))]
    work = board(session)
    first = ask(work, networks)
    work.store.close()

    again = ask(board(Silent("emulated")), [("whole", unmade), ("small", unmade)])

    assert session.asked == [[b"w", b"s"]]
    assert len(session.resets) == 1
    assert again.plausible.keys == first.plausible.keys == ("whole", "small")
    np.testing.assert_array_equal(again.plausible.draws.energy_mj, ENERGY_MJ)
    np.testing.assert_array_equal(again.plausible.draws.latency_ms, LATENCY_MS)


def test_draws_of_another_rail_are_not_used(board):
    doubt = ask(board(Emulated(), rail="VDD_SYS_GPU"), [("a", lambda: Model(b""))])

    assert doubt.plausible is None
    assert "VDD_SYS_GPU" in doubt.reason
    assert "VDD_IN" in doubt.reason


def test_a_board_that_cannot_tell_gives_a_reason(board):
    assert ask(board(Emulated(None)), [("a", lambda: Model(b""))]) == Doubt(None, UNTOLD)


def test_a_finalist_is_refused_below_the_share_and_told_so():
    known = Doubt(PLAUSIBLE, None)

    receipt = refusal(0.9, 0.6, known)

    assert receipt["text"] == (
        "refused: it keeps the energy and latency limits on 60 % of the plausible TX2s, "
        "at least 90 % are demanded"
    )
    assert (receipt["metric"], receipt["limit"], receipt["value"]) == ("plausible_share", 0.9, 0.6)
    assert receipt["excess"] == pytest.approx(0.3)
    assert refusal(0.6, 0.6, known) is None


def test_what_cannot_be_told_is_refused_on_a_model_and_passes_on_a_board():
    assert "unknown" in refusal(0.9, None, Doubt(None, UNTOLD))["text"]
    assert refusal(0.9, None, Doubt(None, UNTOLD))["excess"] is None
    assert refusal(0.9, None, Doubt(None, REAL)) is None


def figures(p50: float, p99: float | None, onnx: str = "") -> Figures:
    result = {"latency_p50_ms": p50, "latency_p99_ms": p99, "validity": "valid"}
    return Figures(result, {}, onnx, "", None)


def test_a_tail_is_the_mean_over_builds():
    assert tail_of([figures(1.0, 1.1), figures(2.0, 2.6)]) == pytest.approx(1.2)
    assert tail_of([figures(1.0, None)]) is None


def requirements(**more) -> Requirements:
    return Requirements.model_validate({"energy_mj": {"at_most": "50 %"}, **more})


def outcome(doubt: Doubt, least: float | None) -> SimpleNamespace:
    share_of = {} if least is None else {"plausible_share": {"at_least": least}}
    finals = [
        SimpleNamespace(contender=SimpleNamespace(key=key), figures=[figures(1.0, 1.0)])
        for key in ("whole", "small")
    ]
    return SimpleNamespace(
        doubt=doubt,
        prototype=finals[0],
        finalists=(finals[1],),
        uniform=None,
        job=SimpleNamespace(
            profile=SimpleNamespace(requirements=requirements(**share_of)),
            session=SimpleNamespace(provenance="emulated"),
        ),
    )


ENTRY = {"verdict": "feasible_emulated", "proofs": [], "receipts": []}


@pytest.mark.parametrize(
    ("least", "verdict", "receipts"),
    [(None, "feasible_emulated", 0), (0.8, "feasible_emulated", 0), (0.81, "infeasible", 1)],
)
def test_an_entry_keeps_its_verdict_where_the_share_is_kept(least, verdict, receipts):
    made = outcome(Doubt(PLAUSIBLE, None), least)
    fields = over_plausible_boards(made, made.finalists[0])

    entry = refused(made, {**ENTRY, **fields})

    assert fields["plausible_share"] == pytest.approx(4 / 5)  # shown whether demanded or not
    assert entry["verdict"] == verdict
    assert len(entry["receipts"]) == receipts
    assert [p["verdict"] for p in entry["proofs"]] == ([] if least is None else [verdict])


def test_the_fields_are_null_with_a_reason_on_a_real_board():
    made = outcome(Doubt(None, REAL), 0.9)
    fields = over_plausible_boards(made, made.finalists[0])

    assert fields["predicted_reason"] == REAL
    assert fields["predicted_ratio"] is fields["plausible_share"] is fields["predicted"] is None
    assert refused(made, {**ENTRY, **fields})["verdict"] == "feasible_emulated"


def test_the_prototype_has_figures_and_no_ratio_to_itself():
    made = outcome(Doubt(PLAUSIBLE, None), None)

    fields = over_plausible_boards(made, made.prototype)

    assert fields["predicted"]["energy_mj"]["p50"] == 5.0
    assert fields["predicted_ratio"] is None


def test_the_demand_stands_among_the_requirements():
    assert demanded_share(None) == []
    assert "90 %" in demanded_share(0.9)[0]["text"]


def candidate(store: RunStore, onnx: bytes, verdict: str = "feasible") -> SimpleNamespace:
    known = {"latency_p50_ms": Estimate(1.0, 1.0, 1.0), "latency_p99_ms": Estimate(1.0, 1.0, 1.0)}
    return SimpleNamespace(
        verdict=verdict,
        trained=object(),
        figures=[figures(1.0, 1.0, store.put_blob(onnx))],
        costs=known,
        name=onnx,
    )


@pytest.mark.parametrize(
    ("least", "names"),
    [
        (None, [b"a", b"b", b"c"]),  # nothing demanded: as they were
        (0.5, [b"b"]),
        (0.1, [b"a", b"b"]),
        (1.0, [b"a", b"b", b"c"]),  # nobody fits: the best are confirmed all the same
    ],
)
def test_builds_go_to_candidates_that_fit_on_enough_boards(board, least, names):
    # Against a prototype of 4 mJ everywhere, a keeps one half on one board of five, b on four.
    energy_mj = np.array([[4, 1, 1], [4, 3, 1], [4, 3, 2], [4, 3, 2], [4, 3, 3]], dtype=float)
    session = Emulated(PlausibleDraws("tx2", 5, "VDD_IN", energy_mj, energy_mj))
    work = board(session)
    first, a, b = (candidate(work.store, name) for name in (b"p", b"a", b"b"))
    c = candidate(work.store, b"c", "infeasible")
    demanded = {} if least is None else {"plausible_share": {"at_least": least}}

    kept = likely(work, requirements(**demanded), [first, a, b, c])

    assert [each.name for each in kept] == names
    assert session.asked == ([] if least is None else [[b"p", b"a", b"b"]])
